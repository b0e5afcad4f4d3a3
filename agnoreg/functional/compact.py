"""Smoothness of a field by compact differences, which see a field that alternates from voxel to voxel."""

from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.differentiable import check_flag
from agnoreg.functional.fields import FieldMeasure, across, plus_across, times, trim
from agnoreg.passing import Layout, earlier, latest, nothing_before
from agnoreg.tiling import Chunk, Slab

Array = Any


@dataclass(frozen=True)
class CompactGradientEnergy(FieldMeasure):
    """The sum over the axes of the mean of the squares, or absolute values, of ``u[i+1] - u[i]``.

    Every axis has a grid of its own, one voxel shorter along it.
    """

    l1: bool = False

    crop: ClassVar[int] = 0
    least: ClassVar[int] = 2
    title: ClassVar[str] = "The gradient norm"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        check_flag("l1", self.l1)

    @property
    def lag(self) -> int:
        """The plane that a difference along axis 1 reads after its own."""
        return 1 if self.spatial_dims == 3 else 0

    @property
    def back_lag(self) -> int:
        """No plane after a plane has a difference that reads it."""
        return 0

    def factors(self, shape: tuple[int | None, ...]) -> tuple[float, float]:
        """Return the factors of the values and of the gradients: those of the differences along the last axis."""
        assert isinstance(self.spacing, tuple)
        planes, lines, entries = shape[1:4]
        assert planes is not None
        assert lines is not None
        assert entries is not None
        count = planes * lines * (entries - self.step_size)
        rate = 1.0 / self.spacing[-1]
        unit = (rate if self.l1 else rate**2) / count
        return unit, unit if self.l1 else 2.0 * unit

    def along(self, planes: int, layout: Layout) -> tuple[float, float]:
        """Return the factors of differences along axes 1 and 2, relative to those along the last."""
        entries = layout.columns // self.step_size
        shares = [n * (entries - 1) / (entries * (n - 1)) if n > 1 else 0.0 for n in (planes, layout.rows)]
        x, y = (share if self.l1 else share**0.5 for share in shares)
        along_x, along_y, _ = self.relative
        return x * along_x, y * along_y

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return which entries are voxels, have a line after their own, and a voxel after them; and planes of zeros."""
        xp = slab.xp
        zeros = layout.lay(xp, slab.arrays[0])
        index = xp.arange(layout.size, dtype=xp.int32, device=slab.backend.device(zeros))
        y, z = index // layout.line, index % layout.line
        voxel = (y < layout.rows) & (z < layout.columns)
        inside = voxel, voxel & (y < layout.rows - 1), voxel & (z < layout.columns - self.step_size)
        memory = (self.lag, self.lag) if wrt is not None else (self.lag,)
        return tuple(xp.astype(x, zeros.dtype) for x in inside), *nothing_before((zeros,), memory)

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients: ``g[i-1] - g[i]`` along every axis."""
        xp, line, lag, stride = slab.xp, layout.line, self.lag, self.step_size
        along_x, along_y = self.along(chunk.total, layout)
        (voxel, before_line, before_voxel), fields, *slopes = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        def energy(difference: Array) -> Array:
            return xp.abs(difference) if self.l1 else difference * difference

        def back(difference: Array, factor: float) -> Array:
            return times(xp.sign(difference) if self.l1 else difference, factor)

        u = layout.lay(xp, slab.arrays[0])
        fields = (*fields, (u,))
        middle = earlier(xp, fields, lag)[0]
        device = slab.backend.device(u)
        there = self._masked(xp, u, voxel, chunk.existing(xp, lag, device))
        row = self.row(xp, middle, layout, 2)
        in_plane = [(line, along_y, before_line)] if self.spatial_dims >= 2 else []
        in_plane.append((stride, 1.0, before_voxel))
        energies, differences = None, []
        for step, factor, inside in in_plane:
            difference = across(row, step, line, 0)
            difference *= self.row(xp, there * inside, layout, 1)
            difference = times(difference, factor)
            differences.append(difference)
            energies = energy(difference) if energies is None else energies + energy(difference)
        energies = planes(trim(energies, line))
        ux = None
        if self.spatial_dims == 3:
            ux = u - middle
            ux *= self._masked(xp, there, voxel, chunk.existing(xp, lag - 1, device)) * there
            ux = times(ux, along_x)
            energies = energies + energy(ux)
        state = (voxel, before_line, before_voxel), latest(fields, lag)
        energies = self.counted(xp, energies, there != 0.0)
        if wrt is None:
            return state, energies, ()
        other = None
        for (step, factor, _), difference in zip(in_plane, differences, strict=True):
            # Ahead is the difference itself, behind the one before: the adjoint's negative.
            other = plus_across(other, back(difference, factor), 0, line, step)
        gradient = -planes(other)
        if ux is not None:
            ux = back(ux, along_x)
            line_of_slopes = (*slopes[0], (ux,))
            gradient += earlier(xp, line_of_slopes, 1)[0]
            gradient -= ux
            return (*state, latest(line_of_slopes, 1)), energies, (gradient,) * len(wrt)
        return (*state, *slopes), energies, (gradient,) * len(wrt)

    def _masked(self, xp: Any, like: Array, inside: Array, there: Array | None) -> Array:
        """Return 1 for entries ``inside`` of planes that are ``there``, 0 for others."""
        if there is not None:
            inside = inside * xp.astype(xp.reshape(there, (-1, 1, 1)), inside.dtype)
        return xp.zeros_like(like) + inside


@dataclass(frozen=True)
class CompactSecondDerivativeEnergy(FieldMeasure):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``, with ``uxx = u[i+1] - 2 u[i] + u[i-1]``.

    The mixed ones are central differences of central differences; one voxel is lost at each end of every axis.
    """

    gap: ClassVar[int] = 4
    title: ClassVar[str] = "The bending energy"

    def factors(self, shape: tuple[int | None, ...]) -> tuple[float, float]:
        """Return the factors of the values and of the gradients."""
        assert isinstance(self.spacing, tuple)
        unit = (0.5 / self.spacing[-1]) ** 4 / self.count(shape)
        return unit, 2.0 * unit

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes are remembered of ``u``; of ``uxx``, the mixed ones and the rest of the gradient."""
        lag = self.lag
        return (2 * lag, 2 * lag, 2 * lag, lag) if back else (2 * lag,)

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients; a second difference is its own adjoint.

        Where a mixed difference has a factor of 1/4, which `factors` puts back, the others have one of 1: they get 4.
        """
        xp, line, stride, dims, lag = slab.xp, layout.line, self.step_size, self.spatial_dims, self.lag
        along_x, along_y, _ = self.relative
        known, fields, *rest = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        def second(row: Array, step: int) -> Array:
            result = row[line:-line] * -2.0
            result += row[line + step : step - line or None]
            result += row[line - step : -line - step]
            return result

        u = layout.lay(xp, slab.arrays[0])
        fields = (*fields, (u,))
        middle, before = earlier(xp, fields, lag)[0], earlier(xp, fields, 2 * lag)[0]
        known, mask, row_mask, there = self.counting(slab, layout, chunk, known, u, 2)
        row = self.row(xp, middle, layout, 4)
        # The mixed ones are twice what they should be: half their squares are twice the right ones.
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
            xy, xz = across(ux, line, line), across(ux, stride, line)
            twice = trim(twice, line)
            xy *= twice
            xz *= twice
            xy, xz = times(xy, along_x * along_y), times(xz, along_x)
            mixed = xy * xy
            mixed += xz * xz
            mixed *= 0.5
            energies = energies + planes(trim(mixed, line))
            energies += xx * xx
        energies = self.counted(xp, energies, there)
        state = known, latest(fields, 2 * lag)
        if wrt is None:
            return state, energies, ()
        seconds, slopes, others = rest
        other = second(times(zz, 4.0), stride)
        if yy is not None:
            other += second(times(yy, 4.0 * along_y**2), line)
            other += across(across(times(yz, along_y), line, line), stride, line)
        others = (*others, (planes(other),))
        gradient = earlier(xp, others, lag)[0]
        if xx is not None:
            xx = times(xx, 4.0 * along_x**2)
            seconds = (*seconds, (xx,))
            by_slopes = across(times(xy, along_x * along_y), line, line)
            by_slopes = plus_across(by_slopes, times(xz, along_x), stride, line)
            slopes = (*slopes, (planes(by_slopes),))
            by_x = earlier(xp, seconds, 1)[0] * -2.0
            by_x += xx
            by_x += earlier(xp, seconds, 2)[0]
            by_x += slopes[-1][0]
            by_x -= earlier(xp, slopes, 2)[0]
            by_x += gradient
            gradient = by_x
        state = *state, latest(seconds, 2 * lag), latest(slopes, 2 * lag), latest(others, lag)
        return state, energies, (gradient,) * len(wrt)
