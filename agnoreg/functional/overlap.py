"""Overlap of two labels: Dice and Jaccard, with a weight for the background."""

from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import per_sample
from agnoreg.engine.function import evaluate
from agnoreg.engine.masks import by_name
from agnoreg.engine.measured import measured_by
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.engine.validate import as_number, check_flag, check_number
from agnoreg.measures.conventions import check_convention, check_fixed, take
from agnoreg.measures.families.images import LabelMeasure
from agnoreg.messages import shown

Array = Any


def binarised(xp: Any, x: Array) -> Array:
    """Return 1 where ``x >= 0.5``, 0 elsewhere, and NaN where ``x`` is NaN, in the dtype of ``x``."""
    return xp.where(xp.isnan(x), x, xp.astype(x >= 0.5, x.dtype))


def check_background_weight(weight: float, measure: str) -> None:
    """Raise ValueError where the weight lies outside [0, 1]."""
    if not 0 <= as_number(weight) <= 1:
        raise ValueError(f"The background weight for {measure} must be within [0, 1], got {shown(weight)}.")


#: For each convention of Dice: whether the denominator is of squares, and both small constants.
CONVENTIONS = {
    "deepreg": (False, 1e-5),
    "monai": (False, 1e-5),
    "voxelmorph": (True, 1e-5),
    "ants": (False, 0.0),
}


@dataclass(frozen=True)
class _Overlap(LabelMeasure):
    """A ratio of two linear functions of ``P = sum t p`` and ``Y = sum (t + p)``, or ``Y = sum (t^2 + p^2)``."""

    binary: bool = False
    background_weight: float = 0.0
    smooth_nr: float | None = None
    smooth_dr: float | None = None
    squared: bool | None = None
    convention: str = "deepreg"

    title: ClassVar[str] = "an overlap"
    conventions: ClassVar[tuple[str, ...]] = ("deepreg",)

    def __post_init__(self) -> None:
        """Check the parameters, and take what was left out from the convention."""
        super().__post_init__()
        check_convention(self.title, self.convention, self.conventions)
        squared, smooth = CONVENTIONS[self.convention]
        take(self, smooth_nr=smooth, smooth_dr=smooth, squared=squared)
        check_flag("binary", self.binary)
        check_flag("squared", self.squared)
        check_background_weight(self.background_weight, self.title)
        check_number("smooth_nr", self.smooth_nr)
        check_number("smooth_dr", self.smooth_dr)
        if self.convention != "deepreg":
            check_fixed(self.convention, "background_weight", self.background_weight, (0.0,))
        if self.convention == "ants":
            # It knows labels alone.
            object.__setattr__(self, "binary", True)

    @property
    def by_channel(self) -> bool:
        """Whether the value is the mean of the channels' own; DeepReg's is that of all channels together."""
        return self.convention != "deepreg" and self.data_format is not None

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return ``P`` and ``Y``."""
        t, p = (binarised(slab.xp, x) for x in slab.arrays) if self.binary else slab.arrays
        both = total(slab, t, t) + total(slab, p, p) if self.squared else total(slab, t) + total(slab, p)
        return total(slab, t, p), both

    def ratio(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        """Return numerator, denominator, and the derivatives of each by ``P`` and ``Y``."""
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the ratio, and its derivatives by ``P`` and ``Y``."""
        top, bottom, (top_p, top_y), (bottom_p, bottom_y) = self.ratio(sums[0], sums[1], count)
        if self.convention == "ants":
            # Of two empty labels it is 0; NaN, that of an empty mask, stays.
            bottom = xp.where(bottom == 0.0, xp.ones_like(bottom), bottom)
        value = top / bottom
        return value, ((top_p - value * bottom_p) / bottom, (top_y - value * bottom_y) / bottom)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``∂/∂P`` times the other input plus ``∂/∂Y``; zero for thresholded inputs."""
        if self.binary:
            return tuple(slab.xp.zeros_like(slab.arrays[index]) for index in wrt)
        by_product, by_both = (per_sample(slab.xp, c, slab.arrays[0]) for c in coefficients)

        def by(own: Array, other: Array) -> Array:
            gradient = other * by_product
            gradient += own * (by_both * 2.0) if self.squared else by_both
            return gradient

        return tuple(by(slab.arrays[index], slab.arrays[1 - index]) for index in wrt)


@dataclass(frozen=True)
class DiceOverlap(_Overlap):
    """Dice: ``(2 (P - wY + wn) + nr) / ((1 - 2w) Y + 2wn + dr)``."""

    title: ClassVar[str] = "Dice Score"
    conventions: ClassVar[tuple[str, ...]] = tuple(CONVENTIONS)

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
    smooth_nr: float | None = None,
    smooth_dr: float | None = None,
    spatial_dims: int = 3,
    data_format: str | None = None,
    squared: bool | None = None,
    convention: str = "deepreg",
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
        Added to the numerator and the denominator: two empty labels score ``smooth_nr / smooth_dr``. None: the
        convention's, 1e-5 each.
    spatial_dims, data_format
        How many axes there are, 1, 2 or 3, where channels are ``"channels_last"`` or ``"channels_first"``. None: a mask
        that lacks an axis lacks the last.
    squared
        Sum ``t^2 + p^2`` instead of ``t + p``, so that equal soft labels score 1. None: the convention's, False.
    convention
        ``"deepreg"``. ``"monai"``: the mean of the channels' own scores, where ``data_format`` says that there are
        channels. ``"voxelmorph"``: the same of squares. ``"ants"``, ITK's: that of thresholded labels, without small
        constants, and 0 for two empty labels.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred: bools or integers, which count where they are not
        0, or floating-point weights of at least 0, of the shape of y_true, which may lack the axis of channels and may
        have size 1 along any axis. Their product counts. What it leaves out does not exist; see `agnoreg.Loss`.

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
        DiceOverlap(
            binary,
            background_weight,
            smooth_nr,
            smooth_dr,
            squared,
            convention,
            data_format=data_format,
            spatial_dims=spatial_dims,
        ),
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
    spatial_dims: int = 3,
    data_format: str | None = None,
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
        JaccardOverlap(
            binary, background_weight, smooth_nr, smooth_dr, data_format=data_format, spatial_dims=spatial_dims
        ),
        y_true,
        y_pred,
        masks=by_name(mask, fixed_mask, moving_mask),
    )
