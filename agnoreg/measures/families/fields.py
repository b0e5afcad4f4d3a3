"""Family: measures of a displacement field (DDF), by differences: layout, spacing, dimensions and masks."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.backend.shifts import pad
from agnoreg.engine.axes import axes_between, check_spacing
from agnoreg.engine.delay import delayed, keep_last, zero_history
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab, fill_masked
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg.engine.sums import spread
from agnoreg.engine.validate import check_rank
from agnoreg.measures.families.row_differences import eroded
from agnoreg.objects.options import FieldOptions

Array = Any


class FieldMeasure(FieldOptions, StreamingMeasure):
    """Mean over the cropped grid and the components of an energy, a sum of functions of differences.

    In canonical shape, a two-dimensional field is one plane and a one-dimensional one is one line. Components that come
    last are interleaved in a line; components that come first become samples. So no field is copied.
    """

    #: Voxels lost at each end.
    crop: ClassVar[int] = 1
    #: The fewest voxels along an axis.
    least: ClassVar[int] = 3
    #: Lines of zeros between planes: how far, in lines, a gradient reads from its voxel.
    gap: ClassVar[int] = 2

    def validate(self) -> None:
        """Check the spacing, and store one for each axis."""
        super().validate()
        self._store(spacing=check_spacing(self.spacing, self.spatial_dims))

    @property
    def components_last(self) -> bool:
        """Whether the components are the last axis."""
        return self.data_format == "channels_last"

    @property
    def step_size(self) -> int:
        """Entries from one voxel of a line to the next: the number of components if these come last."""
        return self.spatial_dims if self.components_last else 1

    @property
    def relative(self) -> tuple[float, float, float]:
        """The spacing along the last axis, divided by that along each axis of the canonical field."""
        assert isinstance(self.spacing, tuple)
        steps = (self.spacing[-1],) * (3 - len(self.spacing)) + self.spacing
        x, y, z = (self.spacing[-1] / step for step in steps)
        return x, y, z

    @property
    def crops(self) -> tuple[int, int, int]:
        """Voxels lost at each end of each axis of the canonical field; 0 along axes that the field lacks."""
        x, y, z = (self.crop if axis >= 3 - self.spatial_dims else 0 for axis in range(3))
        return x, y, z

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """How far differences reach: the crop."""
        return self.crops

    @property
    def gradient_delay(self) -> int:
        """Planes after a plane whose differences still read it."""
        return self.crops[0]

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if this is not a field, or is too small for the differences."""
        (shape,) = shapes
        dims = self.spatial_dims
        if len(shape) != dims + 2 or shape[-1 if self.components_last else 1] != dims:
            names = [f"dim{i + 1}" for i in range(dims)]
            components = str(len(names))
            layout = ["batch", *names, components] if self.components_last else ["batch", components, *names]
            message = f"A displacement field must be ({', '.join(layout)}), got shape {shape}."
            if len(shape) == dims + 2 and shape[1 if self.components_last else -1] == dims:
                message += f' Or pass data_format="channels_{"first" if self.components_last else "last"}".'
            raise ValueError(message)
        check_rank("The displacement field", shape, dims + 2)
        if any(size is not None and size < self.least for size in (shape[1:-1] if self.components_last else shape[2:])):
            raise ValueError(f"{self.title} needs at least {self.least} voxels along each axis, got shape {shape}.")

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the field as ``(b, planes, lines, entries)``."""
        (field,) = arrays
        sizes = list(backend.shape(field)[1:])
        if self.components_last:
            components = sizes.pop()
            assert sizes[-1] is not None
            assert components is not None
            sizes[-1] *= components
        else:
            del sizes[0]
        return (backend.xp.reshape(field, (-1, *[1] * (3 - len(sizes)), *sizes)),)

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return the layout of a plane, with a gap so wide that differences never reach into another plane."""
        assert shape[2] is not None
        assert shape[3] is not None
        return Layout(shape[2], shape[3], self.gap, self.gap)

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of entries of the cropped grid of a canonical field, components included."""
        steps = (1, 1, self.step_size)
        sizes = [size - 2 * c * step for size, c, step in zip(shape[1:], self.crops, steps, strict=True) if size]
        return math.prod(sizes)

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return how many samples a field becomes: one for each component if these come first, else 1."""
        return 1 if self.components_last else self.spatial_dims

    def channel_axis(self, rank: int) -> int:
        """Return the axis of the components."""
        return rank - 1 if self.components_last else 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the components."""
        return axes_between(rank, self.spatial_dims, self.channel_axis(rank))

    #: Whether energies are squares; otherwise they are absolute values.
    quadratic: ClassVar[bool] = True

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the mask, and the weight of each energy: the minimum over the voxels up to the crop away.

        So an energy counts only where all voxels that its differences read are inside the mask. Both arrays have one
        entry a voxel; if components are samples, they are repeated for these.
        """
        mask = weights = self.voxel_mask(backend, mask, arrays[0])
        for axis, crop in zip((1, 2, 3), self.crops, strict=True):
            weights = eroded(backend.xp, pad(backend.xp, weights, axis, crop, crop), axis, crop)
        return mask, weights

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return the energies' weights."""
        return weights[1:]

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return the effective count of the energies of all components."""
        return sums[0] * self.step_size, ()

    def voxel_mask(self, backend: Backend, mask: Array, field: Array) -> Array:
        """Return a mask of a field as ``(b, planes, lines, voxels)``."""
        axis = self.channel_axis(len(mask.shape))
        if mask.shape[axis] != 1:
            raise ValueError(
                f"The mask of a field has no components, or one for all of them, got shape {backend.shape(mask)}."
            )
        one = field[..., :1] if self.components_last else field
        mask = spread(backend, mask, one)
        sizes = [size for place, size in enumerate(backend.shape(field)) if place not in (0, axis)]
        return backend.xp.reshape(mask, (-1, *[1] * (3 - len(sizes)), *sizes))

    def pack_weights(self, slab: Slab, layout: Layout, weights: Array) -> Array:
        """Return weights of voxels as packed planes, repeated for every component of a line."""
        xp = slab.xp
        if self.step_size > 1:
            ones = xp.ones((self.step_size,), dtype=weights.dtype, device=slab.backend.device(weights))
            weights = xp.reshape(
                weights[..., None] * ones, (-1, *weights.shape[1:-1], weights.shape[-1] * self.step_size)
            )
        return layout.pack(xp, weights)

    def again(self, slab: Slab, x: Array, mask: Array) -> Array:
        """Return ``x`` times ``mask`` if there are weights.

        An energy is a square of ``root(weight) * difference``, so its gradient has the root twice. A 0/1 mask need not
        be applied again.
        """
        if slab.weights:
            x *= mask
        return x

    def field(self, slab: Slab) -> Array:
        """Return the field's planes, 0 at masked voxels."""
        (field,) = slab.arrays
        if not slab.weights:
            return field
        there = slab.weights[0]
        if self.step_size > 1:
            shape = field.shape
            field = slab.xp.reshape(field, (-1, *shape[1:3], shape[3] // self.step_size, self.step_size))
            return slab.xp.reshape(fill_masked(slab.backend, (field,), there[..., None])[0], (-1, *shape[1:]))
        return fill_masked(slab.backend, (field,), there)[0]

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return a plane's 0/1 mask (with weights, a delay line for them), and delay lines of zeros."""
        xp, (_, across_lines, along_line) = slab.xp, self.crops
        zeros = layout.pack(xp, slab.arrays[0])
        memory = self.memory(wrt is not None)
        if slab.weights:
            return zero_history((zeros,), (self.value_delay,)), *zero_history((zeros,), memory)
        index = xp.arange(layout.size, dtype=xp.int32, device=slab.backend.device(zeros))
        y, z = index // layout.line, index % layout.line
        inside = (y >= across_lines) & (y < layout.rows - across_lines)
        border = along_line * self.step_size
        inside = inside & (z >= border) & (z < layout.columns - border)
        return (xp.astype(inside, zeros.dtype),), *zero_history((zeros,), memory)

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes to keep of each array: of the field, and if ``back`` of what the gradient needs."""
        raise NotImplementedError

    def row(self, xp: Any, planes: Array, layout: Layout, lines: int) -> Array:
        """Return planes as one row, with a margin of ``lines`` lines at each end.

        The margin repeats the end of the last plane, a gap of zeros.
        """
        row = xp.reshape(planes, (-1,))
        margin = row[-lines * layout.line :]
        return xp.concat([margin, row, margin])

    def counting(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, known: tuple[Any, ...], like: Array, lines: int
    ) -> tuple[tuple[Any, ...], Array, Array, Array]:
        """Return the mask of the energies that count, for the planes that came `value_delay` before the chunk's.

        An energy counts if all voxels that it reads exist. The mask is 1 or 0 for each entry, or the energy's weight
        (if `quadratic`, its root). It is returned as planes like ``like``, as a row with a margin of ``lines`` lines,
        and as bools. ``known`` is what `begin` or the last call returned; the first result replaces it. Away from the
        ends of the image all planes have the same mask, which is kept there.

        For example, with a crop of 1 and one component, in a field of 4 planes of 3 lines of 5 voxels, without gaps::

            planes 0 and 3    0 0 0 0 0    planes 1 and 2    0 0 0 0 0
                              0 0 0 0 0                      0 1 1 1 0
                              0 0 0 0 0                      0 0 0 0 0
        """
        xp, crop = slab.xp, self.crops[0]
        if slab.weights:
            weights = xp.sqrt(slab.weights[1]) if self.quadratic else slab.weights[1]
            line = (*known[0], (self.pack_weights(slab, layout, weights),))
            (mask,) = delayed(xp, line, self.value_delay)
            return (keep_last(line, self.value_delay),), mask, self.row(xp, mask, layout, lines), mask != 0.0
        first = chunk.start - self.value_delay
        whole = isinstance(first, int) and crop <= first <= chunk.total - crop - chunk.count
        inside, *all_count = known
        if whole and all_count:
            mask, row, there = all_count
            return known, mask, row, there
        mask = xp.zeros_like(like) + inside
        if not whole:
            place = xp.arange(chunk.count, dtype=xp.int32, device=slab.backend.device(mask)) + first
            counts = (place >= crop) & (place < chunk.total - crop)
            mask *= xp.astype(xp.reshape(counts, (-1, 1, 1)), mask.dtype)
        row, there = self.row(xp, mask, layout, lines), mask != 0.0
        return ((inside, mask, row, there) if whole else known), mask, row, there

    def counted(self, xp: Any, energies: Array, there: Array) -> Array:
        """Return the energies, 0 where they do not count.

        The factor 0 does not suffice with several samples: another sample's NaN, times 0, would still be NaN.
        """
        return energies if energies.shape[1] == 1 else xp.where(there, energies, xp.zeros_like(energies))
