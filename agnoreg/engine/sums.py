"""Sums over voxels: within rows in the images' dtype, over rows and slabs in float64."""

import math
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.slabs import Slab, sweep

Array = Any

#: Lengths of the rows of a sum: the first that divides the slab. Longer is faster, until float32 loses digits.
#: If none does, a row is whole lines of at least the last length: shorter rows would give as many sums as voxels.
ROWS = (2048, 1024, 512, 256, 128, 64)


def spread(backend: Backend, mask: Array, like: Array) -> Array:
    """Return a mask broadcast to the shape of an input, as a view where the framework supports it."""
    shape, wanted_shape = backend.shape(mask), backend.shape(like)
    if all(a != 1 or b == 1 for a, b in zip(shape, wanted_shape, strict=True)):
        return mask
    if None in wanted_shape:
        return (
            mask & (backend.xp.ones_like(like) != 0)
            if mask.dtype == backend.xp.bool
            else (mask * backend.xp.ones_like(like, dtype=mask.dtype))
        )
    return backend.xp.broadcast_to(mask, wanted_shape)


def weight_sum(backend: Backend, dtype: Any, weights: Array) -> Array:
    """Return the sum of each sample's weights, ``(b,)``."""
    elements = backend.execution.slab_elements(weights, "voxels")
    totals, _ = sweep(
        backend, dtype, (weights,), 0, elements, lambda slab, first, last: ((_total(slab, slab.arrays[0]),), ())
    )
    return totals[0]


def total(slab: Slab, x: Array, y: Array | None = None) -> Array:
    """Return the sum of ``x`` (times ``y``) over all axes but the first, ``(b,)``; with a mask, the weighted sum."""
    if not slab.weights:
        return _total(slab, x, y)
    return _total(slab, x, slab.weights[0]) if y is None else _total(slab, x * slab.weights[0], y)


def _total(slab: Slab, x: Array, y: Array | None = None) -> Array:
    """Return the sum of ``x`` (times ``y``) over all axes but the first, ``(b,)``.

    Rows are summed in their own dtype; the sums of rows and slabs are added in the accumulator's dtype. That keeps
    float32 sums within 1e-6 relative for any size and any order of additions, and counts of voxels exact.
    """
    xp = slab.xp
    wide = slab.backend.dtypes.accumulator(x)
    if len(x.shape) == 1:
        return xp.astype(x if y is None else x * y, wide)
    count, row = _rows(x.shape[1:])
    shape = (x.shape[0] or -1, count, row)
    if row > 2 * ROWS[0]:
        # The size has no suitable divisor: divide most of it, and sum the rest apart.
        x, y = (None if z is None else xp.reshape(z, (shape[0], count * row)) for z in (x, y))
        most = count * row - count * row % ROWS[0]
        parts = (slice(None, most), slice(most, None))
        first, rest = (_total(slab, x[:, part], None if y is None else y[:, part]) for part in parts)
        return first + rest
    rows = xp.reshape(x, shape)
    rows = xp.sum(rows, axis=2) if y is None else slab.backend.operations.dot(rows, xp.reshape(y, shape))
    return xp.sum(xp.astype(rows, wide), axis=1)


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of rows of a sample of this shape, and their length."""
    size = math.prod(shape)
    for row in ROWS:
        if size and size % row == 0:
            return size // row, row
    row = 1
    for length in reversed(shape):
        row *= length
        if row >= ROWS[-1]:
            break
    return (size // row if row else 0), row
