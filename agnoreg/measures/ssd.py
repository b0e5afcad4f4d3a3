"""Mean of squared differences of two images or labels (SSD)."""

import math

from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.measures.author import *
from agnoreg.measures.families.pointwise import Pointwise


class SSDOptions(ImageOptions):
    """Mean of squared differences (SSD): ``mean((y_true - y_pred)^2)``. The name is the field's, the value is a mean.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is better, 0 for equal inputs; in units of intensity squared.

    Examples
    --------
    >>> import numpy as np
    >>> ssd(np.zeros((1, 2, 2, 2)), np.full((1, 2, 2, 2), 3.0))
    array([9.])
    """

    short = "SSD"
    title, measured_on, bounds, identity = "SSD", ("images", "labels"), (0.0, math.inf), 0.0
    evaluated = {"images": {}}


class SquaredDifference(SSDOptions, Pointwise):
    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of squares, a dot product."""
        t, p = slab.arrays
        difference = t - p
        return (total(slab, difference, difference),)

    def derivative(self, xp: Any, t: Array, p: Array, index: int) -> Array:
        return ((t - p) if index == 0 else (p - t)) * 2.0


class _Call(SSDOptions, Masks): ...


ssd = pair_function("ssd", _Call, SquaredDifference)


class SumSquaredDifference(SSDOptions, ImageLoss):
    formula = SquaredDifference


@register_loss("ssd")
class SumSquaredDifferenceLoss(MultiScaleMixin, SumSquaredDifference): ...
