"""What measures of a displacement field (DDF) share: its layout, spacing and dimensions, and differences in rows."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.backend.shifts import cut, pad
from agnoreg.engine.axes import axes_between, check_spacing
from agnoreg.engine.delay import delayed, keep_last, zero_history
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab, fill_masked
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg.engine.sums import spread
from agnoreg.engine.validate import check_rank
from agnoreg.objects.options import FieldOptions, flag

Array = Any

# --- planes that pass -------------------------------------------------------------------------------------------------

# Planes lie in a row, with gaps of zeros between them and a margin of zeros at each end: a difference along axis 2 or 3
# is one of entries a line or a voxel ahead and behind. Near a border these mix lines; they are multiplied by 0. Halves
# are left out of differences, and so is the spacing along the last axis; `units` puts them back.


def across(row: Array, stride: int, line: int, behind: int | None = None) -> Array:
    """Return ``row[i + stride] - row[i - behind]``, a line shorter at each end; left out, ``behind`` is the stride."""
    behind = stride if behind is None else behind
    return row[line + stride : stride - line or None] - row[line - behind : -line - behind]


def plus_across(total: Array | None, row: Array, stride: int, line: int, behind: int | None = None) -> Array:
    """Add the same to ``total``, in its memory where it can be written."""
    if total is None:
        return across(row, stride, line, behind)
    behind = stride if behind is None else behind
    total += row[line + stride : stride - line or None]
    total -= row[line - behind : -line - behind]
    return total


def times(x: Array, factor: Any) -> Array:
    """Return ``factor * x``, in its memory where it can be written; the factor may be an array without axes."""
    if not isinstance(factor, float) or factor != 1.0:
        x *= factor
    return x


def trim(row: Array, entries: int) -> Array:
    """Take so many entries off each end."""
    return row[entries:-entries]


def eroded(xp: Any, mask: Array, axis: int, reach: int) -> Array:
    """Return the least of the entries up to ``reach`` away along an axis; beyond the border there are zeros."""
    size = mask.shape[axis]
    padded, least = pad(xp, mask, axis, reach, reach), mask
    for shift in range(2 * reach + 1):
        if shift != reach:
            least = lesser(xp, least, cut(padded, axis, shift, shift + size))
    return least


def lesser(xp: Any, a: Array, b: Array) -> Array:
    """Return the lesser of two weights: of bools, whether both are."""
    return a & b if a.dtype == xp.bool else xp.minimum(a, b)


class FieldMeasure(FieldOptions, StreamingMeasure):
    """The mean, over the cropped grid and the components, of a sum of functions of differences.

    A field of two dimensions is arranged as one plane, and one of one dimension as one line. Components are neighbours
    in a line where they come last, and samples where they come first, so that no field is copied.
    """

    #: Voxels lost at each end.
    crop: ClassVar[int] = 1
    #: The fewest voxels along an axis.
    least: ClassVar[int] = 3
    #: Lines of zeros between planes: as many as a gradient reaches from its voxel.
    gap: ClassVar[int] = 2

    def validate(self) -> None:
        """Store one spacing an axis."""
        super().validate()
        self._store(spacing=check_spacing(self.spacing, self.spatial_dims))

    @property
    def components_last(self) -> bool:
        """Whether the components are the last axis."""
        return self.data_format == "channels_last"

    @property
    def step_size(self) -> int:
        """How many entries of a line lie from a voxel to the next."""
        return self.spatial_dims if self.components_last else 1

    @property
    def relative(self) -> tuple[float, float, float]:
        """The spacing along the last axis, divided by that along each axis of an arranged field."""
        assert isinstance(self.spacing, tuple)
        steps = (self.spacing[-1],) * (3 - len(self.spacing)) + self.spacing
        x, y, z = (self.spacing[-1] / step for step in steps)
        return x, y, z

    @property
    def crops(self) -> tuple[int, int, int]:
        """The voxels lost at each end of an arranged field's axes, none along those that the field does not have."""
        x, y, z = (self.crop if axis >= 3 - self.spatial_dims else 0 for axis in range(3))
        return x, y, z

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """As far as differences reach."""
        return self.crops

    @property
    def gradient_delay(self) -> int:
        """The planes after a plane whose differences read it."""
        return self.crops[0]

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where this is not a field, or one too small for the differences."""
        (shape,) = shapes
        dims = self.spatial_dims
        names = [f"dim{i + 1}" for i in range(dims)]
        layout = (
            f"({', '.join(['batch', *names, str(dims)] if self.components_last else ['batch', str(dims), *names])})"
        )
        if len(shape) != dims + 2 or shape[-1 if self.components_last else 1] != dims:
            raise ValueError(f"A displacement field must be {layout}, got shape {shape}.")
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
        """Return how planes are laid out: what a voxel reaches lies in its own plane or in the gap below."""
        assert shape[2] is not None
        assert shape[3] is not None
        return Layout(shape[2], shape[3], self.gap, self.gap)

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of cropped voxels times components, of an arranged field."""
        steps = (1, 1, self.step_size)
        sizes = [size - 2 * c * step for size, c, step in zip(shape[1:], self.crops, steps, strict=True) if size]
        return math.prod(sizes)

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return how many samples a field is: one a component, where these come first."""
        return 1 if self.components_last else self.spatial_dims

    def channel_axis(self, rank: int) -> int:
        """Return the axis of the components."""
        return rank - 1 if self.components_last else 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the components."""
        return axes_between(rank, self.spatial_dims, self.channel_axis(rank))

    #: Whether energies are squares; else absolute values.
    quadratic: ClassVar[bool] = True

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the mask and each energy's weight, the least of the voxels around it, as far as the crop.

        So an energy counts where there are all the voxels that its differences read. Both have no components, or are
        samples as the components are.
        """
        mask = weights = self.voxel_mask(backend, mask, arrays[0])
        for axis, crop in zip((1, 2, 3), self.crops, strict=True):
            weights = eroded(backend.xp, weights, axis, crop)
        return mask, weights

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return the energies' weights."""
        return weights[1:]

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return how much the energies of all components count."""
        return sums[0] * self.step_size, ()

    def voxel_mask(self, backend: Backend, mask: Array, field: Array) -> Array:
        """Return a mask of this field as ``(b, planes, lines, voxels)``."""
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
        """Return weights of voxels as planes, one for every component."""
        xp = slab.xp
        if self.step_size > 1:
            ones = xp.ones((self.step_size,), dtype=weights.dtype, device=slab.backend.device(weights))
            weights = xp.reshape(
                weights[..., None] * ones, (-1, *weights.shape[1:-1], weights.shape[-1] * self.step_size)
            )
        return layout.pack(xp, weights)

    def again(self, slab: Slab, x: Array, mask: Array) -> Array:
        """Return what a gradient is made of: where weights are not just 1 or 0, their roots count twice."""
        if slab.weights:
            x *= mask
        return x

    def field(self, slab: Slab) -> Array:
        """Return the field's planes, 0 where a mask leaves them out."""
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
        """Return which entries of a plane count, and planes of zeros for all that is remembered."""
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
        """Return how many planes a step remembers of each array: the field, and what is made of it."""
        raise NotImplementedError

    def row(self, xp: Any, planes: Array, layout: Layout, lines: int) -> Array:
        """Return planes as a row, with a margin of so many lines."""
        row = xp.reshape(planes, (-1,))
        margin = row[-lines * layout.line :]
        return xp.concat([margin, row, margin])

    def counting(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, known: tuple[Any, ...], like: Array, lines: int
    ) -> tuple[tuple[Any, ...], Array, Array, Array]:
        """Return what counts of the planes that came `value_delay` before: the entries that have all their neighbours.

        That is 1 or 0 for each entry, or a weight (its root, if `quadratic`), as planes and as a row with a margin of
        so many lines, and whether it is not 0; the chunk's planes are ``like`` these.
        ``known`` is what `begin` returned, and is returned to be kept: most chunks have planes that all count.
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
        """Return the energies where they count; in a gap, another sample's NaN times 0 would still be NaN."""
        return energies if energies.shape[1] == 1 else xp.where(there, energies, xp.zeros_like(energies))


class FirstDifferences(FieldMeasure):
    """A sum of squares of first differences, or of their absolute values."""

    l1: bool = flag(default=False)

    title: ClassVar[str] = "The gradient norm"
    #: What a difference is to be multiplied by, beside the spacing.
    rate: ClassVar[float]

    @property
    def quadratic(self) -> bool:  # type: ignore[override]
        """Whether energies are squares."""
        return not self.l1

    @property
    def units(self) -> tuple[float, float]:
        """The factors of the values and of the gradients: those of the differences along the last axis."""
        assert isinstance(self.spacing, tuple)
        rate = self.rate / self.spacing[-1]
        return (rate, rate) if self.l1 else (rate**2, 2.0 * rate**2)

    def energy(self, xp: Any, difference: Array) -> Array:
        """Return the square, or the absolute value."""
        return xp.abs(difference) if self.l1 else difference * difference

    def back(self, slab: Slab, difference: Array, factor: float, mask: Array) -> Array:
        """Return what the gradient is made of: half an energy's derivative (of an absolute value, the derivative)."""
        return self.again(
            slab, times(slab.backend.operations.sign(difference) if self.l1 else difference, factor), mask
        )


class SecondDifferences(FieldMeasure):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``, of differences that lack a factor of 1/4."""

    gap: ClassVar[int] = 4
    title: ClassVar[str] = "The bending energy"

    @property
    def units(self) -> tuple[float, float]:
        """The factors of the values and of the gradients."""
        assert isinstance(self.spacing, tuple)
        unit = (0.5 / self.spacing[-1]) ** 4
        return unit, 2.0 * unit
