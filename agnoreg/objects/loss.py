"""Base classes of losses and metrics: immutable, hashable and picklable objects that hold a configuration only."""

import math
from collections.abc import Callable
from dataclasses import field, fields
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from agnoreg.backend import backend_of, load_imported
from agnoreg.engine.axes import check_choice
from agnoreg.engine.function import Differentiable, evaluate
from agnoreg.engine.masks import MASKS
from agnoreg.engine.native import native_autodiff
from agnoreg.engine.user import FromCall
from agnoreg.engine.validate import as_number, check_flag
from agnoreg.messages import shown
from agnoreg.objects.options import FieldOptions, ImageOptions, Options

Array = Any

REDUCTIONS = ("mean", "sum", "none")

#: Maximum nesting of an argument: far deeper than any real one, and far below Python's recursion limit.
DEEPEST = 50


class Loss(Options):
    """A loss or metric: a configuration that is called with arrays of any framework.

    A subclass is a frozen dataclass by itself: its annotated attributes are its arguments. It defines what
    it computes in one of two ways: by ``measure(self)``, which combines agnoreg's own functions; or by a method
    ``call(self, y_true, y_pred)``, which returns ``(B,)``. For gradients without autodiff such a class also defines
    ``gradient(self, y_true, y_pred, wrt)``, which returns one array, at unit cotangent per sample, for each index in
    ``wrt``. Both methods get arrays of equal shape in the compute dtype.

    A loss is differentiated by its closed-form gradient. Second derivatives and forward mode raise an error if the
    framework cannot differentiate that gradient's operations. With ``native``, or inside `agnoreg.native_autodiff`,
    they always work, with the time and memory of the framework's autodiff.

    Parameters
    ----------
    name
        The object's name; None: its class's name.
    reduction
        Reduction of the samples' values when the object is called: ``"mean"``, ``"sum"`` or ``"none"``.
    native
        Let the framework differentiate the loss itself, as inside `agnoreg.native_autodiff`.

    Examples
    --------
    >>> import numpy as np
    >>> class MeanAbsoluteError(Loss):
    ...     def call(self, y_true, y_pred):
    ...         xp = backend_of(y_true).xp
    ...         return xp.mean(xp.abs(y_true - y_pred), axis=(1, 2, 3))
    >>> MeanAbsoluteError()(np.zeros((1, 2, 2, 2)), np.ones((1, 2, 2, 2)))
    array(1.)
    """

    name: str | None = field(default=None, kw_only=True)
    reduction: str = field(default="mean", kw_only=True)
    native: bool = field(default=False, kw_only=True)

    #: The parameters that are the measure's.
    _measured: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make every subclass a frozen dataclass, whose `call` and `measure` agree."""
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} must not have an __init__: the arguments of a loss are annotated attributes of its "
                "class, as in a dataclass, such as eps: float = 0.1; __post_init__ may check them."
            )
        super().__init_subclass__(**keywords)
        options = [one for one in cls.__mro__ if issubclass(one, Options) and not issubclass(one, Loss)]
        cls._measured = options[0].parameter_names
        _check_order(cls)
        own = vars(cls)
        if "measure" not in own and "call" in own:
            cls.measure = _measure_of(cls, own["call"])  # type: ignore[method-assign, assignment]
            cls.call = _evaluation_of(cls)  # type: ignore[method-assign]
        elif "measure" in own and "call" not in own:
            cls.call = _evaluation_of(cls)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        """Check the configuration."""
        for item in fields(self):
            object.__setattr__(self, item.name, frozen(item.name, getattr(self, item.name)))
        check_choice("reduction", self.reduction, REDUCTIONS)
        check_flag("native", self.native)
        super().__post_init__()
        # A compiler that traces the first call could not load them.
        load_imported()
        if self.name is None:
            object.__setattr__(self, "name", type(self).__name__)
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a string, got {shown(self.name)}.")
        # Created here, so that parameters are checked with the object, and a compiler that traces the first call sees
        # the same state as in the second.
        for kind in (type(self), next(kind for kind in type(self).__mro__ if "call" in vars(kind))):
            self.measured_by(kind)

    # --- what it computes -------------------------------------------------------------------------------------------

    def measure(self) -> Differentiable:
        """Return the function that the loss evaluates."""
        raise TypeError(f"{type(self).__name__} must define measure(self), or call(self, y_true, y_pred).")

    def call(self, *arrays: Array, **keywords: Any) -> Array:
        """Return the value of every sample.

        Parameters
        ----------
        *arrays
            Two images or labels, y_true and y_pred, ``(B, ...)``; or a field, inputs, ``(B, d1, d2, d3, 3)``.
        **keywords
            Arrays by name; ``mask=``, ``fixed_mask=`` (of y_true) and ``moving_mask=`` (of y_pred), see
            `__call__`; and further arguments of a user's own `call`.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        raise NotImplementedError

    def measured_by(self, cls: type["Loss"]) -> Differentiable:
        """Return the result of ``cls.measure`` for this object, cached since a loss is called often."""
        measures = self.__dict__.setdefault("_measures", {})
        if cls not in measures:
            measures[cls] = cls.measure(self)
        return measures[cls]

    def _evaluate(self, cls: type["Loss"], arrays: tuple[Array, ...], keywords: dict[str, Any]) -> Array:
        function, masks = self.measured_by(cls), None
        if keywords:
            function, arrays, masks = bound(function, arrays, keywords)
        if not self.native:
            return evaluate(function, *arrays, masks=masks)
        with native_autodiff():
            return evaluate(function, *arrays, masks=masks)

    def __call__(self, *arrays: Array, **keywords: Any) -> Array:
        """Return the values of the samples, reduced.

        Parameters
        ----------
        *arrays
            The arrays that `call` takes, by position or keyword.
        **keywords
            Further arguments of `call`. ``mask=``, ``fixed_mask=`` and ``moving_mask=`` are arrays of the shape of
            y_true, or of the field; they may lack the axis of channels or components and may have size 1 along any
            axis. They are bools or integers, where every nonzero voxel counts fully, or floating-point weights of at
            least 0; several masks are multiplied. Voxels of weight 0 are ignored, NaN included, and their gradient is
            0. The value of a sample with an empty mask is NaN, with an `agnoreg.EmptyMaskWarning` where that can be
            detected. Masks are constants: no gradient flows through them.

        Returns
        -------
        array
            Shape ``()`` for the reductions ``"mean"`` and ``"sum"``, ``(B,)`` for ``"none"``; an array of the caller's
            framework.
        """
        return self.reduce(self.call(*arrays, **keywords))

    def reduce(self, values: Array) -> Array:
        """Return the values ``(B,)`` of the samples, reduced according to `reduction`."""
        if self.reduction == "none":
            return values
        backend = backend_of(values)
        xp = backend.xp
        shape = backend.shape(values)
        if shape == (0,):
            # The NaN mean of an empty batch, without a warning of the framework.
            return xp.reshape(xp.sum(values, keepdims=True) * (math.nan if self.reduction == "mean" else 1.0), ())
        if shape == (1,):
            # The mean and the sum of a single value need no operation, which would cost time for small images.
            return xp.reshape(values, ())
        with backend.execution.at(values):
            value = (xp.mean if self.reduction == "mean" else xp.sum)(values, keepdims=True)
        # Without keepdims NumPy would return a scalar instead of an array.
        return xp.reshape(value, ())

    # --- configuration ----------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, ready for JSON."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that a config from `get_config` describes."""
        return cls(**config)

    def __getstate__(self) -> dict[str, Any]:
        """Return the constructor's arguments only, for pickle."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the arguments from a pickle."""
        self.__dict__.update(state)


def bound(
    function: Differentiable, arrays: tuple[Array, ...], keywords: dict[str, Any]
) -> tuple[Differentiable, tuple[Array, ...], dict[str, Any]]:
    """Return the function with further arguments bound, the arrays in its order, and the masks by name."""
    rest = dict(keywords)
    arrays = (*arrays, *(rest.pop(name) for name in function.names[len(arrays) :] if name in rest))
    masks = {name: rest.pop(name) for name in MASKS if name in rest and (name == "mask" or not function.takes(name))}
    return (function.bind(rest) if rest else function), arrays, masks


def _evaluation_of(cls: type[Loss]) -> Callable[..., Array]:
    """Return the `call` of a class that defines `measure`, so that ``super().call`` evaluates the superclass."""

    def call(self: Loss, *arrays: Array, **keywords: Any) -> Array:
        return self._evaluate(cls, arrays, keywords)

    call.__doc__ = Loss.call.__doc__
    return call


def _measure_of(cls: type[Loss], call: Callable[..., Array]) -> Callable[[Loss], Differentiable]:
    """Return the `measure` of a class that defines its own `call`."""

    def measure(self: Loss) -> Differentiable:
        gradient = getattr(self, "gradient", None) if "gradient" in _names_up_to(cls, type(self)) else None
        return FromCall(call.__get__(self), gradient, self.inputs, type(self).__name__)

    return measure


def _names_up_to(cls: type, kind: type) -> set[str]:
    """Return the names that ``cls`` and its subclasses define; a superclass's gradient belongs to another `call`."""
    mro = kind.__mro__
    return {name for one in mro[: mro.index(cls) + 1] for name in vars(one)}


def _check_order(cls: type[Loss]) -> None:
    """Raise TypeError if a mixin comes after the loss that it should change: it would have no effect."""
    for place, mixin in enumerate(cls.__mro__):
        if not vars(mixin).get("mixin", False):
            continue
        for before in cls.__mro__[:place]:
            if (
                not issubclass(before, mixin)
                and {"measure", "call"} & set(vars(before))
                and not hasattr(before, "mixin")
            ):
                base = next(base for base in cls.__bases__ if issubclass(base, before))
                raise TypeError(
                    f"{cls.__name__}: a mixin comes before the loss that it changes: "
                    f"class {cls.__name__}({mixin.__name__}, {base.__name__})."
                )


def frozen(name: str, value: Any, depth: int = 0) -> Any:
    """Return an argument as immutable plain Python: numbers as int or float, lists and NumPy's arrays as tuples."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        if depth == DEEPEST:
            raise ValueError(f"{name} must not be nested deeper than {DEEPEST} times, got {shown(value)}.")
        return tuple(frozen(name, item, depth + 1) for item in value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and not math.isnan(as_number(value)):
        return float(value)
    return str.__str__(value) if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


class FormulaLoss(Loss):
    """A loss that has the options of a measure, which `formula` makes of them."""

    #: Called with the options by keyword, returns the function that the loss evaluates; as a rule a measure's class.
    formula: ClassVar[Callable[..., Differentiable]]

    def measure(self) -> Differentiable:
        """Return the function that the loss evaluates."""
        return type(self).formula(**measured_options(self))


class ImageLoss(ImageOptions, FormulaLoss):
    """A loss of two images or labels."""


class FieldLoss(FieldOptions, FormulaLoss):
    """A loss of a displacement field."""


def measured_options(loss: Loss) -> dict[str, Any]:
    """Return the measure's options of a loss: the parameters of its first base class that is not a loss."""
    return {name: getattr(loss, name) for name in loss._measured}
