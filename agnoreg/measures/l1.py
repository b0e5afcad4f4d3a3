"""Mean absolute difference of two images or labels."""

import math
from typing import Any

from agnoreg.loss.base import ImageLoss
from agnoreg.loss.util import MultiScaleMixin
from agnoreg.measures.families.pointwise import Pointwise
from agnoreg.measures.function import pair_function
from agnoreg.measures.options import ImageOptions, Masks

Array = Any


class L1Options(ImageOptions):
    """Mean absolute difference (L1): ``mean(|y_true - y_pred|)``; the subgradient at 0 is 0.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is better, 0 for equal inputs; in units of intensity.
    """

    measured_on, bounds, identity = ("images", "labels"), (0.0, math.inf), 0.0


class L1Measure(L1Options, Pointwise):
    """The formula."""

    def term(self, xp: Any, t: Array, p: Array) -> Array:
        """Return ``|t - p|``."""
        return xp.abs(t - p)

    def slope(self, xp: Any, t: Array, p: Array, index: int) -> Array:
        """Return the sign of the difference."""
        own, other = (t, p) if index == 0 else (p, t)
        return xp.astype(own > other, t.dtype) - xp.astype(own < other, t.dtype)


class _Call(L1Options, Masks): ...


l1 = pair_function("l1", _Call, L1Measure)


class MeanAbsoluteDifference(L1Options, ImageLoss):
    formula = L1Measure


class MeanAbsoluteDifferenceLoss(MultiScaleMixin, MeanAbsoluteDifference): ...
