"""Voxel-by-voxel distances of two images or labels: mean squared difference and cross-entropy."""

from dataclasses import dataclass
from typing import Any

from agnoreg.differentiable import MeanMeasure, check_flag, check_number, evaluate, measured_by, total
from agnoreg.functional.overlap import binarised, check_background_weight
from agnoreg.tiling import Slab

Array = Any


@dataclass(frozen=True)
class SquaredDifference(MeanMeasure):
    """The mean of ``(t - p)^2``."""

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of squares."""
        t, p = slab.arrays
        return (total(slab, (t - p) ** 2),)

    def sums_and_gradient(
        self, slab: Slab, scale: float, wrt: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum of squares and ``±2 (t - p)``."""
        t, p = slab.arrays
        difference = t - p
        sums = (total(slab, difference * difference),)
        return sums, tuple(difference * (2.0 * scale if index == 0 else -2.0 * scale) for index in wrt)


@measured_by(SquaredDifference)
def ssd(y_true: Array, y_pred: Array) -> Array:
    """Return the mean of squared differences of two images or labels, per sample.

    ``mean((y_true - y_pred)^2)`` over every axis but the first; the name is the field's, the value is a mean.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is better, 0 for equal inputs; in units of intensity squared.

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If the arguments are not arrays of one framework on one device.

    Examples
    --------
    >>> import numpy as np
    >>> ssd(np.zeros((1, 2, 2, 2)), np.full((1, 2, 2, 2), 3.0))
    array([9.])
    """
    return evaluate(SquaredDifference(), y_true, y_pred)


@dataclass(frozen=True)
class BinaryCrossEntropy(MeanMeasure):
    """``-(1 - w) mean t log(p + s) - w mean (1 - t) log(1 - p + s)``."""

    binary: bool = False
    background_weight: float = 0.0
    smooth: float = 1e-5

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_flag("binary", self.binary)
        check_background_weight(self.background_weight, "Cross Entropy")
        check_number("smooth", self.smooth)

    def _inputs(self, slab: Slab) -> tuple[Array, Array]:
        t, p = slab.arrays
        return (binarised(slab.xp, t), binarised(slab.xp, p)) if self.binary else (t, p)

    def _logarithms(self, xp: Any, p: Array) -> tuple[Array, Array | None]:
        w, s = self.background_weight, self.smooth
        foreground = xp.log(p + s) * -(1.0 - w)
        # Left out where it has no weight: beyond p = 1 + s its logarithm would be NaN.
        return foreground, xp.log((1.0 - p) + s) * -w if w > 0 else None

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the weighted logarithms."""
        t, p = self._inputs(slab)
        foreground, background = self._logarithms(slab.xp, p)
        entropy = t * foreground
        return (total(slab, entropy if background is None else entropy + (1.0 - t) * background),)

    def sums_and_gradient(
        self, slab: Slab, scale: float, wrt: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum, and the gradient: zero for thresholded inputs."""
        sums = self.sums(slab)
        if self.binary:
            return sums, tuple(slab.xp.zeros_like(slab.arrays[index]) for index in wrt)
        return sums, tuple((self._wrt_true if index == 0 else self._wrt_pred)(slab, scale) for index in wrt)

    def _wrt_true(self, slab: Slab, scale: float) -> Array:
        foreground, background = self._logarithms(slab.xp, slab.arrays[1])
        return (foreground if background is None else foreground - background) * scale

    def _wrt_pred(self, slab: Slab, scale: float) -> Array:
        t, p = slab.arrays
        w, s = self.background_weight, self.smooth
        gradient = t / (p + s) * (-(1.0 - w) * scale)
        return gradient if w == 0 else gradient + (1.0 - t) / ((1.0 - p) + s) * (w * scale)


@measured_by(BinaryCrossEntropy)
def cross_entropy(
    y_true: Array, y_pred: Array, *, binary: bool = False, background_weight: float = 0.0, smooth: float = 1e-5
) -> Array:
    """Return the weighted binary cross-entropy of two labels, per sample.

    With ``w = background_weight``: ``-(1 - w) mean(t log(p + smooth)) - w mean((1 - t) log(1 - p + smooth))``.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same; values in [0, 1].
    binary
        Threshold both at ``>= 0.5`` first; there is no gradient then.
    background_weight
        Weight of the background, in [0, 1].
    smooth
        Added inside the logarithms.

    Returns
    -------
    array
        Shape ``(B,)``; in [-log(1 + smooth), -log(smooth)], lower is better.

    Raises
    ------
    ValueError
        If the shapes differ or the weight lies outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(np.ones((1, 4)), np.full((1, 4), 0.5)).round(4)
    array([0.6931])
    """
    return evaluate(BinaryCrossEntropy(binary, background_weight, smooth), y_true, y_pred)
