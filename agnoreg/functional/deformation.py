"""Smoothness of a displacement field (DDF): first and second central differences, gradient norm and bending energy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import backend_of
from agnoreg.differentiable import MeanMeasure, check_flag, check_rank, evaluate, measured_by, total
from agnoreg.stencil import cut, pad
from agnoreg.tiling import Slab

Array = Any

AXES = (1, 2, 3)


def difference(x: Array, axis: int) -> Array:
    """Return ``(x[i+1] - x[i-1]) / 2`` along ``axis``, cropped by one voxel at each end of axes 1, 2 and 3."""
    for other in AXES:
        if other != axis:
            x = cut(x, other, 1, -1)
    return (cut(x, axis, 2, None) - cut(x, axis, None, -2)) * 0.5


def difference_adjoint(xp: Any, y: Array, axis: int) -> Array:
    """Return the adjoint of `difference`: larger than ``y`` by one voxel at each end of axes 1, 2 and 3."""
    for other in AXES:
        if other != axis:
            y = pad(xp, y, other, 1, 1)
    return pad(xp, y, axis, 2, 0) * 0.5 - pad(xp, y, axis, 0, 2) * 0.5


@dataclass(frozen=True)
class _FieldMeasure(MeanMeasure):
    """The mean, over the cropped grid and the components, of a sum of functions of differences."""

    inputs: ClassVar[int] = 1  # type: ignore[misc]
    kind: ClassVar[str] = "windows"
    #: Voxels lost at each end.
    crop: ClassVar[int] = 1
    title: ClassVar[str]

    @property
    def halo(self) -> int:
        """Planes beyond its own that `sums` reads on each side."""
        return self.crop

    @property
    def reach(self) -> int:
        """Planes beyond its own that the gradient reads on each side."""
        return 2 * self.crop

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where this is not a field, or one too small for the differences."""
        (shape,) = shapes
        if len(shape) != 5 or shape[4] != 3:
            raise ValueError(f"A displacement field must be (batch, dim1, dim2, dim3, 3), got shape {shape}.")
        check_rank("The displacement field", shape, 5)
        least = 2 * self.crop + 1
        if any(size is not None and size < least for size in shape[1:4]):
            raise ValueError(f"{self.title} needs at least {least} voxels along each axis, got shape {shape}.")

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of cropped voxels times components."""
        return math.prod(size - 2 * self.crop for size in shape[1:4] if size is not None) * 3

    def derivatives(self, u: Array) -> tuple[Array, ...]:
        """Return the differences of which the energy is made, ``u`` cropped by ``crop`` at each end."""
        raise NotImplementedError

    def energies(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return the energy of every voxel that has all its neighbours."""
        raise NotImplementedError

    def adjoint(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return the gradient of the sum of `energies` with respect to the field."""
        raise NotImplementedError

    def _own_energies(self, slab: Slab, energies: Array) -> Array:
        # The energies begin `crop` planes after the slab's first one; those of its own planes are the slab's to add.
        planes = slab.arrays[0].shape[1]
        start = max(slab.own.start - self.crop, 0)
        stop = min(slab.own.stop, planes - self.crop) - self.crop
        return cut(energies, 1, start, max(stop, start))

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the energies of the slab's own planes."""
        energies = self.energies(slab.xp, self.derivatives(slab.arrays[0]))
        return (total(slab, self._own_energies(slab, energies)),)

    def sums_and_gradient(
        self, slab: Slab, scale: float, wrt: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum of the energies, and its gradient."""
        derivatives = self.derivatives(slab.arrays[0])
        energies = self._own_energies(slab, self.energies(slab.xp, derivatives))
        gradient = cut(self.adjoint(slab.xp, derivatives), 1, slab.own.start, slab.own.stop)
        return (total(slab, energies),), (gradient * scale,) * len(wrt)


@dataclass(frozen=True)
class GradientEnergy(_FieldMeasure):
    """``ux^2 + uy^2 + uz^2``, or the sum of absolute values."""

    l1: bool = False

    title: ClassVar[str] = "The gradient norm"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_flag("l1", self.l1)

    def derivatives(self, u: Array) -> tuple[Array, ...]:
        """Return ``ux, uy, uz``."""
        return tuple(difference(u, axis) for axis in AXES)

    def energies(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return the sum over the three directions."""
        x, y, z = (xp.abs(d) if self.l1 else d * d for d in derivatives)
        return x + y + z

    def adjoint(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return ``sum_d Dd' (2 Dd u)``, or ``sum_d Dd' sign(Dd u)``."""
        slopes = (xp.sign(d) if self.l1 else d * 2.0 for d in derivatives)
        x, y, z = (difference_adjoint(xp, slope, axis) for slope, axis in zip(slopes, AXES, strict=True))
        return x + y + z


@dataclass(frozen=True)
class SecondDerivativeEnergy(_FieldMeasure):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``."""

    crop: ClassVar[int] = 2
    title: ClassVar[str] = "The bending energy"

    def derivatives(self, u: Array) -> tuple[Array, ...]:
        """Return ``uxx, uyy, uzz, uxy, uxz, uyz``."""
        ux, uy, uz = (difference(u, axis) for axis in AXES)
        pure = difference(ux, 1), difference(uy, 2), difference(uz, 3)
        return *pure, difference(ux, 2), difference(ux, 3), difference(uy, 3)

    def energies(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return the squared second derivatives, mixed ones twice."""
        xx, yy, zz, xy, xz, yz = (d * d for d in derivatives)
        return xx + yy + zz + (xy + xz + yz) * 2.0

    def adjoint(self, xp: Any, derivatives: tuple[Array, ...]) -> Array:
        """Return the gradient, by the adjoints of the second and then of the first differences."""
        xx, yy, zz, xy, xz, yz = derivatives

        def back(d: Array, axis: int) -> Array:
            return difference_adjoint(xp, d, axis)

        # Dx'(Dx'(2 uxx) + Dy'(4 uxy) + Dz'(4 uxz)) + Dy'(Dy'(2 uyy) + Dz'(4 uyz)) + Dz'(Dz'(2 uzz))
        by_ux = back(xx * 2.0, 1) + back(xy * 4.0, 2) + back(xz * 4.0, 3)
        by_uy = back(yy * 2.0, 2) + back(yz * 4.0, 3)
        return back(by_ux, 1) + back(by_uy, 2) + back(back(zz * 2.0, 3), 3)


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
