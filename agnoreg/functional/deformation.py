"""Smoothness of a displacement field (DDF): first and second central differences, gradient norm and bending energy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.backend.shifts import cut
from agnoreg.engine.axes import check_choice, check_spatial_dims
from agnoreg.engine.combinators import WeightedSum
from agnoreg.engine.function import Differentiable, evaluate
from agnoreg.engine.masks import by_name
from agnoreg.engine.measured import measured_by
from agnoreg.engine.validate import check_rank
from agnoreg.functional.central import GradientEnergy, SecondDerivativeEnergy
from agnoreg.functional.compact import CompactGradientEnergy, CompactSecondDerivativeEnergy
from agnoreg.functional.conventions import check_convention, check_fixed

Array = Any


def difference(x: Array, axis: int, dims: int = 3) -> Array:
    """Return ``(x[i+1] - x[i-1]) / 2`` along ``axis``, cropped by one voxel at each end of axes 1 to ``dims``."""
    for other in range(1, dims + 1):
        if other != axis:
            x = cut(x, other, 1, -1)
    return (cut(x, axis, 2, None) - cut(x, axis, None, -2)) * 0.5


STENCILS = ("central", "compact")
#: The stencil of each convention.
GRADIENT_CONVENTIONS = {"deepreg": "central", "monai": "central", "voxelmorph": "compact"}
BENDING_CONVENTIONS = {"deepreg": "central", "monai": "compact"}


def _stencil(measure: str, stencil: str | None, convention: str, stencils: Mapping[str, str]) -> str:
    """Return the stencil, the convention's where it is None; DeepReg's is the only one that comes in two."""
    check_convention(measure, convention, tuple(stencils))
    if stencil is None:
        return stencils[convention]
    check_choice("stencil", stencil, STENCILS)
    if convention != "deepreg":
        check_fixed(convention, "stencil", stencil, (stencils[convention],))
    return stencil


def gradient_measure(
    l1: bool = False,
    stencil: str | None = None,
    spacing: float | Sequence[float] = 1.0,
    spatial_dims: int = 3,
    data_format: str = "channels_last",
    convention: str = "deepreg",
) -> Differentiable:
    """Return what `gradient_norm` measures."""
    stencil = _stencil("The gradient norm", stencil, convention, GRADIENT_CONVENTIONS)
    if convention == "monai":
        check_fixed(convention, "l1", l1, (False,))
    kind = GradientEnergy if stencil == "central" else CompactGradientEnergy
    measure = kind(spacing, spatial_dims, data_format, l1)
    # It is the mean over the axes there.
    return WeightedSum((measure,), (1.0 / spatial_dims,)) if convention == "voxelmorph" else measure


def bending_measure(
    stencil: str | None = None,
    spacing: float | Sequence[float] = 1.0,
    spatial_dims: int = 3,
    data_format: str = "channels_last",
    convention: str = "deepreg",
) -> Differentiable:
    """Return what `bending_energy` measures."""
    stencil = _stencil("The bending energy", stencil, convention, BENDING_CONVENTIONS)
    kind = SecondDerivativeEnergy if stencil == "central" else CompactSecondDerivativeEnergy
    return kind(spacing, spatial_dims, data_format)


@measured_by(gradient_measure)
def gradient_norm(
    ddf: Array,
    *,
    l1: bool = False,
    stencil: str | None = None,
    spacing: float | Sequence[float] = 1.0,
    spatial_dims: int = 3,
    data_format: str = "channels_last",
    convention: str = "deepreg",
    mask: Array | None = None,
) -> Array:
    """Return the mean squared (or absolute) gradient of a displacement field, per sample.

    The mean over voxels and components of ``ux^2 + uy^2 + uz^2`` (with ``l1``, of absolute values), by central
    differences ``(u[i+1] - u[i-1]) / (2 spacing)``; one voxel is lost at each end of every axis.

    Parameters
    ----------
    ddf
        Shape ``(B, d1, d2, d3, 3)``; component i is the displacement along axis i, in the unit of ``spacing``. Each
        axis has at least 3 voxels, or 2 for compact differences.
    l1
        Sum absolute values instead of squares. The subgradient at 0 is 0.
    stencil
        ``"central"``: differences ``(u[i+1] - u[i-1]) / 2``, on the grid that lacks a voxel at each end of every axis,
        which do not see a field that alternates from voxel to voxel; or ``"compact"``: differences ``u[i+1] - u[i]``,
        the sum of each axis's mean on a grid of its own. None: the convention's, ``"central"``.
    spacing
        The distance of neighbouring voxels, a number or one for each axis, in the unit of the displacements: 1 if they
        are in voxels.
    spatial_dims
        Axes of the image, 1, 2 or 3: what is said of three axes holds for those that there are.
    data_format
        ``"channels_last"``, or ``"channels_first"``: the components are then axis 1, ``(B, 3, d1, d2, d3)``.
    convention
        ``"deepreg"``; ``"monai"``, which has central differences and no ``l1``; or ``"voxelmorph"``, compact
        differences and the mean over the axes instead of their sum.
    mask
        Which voxels count: bools or integers, which count where they are not 0, or floating-point weights of at least
        0, of the field's shape without its components; any axis may have size 1. A difference counts as much as the
        voxel that counts least of those around it; see `agnoreg.Loss`.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for a translation; dimensionless.

    Raises
    ------
    ValueError
        If this is not such a field, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1, 1, 1) * np.ones((1, 5, 5, 5, 3))
    >>> gradient_norm(x)
    array([1.])
    """
    return evaluate(
        gradient_measure(l1, stencil, spacing, spatial_dims, data_format, convention), ddf, masks=by_name(mask)
    )


@measured_by(bending_measure)
def bending_energy(
    ddf: Array,
    *,
    stencil: str | None = None,
    spacing: float | Sequence[float] = 1.0,
    spatial_dims: int = 3,
    data_format: str = "channels_last",
    convention: str = "deepreg",
    mask: Array | None = None,
) -> Array:
    """Return the bending energy of a displacement field, per sample.

    The mean over voxels and components of ``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``; second differences
    are central differences of central differences, ``(u[i+1] - u[i-1]) / (2 spacing)``, so two voxels are lost at each
    end of every axis.

    Parameters
    ----------
    ddf
        Shape ``(B, d1, d2, d3, 3)``; component i is the displacement along axis i, in the unit of ``spacing``. Each
        axis has at least 5 voxels, or 3 for compact differences.
    stencil
        ``"central"``: central differences of central differences; or ``"compact"``: ``u[i+1] - 2 u[i] + u[i-1]``, and
        mixed ones of central differences, on the grid that lacks one voxel at each end of every axis. None: the
        convention's, ``"central"``.
    spacing
        The distance of neighbouring voxels, a number or one for each axis, in the unit of the displacements: 1 if they
        are in voxels.
    spatial_dims
        Axes of the image, 1, 2 or 3: what is said of three axes holds for those that there are.
    data_format
        ``"channels_last"``, or ``"channels_first"``: the components are then axis 1, ``(B, 3, d1, d2, d3)``.
    convention
        ``"deepreg"``, central differences where `stencil` is None; or ``"monai"``, compact ones.
    mask
        Which voxels count: bools or integers, which count where they are not 0, or floating-point weights of at least
        0, of the field's shape without its components; any axis may have size 1. A difference counts as much as the
        voxel that counts least of those around it; see `agnoreg.Loss`.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for an affine field; in one over the square of the spacing's
        unit: 1/voxel^2, or 1/mm^2.

    Raises
    ------
    ValueError
        If this is not such a field, or a parameter is out of range.

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
    return evaluate(bending_measure(stencil, spacing, spatial_dims, data_format, convention), ddf, masks=by_name(mask))


def _gradient(f: Array, axis: int, dims: int) -> Array:
    dims = check_spatial_dims(dims, axis)
    backend = backend_of(f)
    f = backend.prepare(f)
    shape = backend.shape(f)
    check_rank("The field", shape, dims + 1, f"(batch, {', '.join(f'dim{i + 1}' for i in range(dims))})")
    if any(size is not None and size < 3 for size in shape[1 : dims + 1]):
        raise ValueError(f"A central difference needs at least 3 voxels along each axis, got shape {shape}.")
    with backend.execution.at(f):
        return difference(backend.xp.astype(f, backend.dtypes.compute(f)), axis, dims)


def gradient_dx(fx: Array, *, spatial_dims: int = 3) -> Array:
    """Return the central difference along axis 1, ``(f[i+1] - f[i-1]) / 2``.

    Parameters
    ----------
    fx
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.
    spatial_dims
        How many axes after the batch's there are, 1, 2 or 3.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has too few axes (4, for a volume), or an axis fewer than 3 voxels.

    Examples
    --------
    >>> import numpy as np
    >>> gradient_dx(np.arange(27.0).reshape(1, 3, 3, 3))
    array([[[[9.]]]])
    """
    return _gradient(fx, 1, spatial_dims)


def gradient_dy(fy: Array, *, spatial_dims: int = 3) -> Array:
    """Return the central difference along axis 2, ``(f[j+1] - f[j-1]) / 2``.

    Parameters
    ----------
    fy
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.
    spatial_dims
        How many axes after the batch's there are, 2 or 3.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has too few axes (4, for a volume), or an axis fewer than 3 voxels.
    """
    return _gradient(fy, 2, spatial_dims)


def gradient_dz(fz: Array, *, spatial_dims: int = 3) -> Array:
    """Return the central difference along axis 3, ``(f[k+1] - f[k-1]) / 2``.

    Parameters
    ----------
    fz
        Shape ``(B, d1, d2, d3)``, each axis of at least 3 voxels.
    spatial_dims
        How many axes after the batch's there are, 3.

    Returns
    -------
    array
        Shape ``(B, d1 - 2, d2 - 2, d3 - 2)``, per voxel.

    Raises
    ------
    ValueError
        If the array has too few axes (4, for a volume), or an axis fewer than 3 voxels.
    """
    return _gradient(fz, 3, spatial_dims)


def gradient_dxyz(fxyz: Array, fn: Callable[[Array], Array]) -> Array:
    """Apply a function to each of the components of a field, one an axis, and stack the results last.

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
        If the last axis does not hold a component for each axis.
    """
    backend = backend_of(fxyz)
    fxyz = backend.prepare(fxyz)
    shape = backend.shape(fxyz)
    count = len(shape) - 2
    if count not in (1, 2, 3) or shape[-1] != count:
        raise ValueError(f"The last axis must hold a component for each of the axes before it, got shape {shape}.")
    with backend.execution.at(fxyz):
        return backend.xp.stack([fn(fxyz[..., i]) for i in range(count)], axis=-1)
