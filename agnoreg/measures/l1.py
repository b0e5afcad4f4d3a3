"""Mean absolute difference of two images or labels (L1)."""

import math

from agnoreg.measures.author import *
from agnoreg.measures.families.pointwise import Pointwise


class L1Options(ImageOptions):
    """Mean absolute difference (L1): ``mean(|y_true - y_pred|)``, in units of intensity; the subgradient at 0 is 0."""

    short = "L1"
    title, measured_on, bounds, identity = "L1", ("images", "labels"), (0.0, math.inf), 0.0


class L1Measure(L1Options, Pointwise):
    def term(self, xp: Any, t: Array, p: Array) -> Array:
        return xp.abs(t - p)

    def derivative(self, xp: Any, t: Array, p: Array, index: int) -> Array:
        own, other = (t, p) if index == 0 else (p, t)
        return xp.astype(own > other, t.dtype) - xp.astype(own < other, t.dtype)


class _Call(L1Options, Masks): ...


l1 = pair_function("l1", _Call, L1Measure)


class MeanAbsoluteDifference(L1Options, ImageLoss):
    formula = L1Measure


@register_loss("l1")
class MeanAbsoluteDifferenceLoss(MultiScaleMixin, MeanAbsoluteDifference): ...
