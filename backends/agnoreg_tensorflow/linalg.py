"""Products of vectors and matrices, and the part of the extension ``linalg`` that is here so far."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._dtypes import tensor, tensors
from agnoreg_tensorflow._manipulation import broadcast_arrays
from agnoreg_tensorflow._reductions import max as _max
from agnoreg_tensorflow._reductions import min as _min
from agnoreg_tensorflow._shapes import Axis, all_axes, one_axis, sizes

__all__ = [
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_transpose",
    "outer",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

Array = Any
Dtype = Any

_REAL = ("integral", "real floating")


def _through_int64(function: Callable[[Array, Array], Array], x: Array, y: Array) -> Array:
    """Multiply small or unsigned integers as int64, which has a kernel: modulo 2 ** n the sign does not count."""
    if not dt.isdtype(x.dtype, "integral") or x.dtype in (tf.int32, tf.int64):
        return function(x, y)
    return tf.cast(function(tf.cast(x, tf.int64), tf.cast(y, tf.int64)), x.dtype)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices: the last two axes, the others broadcast.

    A 1-D array is a row on the left and a column on the right; the axis that it lacks, the result lacks too.
    """
    x, y = tensors("matmul", x1, x2, kind=_REAL)
    if not x.shape.rank or not y.shape.rank:
        raise ValueError("matmul takes arrays of at least one dimension.")
    row, column = len(x.shape) == 1, len(y.shape) == 1
    x = x[None, :] if row else x
    y = y[:, None] if column else y
    product = _through_int64(tf.linalg.matmul, x, y)
    product = tf.squeeze(product, -2) if row else product
    return tf.squeeze(product, -1) if column else product


def matrix_transpose(x: Array, /) -> Array:
    """Swap the last two axes."""
    return tf.linalg.matrix_transpose(tensor(x, "matrix_transpose"))


def tensordot(x1: Array, x2: Array, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Array:
    """Sum products over pairs of axes: the last and first ``axes`` ones, or those that two sequences name."""
    x, y = tensors("tensordot", x1, x2, kind=_REAL)
    pairs = axes if isinstance(axes, int) else [list(one) for one in axes]
    return _through_int64(lambda a, b: tf.tensordot(a, b, pairs), x, y)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum products along one axis of the broadcast arrays, counted from the last."""
    x, y = broadcast_arrays(*tensors("vecdot", x1, x2, kind=_REAL))
    return tf.math.reduce_sum(x * y, one_axis(axis, len(x.shape)))


def outer(x1: Array, x2: Array, /) -> Array:
    """Return every product of an element of one vector and one of another."""
    x, y = tensors("outer", x1, x2, kind=_REAL)
    return x[:, None] * y[None, :]


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """Return a diagonal of each matrix."""
    x = tensor(x, "diagonal")
    rows, columns = sizes(x)[-2:]
    length = tf.maximum(0, tf.minimum(rows + min(offset, 0), columns - max(offset, 0)))
    index = tf.range(length)
    pairs = tf.stack([index - min(offset, 0), index + max(offset, 0)], axis=1)
    # gather_nd indexes leading axes: bring the two of the matrix there, and the one of the diagonal back.
    rank = len(x.shape)
    found = tf.gather_nd(tf.transpose(x, [rank - 2, rank - 1, *range(rank - 2)]), pairs)
    return tf.transpose(found, [*range(1, rank - 1), 0])


def trace(x: Array, /, *, offset: int = 0, dtype: Dtype = None) -> Array:
    """Add up a diagonal of each matrix; integers in 64 bits unless a ``dtype`` is given."""
    found = diagonal(tensor(x, "trace", _REAL), offset=offset)
    return tf.math.reduce_sum(tf.cast(found, dt.sum_dtype(found.dtype) if dtype is None else dtype), -1)


def vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Array:
    """Return the ``ord``-norm over axes, of all elements where ``axis`` is ``None``."""
    x = tensor(x, "vector_norm", "real floating")
    axes = all_axes(axis, len(x.shape))
    size = tf.math.abs(x)
    if ord == float("inf"):
        return _max(size, axis=axes, keepdims=keepdims)
    if ord == -float("inf"):
        return _min(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return tf.math.reduce_sum(tf.cast(size != 0, x.dtype), axes, keepdims)
    if ord == 1:
        return tf.math.reduce_sum(size, axes, keepdims)
    if ord == 2:
        return tf.math.sqrt(tf.math.reduce_sum(x * x, axes, keepdims))
    return tf.math.reduce_sum(size**ord, axes, keepdims) ** (1.0 / ord)


def det(x: Array, /) -> Array:
    """Return the determinant of each square matrix."""
    return tf.linalg.det(tensor(x, "det", "real floating"))


def inv(x: Array, /) -> Array:
    """Return the inverse of each square matrix."""
    return tf.linalg.inv(tensor(x, "inv", "real floating"))


def solve(x1: Array, x2: Array, /) -> Array:
    """Solve ``x1 @ x = x2``; a 1-D ``x2`` is one right-hand side, otherwise its columns are."""
    a, b = tensors("solve", x1, x2, kind="real floating")
    return tf.squeeze(tf.linalg.solve(a, b[..., None]), -1) if len(b.shape) == 1 else tf.linalg.solve(a, b)
