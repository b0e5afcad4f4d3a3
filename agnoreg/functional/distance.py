"""Voxel-by-voxel distances of two images or labels: mean squared difference and cross-entropy."""

from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import per_sample
from agnoreg.engine.function import evaluate
from agnoreg.engine.masks import by_name
from agnoreg.engine.measure import MeanMeasure
from agnoreg.engine.measured import measured_by
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.engine.validate import check_flag, check_number
from agnoreg.measures.families.images import ImageMeasure, LabelMeasure
from agnoreg.functional.overlap import binarised, check_background_weight

Array = Any


@dataclass(frozen=True)
class SquaredDifference(ImageMeasure, MeanMeasure):
    """The mean of ``(t - p)^2``."""

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of squares."""
        t, p = slab.arrays
        difference = t - p
        return (total(slab, difference, difference),)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``±2 (t - p)`` times the coefficient."""
        t, p = slab.arrays
        factor = per_sample(slab.xp, coefficients[0] * 2.0, t)
        return tuple(((t - p) if index == 0 else (p - t)) * factor for index in wrt)


@measured_by(SquaredDifference)
def ssd(
    y_true: Array,
    y_pred: Array,
    *,
    spatial_dims: int = 3,
    data_format: str | None = None,
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
) -> Array:
    """Return the mean of squared differences of two images or labels, per sample.

    ``mean((y_true - y_pred)^2)`` over every axis but the first; the name is the field's, the value is a mean.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same.
    spatial_dims, data_format
        How many axes there are, 1, 2 or 3, where channels are ``"channels_last"`` or ``"channels_first"``. None: a mask
        that lacks an axis lacks the last.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred: bools or integers, which count where they are not
        0, or floating-point weights of at least 0, of the shape of y_true, which may lack the axis of channels and may
        have size 1 along any axis. Their product counts. What it leaves out does not exist; see `agnoreg.Loss`.

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
    return evaluate(
        SquaredDifference(spatial_dims=spatial_dims, data_format=data_format),
        y_true,
        y_pred,
        masks=by_name(mask, fixed_mask, moving_mask),
    )


@dataclass(frozen=True)
class BinaryCrossEntropy(LabelMeasure, MeanMeasure):
    """``-(1 - w) mean t log(p + s) - w mean (1 - t) log(1 - p + s)``."""

    binary: bool = False
    background_weight: float = 0.0
    smooth: float = 1e-5

    title: ClassVar[str] = "Cross-entropy"
    #: Where no logarithm is infinite.
    fill: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
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
        return foreground, xp.log(self._background(p)) * -w if w > 0 else None

    def _background(self, p: Array) -> Array:
        """Return ``1 - p + s``, written so that no compiler adds ``1 + s`` first, which costs the digits of ``s``."""
        return self.smooth - (p - 1.0)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the weighted logarithms."""
        t, p = self._inputs(slab)
        foreground, background = self._logarithms(slab.xp, p)
        entropy = total(slab, t, foreground)
        return (entropy if background is None else entropy + total(slab, 1.0 - t, background),)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradient times the coefficient: zero for thresholded inputs."""
        if self.binary:
            return tuple(slab.xp.zeros_like(slab.arrays[index]) for index in wrt)
        factor = per_sample(slab.xp, coefficients[0], slab.arrays[0])
        return tuple((self._wrt_true if index == 0 else self._wrt_pred)(slab, factor) for index in wrt)

    def _wrt_true(self, slab: Slab, factor: Array) -> Array:
        foreground, background = self._logarithms(slab.xp, slab.arrays[1])
        return (foreground if background is None else foreground - background) * factor

    def _wrt_pred(self, slab: Slab, factor: Array) -> Array:
        t, p = slab.arrays
        w, s = self.background_weight, self.smooth
        gradient = t / (p + s) * (factor * -(1.0 - w))
        return gradient if w == 0 else gradient + (1.0 - t) / self._background(p) * (factor * w)


@measured_by(BinaryCrossEntropy)
def cross_entropy(
    y_true: Array,
    y_pred: Array,
    *,
    binary: bool = False,
    background_weight: float = 0.0,
    smooth: float = 1e-5,
    spatial_dims: int = 3,
    data_format: str | None = None,
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
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
    spatial_dims, data_format
        How many axes there are, 1, 2 or 3, where channels are ``"channels_last"`` or ``"channels_first"``. None: a mask
        that lacks an axis lacks the last.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred: bools or integers, which count where they are not
        0, or floating-point weights of at least 0, of the shape of y_true, which may lack the axis of channels and may
        have size 1 along any axis. Their product counts. What it leaves out does not exist; see `agnoreg.Loss`.

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
    return evaluate(
        BinaryCrossEntropy(binary, background_weight, smooth, spatial_dims=spatial_dims, data_format=data_format),
        y_true,
        y_pred,
        masks=by_name(mask, fixed_mask, moving_mask),
    )
