"""The loss of a whole registration: weighted sums for its images, its labels and its displacement field."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import field
from typing import Any, ClassVar, Self

from agnoreg.backend import backend_of
from agnoreg.engine.argnums import gradients_of, resolve_argnums
from agnoreg.engine.function import Differentiable
from agnoreg.engine.masks import MASKS
from agnoreg.engine.native import native_autodiff
from agnoreg.messages import did_you_mean, shown
from agnoreg.objects.loss import Loss
from agnoreg.objects.registry import remember
from agnoreg.objects.weighted import SECTIONS, WeightedLoss, _added

Array = Any


@remember
class RegistrationLoss(Loss):
    """The loss of a whole registration: a weighted sum over images, labels and the displacement field, each optional.

    A section whose weights are all 0 may be left out of a call. It is called by keyword: ``loss(image=(fixed, warped),
    label=(fixed_label, warped_label), regularization=ddf)``, with one keyword for every section it has;
    ``return_terms=True`` returns ``(total, terms)``.

    Parameters
    ----------
    image, label
        Weighted sums of losses of two arrays.
    regularization
        A weighted sum of losses of a field.

    Raises
    ------
    ValueError
        If there is no section.
    TypeError
        When called, if a section's arrays are missing or there are arrays for a section that the loss does not have.
    """

    image: WeightedLoss | None = field(default=None, kw_only=True)
    label: WeightedLoss | None = field(default=None, kw_only=True)
    regularization: WeightedLoss | None = field(default=None, kw_only=True)

    inputs: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Check the configuration."""
        if not self.sections():
            raise ValueError(f"A registration's loss needs one of the sections {', '.join(SECTIONS)}.")
        for name, loss in self.sections().items():
            if not isinstance(loss, Loss) or loss.inputs not in SECTIONS.values():
                raise TypeError(f"{name} must be a loss of images, labels or fields, got {shown(loss)}.")
            if not isinstance(loss, WeightedLoss):
                object.__setattr__(self, name, WeightedLoss((loss,), (1.0,)))
        for name, loss in self.sections().items():
            if loss.inputs != SECTIONS[name]:
                wanted = "a field" if SECTIONS[name] == 1 else "two images or labels"
                raise ValueError(f"The losses of {name} must take {wanted}, which {loss.losses[0].name} does not.")
        if len(self._directions()) > 1:
            raise ValueError("The sections must improve in the same direction: one of them is better when higher.")
        super().__post_init__()

    def measure(self) -> Differentiable:
        """Return a placeholder: the sections take different arrays, so there is no single function to evaluate."""
        return Differentiable()

    def sections(self) -> dict[str, WeightedLoss]:
        """Return the sections of this loss, keyed by name."""
        return {name: getattr(self, name) for name in SECTIONS if getattr(self, name) is not None}

    def _arrays(self, given: Mapping[str, Any]) -> dict[str, tuple[Array, ...]]:
        given = {name: value for name, value in given.items() if name not in MASKS}
        have = {
            name: loss for name, loss in self.sections().items() if any(loss.weights) or given.get(name) is not None
        }
        if beyond := [name for name in given if name not in self.sections() and given[name] is not None]:
            own = ", ".join(self.sections())
            hint = did_you_mean(beyond[0], self.sections())
            raise TypeError(f"This loss has no section {', '.join(beyond)}; it has {own}.{hint}")
        if missing := [name for name in have if given.get(name) is None]:
            raise TypeError(f"This loss needs arrays for {', '.join(missing)}: pass {', '.join(map(_usage, missing))}.")
        arrays = {}
        for name in have:
            value = given[name]
            arrays[name] = tuple(value) if isinstance(value, tuple | list) else (value,)
            if len(arrays[name]) != SECTIONS[name]:
                raise TypeError(
                    f"{name} takes {SECTIONS[name]} array(s), got {len(arrays[name])}: pass {_usage(name)}."
                )
        backend = backend_of(*(array for values in arrays.values() for array in values))
        batches = {name: backend.shape(backend.prepare(values[0]))[:1] for name, values in arrays.items()}
        if len({batch for batch in batches.values() if batch != (None,)}) > 1:
            sizes = ", ".join(f"{name} {size}" for name, (size,) in batches.items())
            raise ValueError(f"The sections must have one batch size, got {sizes}.")
        return arrays

    def call(self, **sections: Any) -> Array:
        """Return the weighted sum for every sample.

        Parameters
        ----------
        **sections
            ``image=(y_true, y_pred)``, ``label=(y_true, y_pred)``, ``regularization=ddf``; masks apply to all sections.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        with native_autodiff() if self.native else nullcontext():
            masks = _masks(sections)
            values = [getattr(self, name).call(*arrays, **masks) for name, arrays in self._arrays(sections).items()]
            return _added([1.0] * len(values), values)

    def terms(self, **sections: Any) -> dict[str, Array]:
        """Return the weighted value of every term as ``{"image/NAME": value}``, reduced like the loss."""
        return {name: self.reduce(values) for name, values in self._terms(sections).items()}

    def _terms(self, given: Mapping[str, Any]) -> dict[str, Array]:
        masks = _masks(given)
        with native_autodiff() if self.native else nullcontext():
            return {
                f"{section}/{name}": _added([weight], [loss.call(*arrays, **masks)])
                for section, arrays in self._arrays(given).items()
                for name, loss, weight in getattr(self, section).named()
            }

    def __call__(self, *arrays: Array, return_terms: bool = False, **sections: Any) -> Any:
        """Return the loss, reduced.

        Parameters
        ----------
        return_terms
            Return ``(loss, terms)``, where ``terms`` is a dict of each term, times its weight, reduced.
        **sections
            ``image=(y_true, y_pred)``, ``label=(y_true, y_pred)``, ``regularization=ddf``; masks apply to all sections.

        Returns
        -------
        array or (array, dict)
            Shape ``()`` for the reductions ``"mean"`` and ``"sum"``, ``(B,)`` for ``"none"``.
        """
        if arrays:
            raise TypeError(
                f"A registration's loss takes its arrays by keyword: {', '.join(map(_usage, self.sections()))}."
            )
        if not return_terms:
            return super().__call__(**sections)
        terms = self._terms(sections)
        return self.reduce(_total(terms)), {name: self.reduce(values) for name, values in terms.items()}

    def value_and_grad(self, argnums: Any, *, return_terms: bool = False, **sections: Any) -> tuple[Any, Any]:
        """Return the loss and its gradient; see `agnoreg.value_and_grad`, which calls this.

        ``argnums`` numbers the arrays of all sections in order (two images, two labels, the field). A section's name
        stands for its last array: the warped image, the warped label or the field.
        """
        if return_terms:
            terms = {name: self._detached(value) for name, value in self.terms(**sections).items()}
            total, gradient = self.value_and_grad(argnums, **sections)
            return (total, terms), gradient
        given = self._arrays(sections)
        places = [(name, index) for name, arrays in given.items() for index in range(len(arrays))]
        last = {name: places.index((name, len(arrays) - 1)) for name, arrays in given.items()}

        def place(argnum: Any) -> Any:
            return last.get(argnum, argnum) if isinstance(argnum, str) else argnum

        numbers = (
            place(argnums) if isinstance(argnums, str) or not isinstance(argnums, Iterable) else map(place, argnums)
        )
        wrt, single = resolve_argnums(numbers, len(places), list(given))
        values: dict[str, Array] = {}
        gradients: dict[tuple[str, int], Array] = {}
        for name, arrays in given.items():
            own = tuple(index for section, index in (places[i] for i in wrt) if section == name)
            function, mean = getattr(self, name).measure(), self.reduction == "mean"
            values[name], parts = gradients_of(function, arrays, own, mean, _masks(sections))
            gradients.update({(name, index): part for index, part in zip(own, parts, strict=True)})
        result = tuple(gradients[places[i]] for i in wrt)
        return self.reduce(_total(values)), result[0] if single else result

    @staticmethod
    def _detached(value: Array) -> Array:
        return backend_of(value).autodiff.detach(value)

    @property
    def direction(self) -> str:
        """The direction of the sections."""
        return next(iter(self._directions()), "lower")

    def _directions(self) -> set[str]:
        return {direction for loss in self.sections().values() for direction in loss._directions()}

    @property
    def value_range(self) -> tuple[float, float]:
        """The sum of the sections' ranges."""
        ranges = [loss.value_range for loss in self.sections().values()]
        return sum(low for low, _ in ranges), sum(high for _, high in ranges)

    @property
    def identity_value(self) -> float | None:
        """The sum of the sections' values, or None unless all have one."""
        values = [loss.identity_value for loss in self.sections().values()]
        return None if None in values else sum(value for value in values if value is not None)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, ready for JSON."""
        return super().get_config() | {name: loss.get_config() for name, loss in self.sections().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that a config from `get_config` describes."""
        sections = {name: config[name] for name in SECTIONS if config.get(name) is not None}
        for name, section in sections.items():
            if not isinstance(section, Mapping):
                raise TypeError(f"{name} must be the config of a weighted sum, got {shown(section)}.")
        return cls(**config | {name: WeightedLoss.from_config(dict(one)) for name, one in sections.items()})


def _total(terms: Mapping[str, Array]) -> Array:
    return _added([1.0] * len(terms), list(terms.values()))


def _masks(given: Mapping[str, Any]) -> dict[str, Array]:
    """Return the masks among the keywords of a call, without those that are None."""
    return {name: given[name] for name in MASKS if given.get(name) is not None}


def _usage(section: str) -> str:
    return f"{section}=ddf" if SECTIONS[section] == 1 else f"{section}=(y_true, y_pred)"
