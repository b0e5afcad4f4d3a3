"""Dice and Jaccard: ratios of linear functions of the sums ``sum t p`` and ``sum (t + p)`` of two labels."""

import math
from dataclasses import field
from typing import ClassVar

from agnoreg.engine.validate import check_share
from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_convention, check_fixed, take
from agnoreg.measures.families.images import LabelMeasure
from agnoreg.measures.families.ratio import RatioOfSums, Sums

#: For each convention of Dice: whether the denominator sums squares, and the value of both smoothing constants.
CONVENTIONS = {
    "deepreg": (False, 1e-5),
    "monai": (False, 1e-5),
    "voxelmorph": (True, 1e-5),
    "ants": (False, 0.0),
}


def greatest_ratio(smooth_nr: float, smooth_dr: float) -> float:
    """Return the maximum of ``(x + smooth_nr) / (y + smooth_dr)`` for ``0 <= x <= y``."""
    if smooth_nr <= smooth_dr:
        return 1.0
    return smooth_nr / smooth_dr if smooth_dr > 0 else math.inf


class OverlapOptions(LabelOptions):
    """Parameters of Dice and Jaccard.

    Parameters
    ----------
    binary
        Threshold both at ``>= 0.5`` first; the counts are exact, and there is no gradient.
    background_weight
        Weight of the background, in [0, 1].
    smooth_nr, smooth_dr
        Added to the numerator and the denominator: two empty labels score ``smooth_nr / smooth_dr``. None: the
        convention's values, by default 1e-5 each.
    squared
        Sum ``t^2 + p^2`` instead of ``t + p``, so that equal soft labels score 1. None: the convention's choice.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better, 1 for equal binary labels. Equal
        soft labels score less.
    """

    higher_is_better = True
    #: The supported conventions.
    conventions: ClassVar[tuple[str, ...]] = ("deepreg",)
    #: Name of the measure in DeepReg's messages.
    called: ClassVar[str] = "an overlap"

    binary: bool = flag(default=False)
    background_weight: float = 0.0
    smooth_nr: float | None = number(default=None)
    smooth_dr: float | None = number(default=None)
    squared: bool | None = flag(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    def validate(self) -> None:
        """Check the weight and the convention, and take parameters that are None from the convention."""
        super().validate()
        check_share(f"The background weight for {self.called}", self.background_weight)
        check_convention(self.called, self.convention, self.conventions)
        squared, smooth = CONVENTIONS[self.convention]
        take(self, smooth_nr=smooth, smooth_dr=smooth, squared=squared)
        if self.convention != "deepreg":
            check_fixed(self.convention, "background_weight", self.background_weight, (0.0,))
        if self.convention == "ants":
            # ITK's overlap is defined for binary labels only.
            self._store(binary=True)

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1 for inputs in [0, 1]; above 1 only where ``smooth_nr > smooth_dr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        return 0.0, greatest_ratio(self.smooth_nr, self.smooth_dr)

    @property
    def identity_value(self) -> float | None:
        """1 if the smoothing constants are equal, for binary labels and for the overlap of squares.

        Other soft labels score less than 1 with themselves; so do empty labels by ITK's convention.
        """
        alike = self.smooth_nr == self.smooth_dr and self.convention != "ants"
        return 1.0 if alike and (self.binary or self.squared) else None


class Overlap(OverlapOptions, LabelMeasure, RatioOfSums):
    """A ratio of two linear functions of ``P = sum t p`` and ``Y = sum (t + p)``, or ``Y = sum (t^2 + p^2)``."""

    @property
    def terms(self) -> tuple[str, ...]:  # type: ignore[override]
        """``P`` and ``Y``."""
        return "tp", "tt+pp" if self.squared else "t+p"

    @property
    def by_channel(self) -> bool:
        """Whether the value is the mean over channels; DeepReg's overlap is that of all channels together."""
        return self.convention != "deepreg" and self.data_format is not None

    def parts_of(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        """Return numerator, denominator, and their derivatives by ``P`` and ``Y``, for ``n`` voxels."""
        raise NotImplementedError

    def ratio(self, xp: Any, sums: Sums, count: Any) -> tuple[Array, Sums]:
        """Return the ratio, and its derivatives by ``P`` and ``Y``."""
        product, both = sums.values()
        top, bottom, (top_p, top_y), (bottom_p, bottom_y) = self.parts_of(product, both, count)
        if self.convention == "ants":
            # Two empty labels score 0; NaN, from an empty mask, stays.
            bottom = xp.where(bottom == 0.0, xp.ones_like(bottom), bottom)
        value = top / bottom
        slopes = (top_p - value * bottom_p) / bottom, (top_y - value * bottom_y) / bottom
        return value, dict(zip(self.terms, slopes, strict=True))
