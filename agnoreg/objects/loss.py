"""Loss: what every loss and metric object is. Immutable, hashable, picklable; configuration and nothing else."""

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

#: How deep an argument is nested at most: far deeper than any, and not so deep that Python could not follow.
DEEPEST = 50


class Loss(Options):
    """A loss or metric: a configuration that is called with arrays of any framework.

    A subclass is a frozen dataclass by itself: its annotated attributes are its arguments. It says what it computes in
    one of two ways: by ``measure``, a combination of agnoreg's own functions; or by a method ``call(self, y_true,
    y_pred)`` of its own, which returns ``(B,)``, with a method ``gradient(self, y_true, y_pred, wrt)`` beside it where
    gradients shall exist without autodiff: one array, at unit cotangent per sample, for each index in ``wrt``. Both see
    arrays of one shape and of the dtype that a loss of them is computed in.

    A loss is differentiated by its gradient in closed form. A second derivative and forward mode raise an error where
    the framework cannot differentiate that gradient's own operations; with ``native``, or inside
    `agnoreg.native_autodiff`, they are right everywhere, in the framework's own time and memory.

    Parameters
    ----------
    name
        The object's name; its class's name where it is left out.
    reduction
        What calling the object does to the values of the samples: ``"mean"``, ``"sum"`` or ``"none"``.
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

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make every subclass a frozen dataclass, whose `call` and `measure` agree."""
        super().__init_subclass__(**keywords)
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
        # A compiler that traces the first call could not.
        load_imported()
        if self.name is None:
            object.__setattr__(self, "name", type(self).__name__)
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a string, got {shown(self.name)}.")
        # Made here, so that its parameters are checked with the object, and a compiler that traces the first call finds
        # what it will find at the second.
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
            The same by name; ``mask=``, ``fixed_mask=`` (of y_true) and ``moving_mask=`` (of y_pred), see
            `__call__`; and whatever else a user's own `call` takes.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        raise NotImplementedError

    def measured_by(self, cls: type["Loss"]) -> Differentiable:
        """Return what `measure`, as that class has it, makes of this object; made once, for a loss is called often."""
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
            What `call` takes, by position or keyword.
        **keywords
            More of it: ``mask=``, ``fixed_mask=`` and ``moving_mask=`` are arrays of the shape of y_true, or of the
            field, which may lack the axis of channels or components and may have size 1 along any axis. They are bools
            or integers, which count where they are not 0, or floating-point weights of at least 0; their product
            counts. What they leave out does not exist: no value or gradient depends on it, NaN or not, and its gradient
            is 0. A mask that leaves out all of a sample makes its value NaN, with an `agnoreg.EmptyMaskWarning` where
            that can be seen. Masks are constants: no gradient goes through them.

        Returns
        -------
        array
            Shape ``()`` for the reductions ``"mean"`` and ``"sum"``, ``(B,)`` for ``"none"``; an array of the caller's
            framework.
        """
        return self.reduce(self.call(*arrays, **keywords))

    def reduce(self, values: Array) -> Array:
        """Return the values ``(B,)`` of the samples reduced as `reduction` says."""
        if self.reduction == "none":
            return values
        backend = backend_of(values)
        xp = backend.xp
        shape = backend.shape(values)
        if shape == (0,):
            # A mean that no framework warns of.
            return xp.reshape(xp.sum(values, keepdims=True) * (math.nan if self.reduction == "mean" else 1.0), ())
        if shape == (1,):
            # The mean and the sum of one, without operations that a small image would notice.
            return xp.reshape(values, ())
        with backend.execution.at(values):
            value = (xp.mean if self.reduction == "mean" else xp.sum)(values, keepdims=True)
        # Without keepdims NumPy would give a scalar, which is no array.
        return xp.reshape(value, ())

    # --- configuration ----------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this object again, ready for JSON."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `get_config` described."""
        return cls(**config)

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments alone, for pickle."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the arguments back."""
        self.__dict__.update(state)


def bound(
    function: Differentiable, arrays: tuple[Array, ...], keywords: dict[str, Any]
) -> tuple[Differentiable, tuple[Array, ...], dict[str, Any]]:
    """Return the function with whatever else was given, the arrays in its order, and masks by name."""
    rest = dict(keywords)
    arrays = (*arrays, *(rest.pop(name) for name in function.names[len(arrays) :] if name in rest))
    masks = {name: rest.pop(name) for name in MASKS if name in rest and (name == "mask" or not function.takes(name))}
    return (function.bind(rest) if rest else function), arrays, masks


def _evaluation_of(cls: type[Loss]) -> Callable[..., Array]:
    """Return the `call` of a class that defines `measure`: ``super().call`` is then what the superclass measures."""

    def call(self: Loss, *arrays: Array, **keywords: Any) -> Array:
        return self._evaluate(cls, arrays, keywords)

    call.__doc__ = Loss.call.__doc__
    return call


def _measure_of(cls: type[Loss], call: Callable[..., Array]) -> Callable[[Loss], Differentiable]:
    """Return the `measure` of a class with a `call` of its own."""

    def measure(self: Loss) -> Differentiable:
        gradient = getattr(self, "gradient", None) if "gradient" in _names_up_to(cls, type(self)) else None
        return FromCall(call.__get__(self), gradient, self.inputs, type(self).__name__)

    return measure


def _names_up_to(cls: type, kind: type) -> set[str]:
    """Return what ``cls`` and the classes before it define: a gradient from beyond it belongs to another `call`."""
    mro = kind.__mro__
    return {name for one in mro[: mro.index(cls) + 1] for name in vars(one)}


def _check_order(cls: type[Loss]) -> None:
    """Refuse a mixin behind the loss that it should change, where it would change nothing."""
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
    if isinstance(value, list | tuple):
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


class ImageLoss(ImageOptions, Loss):
    """A loss of two images or labels: options of a measure that `formula` computes."""

    #: Makes the function that the loss evaluates of its options, by keyword; a measure's class.
    formula: ClassVar[Callable[..., Differentiable]]

    def measure(self) -> Differentiable:
        """Return the function that the loss evaluates."""
        return type(self).formula(**measured_options(self))


class FieldLoss(FieldOptions, Loss):
    """A loss of a displacement field: options of a measure that `formula` computes."""

    #: Makes the function that the loss evaluates of its options, by keyword.
    formula: ClassVar[Callable[..., Differentiable]]

    def measure(self) -> Differentiable:
        """Return the function that the loss evaluates."""
        return type(self).formula(**measured_options(self))


_names_of: dict[type, tuple[str, ...]] = {}


def measured_options(loss: Loss) -> dict[str, Any]:
    """Return a loss's options that are its measure's: those of the first class of its bases that is no loss.

    Compilers that trace a loss cannot ask a class for its fields.
    """
    kind = type(loss)
    if kind not in _names_of:
        options = next(one for one in kind.__mro__ if issubclass(one, Options) and not issubclass(one, Loss))
        _names_of[kind] = tuple(item.name for item in fields(options))  # type: ignore[arg-type]
    return {name: getattr(loss, name) for name in _names_of[kind]}
