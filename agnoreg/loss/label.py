"""Losses and metrics of labels."""

import math
from dataclasses import field
from typing import Any

from agnoreg.functional.centroid import compute_centroid, compute_centroid_distance, foreground_proportion
from agnoreg.functional.distance import BinaryCrossEntropy, SquaredDifference
from agnoreg.functional.overlap import DiceOverlap, JaccardOverlap
from agnoreg.loss.base import ImageLoss, greatest_ratio
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin

Array = Any

__all__ = [
    "CrossEntropy",
    "CrossEntropyLoss",
    "DiceLoss",
    "DiceScore",
    "JaccardIndex",
    "JaccardLoss",
    "SumSquaredDifference",
    "SumSquaredDifferenceLoss",
    "compute_centroid",
    "compute_centroid_distance",
    "foreground_proportion",
]

EPS = 1e-5


class SumSquaredDifference(ImageLoss):
    """The mean of squared differences, named as the field names it; see `agnoreg.functional.ssd`.

    Takes two images or labels ``(B, ...)``; in [0, inf), lower is better.

    Parameters
    ----------
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        When called, if the shapes differ.
    """

    formula = SquaredDifference

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0, without bound."""
        return 0.0, math.inf

    @property
    def identity_value(self) -> float | None:
        """0."""
        return 0.0


class SumSquaredDifferenceLoss(MultiScaleMixin, SumSquaredDifference):
    """`SumSquaredDifference` over several scales; the sign stays, to be minimised."""


class _Overlap(ImageLoss):
    binary: bool = False
    background_weight: float = 0.0
    smooth_nr: float | None = None
    smooth_dr: float | None = None
    squared: bool | None = field(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1 for inputs in [0, 1]; above 1 only where ``smooth_nr > smooth_dr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        return 0.0, greatest_ratio(self.smooth_nr, self.smooth_dr)

    @property
    def direction(self) -> str:
        """Higher is better."""
        return "higher"

    @property
    def identity_value(self) -> float | None:
        """1 where the small constants are equal, for binary labels and for the overlap of squares.

        Other soft labels score less with themselves, and with ITK's convention so do empty ones.
        """
        alike = self.smooth_nr == self.smooth_dr and self.convention != "ants"
        return 1.0 if alike and (self.binary or self.squared) else None


class DiceScore(_Overlap):
    """Dice score; see `agnoreg.functional.dice` for the formula.

    Takes two labels ``(B, ...)`` with values in [0, 1]; in [0, 1], higher is better.

    Parameters
    ----------
    binary
        Threshold both at ``>= 0.5`` first; there is no gradient then.
    background_weight
        Weight of the background, in [0, 1].
    smooth_nr, smooth_dr
        Added to numerator and denominator; None: the convention's.
    squared
        Sum squares in the denominator; None: the convention's.
    convention
        ``"deepreg"``, ``"monai"``, ``"voxelmorph"`` or ``"ants"``: whose formula; see `agnoreg.functional.dice`. With
        MONAI's, the loss is ``1 - Dice``.
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.

    References
    ----------
    Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations, 2017.
    """

    formula = DiceOverlap


class DiceLoss(NegativeLossMixin, MultiScaleMixin, DiceScore):
    """The negative of `DiceScore` over several scales, to be minimised; by MONAI's convention it is ``1 - Dice``."""

    @property
    def offset(self) -> float:
        """What the negative score is added to."""
        return 1.0 if self.convention == "monai" else 0.0

    @property
    def value_range(self) -> tuple[float, float]:
        """That of the negative score; by MONAI's convention below 0 where `scales` make labels larger than 1."""
        low, high = super().value_range
        if self.convention != "monai" or not isinstance(self.scales, tuple):
            return low, high
        gains = [max(1.0, sum(self.taps(scale)) ** self.spatial_dims) if scale else 1.0 for scale in self.scales]
        return 1.0 - (1.0 - low) * sum(gains) / len(gains), high


class JaccardIndex(_Overlap):
    """Jaccard index; see `agnoreg.functional.jaccard` for the formula.

    Takes two labels ``(B, ...)`` with values in [0, 1]; in [0, 1], higher is better.

    Parameters
    ----------
    binary
        Threshold both at ``>= 0.5`` first; there is no gradient then.
    background_weight
        Weight of the background, in [0, 1].
    smooth_nr, smooth_dr
        Added to numerator and denominator; None: the convention's.
    squared
        Sum squares in the denominator; None: the convention's.
    convention
        ``"deepreg"``.
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.
    """

    formula = JaccardOverlap


class JaccardLoss(NegativeLossMixin, MultiScaleMixin, JaccardIndex):
    """The negative of `JaccardIndex` over several scales, to be minimised."""


class CrossEntropy(ImageLoss):
    """Weighted binary cross-entropy; see `agnoreg.functional.cross_entropy` for the formula.

    Takes two labels ``(B, ...)`` with values in [0, 1]; in [-log(1 + smooth), -log(smooth)], lower is better.

    Parameters
    ----------
    binary
        Threshold both at ``>= 0.5`` first; there is no gradient then.
    background_weight
        Weight of the background, in [0, 1].
    smooth
        Added inside the logarithms.
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.
    """

    binary: bool = False
    background_weight: float = 0.0
    smooth: float = EPS

    formula = BinaryCrossEntropy

    @property
    def value_range(self) -> tuple[float, float]:
        """From -log(1 + smooth) to -log(smooth), for inputs in [0, 1]."""
        return -math.log1p(self.smooth), -math.log(self.smooth) if self.smooth > 0 else math.inf


class CrossEntropyLoss(MultiScaleMixin, CrossEntropy):
    """`CrossEntropy` over several scales; the sign stays, to be minimised."""
