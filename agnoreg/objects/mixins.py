"""Mixins that change a loss: its sign or its scales."""

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from agnoreg.engine.combinators import Filtered, Negated, WeightedSum
from agnoreg.engine.function import Differentiable
from agnoreg.engine.kernels import LARGEST, cauchy_kernel1d, gaussian_kernel1d_sigma, sampled_gaussian
from agnoreg.engine.validate import as_number
from agnoreg.messages import named, shown
from agnoreg.objects.loss import Loss, frozen

Array = Any

__all__ = ["MultiScaleMixin", "NegativeLossMixin", "metric_of"]

SCALE_KERNELS = {"gaussian": gaussian_kernel1d_sigma, "cauchy": cauchy_kernel1d}


class NegativeLossMixin(Loss):
    """Reverse the sign of a metric, as a loss; the object's name ends in ``Loss``.

    Examples
    --------
    >>> from agnoreg.loss.label import DiceScore
    >>> class NegativeDice(NegativeLossMixin, DiceScore):
    ...     pass
    >>> NegativeDice().value_range
    (-1.0, 0.0)
    """

    mixin: ClassVar[bool] = True
    preface: ClassVar[str] = "Negated, to be minimised:"

    @property
    def offset(self) -> float:
        """The offset of ``offset - value``."""
        return 0.0

    def __post_init__(self) -> None:
        """Check the configuration and complete the name."""
        super().__post_init__()
        if self.name and not self.name.endswith("Loss"):
            object.__setattr__(self, "name", self.name + "Loss")

    def measure(self) -> Differentiable:
        """Return the offset minus the function of the metric."""
        return Negated(super().measure(), self.offset)

    @property
    def value_range(self) -> tuple[float, float]:
        """The metric's range, negated and shifted by the offset."""
        low, high = super().value_range
        return self.offset - high, self.offset - low

    @property
    def direction(self) -> str:
        """The opposite of the metric's direction."""
        return "lower" if super().direction == "higher" else "higher"

    @property
    def identity_value(self) -> float | None:
        """The offset minus the metric's value of identical inputs, or None."""
        value = super().identity_value
        return None if value is None else self.offset - value


class MultiScaleMixin(Loss):
    """The mean of a loss over several scales of both inputs, smoothed by a Gaussian or Cauchy kernel.

    Parameters
    ----------
    scales
        Sigmas of the kernels in voxels, one or a sequence; 0 means no smoothing. None: the loss without scales.
    kernel
        ``"gaussian"`` or ``"cauchy"``.

    Raises
    ------
    ValueError
        If a scale is negative, the sequence is empty, or the kernel is unknown.
    """

    mixin: ClassVar[bool] = True

    scales: tuple[float, ...] | Sequence[float] | float | None = field(default=None, kw_only=True)
    kernel: str = field(default="gaussian", kw_only=True)

    def __post_init__(self) -> None:
        """Check the configuration."""
        if not isinstance(self.kernel, str) or self.kernel not in tuple(SCALE_KERNELS):
            feasible = ", ".join(SCALE_KERNELS)
            raise ValueError(f"Kernel {named(self.kernel)} is not supported. Feasible values are {feasible}.")
        if self.scales is not None:
            scales = np.asarray(frozen("scales", self.scales), dtype=object).reshape(-1).tolist()
            if not scales or not all(0 <= as_number(scale) < math.inf for scale in scales):
                raise ValueError(f"scales must be one or more numbers of at least 0, got {shown(self.scales)}.")
            if max(scales) > LARGEST:
                raise ValueError(f"scales must be at most {LARGEST} voxels, got {shown(self.scales)}.")
            object.__setattr__(self, "scales", tuple(scales))
        super().__post_init__()

    def measure(self) -> Differentiable:
        """Return the mean over the scales of the loss's function."""
        function = super().measure()
        if self.scales is None:
            return function
        assert isinstance(self.scales, tuple)
        parts = tuple(self._at(function, scale) for scale in self.scales)
        return WeightedSum(parts, (1.0 / len(parts),) * len(parts))

    def scale_taps(self, scale: float) -> tuple[float, ...]:
        """Return the taps of a scale above 0 along one axis, by the loss's convention if it has one."""
        if self.kernel == "gaussian" and getattr(self, "convention", None) == "monai":
            return sampled_gaussian(scale)
        return tuple(SCALE_KERNELS[self.kernel](scale).tolist())

    def _at(self, function: Differentiable, scale: float) -> Differentiable:
        if scale == 0:
            return function
        taps = self.scale_taps(scale)
        # A user's own loss may lack these options.
        dims, data_format = getattr(self, "spatial_dims", 3), getattr(self, "data_format", None)
        return Filtered(function, taps, dims, data_format)


def metric_of(kind: type[Loss]) -> type[Loss]:
    """Return the metric that a loss negates or averages over scales; otherwise the class itself."""
    changed = (NegativeLossMixin, MultiScaleMixin)
    return next(base for base in kind.__mro__ if issubclass(base, Loss) and not issubclass(base, changed))
