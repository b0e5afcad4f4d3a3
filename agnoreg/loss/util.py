"""Mixins that change a loss, and the separable filter."""

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from agnoreg.differentiable import Differentiable, Filtered, Negated, WeightedSum
from agnoreg.functional.filters import separable_filter
from agnoreg.functional.kernels import cauchy_kernel1d, gaussian_kernel1d_sigma
from agnoreg.loss.base import Loss, driven

Array = Any

__all__ = ["MultiScaleMixin", "NegativeLossMixin", "separable_filter"]

SCALE_KERNELS = {"gaussian": gaussian_kernel1d_sigma, "cauchy": cauchy_kernel1d}


class _Mixin(Loss):
    @driven
    def call(self, *arrays: Array, **keywords: Array) -> Array:
        """Return the value of every sample.

        Parameters
        ----------
        *arrays, **keywords
            What the loss takes: y_true and y_pred, ``(B, ...)``, or inputs, a field.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        names = ("inputs",) if self.inputs == 1 else ("y_true", "y_pred")
        if unknown := set(keywords) - set(names[len(arrays) :]):
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(names)}, got {', '.join(sorted(unknown))} beside them."
            )
        return self._evaluate(*arrays, *(keywords[name] for name in names if name in keywords))


class NegativeLossMixin(_Mixin):
    """Revert the sign of a loss; its name ends in ``Loss``.

    Examples
    --------
    >>> from agnoreg.loss.label import DiceScore
    >>> class NegativeDice(NegativeLossMixin, DiceScore):
    ...     pass
    >>> NegativeDice().value_range
    (-1.0, -0.0)
    """

    def __post_init__(self) -> None:
        """Check the configuration and complete the name."""
        super().__post_init__()
        if self.name and not self.name.endswith("Loss"):
            object.__setattr__(self, "name", self.name + "Loss")

    def measure(self) -> Differentiable:
        """Return the negative of what the loss evaluates."""
        return Negated(super().measure())

    @property
    def value_range(self) -> tuple[float, float]:
        """The loss's own range, reversed."""
        low, high = super().value_range
        return -high, -low

    @property
    def direction(self) -> str:
        """The opposite of the loss's own direction."""
        return "lower" if super().direction == "higher" else "higher"

    @property
    def identity_value(self) -> float | None:
        """The negative of the loss's own."""
        value = super().identity_value
        return None if value is None else -value


class MultiScaleMixin(_Mixin):
    """The mean of a loss over several scales of both inputs, smoothed by a Gaussian or Cauchy kernel.

    Parameters
    ----------
    scales
        The kernels' sigmas in voxels, one or a sequence of them; 0 is the input as it is. None: the loss itself.
    kernel
        ``"gaussian"`` or ``"cauchy"``.

    Raises
    ------
    ValueError
        If a scale is negative, there are none, or the kernel is another.
    """

    scales: tuple[float, ...] | Sequence[float] | float | None = field(default=None, kw_only=True)
    kernel: str = field(default="gaussian", kw_only=True)

    def __post_init__(self) -> None:
        """Check the configuration."""
        if self.kernel not in SCALE_KERNELS:
            raise ValueError(f"Kernel {self.kernel} is not supported. Feasible values are {', '.join(SCALE_KERNELS)}.")
        if self.scales is not None:
            scales = tuple(self.scales) if isinstance(self.scales, Sequence) else (self.scales,)
            if not scales or any(isinstance(scale, str) or not 0 <= scale < math.inf for scale in scales):
                raise ValueError(f"scales must be one or more numbers of at least 0, got {self.scales}.")
            object.__setattr__(self, "scales", scales)
        super().__post_init__()

    def measure(self) -> Differentiable:
        """Return the mean over the scales of what the loss evaluates."""
        function = super().measure()
        if self.scales is None:
            return function
        assert isinstance(self.scales, tuple)
        parts = tuple(self._at(function, scale) for scale in self.scales)
        return WeightedSum(parts, (1.0 / len(parts),) * len(parts))

    def _at(self, function: Differentiable, scale: float) -> Differentiable:
        return function if scale == 0 else Filtered(function, tuple(SCALE_KERNELS[self.kernel](scale).tolist()))
