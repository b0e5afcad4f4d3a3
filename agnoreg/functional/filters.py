"""Separable filters of volumes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnoreg.backend import Backend, backend_of
from agnoreg.backend.windows import window_sum
from agnoreg.engine.axes import check_spatial_dims
from agnoreg.engine.validate import check_rank

Array = Any


def separable_filter(tensor: Array, kernel: Array | Sequence[float], *, spatial_dims: int = 3) -> Array:
    """Correlate a volume with one kernel along each of its spatial axes: zero padded, the size kept.

    An even kernel of length ``k`` reaches ``(k - 1) // 2`` voxels back and ``k // 2`` ahead.

    Parameters
    ----------
    tensor
        Shape ``(B, d1, d2, d3, 1)``; any number of channels, or none, are filtered one by one.
    kernel
        Shape ``(k,)``: a sequence, a NumPy array, or an array of the tensor's own framework.
    spatial_dims
        How many axes after the batch's are spatial, 1, 2 or 3.

    Returns
    -------
    array
        The tensor's shape. Integers and half precision become float32.

    Raises
    ------
    ValueError
        If the tensor has too few axes (4, for a volume) or the kernel is not one-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> separable_filter(np.ones((1, 2, 2, 2, 1)), [1.0, 1.0, 1.0])[0, 0, 0, 0]
    array([8.])
    """
    backend = backend_of(tensor)
    tensor = backend.prepare(tensor)
    spatial_dims = check_spatial_dims(spatial_dims)
    axes = ", ".join(f"dim{i + 1}" for i in range(spatial_dims))
    check_rank("tensor", backend.shape(tensor), spatial_dims + 1, f"(batch, {axes}, 1)")
    with backend.execution.at(tensor):
        return _filtered(backend, backend.xp.astype(tensor, backend.dtypes.compute(tensor)), kernel, spatial_dims)


def _filtered(backend: Backend, tensor: Array, kernel: Array | Sequence[float], spatial_dims: int) -> Array:
    if isinstance(kernel, Sequence | np.ndarray):
        own = _taps(kernel)
        return backend.operations.conv3d(tensor, [own if axis < spatial_dims else None for axis in range(3)])
    # A kernel on the tensor's own device stays there: its taps are 0-d arrays, and a gradient reaches them.
    backend_of(tensor, kernel)
    kernel = backend.xp.astype(backend.prepare(kernel), tensor.dtype)
    if len(kernel.shape) != 1 or kernel.shape[0] == 0:
        raise ValueError(f"kernel must be one-dimensional and not empty, got shape {tuple(kernel.shape)}.")
    own_taps = [kernel[i] for i in range(kernel.shape[0])]
    for axis in range(1, spatial_dims + 1):
        tensor = window_sum(backend.xp, tensor, own_taps, axis)
    return tensor


def _taps(kernel: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """Return the taps as numbers, by Python's own means: a compiler would trace NumPy's."""
    if isinstance(kernel, Sequence) and kernel and all([isinstance(tap, float | int) for tap in kernel]):
        return tuple([float(tap) for tap in kernel])
    taps = np.asarray(kernel, dtype=float)
    if taps.ndim != 1 or taps.size == 0:
        raise ValueError(f"kernel must be one-dimensional and not empty, got shape {taps.shape}.")
    return tuple(taps.tolist())
