"""Family: the mean over voxels of a function of the two intensities there."""

from typing import Any

from agnoreg.backend import broadcast_samples
from agnoreg.engine.measure import MeanMeasure
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.measures.families.images import ImageMeasure

Array = Any


class Pointwise(ImageMeasure, MeanMeasure):
    """Mean over voxels of `term`.

    The author writes `term` and `derivative`; the family handles masks, channels and slabs.
    """

    def term(self, xp: Any, t: Array, p: Array) -> Array:
        """Return the value at every voxel."""
        raise NotImplementedError

    def derivative(self, xp: Any, t: Array, p: Array, index: int) -> Array:
        """Return the derivative of `term` by ``t`` (index 0) or ``p`` (index 1)."""
        raise NotImplementedError

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the values."""
        return (total(slab, self.term(slab.xp, *self.pair(slab))),)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the derivatives times the coefficient."""
        pair = self.pair(slab)
        factor = broadcast_samples(slab.xp, coefficients[0], pair[0])
        return tuple(self.derivative(slab.xp, *pair, index) * factor for index in wrt)
