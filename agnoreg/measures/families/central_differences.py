"""Smoothness of a field by central differences ``(u[i+1] - u[i-1]) / 2``, and by central differences of these."""

from typing import Any, ClassVar

from agnoreg.engine.delay import delayed, keep_last
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab
from agnoreg.measures.families.differences import FirstDifferences, SecondDifferences
from agnoreg.measures.families.row_differences import across, mixed_with_x, plus_across, times, trim

Array = Any


class GradientEnergy(FirstDifferences):
    """``ux^2 + uy^2 + uz^2``, or the sum of absolute values."""

    rate: ClassVar[float] = 0.5

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes to keep of ``u``; if ``back``, also of ``ux`` and the rest of the gradient."""
        value_delay = self.value_delay
        return (2 * value_delay, 2 * value_delay, value_delay) if back else (2 * value_delay,)

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients ``sum_d Dd' (Dd u)``, or ``sum_d Dd' sign(Dd u)``.

        ``Dd`` is the difference along axis ``d``, times the factor of its spacing if any, and ``Dd'`` its adjoint.
        """
        xp, line, value_delay, dims = slab.xp, layout.line, self.value_delay, self.spatial_dims
        along_x, along_y, _ = self.relative
        known, fields, *rest = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        u = layout.pack(xp, self.field(slab))
        fields = (*fields, (u,))
        (middle,), (before,) = delayed(xp, fields, value_delay), delayed(xp, fields, 2 * value_delay)
        row = self.row(xp, middle, layout, 2)
        known, mask, row_mask, there = self.counting(slab, layout, chunk, known, u, 1)
        ux = None
        if dims == 3:
            ux = u - before
            ux *= mask
            ux = times(ux, along_x)
        # (entries between neighbours, factor) of each axis within a plane, the one along lines last.
        in_plane = [(line, along_y)] if dims >= 2 else []
        in_plane.append((self.step_size, 1.0))
        differences = []
        for stride, factor in in_plane:
            difference = across(row, stride, line)
            difference *= row_mask
            differences.append(times(difference, factor))
        energies = self.energy(xp, differences[0])
        for difference in differences[1:]:
            energies += self.energy(xp, difference)
        energies = planes(trim(energies, line))
        if ux is not None:
            energies = energies + self.energy(xp, ux)
        energies = self.counted(xp, energies, there)
        state = known, keep_last(fields, 2 * value_delay)
        if wrt is None:
            return state, energies, ()
        slopes, others = rest
        other = None
        for (stride, factor), difference in zip(in_plane, differences, strict=True):
            other = plus_across(other, self.back(slab, difference, factor, row_mask), stride, line)
        others = (*others, (planes(other),))
        # A central difference is minus its own adjoint.
        gradient = delayed(xp, others, value_delay)[0]
        if ux is None:
            gradient = -gradient
        else:
            ux = self.back(slab, ux, along_x, mask)
            slopes = (*slopes, (ux,))
            slope = delayed(xp, slopes, 2)[0] - ux
            slope -= gradient
            gradient = slope
        return (
            (*state, keep_last(slopes, 2 * value_delay), keep_last(others, value_delay)),
            energies,
            (gradient,) * len(wrt),
        )


class SecondDerivativeEnergy(SecondDifferences):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``."""

    crop: ClassVar[int] = 2
    least: ClassVar[int] = 5

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes to keep of ``u`` and ``ux``; if ``back``, also of ``uxx`` and gradient parts."""
        if self.spatial_dims < 3:
            return (0,) * (6 if back else 2)
        return (2, 2, 2, 1, 2, 2) if back else (2, 2)

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients.

        The gradient is ``Dx'(Dx' uxx + Dy' 2uxy + Dz' 2uxz) + Dy'(Dy' uyy + Dz' 2uyz) + Dz' Dz' uzz``. A central
        difference is minus its own adjoint; two of them in a row cancel the sign, so plain differences are taken. With
        a spacing every second difference has a factor of its own.
        """
        xp, line, stride, dims, value_delay = slab.xp, layout.line, self.step_size, self.spatial_dims, self.value_delay
        along_x, along_y, _ = self.relative
        known, fields, slopes, *rest = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        u = layout.pack(xp, self.field(slab))
        fields = (*fields, (u,))
        middle = delayed(xp, fields, value_delay)[0]
        row = self.row(xp, middle, layout, 4)
        known, mask, rows_mask, there = self.counting(slab, layout, chunk, known, u, 2)
        # Mixed differences are computed twice as large: half their square is twice the true one, as the energy needs.
        twice = rows_mask * 2.0
        uz = across(row, stride, line)
        zz = across(uz, stride, line)
        zz *= rows_mask
        energies = zz * zz
        yy = yz = None
        if dims >= 2:
            uy = across(row, line, line)
            yy, yz = across(uy, line, line), across(uy, stride, line)
            yy *= rows_mask
            yz *= twice
            yy, yz = times(yy, along_y**2), times(yz, along_y)
            half = yz * yz
            half *= 0.5
            energies += half
            energies += yy * yy
        energies = planes(trim(energies, 2 * line))
        xx = xy = xz = None
        if dims == 3:
            ux = u - middle
            slopes = (*slopes, (ux,))
            xx = ux - delayed(xp, slopes, 2)[0]
            xx *= mask
            xx = times(xx, along_x**2)
            row = self.row(xp, delayed(xp, slopes, 1)[0], layout, 2)
            xy, xz, mixed = mixed_with_x(row, trim(twice, line), line, stride, along_x * along_y, along_x)
            energies = energies + planes(trim(mixed, line))
            energies += xx * xx
        energies = self.counted(xp, energies, there)
        state = known, keep_last(fields, value_delay), keep_last(slopes, value_delay)
        if wrt is None:
            return state, energies, ()
        seconds, mixed_ones, by_slopes, others = rest
        by_uz = across(self.again(slab, zz, rows_mask), stride, line)
        other = None
        if yy is not None:
            by_uy = across(self.again(slab, times(yy, along_y**2), rows_mask), line, line)
            by_uy = plus_across(by_uy, self.again(slab, times(yz, along_y), rows_mask), stride, line)
            other = across(by_uy, line, line)
        others = (*others, (planes(plus_across(other, by_uz, stride, line)),))
        gradient = delayed(xp, others, value_delay)[0]
        if xx is not None:
            inner = trim(rows_mask, line)
            xx = self.again(slab, times(xx, along_x**2), mask)
            xy = self.again(slab, times(xy, along_x * along_y), inner)
            xz = self.again(slab, times(xz, along_x), inner)
            seconds = (*seconds, (xx,))
            mixed_ones = (*mixed_ones, (planes(plus_across(across(xy, line, line), xz, stride, line)),))
            by_ux = xx - delayed(xp, seconds, 2)[0]
            by_ux += delayed(xp, mixed_ones, 1)[0]
            by_slopes = (*by_slopes, (by_ux,))
            slope = by_ux - delayed(xp, by_slopes, 2)[0]
            slope += gradient
            gradient = slope
        state = (
            *state,
            keep_last(seconds, value_delay),
            keep_last(mixed_ones, min(value_delay, 1)),
            keep_last(by_slopes, value_delay),
            keep_last(others, value_delay),
        )
        return state, energies, (gradient,) * len(wrt)
