"""Weighted sums of losses: of the same inputs, and of a whole registration's inputs."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import field
from typing import Any, ClassVar, Self

from agnoreg.backend import backend_of
from agnoreg.engine.argnums import gradients_of, resolve_argnums
from agnoreg.engine.combinators import WeightedSum, weighted_sum
from agnoreg.engine.function import Differentiable
from agnoreg.engine.masks import MASKS
from agnoreg.engine.native import native_autodiff
from agnoreg.engine.validate import as_number
from agnoreg.messages import did_you_mean, shown
from agnoreg.objects.loss import Loss
from agnoreg.objects.registry import loss_of, remember

Array = Any

#: The sections of a registration's loss, and how many arrays each takes.
SECTIONS = {"image": 2, "label": 2, "regularization": 1}


@remember
class WeightedLoss(Loss):
    """A weighted sum of losses of the same inputs.

    Parameters
    ----------
    losses
        At least one; all take the same arrays. Their own reductions do not count.
    weights
        A number for each.

    Raises
    ------
    ValueError
        If there are no losses, or not one weight each, or some take images and others fields.

    Examples
    --------
    >>> import numpy as np
    >>> from agnoreg.loss.label import SumSquaredDifference
    >>> loss = WeightedLoss((SumSquaredDifference(),), (0.5,))
    >>> loss(np.zeros((1, 2)), np.ones((1, 2)))
    array(0.5)
    """

    losses: tuple[Loss, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the configuration."""
        object.__setattr__(self, "losses", _sequence("losses", self.losses))
        weights = tuple(checked_weight(weight) for weight in _sequence("weights", self.weights))
        object.__setattr__(self, "weights", weights)
        for loss in self.losses:
            if not isinstance(loss, Loss) or loss.inputs not in SECTIONS.values():
                raise TypeError(f"A weighted sum is of losses of images, labels or fields, got {shown(loss)}.")
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"A weighted sum needs losses and a weight for each, got {len(self.losses)} losses and "
                f"{len(self.weights)} weights."
            )
        if len({loss.inputs for loss in self.losses}) > 1:
            names = ", ".join(str(loss.name) for loss in self.losses)
            raise ValueError(
                f"The losses of one sum must take the same arrays; of {names} some take images, some a field."
            )
        if len(self._directions()) > 1:
            raise ValueError(
                "The terms of one sum must improve in the same direction: give those that are better when higher a "
                f"negative weight, or take their Loss; got {', '.join(self._described_terms())}."
            )
        object.__setattr__(self, "inputs", self.losses[0].inputs)
        # One of them cannot be differentiated by the framework and another not.
        object.__setattr__(self, "native", self.native or any(loss.native for loss in self.losses))
        super().__post_init__()

    def measure(self) -> Differentiable:
        """Return the weighted sum of what the losses evaluate."""
        return WeightedSum(tuple(loss.measure() for loss in self.losses), self.weights)

    def terms(self, *arrays: Array, **masks: Array) -> dict[str, Array]:
        """Return each loss's own value, times its weight, by name.

        Parameters
        ----------
        *arrays
            What the losses take.
        **masks
            Masks, as every loss takes them.

        Returns
        -------
        dict
            Arrays ``()`` or ``(B,)``, reduced as the sum is; they add up to the sum. A second loss of a name is called
            ``name_2``.
        """
        return {name: self.reduce(loss.call(*arrays, **masks) * weight) for name, loss, weight in self.named()}

    def named(self) -> list[tuple[str, Loss, float]]:
        """Return name, loss and weight of every term; a name that comes again is numbered."""
        terms: dict[str, tuple[str, Loss, float]] = {}
        for loss, weight in zip(self.losses, self.weights, strict=True):
            candidates = (str(loss.name) if i == 1 else f"{loss.name}_{i}" for i in itertools.count(1))
            name = next(name for name in candidates if name not in terms)
            terms[name] = (name, loss, weight)
        return list(terms.values())

    def _directions(self) -> set[str]:
        """Return the directions of the terms that count: none, where all weights are 0."""
        opposite = {"lower": "higher", "higher": "lower"}
        return {
            direction if weight > 0 else opposite[direction]
            for loss, weight in zip(self.losses, self.weights, strict=True)
            if weight
            for direction in (loss._directions() if isinstance(loss, WeightedLoss) else (loss.direction,))
        }

    def _described_terms(self) -> list[str]:
        return [f"{weight:g} {name} ({loss.direction} is better)" for name, loss, weight in self.named()]

    @property
    def direction(self) -> str:
        """That of the losses, turned by a negative weight."""
        return next(iter(self._directions()), "lower")

    @property
    def value_range(self) -> tuple[float, float]:
        """The weighted sum of the ranges."""
        ends = [
            sorted((weight * low, weight * high) if weight else (0.0, 0.0))
            for weight, (low, high) in zip(self.weights, (loss.value_range for loss in self.losses), strict=True)
        ]
        return sum(low for low, _ in ends), sum(high for _, high in ends)

    @property
    def identity_value(self) -> float | None:
        """The weighted sum of the losses' own, where all have one."""
        values = [loss.identity_value for loss in self.losses]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return sum(weight * value for weight, value in zip(self.weights, known, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this object again, ready for JSON; a loss is its class and its config."""
        return super().get_config() | {"losses": [described(loss) for loss in self.losses]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `get_config` described."""
        if "losses" not in config:
            raise TypeError("the key 'losses' is missing.")
        return cls(**config | {"losses": tuple(map(_restored, _sequence("losses", config["losses"])))})


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    """Return the entries of an argument, or raise TypeError where it has none."""
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence, got {shown(value)}.") from None


def checked_weight(weight: Any) -> float:
    """Return the weight, or raise ValueError where it is not a finite number."""
    if not math.isfinite(as_number(weight)):
        raise ValueError(f"A weight must be a finite number, got {shown(weight)}.")
    return float(weight)


def described(loss: Loss) -> dict[str, Any]:
    """Return a loss's class and its config, ready for JSON."""
    return {"class": type(loss).__name__, "config": loss.get_config()}


def _restored(part: Any) -> Loss:
    if not isinstance(part, Mapping):
        raise TypeError(f"losses must hold each loss's 'class' and 'config', got {shown(part)}.")
    for key in ("class", "config"):
        if key not in part:
            raise TypeError(f"the key {key!r} is missing.")
    return loss_of(part["class"], part["config"])


@remember
class RegistrationLoss(Loss):
    """The loss of a whole registration: a weighted sum over images, labels and the displacement field, each optional.

    A section whose weights are all 0 may be left out of a call. It is called by keyword: ``loss(image=(fixed, warped),
    label=(fixed_label, warped_label), regularization=ddf)``, with one entry for every section that it has;
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
        """Return nothing that could be evaluated alone: the sections take different arrays."""
        return Differentiable()

    def sections(self) -> dict[str, WeightedLoss]:
        """Return the sections that this loss has, by name."""
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
            ``image=(y_true, y_pred)``, ``label=(y_true, y_pred)``, ``regularization=ddf``; and masks, for all of them.

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
        """Return every term, times its weight, as ``{"image/NAME": value}``, reduced as the loss is."""
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
            ``image=(y_true, y_pred)``, ``label=(y_true, y_pred)``, ``regularization=ddf``; and masks, for all of them.

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

        ``argnums`` counts the arrays of all sections in a row (image's two, label's two, the field); a section's name
        means its last array: the warped image, the warped label, the field.
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
        """That of the sections."""
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
        """The sum of the sections' own, where all have one."""
        values = [loss.identity_value for loss in self.sections().values()]
        return None if None in values else sum(value for value in values if value is not None)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this object again, ready for JSON."""
        return super().get_config() | {name: loss.get_config() for name, loss in self.sections().items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `get_config` described."""
        sections = {name: config[name] for name in SECTIONS if config.get(name) is not None}
        for name, section in sections.items():
            if not isinstance(section, Mapping):
                raise TypeError(f"{name} must be the config of a weighted sum, got {shown(section)}.")
        return cls(**config | {name: WeightedLoss.from_config(dict(one)) for name, one in sections.items()})


def _total(terms: Mapping[str, Array]) -> Array:
    return _added([1.0] * len(terms), list(terms.values()))


def _added(weights: Sequence[float], values: Sequence[Array]) -> Array:
    with backend_of(values[0]).execution.at(values[0]):
        return weighted_sum(weights, values)


def _masks(given: Mapping[str, Any]) -> dict[str, Array]:
    """Return the masks among what was given to all sections."""
    return {name: given[name] for name in MASKS if given.get(name) is not None}


def _usage(section: str) -> str:
    return f"{section}=ddf" if SECTIONS[section] == 1 else f"{section}=(y_true, y_pred)"


def losses_of(parts: Sequence[tuple[Loss, float]]) -> WeightedLoss:
    """Return the weighted sum of these losses, reduced as they are.

    Raises
    ------
    ValueError
        If they are to be reduced in different ways.
    """
    reductions = {loss.reduction for loss, _ in parts}
    if len(reductions) > 1:
        raise ValueError(f"The losses of one sum have one reduction, got {', '.join(sorted(reductions))}.")
    losses, weights = tuple(loss for loss, _ in parts), tuple(weight for _, weight in parts)
    return WeightedLoss(losses, weights, reduction=next(iter(reductions), "mean"))
