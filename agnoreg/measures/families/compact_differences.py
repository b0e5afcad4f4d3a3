"""Smoothness of a field by compact differences, which, unlike central ones, detect voxel-to-voxel oscillation."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.backend.shifts import cut
from agnoreg.engine.delay import delayed, keep_last, zero_history
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab
from agnoreg.measures.families.differences import FirstDifferences, SecondDifferences
from agnoreg.measures.families.row_differences import across, lesser, mixed_with_x, plus_across, times, trim

Array = Any


class CompactGradientEnergy(FirstDifferences):
    """The sum over the axes of the mean square, or mean absolute value, of ``u[i+1] - u[i]``.

    Each axis has its own grid of differences, one voxel shorter along that axis.
    """

    #: Canonical sizes of the whole field if it comes in blocks: the axes have different numbers of differences.
    sizes: tuple[int, int, int] | None = None

    crop: ClassVar[int] = 0
    least: ClassVar[int] = 2
    rate: ClassVar[float] = 1.0

    def for_global_shape(self, shape: tuple[int | None, ...]) -> "CompactGradientEnergy":
        """Return the measure with the sizes of the whole field."""
        planes, lines, entries = shape[1:4]
        assert planes is not None
        assert lines is not None
        assert entries is not None
        return replace(self, sizes=(planes, lines, entries))

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """1 along each axis of the field: a difference reads the next voxel."""
        x, y, z = (int(axis >= 3 - self.spatial_dims) for axis in range(3))
        return x, y, z

    @property
    def gradient_delay(self) -> int:
        """0: no difference of a later plane reads a plane."""
        return 0

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of differences along the last axis."""
        planes, lines, entries = shape[1:4]
        assert planes is not None
        assert lines is not None
        assert entries is not None
        return planes * lines * (entries - self.step_size)

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the mask."""
        return (self.voxel_mask(backend, mask, arrays[0]),)

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return the weights of the differences along each axis: the lesser weight of the two voxels."""
        (mask,) = weights
        return (
            lesser(backend.xp, cut(mask, axis, 1, None), cut(mask, axis, None, -1))
            for axis in range(4 - self.spatial_dims, 4)
        )

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return the effective count of the differences along the last axis.

        The constants are the factors of differences along axes 1 and 2, relative to the last axis.
        """
        *others, last = sums
        count, zero = last, xp.zeros_like(last)
        factors = [zero] * (2 - len(others))
        for other in others:
            # An axis without a difference has no mean: the value becomes NaN.
            count = xp.where(other > 0.0, count, zero)
            factor = last / xp.where(other > 0.0, other, xp.ones_like(other))
            factors.append(factor if self.l1 else xp.sqrt(factor))
        return count * self.step_size, tuple(xp.astype(factor, dtype) for factor in factors)

    def along(self, planes: int, layout: Layout) -> tuple[float, float]:
        """Return the factors of differences along axes 1 and 2, relative to those along the last."""
        planes, rows, columns = self.sizes or (planes, layout.rows, layout.columns)
        entries = columns // self.step_size
        shares = [n * (entries - 1) / (entries * (n - 1)) if n > 1 else 0.0 for n in (planes, rows)]
        x, y = (share if self.l1 else share**0.5 for share in shares)
        along_x, along_y, _ = self.relative
        return x * along_x, y * along_y

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return 0/1 masks of voxels, of those with a next line and a next voxel; and delay lines of zeros."""
        xp = slab.xp
        zeros = layout.pack(xp, slab.arrays[0])
        index = xp.arange(layout.size, dtype=xp.int32, device=slab.backend.device(zeros))
        y, z = index // layout.line, index % layout.line
        voxel = (y < layout.rows) & (z < layout.columns)
        inside = voxel, voxel & (y < layout.rows - 1), voxel & (z < layout.columns - self.step_size)
        memory = (self.value_delay, self.value_delay) if wrt is not None else (self.value_delay,)
        known = tuple(xp.astype(x, zeros.dtype) for x in inside)
        if slab.weights:
            known += zero_history((zeros,), (self.value_delay,))
        return known, *zero_history((zeros,), memory)

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients: ``g[i-1] - g[i]`` along every axis."""
        xp, line, value_delay, stride = slab.xp, layout.line, self.value_delay, self.step_size
        known, fields, *slopes = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        u = layout.pack(xp, self.field(slab))
        fields = (*fields, (u,))
        middle = delayed(xp, fields, value_delay)[0]
        if slab.weights:
            known, there, masks = self._weights(slab, layout, known)
            along_x, along_y, _ = self.relative
        else:
            there, masks = self._counting(slab, layout, chunk, known, u)
            along_x, along_y = self.along(chunk.total, layout)
        row = self.row(xp, middle, layout, 2)
        in_plane = [(line, along_y)] if self.spatial_dims >= 2 else []
        in_plane.append((stride, 1.0))
        energies, differences = None, []
        for (step, factor), mask in zip(in_plane, masks[1:], strict=True):
            difference = across(row, step, line, 0)
            difference *= mask
            difference = times(difference, factor)
            differences.append(difference)
            more = self.energy(xp, difference)
            energies = more if energies is None else energies + more
        energies = planes(trim(energies, line))
        ux = None
        if self.spatial_dims == 3:
            ux = u - middle
            ux *= masks[0]
            ux = times(ux, along_x)
            energies = energies + self.energy(xp, ux)
        state = known, keep_last(fields, value_delay)
        energies = self.counted(xp, energies, there != 0.0)
        if wrt is None:
            return state, energies, ()
        other = None
        for (step, factor), mask, difference in zip(in_plane, masks[1:], differences, strict=True):
            # g[i] - g[i-1] is minus the adjoint of a forward difference.
            other = plus_across(other, self.back(slab, difference, factor, mask), 0, line, step)
        gradient = -planes(other)
        if ux is not None:
            ux = self.back(slab, ux, along_x, masks[0])
            line_of_slopes = (*slopes[0], (ux,))
            gradient += delayed(xp, line_of_slopes, 1)[0]
            gradient -= ux
            return (*state, keep_last(line_of_slopes, 1)), energies, (gradient,) * len(wrt)
        return (*state, *slopes), energies, (gradient,) * len(wrt)

    def _counting(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, known: tuple[Array, ...], like: Array
    ) -> tuple[Array, list[Array]]:
        """Return a 0/1 mask of the voxels, and one for each axis of the voxels with a next voxel along it."""
        xp, value_delay, device = slab.xp, self.value_delay, slab.backend.device(like)
        voxel, before_line, before_voxel = known
        there = self._masked(xp, like, voxel, chunk.existing(xp, value_delay, device))
        masks = [there]
        if self.spatial_dims == 3:
            masks = [self._masked(xp, there, voxel, chunk.existing(xp, value_delay - 1, device)) * there]
        inside = [before_line] if self.spatial_dims >= 2 else []
        return there, masks + [self.row(xp, there * one, layout, 1) for one in (*inside, before_voxel)]

    def _weights(
        self, slab: Slab, layout: Layout, known: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], Array, list[Array]]:
        """Return what to keep, the voxels' weights, and the differences' weights by axis (if `quadratic`, their roots).

        A difference has the lesser weight of its two voxels.
        """
        xp, value_delay, line = slab.xp, self.value_delay, layout.line
        now = self.pack_weights(slab, layout, slab.weights[0])
        *inside, remembered = known
        remembered = (*remembered, (now,))
        (there,) = delayed(xp, remembered, value_delay)
        row = self.row(xp, there, layout, 2)
        masks = [lesser(xp, there, now)]
        for step in (line, self.step_size)[2 - min(2, self.spatial_dims) :]:
            masks.append(lesser(xp, row[line:-line], row[line + step : step - line or None]))
        # A line's last voxel has no next voxel, though a component of the next line's first voxel may be as near.
        masks[-1] = masks[-1] * self.row(xp, xp.zeros_like(there) + inside[2], layout, 1)
        if self.quadratic:
            masks = [xp.sqrt(mask) for mask in masks]
        ones = xp.zeros_like(there) + 1.0
        along_x, along_y = (factor[:, None] for factor in slab.constants[:2])
        masks[0] = masks[0] * along_x
        if self.spatial_dims >= 2:
            masks[1] = masks[1] * self.row(xp, ones * along_y, layout, 1)
        return (*inside, keep_last(remembered, value_delay)), there, masks

    def _masked(self, xp: Any, like: Array, inside: Array, there: Array | None) -> Array:
        """Return a 0/1 mask, shaped as ``like``, of the entries ``inside`` a plane in planes that are ``there``."""
        if there is not None:
            inside = inside * xp.astype(xp.reshape(there, (-1, 1, 1)), inside.dtype)
        return xp.zeros_like(like) + inside


class CompactSecondDerivativeEnergy(SecondDifferences):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``, with ``uxx = u[i+1] - 2 u[i] + u[i-1]``.

    Mixed derivatives are central differences of central differences. One voxel is lost at each end of every axis.
    """

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes to keep of ``u``; if ``back``, also of ``uxx`` and two gradient parts."""
        value_delay = self.value_delay
        return (2 * value_delay, 2 * value_delay, 2 * value_delay, value_delay) if back else (2 * value_delay,)

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients; a second difference is its own adjoint.

        Differences are computed without the mixed ones' factor of 1/4, which `units` applies to all: pure ones get 4.
        """
        xp, line, stride, dims, value_delay = slab.xp, layout.line, self.step_size, self.spatial_dims, self.value_delay
        along_x, along_y, _ = self.relative
        known, fields, *rest = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        def second(row: Array, step: int) -> Array:
            result = row[line:-line] * -2.0
            result += row[line + step : step - line or None]
            result += row[line - step : -line - step]
            return result

        u = layout.pack(xp, self.field(slab))
        fields = (*fields, (u,))
        middle, before = delayed(xp, fields, value_delay)[0], delayed(xp, fields, 2 * value_delay)[0]
        known, mask, row_mask, there = self.counting(slab, layout, chunk, known, u, 2)
        row = self.row(xp, middle, layout, 4)
        # Mixed differences are computed twice as large: half their square is twice the true one, as the energy needs.
        twice = row_mask * 2.0
        pure = trim(twice, line) * 2.0
        zz = trim(second(row, stride), 2 * line) * pure
        energies = zz * zz
        yy = yz = None
        if dims >= 2:
            yy = times(trim(second(row, line), 2 * line) * pure, along_y**2)
            energies += yy * yy
            yz = across(across(row, line, line), stride, line)
            yz *= twice
            yz = times(yz, along_y)
            half = yz * yz
            half *= 0.5
            energies += trim(half, line)
        energies = planes(trim(energies, line))
        xx = xy = xz = None
        if dims == 3:
            xx = middle * -2.0
            xx += u
            xx += before
            xx *= mask * (4.0 * along_x**2)
            ux = self.row(xp, u - before, layout, 2)
            xy, xz, mixed = mixed_with_x(ux, trim(twice, line), line, stride, along_x * along_y, along_x)
            energies = energies + planes(trim(mixed, line))
            energies += xx * xx
        energies = self.counted(xp, energies, there)
        state = known, keep_last(fields, 2 * value_delay)
        if wrt is None:
            return state, energies, ()
        seconds, slopes, others = rest
        inner = trim(row_mask, line)
        other = second(self.again(slab, times(zz, 4.0), inner), stride)
        if yy is not None:
            other += second(self.again(slab, times(yy, 4.0 * along_y**2), inner), line)
            other += across(across(self.again(slab, times(yz, along_y), row_mask), line, line), stride, line)
        others = (*others, (planes(other),))
        gradient = delayed(xp, others, value_delay)[0]
        if xx is not None:
            xx = self.again(slab, times(xx, 4.0 * along_x**2), mask)
            seconds = (*seconds, (xx,))
            xy = self.again(slab, times(xy, along_x * along_y), inner)
            xz = self.again(slab, times(xz, along_x), inner)
            by_slopes = plus_across(across(xy, line, line), xz, stride, line)
            slopes = (*slopes, (planes(by_slopes),))
            by_x = delayed(xp, seconds, 1)[0] * -2.0
            by_x += xx
            by_x += delayed(xp, seconds, 2)[0]
            by_x += slopes[-1][0]
            by_x -= delayed(xp, slopes, 2)[0]
            by_x += gradient
            gradient = by_x
        state = (
            *state,
            keep_last(seconds, 2 * value_delay),
            keep_last(slopes, 2 * value_delay),
            keep_last(others, value_delay),
        )
        return state, energies, (gradient,) * len(wrt)
