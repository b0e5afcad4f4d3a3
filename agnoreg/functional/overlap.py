"""Overlap of two labels: Dice and Jaccard, with a weight for the background."""

from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import per_sample
from agnoreg.differentiable import Measure, as_number, check_flag, check_number, evaluate, measured_by, total
from agnoreg.masks import by_name
from agnoreg.tiling import Slab

Array = Any


def binarised(xp: Any, x: Array) -> Array:
    """Return 1 where ``x >= 0.5``, 0 elsewhere, and NaN where ``x`` is NaN, in the dtype of ``x``."""
    return xp.where(xp.isnan(x), x, xp.astype(x >= 0.5, x.dtype))


def check_background_weight(weight: float, measure: str) -> None:
    """Raise ValueError where the weight lies outside [0, 1]."""
    if not 0 <= as_number(weight) <= 1:
        raise ValueError(f"The background weight for {measure} must be within [0, 1], got {weight}.")


@dataclass(frozen=True)
class _Overlap(Measure):
    """A ratio of two linear functions of ``P = sum t p`` and ``Y = sum (t + p)``."""

    binary: bool = False
    background_weight: float = 0.0
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5

    title: ClassVar[str] = "an overlap"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_flag("binary", self.binary)
        check_background_weight(self.background_weight, self.title)
        check_number("smooth_nr", self.smooth_nr)
        check_number("smooth_dr", self.smooth_dr)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return ``P`` and ``Y``."""
        t, p = (binarised(slab.xp, x) for x in slab.arrays) if self.binary else slab.arrays
        return total(slab, t, p), total(slab, t) + total(slab, p)

    def ratio(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        """Return numerator, denominator, and the derivatives of each by ``P`` and ``Y``."""
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the ratio, and its derivatives by ``P`` and ``Y``."""
        top, bottom, (top_p, top_y), (bottom_p, bottom_y) = self.ratio(sums[0], sums[1], count)
        value = top / bottom
        return value, ((top_p - value * bottom_p) / bottom, (top_y - value * bottom_y) / bottom)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``∂/∂P`` times the other input plus ``∂/∂Y``; zero for thresholded inputs."""
        if self.binary:
            return tuple(slab.xp.zeros_like(slab.arrays[index]) for index in wrt)
        by_product, by_both = (per_sample(slab.xp, c, slab.arrays[0]) for c in coefficients)

        def by(other: Array) -> Array:
            gradient = other * by_product
            gradient += by_both
            return gradient

        return tuple(by(slab.arrays[1 - index]) for index in wrt)


@dataclass(frozen=True)
class DiceOverlap(_Overlap):
    """Dice: ``(2 (P - wY + wn) + nr) / ((1 - 2w) Y + 2wn + dr)``."""

    title: ClassVar[str] = "Dice Score"

    def ratio(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        """Return numerator, denominator, and the derivatives of each by ``P`` and ``Y``."""
        w = self.background_weight
        top = 2.0 * (product - w * both + w * n) + self.smooth_nr
        bottom = (1.0 - 2.0 * w) * both + 2.0 * w * n + self.smooth_dr
        return top, bottom, (2.0, -2.0 * w), (0.0, 1.0 - 2.0 * w)


@dataclass(frozen=True)
class JaccardOverlap(_Overlap):
    """Jaccard: ``(P - wY + wn + nr) / ((1 - w) Y - P + wn + dr)``."""

    title: ClassVar[str] = "Jaccard Index"

    def ratio(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        """Return numerator, denominator, and the derivatives of each by ``P`` and ``Y``."""
        w = self.background_weight
        top = product - w * both + w * n + self.smooth_nr
        bottom = (1.0 - w) * both - product + w * n + self.smooth_dr
        return top, bottom, (1.0, -w), (-1.0, 1.0 - w)


@measured_by(DiceOverlap)
def dice(
    y_true: Array,
    y_pred: Array,
    *,
    binary: bool = False,
    background_weight: float = 0.0,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
) -> Array:
    """Return the Dice score of two labels, soft or thresholded, per sample.

    With ``P = sum t p``, ``Y = sum (t + p)``, ``n`` voxels and ``w = background_weight``: ``(2 (P - wY + wn) +
    smooth_nr) / ((1 - 2w) Y + 2wn + smooth_dr)``, summed over every axis but the first, channels included.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same; values in [0, 1].
    binary
        Threshold both at ``>= 0.5`` first; the counts are exact, and there is no gradient.
    background_weight
        Weight of the background, in [0, 1].
    smooth_nr, smooth_dr
        Added to the numerator and the denominator: two empty labels score ``smooth_nr / smooth_dr``.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred, and how much: bools, or weights of at least 0, of
        the shape of y_true, which may lack the axis of channels and may have size 1 along any axis. Their product
        counts. What it leaves out does not exist; see `agnoreg.Loss`.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] for the defaults, higher is better, 1 for equal binary labels. Equal soft labels
        score less.

    Raises
    ------
    ValueError
        If the shapes differ or the weight lies outside [0, 1].

    References
    ----------
    Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.asarray([[0, 1, 1, 0]])
    >>> dice(label, np.asarray([[0, 1, 0, 0]])).round(4)
    array([0.6667])
    """
    return evaluate(
        DiceOverlap(binary, background_weight, smooth_nr, smooth_dr),
        y_true,
        y_pred,
        masks=by_name(mask, fixed_mask, moving_mask),
    )


@measured_by(JaccardOverlap)
def jaccard(
    y_true: Array,
    y_pred: Array,
    *,
    binary: bool = False,
    background_weight: float = 0.0,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
) -> Array:
    """Return the Jaccard index (intersection over union) of two labels, soft or thresholded, per sample.

    With ``P = sum t p``, ``Y = sum (t + p)``, ``n`` voxels and ``w = background_weight``:
    ``(P - wY + wn + smooth_nr) / ((1 - w) Y - P + wn + smooth_dr)``, summed over every axis but the first.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same; values in [0, 1].
    binary
        Threshold both at ``>= 0.5`` first; the counts are exact, and there is no gradient.
    background_weight
        Weight of the background, in [0, 1].
    smooth_nr, smooth_dr
        Added to the numerator and the denominator: two empty labels score ``smooth_nr / smooth_dr``.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred, and how much: bools, or weights of at least 0, of
        the shape of y_true, which may lack the axis of channels and may have size 1 along any axis. Their product
        counts. What it leaves out does not exist; see `agnoreg.Loss`.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] for the defaults, higher is better, 1 for equal binary labels. Equal soft labels
        score less.

    Raises
    ------
    ValueError
        If the shapes differ or the weight lies outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> jaccard(np.asarray([[0, 1, 1, 0]]), np.asarray([[0, 1, 0, 0]])).round(4)
    array([0.5])
    """
    return evaluate(
        JaccardOverlap(binary, background_weight, smooth_nr, smooth_dr),
        y_true,
        y_pred,
        masks=by_name(mask, fixed_mask, moving_mask),
    )
