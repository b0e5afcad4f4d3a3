"""Local moments of thin images, which have a single voxel along some axes and need no windows along these."""

import math
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.slabs import Slab
from agnoreg.measures.families.local_moments import LocalMoments, Taps
from agnoreg.measures.families.moments import Moments, WeightedMoments

Array = Any


class ThinMoments(LocalMoments):
    """Mixin for thin images: a base class in front of the measure's own class.

    Along a single axis a window holds the voxel and, with zero padding, a known weight of zeros. These two are merged
    first. In canonical shape the single axes come between the others, so that planes are small.
    """

    #: For each spatial axis, whether it has a single voxel.
    single: tuple[bool, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The spatial axes in canonical order: the first one with several voxels, if any, then the single ones."""
        several = [axis for axis, single in enumerate(self.single) if not single]
        return (*several[:1], *(axis for axis, single in enumerate(self.single) if single), *several[1:])

    @property
    def taps(self) -> Taps:
        """The window's weights along each axis of canonical images."""
        own = tuple((1.0,) if self.single[axis] else self.own_taps[axis] for axis in self.order)
        x, y, z = ((1.0,),) * (3 - len(own)) + own
        return x, y, z

    @property
    def fold(self) -> tuple[float, float]:  # type: ignore[override]
        """The middle weight and the total weight of the window, along the single axes."""
        own = [taps for taps, single in zip(self.own_taps, self.single, strict=True) if single]
        return math.prod([taps[(len(taps) - 1) // 2] for taps in own]), math.prod([sum(taps) for taps in own])

    def fitted(self, shape: tuple[int | None, ...]) -> LocalMoments:
        """Return the measure itself."""
        return self

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the channels, in canonical order."""
        axes = super().spatial_axes(rank)
        return tuple(axes[axis] for axis in self.order)

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, planes, lines, entries)``, with channels as samples."""
        arranged = []
        for array in super().to_canonical(backend, arrays):
            sizes = backend.shape(array)[4 - self.spatial_dims :]
            sizes = (*(1,) * (3 - self.spatial_dims), *(sizes[axis] for axis in self.order))
            arranged.append(backend.xp.reshape(array, (-1, *sizes)))
        return tuple(arranged)

    def voxels(self, slab: Slab, images: tuple[Array, ...], centres: tuple[Array, ...]) -> Any:
        """Return the moments of a voxel and the zeros around it; after the shift a zero is minus the centre."""
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
        # The product of both weights, divided by their sum.
        both = share * zeros
        means = zero_t + dt * share, zero_p + dp * share
        seconds = dt * dt * both, dp * dp * both, dt * dp * both
        return WeightedMoments(*means, whole, *seconds) if weights else Moments(*means, *seconds)
