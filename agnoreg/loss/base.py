"""Loss: what every loss and metric object is. Immutable, hashable, picklable; configuration and nothing else."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Self, dataclass_transform

from agnoreg.backend import backend_of
from agnoreg.differentiable import Differentiable, FromCall, evaluate, native_autodiff

Array = Any

REDUCTIONS = ("mean", "sum", "none")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True)
class Loss:
    """A loss or metric: a configuration that is called with arrays of any framework.

    A subclass is a frozen dataclass by itself: its annotated attributes are its arguments. It says what it computes in
    one of two ways: by ``measure``, a combination of agnoreg's own functions; or by a method ``call(self, y_true,
    y_pred)`` of its own, which returns ``(B,)``, with a method ``gradient(self, y_true, y_pred, wrt)`` beside it where
    gradients shall exist without autodiff: one array, at unit cotangent per sample, for each index in ``wrt``.

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
    ...         return abs(y_true - y_pred).mean(axis=(1, 2, 3))
    >>> MeanAbsoluteError()(np.zeros((1, 2, 2, 2)), np.ones((1, 2, 2, 2)))
    array(1.)
    """

    name: str | None = field(default=None, kw_only=True)
    reduction: str = field(default="mean", kw_only=True)
    native: bool = field(default=False, kw_only=True)

    #: How many arrays the loss takes: 2 (y_true, y_pred), or 1 (a field).
    inputs: ClassVar[int] = 2

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make every subclass a frozen dataclass."""
        super().__init_subclass__(**keywords)
        dataclass(frozen=True)(cls)

    def __post_init__(self) -> None:
        """Check the configuration."""
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {self.reduction!r}.")
        if self.name is None:
            object.__setattr__(self, "name", type(self).__name__)
        self.measure()

    # --- what it computes -------------------------------------------------------------------------------------------

    def measure(self) -> Differentiable:
        """Return the function that the loss evaluates."""
        for cls in type(self).__mro__:
            call = vars(cls).get("call")
            if call is not None and call not in _DRIVEN:
                gradient = getattr(self, "gradient", None)
                return FromCall(call.__get__(self), gradient, self.inputs)
        raise TypeError(f"{type(self).__name__} must define measure(self), or call(self, y_true, y_pred).")

    @cached_property
    def _measure(self) -> Differentiable:
        return self.measure()

    def _evaluate(self, *arrays: Array) -> Array:
        with native_autodiff() if self.native else nullcontext():
            return evaluate(self._measure, *arrays)

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """Return the value of every sample.

        Parameters
        ----------
        y_true, y_pred
            Two images or labels, ``(B, ...)``.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        return self._evaluate(y_true, y_pred)

    def __call__(self, *arrays: Array, **keywords: Any) -> Array:
        """Return the values of the samples, reduced.

        Parameters
        ----------
        *arrays
            What `call` takes, by position or keyword.
        **keywords
            More of it.

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
        xp = backend_of(values).xp
        value = (xp.mean if self.reduction == "mean" else xp.sum)(values, keepdims=True)
        # Without keepdims NumPy would give a scalar, which is no array.
        return xp.reshape(value, ())

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value, for inputs in the range that the loss asks for."""
        return -math.inf, math.inf

    @property
    def direction(self) -> str:
        """``"lower"`` where lower values are better, ``"higher"`` where higher ones are."""
        return "lower"

    @property
    def identity_value(self) -> float | None:
        """The value of two equal images, or of a field of zero displacement; None where it depends on them."""
        return None

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


#: The `call`s that evaluate `measure`, which `measure` must not take for a user's own.
_DRIVEN: list[Callable[..., Any]] = [Loss.call]


def driven(call: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a `call` that evaluates `Loss.measure`."""
    _DRIVEN.append(call)
    return call


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
