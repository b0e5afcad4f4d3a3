"""Family: the mean over voxels of a function of linearly filtered images, such as their derivatives.

This is the simplest way to write a measure of neighbourhoods: the author gives the filters, and the local formula with
its derivatives. Slabs are read with a halo. Beyond the border the outermost voxels are repeated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.backend.shifts import cut, pad
from agnoreg.engine.measure import MeanMeasure
from agnoreg.engine.slabs import Slab, fill_masked
from agnoreg.engine.sums import total
from agnoreg.measures.families.images import VolumeMeasure
from agnoreg.measures.families.row_differences import eroded

Array = Any
#: Taps along each of the three axes; None for no filter along an axis.
Filter = tuple[Sequence[float] | None, Sequence[float] | None, Sequence[float] | None]


class Stencil(VolumeMeasure, MeanMeasure):
    """Mean over voxels of `local`, a function of both images after `filters`.

    A voxel counts if all voxels that its filters read are inside the mask; its weight is the minimum of theirs.
    """

    workload: ClassVar[str] = "windows"

    def filters(self) -> Sequence[Filter]:
        """Return the filters, which are correlated with each image: odd numbers of taps along the spatial axes."""
        raise NotImplementedError

    def local(self, xp: Any, t: Sequence[Array], p: Sequence[Array]) -> Array:
        """Return the value at every voxel, from the images after each filter, in the order of `filters`."""
        raise NotImplementedError

    def derivatives(self, xp: Any, t: Sequence[Array], p: Sequence[Array], index: int) -> Sequence[Array]:
        """Return the derivatives of `local` by each filtered image of input ``index`` (0: t, 1: p)."""
        raise NotImplementedError

    def along(self, axis: int, taps: Sequence[float]) -> Filter:
        """Return a filter along one spatial axis, counted from 0."""
        place = axis + 3 - self.spatial_dims
        x, y, z = (taps if one == place else None for one in range(3))
        return x, y, z

    @property
    def numbers_per_voxel(self) -> int:
        """The filtered images of both inputs, and as many derivatives."""
        return 4 * len(self.filters())

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """How far the filters reach along each axis."""
        x, y, z = (max(len(taps[axis] or (1,)) // 2 for taps in self.filters()) for axis in range(3))
        return x, y, z

    @property
    def value_halo(self) -> int:
        """Planes that a value reads on each side."""
        return self.window_radius[0]

    @property
    def gradient_halo(self) -> int:
        """Planes that a gradient reads on each side: those read by any value that depends on the voxel."""
        return 2 * self.value_halo

    # --- what the family does -----------------------------------------------------------------------------------------

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the mask, and for each voxel the minimum weight of the voxels that its filters read."""
        (mask,) = super().slab_weights(backend, mask, arrays)
        least = mask
        for axis, reach in enumerate(self.window_radius, start=1):
            least = eroded(backend.xp, repeated(backend.xp, least, axis, reach), axis, reach)
        return mask, least

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return the minimum weights."""
        return weights[1:]

    def leave_out(self, slab: Slab, gradients: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the gradients, 0 at masked voxels; they already contain the weights."""
        return fill_masked(slab.backend, gradients, cut(slab.weights[0], 1, slab.own.start, slab.own.stop))

    def _filtered(self, slab: Slab) -> list[list[Array]]:
        xp, reaches = slab.xp, self.window_radius
        images = []
        for x in slab.arrays:
            for axis, reach in enumerate(reaches, start=1):
                x = repeated(xp, x, axis, reach)
            images.append([_inner(slab.backend.operations.conv3d(x, taps), reaches) for taps in self.filters()])
        return images

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the values of the slab's own planes."""
        first, last = slab.own.start, slab.own.stop
        values = cut(self.local(slab.xp, *self._filtered(slab)), 1, first, last)
        own = replace(slab, weights=tuple(cut(x, 1, first, last) for x in slab.weights[1:]))
        return (total(own, values),)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the adjoint of the filters, applied to the derivatives of the values that read the own planes."""
        images, share = self._filtered(slab), self._share(slab, coefficients[0])
        gradients = []
        for index in wrt:
            slopes = self.derivatives(slab.xp, images[0], images[1], index)
            parts = [self._adjoint(slab, s * share, taps) for s, taps in zip(slopes, self.filters(), strict=True)]
            gradients.append(cut(sum(parts[1:], start=parts[0]), 1, slab.own.start, slab.own.stop))
        return tuple(gradients)

    def _share(self, slab: Slab, coefficient: Array) -> Array:
        """Return each value's coefficient times weight; 0 in planes whose values do not depend on the own planes."""
        xp, like = slab.xp, slab.arrays[0]
        place = xp.arange(like.shape[1], dtype=xp.int32, device=slab.backend.device(like))
        near = (place >= slab.own.start - self.value_halo) & (place < slab.own.stop + self.value_halo)
        share = xp.astype(xp.reshape(near, (1, -1, 1, 1)), like.dtype) * broadcast_samples(xp, coefficient, like)
        return share * slab.weights[1] if slab.weights else share + xp.zeros_like(like)

    def _adjoint(self, slab: Slab, x: Array, taps: Filter) -> Array:
        for axis, reach in enumerate(self.window_radius, start=1):
            x = pad(slab.xp, x, axis, reach, reach)
        x = slab.backend.operations.conv3d(x, taps, transpose=True)
        for axis, reach in enumerate(self.window_radius, start=1):
            x = folded(slab.xp, x, axis, reach)
        return x


def _inner(x: Array, reaches: Sequence[int]) -> Array:
    for axis, reach in enumerate(reaches, start=1):
        x = cut(x, axis, reach, x.shape[axis] - reach) if reach else x
    return x


def repeated(xp: Any, x: Array, axis: int, reach: int) -> Array:
    """Pad an axis with ``reach`` copies of its first and its last plane."""
    first, last = cut(x, axis, 0, 1), cut(x, axis, x.shape[axis] - 1, None)
    return xp.concat([*[first] * reach, x, *[last] * reach], axis=axis) if reach else x


def folded(xp: Any, x: Array, axis: int, reach: int) -> Array:
    """Adjoint of `repeated`: add the ``reach`` outer planes at each end to the first and the last inner one."""
    if not reach:
        return x
    size = x.shape[axis] - 2 * reach
    first = xp.sum(cut(x, axis, 0, reach + 1), axis=axis, keepdims=True)
    last = xp.sum(cut(x, axis, reach + size - 1, None), axis=axis, keepdims=True)
    if size == 1:
        return first + last - cut(x, axis, reach, reach + 1)
    return xp.concat([first, cut(x, axis, reach + 1, reach + size - 1), last], axis=axis)
