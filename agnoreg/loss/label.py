"""Losses and metrics of labels."""

import math
from typing import Any

from agnoreg.differentiable import Differentiable
from agnoreg.functional.centroid import compute_centroid, compute_centroid_distance, foreground_proportion
from agnoreg.functional.distance import BinaryCrossEntropy, SquaredDifference
from agnoreg.functional.overlap import DiceOverlap, JaccardOverlap
from agnoreg.loss.base import Loss, greatest_ratio
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


class SumSquaredDifference(Loss):
    """The mean of squared differences, named as the field names it; see `agnoreg.functional.ssd`.

    Takes two images or labels ``(B, ...)``; in [0, inf), lower is better.

    Raises
    ------
    ValueError
        When called, if the shapes differ.
    """

    def measure(self) -> Differentiable:
        """Return the mean squared difference."""
        return SquaredDifference()

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


class _Overlap(Loss):
    binary: bool = False
    background_weight: float = 0.0
    smooth_nr: float = EPS
    smooth_dr: float = EPS

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1 for inputs in [0, 1]; above 1 only where ``smooth_nr > smooth_dr``."""
        return 0.0, greatest_ratio(self.smooth_nr, self.smooth_dr)

    @property
    def direction(self) -> str:
        """Higher is better."""
        return "higher"

    @property
    def identity_value(self) -> float | None:
        """1 for binary labels where the two small constants are equal; soft labels score less with themselves."""
        return 1.0 if self.binary and self.smooth_nr == self.smooth_dr else None


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
        Added to numerator and denominator.

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.

    References
    ----------
    Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations, 2017.
    """

    def measure(self) -> Differentiable:
        """Return the score."""
        return DiceOverlap(self.binary, self.background_weight, self.smooth_nr, self.smooth_dr)


class DiceLoss(NegativeLossMixin, MultiScaleMixin, DiceScore):
    """The negative of `DiceScore` over several scales, to be minimised."""


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
        Added to numerator and denominator.

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.
    """

    def measure(self) -> Differentiable:
        """Return the index."""
        return JaccardOverlap(self.binary, self.background_weight, self.smooth_nr, self.smooth_dr)


class JaccardLoss(NegativeLossMixin, MultiScaleMixin, JaccardIndex):
    """The negative of `JaccardIndex` over several scales, to be minimised."""


class CrossEntropy(Loss):
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

    Raises
    ------
    ValueError
        If the weight lies outside [0, 1] or a small constant is negative, or, when called, if the shapes differ.
    """

    binary: bool = False
    background_weight: float = 0.0
    smooth: float = EPS

    def measure(self) -> Differentiable:
        """Return the cross-entropy."""
        return BinaryCrossEntropy(self.binary, self.background_weight, self.smooth)

    @property
    def value_range(self) -> tuple[float, float]:
        """From -log(1 + smooth) to -log(smooth), for inputs in [0, 1]."""
        return -math.log1p(self.smooth), -math.log(self.smooth) if self.smooth > 0 else math.inf


class CrossEntropyLoss(MultiScaleMixin, CrossEntropy):
    """`CrossEntropy` over several scales; the sign stays, to be minimised."""
