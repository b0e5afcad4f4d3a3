"""Jaccard index, intersection over union, of two labels."""

from agnoreg.measures.author import *
from agnoreg.measures.families.overlap import Overlap, OverlapOptions


class JaccardOptions(OverlapOptions):
    """Jaccard index (intersection over union) of two labels, soft or thresholded.

    With ``P = sum t p``, ``Y = sum (t + p)``, ``n`` voxels and ``w = background_weight``: ``(P - wY + wn + smooth_nr) /
    ((1 - w) Y - P + wn + smooth_dr)``, summed over every axis but the first.

    Parameters
    ----------
    convention
        ``"deepreg"``, the only one.

    Examples
    --------
    >>> import numpy as np
    >>> jaccard(np.asarray([[0, 1, 1, 0]]), np.asarray([[0, 1, 0, 0]])).round(4)
    array([0.5])
    """

    short = "Jaccard"
    title, called = "Jaccard", "Jaccard Index"
    evaluated = {"labels": {}}


class JaccardOverlap(JaccardOptions, Overlap):
    def parts_of(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        w = self.background_weight
        top = product - w * both + w * n + self.smooth_nr
        bottom = (1.0 - w) * both - product + w * n + self.smooth_dr
        return top, bottom, (1.0, -w), (-1.0, 1.0 - w)


class _Call(JaccardOptions, Masks): ...


jaccard = pair_function("jaccard", _Call, JaccardOverlap)


class JaccardIndex(JaccardOptions, ImageLoss):
    formula = JaccardOverlap


@register_loss("jaccard")
class JaccardLoss(NegativeLossMixin, MultiScaleMixin, JaccardIndex): ...
