"""Central differences of fields, component by component."""

from collections.abc import Callable
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.backend.shifts import cut
from agnoreg.engine.axes import check_spatial_dims
from agnoreg.engine.validate import check_rank

Array = Any


def difference(x: Array, axis: int, dims: int = 3) -> Array:
    """Return ``(x[i+1] - x[i-1]) / 2`` along ``axis``, cropped by one voxel at each end of axes 1 to ``dims``."""
    for other in range(1, dims + 1):
        if other != axis:
            x = cut(x, other, 1, -1)
    return (cut(x, axis, 2, None) - cut(x, axis, None, -2)) * 0.5


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
