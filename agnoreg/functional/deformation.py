"""Smoothness of a displacement field (DDF): first and second central differences, gradient norm and bending energy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import Backend, backend_of
from agnoreg.differentiable import PassingMeasure, check_flag, check_rank, evaluate, measured_by
from agnoreg.passing import Layout, earlier, latest, nothing_before
from agnoreg.stencil import cut
from agnoreg.tiling import Chunk, Slab

Array = Any

AXES = (1, 2, 3)
COMPONENTS = 3


def difference(x: Array, axis: int) -> Array:
    """Return ``(x[i+1] - x[i-1]) / 2`` along ``axis``, cropped by one voxel at each end of axes 1, 2 and 3."""
    for other in AXES:
        if other != axis:
            x = cut(x, other, 1, -1)
    return (cut(x, axis, 2, None) - cut(x, axis, None, -2)) * 0.5


# --- planes that pass -------------------------------------------------------------------------------------------------

# Planes lie in a row, with gaps of zeros between them and a margin of zeros at each end: a difference along axis 2 or 3
# is one of entries a line or a voxel ahead and behind. Near a border these mix lines; they are multiplied by 0. Halves
# are left out of differences; `factors` puts them back.


def across(row: Array, stride: int, line: int) -> Array:
    """Return ``row[i + stride] - row[i - stride]``, a line shorter at each end."""
    return row[line + stride : stride - line or None] - row[line - stride : -line - stride]


def plus_across(total: Array, row: Array, stride: int, line: int) -> Array:
    """Add the same to ``total``, in its memory where it can be written."""
    total += row[line + stride : stride - line or None]
    total -= row[line - stride : -line - stride]
    return total


def trim(row: Array, entries: int) -> Array:
    """Take so many entries off each end."""
    return row[entries:-entries]


@dataclass(frozen=True)
class _FieldMeasure(PassingMeasure):
    """The mean, over the cropped grid and the components, of a sum of functions of differences."""

    inputs: ClassVar[int] = 1  # type: ignore[misc]
    #: Voxels lost at each end.
    crop: ClassVar[int] = 1
    title: ClassVar[str]

    @property
    def lag(self) -> int:
        """The planes that the differences of a plane read after it."""
        return self.crop

    @property
    def back_lag(self) -> int:
        """The planes after a plane whose differences read it."""
        return self.crop

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where this is not a field, or one too small for the differences."""
        (shape,) = shapes
        if len(shape) != 5 or shape[4] != COMPONENTS:
            raise ValueError(f"A displacement field must be (batch, dim1, dim2, dim3, 3), got shape {shape}.")
        check_rank("The displacement field", shape, 5)
        least = 2 * self.crop + 1
        if any(size is not None and size < least for size in shape[1:4]):
            raise ValueError(f"{self.title} needs at least {least} voxels along each axis, got shape {shape}.")

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Let the components be entries of the lines."""
        (field,) = arrays
        _, planes, lines, entries, _ = backend.shape(field)
        assert entries is not None
        return (backend.xp.reshape(field, (-1, planes, lines, entries * COMPONENTS)),)

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return how planes are laid out: what a voxel reaches lies in its own plane or in the gap below."""
        assert shape[2] is not None
        assert shape[3] is not None
        return Layout(shape[2], shape[3], 2 * self.crop)

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of cropped voxels times components, of an arranged field."""
        sizes = [size - 2 * self.crop * step for size, step in zip(shape[1:], (1, 1, COMPONENTS), strict=True) if size]
        return math.prod(sizes)

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return which entries of a plane count, and planes of zeros for all that is remembered."""
        xp, crop = slab.xp, self.crop
        zeros = layout.lay(xp, slab.arrays[0])
        index = xp.arange(layout.size, dtype=xp.int32, device=slab.backend.device(zeros))
        y, z = index // layout.line, index % layout.line
        inside = (y >= crop) & (y < layout.rows - crop)
        inside = inside & (z >= crop * COMPONENTS) & (z < layout.columns - crop * COMPONENTS)
        return xp.astype(inside, zeros.dtype), *nothing_before((zeros,), self.memory(wrt is not None))

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes a step remembers of each array: the field, and what is made of it."""
        raise NotImplementedError

    def row(self, xp: Any, planes: Array, layout: Layout, lines: int) -> Array:
        """Return planes as a row, with a margin of so many lines."""
        row = xp.reshape(planes, (-1,))
        margin = row[-lines * layout.line :]
        return xp.concat([margin, row, margin])

    def cropped(self, slab: Slab, chunk: Chunk, inside: Array, planes: Array) -> Array:
        """Return 1 for the entries that have all their neighbours, of the planes that came `lag` before the chunk's."""
        xp, first = slab.xp, chunk.start - self.lag
        if not isinstance(first, int) or not self.crop <= first <= chunk.total - self.crop - chunk.count:
            place = xp.arange(chunk.count, dtype=xp.int32, device=slab.backend.device(planes)) + first
            there = (place >= self.crop) & (place < chunk.total - self.crop)
            inside = inside * xp.astype(xp.reshape(there, (-1, 1, 1)), inside.dtype)
        return xp.zeros_like(planes) + inside

    def counted(self, xp: Any, energies: Array, there: Array) -> Array:
        """Return the energies where they count; in a gap, a neighbour's NaN times 0 would still be NaN."""
        return xp.where(there == 0.0, xp.zeros_like(energies), energies)


@dataclass(frozen=True)
class GradientEnergy(_FieldMeasure):
    """``ux^2 + uy^2 + uz^2``, or the sum of absolute values."""

    l1: bool = False

    title: ClassVar[str] = "The gradient norm"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_flag("l1", self.l1)

    def factors(self, shape: tuple[int | None, ...]) -> tuple[float, float]:
        """Return the factors of the values and of the gradients."""
        unit = (0.5 if self.l1 else 0.25) / self.count(shape)
        return unit, unit if self.l1 else 2.0 * unit

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes are remembered of ``u``; of the slope along axis 1 and the rest of the gradient."""
        return (2, 2, 1) if back else (2,)

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients ``sum_d Dd' (Dd u)``, or ``sum_d Dd' sign(Dd u)``."""
        xp, line = slab.xp, layout.line
        inside, fields, *rest = state
        u = layout.lay(xp, slab.arrays[0])
        fields = (*fields, (u,))
        (middle,), (before,) = earlier(xp, fields, 1), earlier(xp, fields, 2)
        row = self.row(xp, middle, layout, 2)
        there = mask = self.cropped(slab, chunk, inside, u)
        ux = u - before
        ux *= mask
        uy, uz = across(row, line, line), across(row, COMPONENTS, line)
        mask = self.row(xp, mask, layout, 1)
        uy *= mask
        uz *= mask
        energies = xp.abs(uy) if self.l1 else uy * uy
        energies += xp.abs(uz) if self.l1 else uz * uz
        energies = xp.reshape(trim(energies, line), (chunk.count, -1, layout.size))
        energies = self.counted(xp, energies + (xp.abs(ux) if self.l1 else ux * ux), there)
        state = inside, latest(fields, 2)
        if wrt is None:
            return state, energies, ()
        if self.l1:
            ux, uy, uz = xp.sign(ux), xp.sign(uy), xp.sign(uz)
        slopes, others = (*rest[0], (ux,)), rest[1]
        other = plus_across(across(uy, line, line), uz, COMPONENTS, line)
        others = (*others, (xp.reshape(other, (chunk.count, -1, layout.size)),))
        # A difference's adjoint is its negative.
        gradient = earlier(xp, slopes, 2)[0] - ux
        gradient -= earlier(xp, others, 1)[0]
        return (*state, latest(slopes, 2), latest(others, 1)), energies, (gradient,) * len(wrt)


@dataclass(frozen=True)
class SecondDerivativeEnergy(_FieldMeasure):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``."""

    crop: ClassVar[int] = 2
    title: ClassVar[str] = "The bending energy"

    def factors(self, shape: tuple[int | None, ...]) -> tuple[float, float]:
        """Return the factors of the values and of the gradients."""
        unit = 1.0 / 16.0 / self.count(shape)
        return unit, 2.0 * unit

    def memory(self, back: bool) -> tuple[int, ...]:
        """Return how many planes are remembered of ``u`` and ``ux``; of ``uxx`` and three parts of the gradient."""
        return (2, 2, 2, 1, 2, 2) if back else (2, 2)

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Array, tuple[Array, ...]]:
        """Return the next state, the energies, and the gradients.

        These are ``Dx'(Dx' uxx + Dy' 2uxy + Dz' 2uxz) + Dy'(Dy' uyy + Dz' 2uyz) + Dz' Dz' uzz``; as a difference's
        adjoint is its negative, and there are two, the adjoints are differences.
        """
        xp, line = slab.xp, layout.line
        inside, fields, slopes, *rest = state

        def planes(row: Array) -> Array:
            return xp.reshape(row, (chunk.count, -1, layout.size))

        u = layout.lay(xp, slab.arrays[0])
        fields = (*fields, (u,))
        middle = earlier(xp, fields, 2)[0]
        ux = u - middle
        slopes = (*slopes, (ux,))
        xx = ux - earlier(xp, slopes, 2)[0]
        row = self.row(xp, earlier(xp, slopes, 1)[0], layout, 2)
        xy, xz = across(row, line, line), across(row, COMPONENTS, line)
        row = self.row(xp, middle, layout, 4)
        uy, uz = across(row, line, line), across(row, COMPONENTS, line)
        yy, zz, yz = across(uy, line, line), across(uz, COMPONENTS, line), across(uy, COMPONENTS, line)
        there = mask = self.cropped(slab, chunk, inside, u)
        xx *= mask
        mask = self.row(xp, mask, layout, 2)
        yy *= mask
        zz *= mask
        mask = mask * 2.0
        yz *= mask
        mask = trim(mask, line)
        xy *= mask
        xz *= mask
        # The mixed ones are twice what they should be: half their squares are twice the right ones.
        energies = yz * yz
        energies *= 0.5
        energies += yy * yy
        energies += zz * zz
        mixed = xy * xy
        mixed += xz * xz
        mixed *= 0.5
        mixed = trim(mixed, line) + trim(energies, 2 * line)
        energies = xx * xx
        energies += planes(mixed)
        energies = self.counted(xp, energies, there)
        state = inside, latest(fields, 2), latest(slopes, 2)
        if wrt is None:
            return state, energies, ()
        seconds, mixed_ones, by_slopes, others = rest
        seconds = (*seconds, (xx,))
        mixed_ones = (*mixed_ones, (planes(plus_across(across(xy, line, line), xz, COMPONENTS, line)),))
        by_ux = xx - earlier(xp, seconds, 2)[0]
        by_ux += earlier(xp, mixed_ones, 1)[0]
        by_slopes = (*by_slopes, (by_ux,))
        by_uy = plus_across(across(yy, line, line), yz, COMPONENTS, line)
        by_uz = across(zz, COMPONENTS, line)
        others = (*others, (planes(plus_across(across(by_uy, line, line), by_uz, COMPONENTS, line)),))
        gradient = by_ux - earlier(xp, by_slopes, 2)[0]
        gradient += earlier(xp, others, 2)[0]
        state = *state, latest(seconds, 2), latest(mixed_ones, 1), latest(by_slopes, 2), latest(others, 2)
        return state, energies, (gradient,) * len(wrt)


@measured_by(GradientEnergy)
def gradient_norm(ddf: Array, *, l1: bool = False) -> Array:
    """Return the mean squared (or absolute) gradient of a displacement field, per sample.

    The mean over voxels and components of ``ux^2 + uy^2 + uz^2`` (with ``l1``, of absolute values), by central
    differences ``(u[i+1] - u[i-1]) / 2``; one voxel is lost at each end of every axis.

    Parameters
    ----------
    ddf
        Shape ``(B, d1, d2, d3, 3)``; component i is the displacement along axis i, in voxels. Each axis has at least 3
        voxels.
    l1
        Sum absolute values instead of squares. The subgradient at 0 is 0.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for a translation; dimensionless.

    Raises
    ------
    ValueError
        If this is not such a field.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1, 1, 1) * np.ones((1, 5, 5, 5, 3))
    >>> gradient_norm(x)
    array([1.])
    """
    return evaluate(GradientEnergy(l1), ddf)


@measured_by(SecondDerivativeEnergy)
def bending_energy(ddf: Array) -> Array:
    """Return the bending energy of a displacement field, per sample.

    The mean over voxels and components of ``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``; second differences
    are central differences of central differences, so two voxels are lost at each end of every axis.

    Parameters
    ----------
    ddf
        Shape ``(B, d1, d2, d3, 3)``; component i is the displacement along axis i, in voxels. Each axis has at least 5
        voxels.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for an affine field; in 1/voxel^2.

    Raises
    ------
    ValueError
        If this is not such a field.

    References
    ----------
    Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(6.0).reshape(1, 6, 1, 1, 1) * np.ones((1, 6, 6, 6, 3))
    >>> bending_energy(x**2 / 2)
    array([1.])
    """
    return evaluate(SecondDerivativeEnergy(), ddf)


def _gradient(f: Array, axis: int) -> Array:
    backend = backend_of(f)
    f = backend.prepare(f)
    shape = backend.shape(f)
    check_rank("The field", shape, 4, "(batch, dim1, dim2, dim3)")
    if any(size is not None and size < 3 for size in shape[1:4]):
        raise ValueError(f"A central difference needs at least 3 voxels along each axis, got shape {shape}.")
    return difference(backend.xp.astype(f, backend.compute_dtype(f)), axis)


def gradient_dx(fx: Array) -> Array:
    """Return the central difference along axis 1, ``(f[i+1] - f[i-1]) / 2``.

    Parameters
    ----------
    fx
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has fewer than 4 axes, or an axis fewer than 3 voxels.

    Examples
    --------
    >>> import numpy as np
    >>> gradient_dx(np.arange(27.0).reshape(1, 3, 3, 3))
    array([[[[9.]]]])
    """
    return _gradient(fx, 1)


def gradient_dy(fy: Array) -> Array:
    """Return the central difference along axis 2, ``(f[j+1] - f[j-1]) / 2``.

    Parameters
    ----------
    fy
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has fewer than 4 axes, or an axis fewer than 3 voxels.
    """
    return _gradient(fy, 2)


def gradient_dz(fz: Array) -> Array:
    """Return the central difference along axis 3, ``(f[k+1] - f[k-1]) / 2``.

    Parameters
    ----------
    fz
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has fewer than 4 axes, or an axis fewer than 3 voxels.
    """
    return _gradient(fz, 3)


def gradient_dxyz(fxyz: Array, fn: Callable[[Array], Array]) -> Array:
    """Apply a function to each of the 3 components of a field and stack the results last.

    Parameters
    ----------
    fxyz
        Shape ``(..., 3)``.
    fn
        Takes and returns an array, for example `gradient_dx`.

    Returns
    -------
    array
        Shape ``(..., 3)``.

    Raises
    ------
    ValueError
        If the last axis does not hold 3 components.
    """
    backend = backend_of(fxyz)
    fxyz = backend.prepare(fxyz)
    if backend.shape(fxyz)[-1] != 3:
        raise ValueError(f"The last axis must hold 3 components, got shape {backend.shape(fxyz)}.")
    return backend.xp.stack([fn(fxyz[..., i]) for i in range(3)], axis=-1)
