"""Separable filters of volumes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnoreg.backend import backend_of
from agnoreg.differentiable import check_rank
from agnoreg.stencil import window_sum

Array = Any


def separable_filter(tensor: Array, kernel: Array | Sequence[float]) -> Array:
    """Correlate a volume with one kernel along each of its three spatial axes: zero padded, the size kept.

    An even kernel of length ``k`` reaches ``(k - 1) // 2`` voxels back and ``k // 2`` ahead.

    Parameters
    ----------
    tensor
        Shape ``(B, d1, d2, d3, 1)``; any number of channels, or none, are filtered one by one.
    kernel
        Shape ``(k,)``: a sequence, a NumPy array, or an array of the tensor's own framework.

    Returns
    -------
    array
        The tensor's shape. Integers and half precision become float32.

    Raises
    ------
    ValueError
        If the tensor has fewer than 4 axes or the kernel is not one-dimensional.

    Examples
    --------
    >>> import numpy as np
    >>> separable_filter(np.ones((1, 2, 2, 2, 1)), [1.0, 1.0, 1.0])[0, 0, 0, 0]
    array([8.])
    """
    backend = backend_of(tensor)
    tensor = backend.prepare(tensor)
    check_rank("tensor", backend.shape(tensor), 4, "(batch, dim1, dim2, dim3, 1)")
    tensor = backend.xp.astype(tensor, backend.compute_dtype(tensor))
    if isinstance(kernel, Sequence | np.ndarray):
        taps = np.asarray(kernel, dtype=float)
        if taps.ndim != 1 or taps.size == 0:
            raise ValueError(f"kernel must be one-dimensional and not empty, got shape {taps.shape}.")
        return backend.conv3d(tensor, (tuple(taps.tolist()),) * 3)
    # A kernel on the tensor's own device stays there: its taps are 0-d arrays, and a gradient reaches them.
    backend_of(tensor, kernel)
    kernel = backend.xp.astype(backend.prepare(kernel), tensor.dtype)
    if len(kernel.shape) != 1 or kernel.shape[0] == 0:
        raise ValueError(f"kernel must be one-dimensional and not empty, got shape {tuple(kernel.shape)}.")
    own_taps = [kernel[i] for i in range(kernel.shape[0])]
    for axis in (1, 2, 3):
        tensor = window_sum(backend.xp, tensor, own_taps, axis)
    return tensor
