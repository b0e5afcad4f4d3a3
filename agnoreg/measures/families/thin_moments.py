"""Moments of windows in images that are single voxels along some axes, along which there are no windows to be made."""

import math
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.slabs import Slab
from agnoreg.measures.families.local_moments import LocalMoments, Taps
from agnoreg.measures.families.moments import Moments, WeightedMoments

Array = Any


class ThinMoments(LocalMoments):
    """A measure of local moments for thin images, to be put before the measure's own class.

    What a window holds of a single axis is the voxel and, with zeros beyond the border, a known weight of zeros. These
    two are joined first. The single axes are arranged between the others, so that planes are small.
    """

    #: Which spatial axes have one voxel.
    single: tuple[bool, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The spatial axes in the order of arranged images: first one that has several voxels, if there is any."""
        several = [axis for axis, single in enumerate(self.single) if not single]
        return (*several[:1], *(axis for axis, single in enumerate(self.single) if single), *several[1:])

    @property
    def taps(self) -> Taps:
        """The window's weights along each axis of arranged images."""
        own = tuple((1.0,) if self.single[axis] else self.own_taps[axis] for axis in self.order)
        x, y, z = ((1.0,),) * (3 - len(own)) + own
        return x, y, z

    @property
    def fold(self) -> tuple[float, float]:  # type: ignore[override]
        """The weights of a window's middle and of all of it, along the single axes."""
        own = [taps for taps, single in zip(self.own_taps, self.single, strict=True) if single]
        return math.prod(taps[(len(taps) - 1) // 2] for taps in own), math.prod(map(sum, own))

    def fitted(self, shape: tuple[int | None, ...]) -> LocalMoments:
        """Return the measure."""
        return self

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the channels, in the order of arranged images."""
        axes = super().spatial_axes(rank)
        return tuple(axes[axis] for axis in self.order)

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, planes, lines, entries)``, every channel a sample of its own."""
        arranged = []
        for array in super().to_canonical(backend, arrays):
            sizes = backend.shape(array)[4 - self.spatial_dims :]
            sizes = (*(1,) * (3 - self.spatial_dims), *(sizes[axis] for axis in self.order))
            arranged.append(backend.xp.reshape(array, (-1, *sizes)))
        return tuple(arranged)

    def voxels(self, slab: Slab, images: tuple[Array, ...], centres: tuple[Array, ...]) -> Any:
        """Return the moments of a voxel and the zeros around it; zeros are the negative centre after the shift."""
        t, p, *weights = images
        middle, whole = self.fold
        zeros = 0.0 if self.truncated else whole - middle
        if weights and not zeros:
            return WeightedMoments(t, p, weights[0] * middle)
        zero_t, zero_p = (-c / centres[2 + i] if self.scaled else -c for i, c in enumerate(centres[:2]))
        dt, dp = t - zero_t, p - zero_p
        share: Any = middle / whole
        if weights:
            share = weights[0] * middle
            whole = share + zeros
            share = share / whole
        # The product of both weights by their sum.
        both = share * zeros
        means = zero_t + dt * share, zero_p + dp * share
        seconds = dt * dt * both, dp * dp * both, dt * dp * both
        return WeightedMoments(*means, whole, *seconds) if weights else Moments(*means, *seconds)
