"""Centroids of labels, and how much of a volume a label fills."""

from typing import Any

from agnoreg.backend import backend_of
from agnoreg.engine.validate import check_rank, check_same_shape
from agnoreg.measures.families.images import binarised

Array = Any

EPS = 1e-5


def compute_centroid(mask: Array, grid: Array) -> Array:
    """Return the centroid of each label.

    ``(sum mask * grid + eps) / (sum mask + eps)`` with the mask thresholded at ``>= 0.5`` and ``eps = 1e-5``: an empty
    label has the centroid 1.

    Parameters
    ----------
    mask
        Shape ``(B, d1, d2, d3)``, or with fewer axes.
    grid
        Shape ``(1, d1, d2, d3, 3)``, of a plane ``(1, d1, d2, 2)``: the coordinates of every voxel, in whatever unit
        the centroid shall have.

    Returns
    -------
    array
        Shape ``(B, 3)``, one coordinate an axis, in the grid's unit.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), axis=-1)[None]
    >>> mask = np.zeros((1, 3, 3, 3)); mask[0, 2, 1, 0] = 1
    >>> compute_centroid(mask, grid).round(3)
    array([[2., 1., 0.]])
    """
    backend = backend_of(mask, grid)
    xp = backend.xp
    mask, grid = backend.prepare(mask), backend.prepare(grid)
    shape, points = backend.shape(mask), backend.shape(grid)
    dims = len(shape) - 1
    if dims not in (1, 2, 3) or points[:1] not in ((1,), shape[:1]) or points[1:] != (*shape[1:], dims):
        raise ValueError(
            f"mask must be (batch, dim1, dim2, dim3) and grid (1, dim1, dim2, dim3, 3), got mask {shape} "
            f"and grid {points}."
        )
    with backend.execution.at(mask):
        dtype = backend.dtypes.compute(mask, grid)
        wide = backend.dtypes.accumulator(xp.astype(mask, dtype))
        weights = xp.expand_dims(binarised(xp, xp.astype(mask, dtype)), axis=-1)
        axes = tuple(range(1, dims + 1))
        weighted = xp.sum(weights * xp.astype(grid, dtype), axis=axes, dtype=wide)
        return xp.astype((weighted + EPS) / (xp.sum(weights, axis=axes, dtype=wide) + EPS), dtype)


def compute_centroid_distance(y_true: Array, y_pred: Array, grid: Array) -> Array:
    """Return the Euclidean distance of two labels' centroids.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)``, or with fewer axes.
    grid
        Shape ``(1, d1, d2, d3, 3)``: the coordinates of every voxel; see `compute_centroid`.

    Returns
    -------
    array
        Shape ``(B,)``, in the grid's unit; in [0, inf), lower is better, 0 for equal labels.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), axis=-1)[None]
    >>> a = np.zeros((1, 3, 3, 3)); a[0, 2, 1, 0] = 1
    >>> b = np.zeros((1, 3, 3, 3)); b[0, 0, 1, 0] = 1
    >>> compute_centroid_distance(a, b, grid).round(3)
    array([2.])
    """
    backend = backend_of(y_true, y_pred, grid)
    check_same_shape(backend.shape(y_true), backend.shape(y_pred))
    with backend.execution.at(backend.prepare(y_true)):
        difference = compute_centroid(y_true, grid) - compute_centroid(y_pred, grid)
        xp = backend.xp
        square = xp.sum(difference * difference, axis=1)
        # Where the centroids meet the root has no derivative: 0 is taken, not NaN.
        apart = square != 0.0
        return xp.where(apart, xp.sqrt(xp.where(apart, square, xp.ones_like(square))), square)


def foreground_proportion(y: Array) -> Array:
    """Return the share of voxels that are foreground, ``>= 0.5``.

    Parameters
    ----------
    y
        Shape ``(B, d1, d2, d3)``, or with fewer axes.

    Returns
    -------
    array
        Shape ``(B,)``, in [0, 1].

    Raises
    ------
    ValueError
        If the array has no axis beside the batch's.

    Examples
    --------
    >>> import numpy as np
    >>> foreground_proportion(np.asarray([[[[0.0, 1.0, 0.6, 0.2]]]]))
    array([0.5])
    """
    backend = backend_of(y)
    xp = backend.xp
    y = backend.prepare(y)
    shape = backend.shape(y)
    check_rank("y", shape, 2, "(batch, dim1, dim2, dim3)")
    axes = tuple(range(1, len(shape)))
    with backend.execution.at(y):
        y = xp.astype(y, backend.dtypes.compute(y))
        return xp.astype(xp.mean(xp.astype(binarised(xp, y), backend.dtypes.accumulator(y)), axis=axes), y.dtype)
