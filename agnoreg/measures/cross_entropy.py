"""Weighted binary cross-entropy of two labels."""

import math
from typing import ClassVar

from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.measures.author import *
from agnoreg.measures.families.images import LabelMeasure
from agnoreg.measures.families.pointwise import Pointwise


class CrossEntropyOptions(LabelOptions):
    """Weighted binary cross-entropy: ``-(1 - w) mean(t log(p + smooth)) - w mean((1 - t) log(1 - p + smooth))``.

    Here ``w = background_weight``, ``t`` is y_true and ``p`` is y_pred.

    Parameters
    ----------
    binary
        Threshold both at ``>= 0.5`` first; there is no gradient then.
    background_weight
        Weight of the background, in [0, 1].
    smooth
        Added inside the logarithms.

    Returns
    -------
    array
        Shape ``(B,)``; in [-log(1 + smooth), -log(smooth)], lower is better.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(np.ones((1, 4)), np.full((1, 4), 0.5)).round(4)
    array([0.6931])
    """

    short = "CrossEntropy"
    title = "cross-entropy"
    binary: bool = flag(default=False)
    background_weight: float = share(default=0.0, of="The background weight for Cross Entropy")
    smooth: float = number(default=1e-5)

    @property
    def value_range(self) -> tuple[float, float]:
        """From -log(1 + smooth) to -log(smooth), for inputs in [0, 1]."""
        return -math.log1p(self.smooth), -math.log(self.smooth) if self.smooth > 0 else math.inf


class BinaryCrossEntropy(CrossEntropyOptions, LabelMeasure, Pointwise):
    #: Where no logarithm is infinite.
    fill: ClassVar[float] = 0.5

    def _logarithms(self, xp: Any, p: Array) -> tuple[Array, Array | None]:
        w, s = self.background_weight, self.smooth
        foreground = xp.log(p + s) * -(1.0 - w)
        # Left out where it has no weight: beyond p = 1 + s its logarithm would be NaN.
        return foreground, xp.log(self._background(p)) * -w if w > 0 else None

    def _background(self, p: Array) -> Array:
        """Return ``1 - p + s``, written so that no compiler adds ``1 + s`` first, which costs the digits of ``s``."""
        return self.smooth - (p - 1.0)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        t, p = self.pair(slab)
        foreground, background = self._logarithms(slab.xp, p)
        entropy = total(slab, t, foreground)
        return (entropy if background is None else entropy + total(slab, 1.0 - t, background),)

    def derivative(self, xp: Any, t: Array, p: Array, index: int) -> Array:
        if index == 0:
            foreground, background = self._logarithms(xp, p)
            return foreground if background is None else foreground - background
        w, s = self.background_weight, self.smooth
        gradient = t / (p + s) * -(1.0 - w)
        return gradient if w == 0 else gradient + (1.0 - t) / self._background(p) * w


class _Call(CrossEntropyOptions, Masks): ...


cross_entropy = pair_function("cross_entropy", _Call, BinaryCrossEntropy)


class CrossEntropy(CrossEntropyOptions, ImageLoss):
    formula = BinaryCrossEntropy


@register_loss("cross-entropy")
class CrossEntropyLoss(MultiScaleMixin, CrossEntropy): ...
