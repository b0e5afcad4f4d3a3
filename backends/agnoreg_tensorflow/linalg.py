"""Products of vectors and matrices, and the extension ``linalg``."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._dtypes import tensor, tensors
from agnoreg_tensorflow._manipulation import broadcast_arrays
from agnoreg_tensorflow._reductions import max as _max
from agnoreg_tensorflow._reductions import min as _min
from agnoreg_tensorflow._shapes import Axis, all_axes, one_axis, sizes, with_shape

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

Array = Any
Dtype = Any

_INFINITY = float("inf")

# --- products ---------------------------------------------------------------------------------------------------------


def _through_int64(function: Callable[[Array, Array], Array], x: Array, y: Array) -> Array:
    """Multiply small or unsigned integers as int64, which has a kernel: modulo 2 ** n the sign does not count."""
    if not dt.isdtype(x.dtype, "integral") or x.dtype in (tf.int32, tf.int64):
        return function(x, y)
    return tf.cast(function(tf.cast(x, tf.int64), tf.cast(y, tf.int64)), x.dtype)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Multiply matrices: the last two axes, the others broadcast.

    A 1-D array is a row on the left and a column on the right; the axis that it lacks, the result lacks too.
    """
    x, y = tensors("matmul", x1, x2, kind="numeric")
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
    x, y = tensors("tensordot", x1, x2, kind="numeric")
    pairs = axes if isinstance(axes, int) else [list(one) for one in axes]
    return _through_int64(lambda a, b: tf.tensordot(a, b, pairs), x, y)


def vecdot(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Sum products along one axis, counted from the last, ``x1`` conjugated; the other axes broadcast."""
    x, y = tensors("vecdot", x1, x2, kind="numeric")
    _check_sizes("vecdot", x, y, axis)
    x, y = broadcast_arrays(x, y)
    return tf.math.reduce_sum(tf.math.conj(x) * y, one_axis(axis, len(x.shape)))


def outer(x1: Array, x2: Array, /) -> Array:
    """Return every product of an element of one vector and one of another."""
    x, y = tensors("outer", x1, x2, kind="numeric")
    return x[:, None] * y[None, :]


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Return the cross product of vectors of three elements along an axis, counted from the last; others broadcast."""
    x, y = tensors("cross", x1, x2, kind="numeric")
    mine, theirs = _check_sizes("cross", x, y, axis)
    if x.shape[mine] not in (3, None):
        raise ValueError(f"cross needs three elements along axis {axis}, got an array of shape {tuple(x.shape)}.")
    ahead = tf.roll(x, -1, mine) * tf.roll(y, 1, theirs)
    return ahead - tf.roll(x, 1, mine) * tf.roll(y, -1, theirs)


def _check_sizes(name: str, x: Array, y: Array, axis: int) -> list[int]:
    """Return the axis of each array counted from the front; the two must have the same size."""
    axes = [one_axis(axis, len(one.shape)) for one in (x, y)]
    sizes = [one.shape[position] for one, position in zip((x, y), axes, strict=True)]
    if None not in sizes and sizes[0] != sizes[1]:
        raise ValueError(
            f"{name} needs one size along axis {axis}, got the shapes {tuple(x.shape)} and {tuple(y.shape)}."
        )
    return axes


def matrix_power(x: Array, n: int, /) -> Array:
    """Multiply square matrices with themselves; a negative power is one of the inverse."""
    x = tensor(x, "matrix_power", dt.FLOATING)
    if n < 0:
        x, n = tf.linalg.inv(x), -n
    result = None
    while n:
        if n % 2:
            result = x if result is None else tf.linalg.matmul(result, x)
        n //= 2
        x = tf.linalg.matmul(x, x) if n else x
    return tf.eye(sizes(x)[-1], batch_shape=sizes(x)[:-2], dtype=x.dtype) if result is None else result


# --- diagonals --------------------------------------------------------------------------------------------------------


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """Return a diagonal of each matrix."""
    x = tensor(x, "diagonal")
    *stack, rows, columns = sizes(x)
    length = tf.maximum(0, tf.minimum(rows + min(offset, 0), columns - max(offset, 0)))
    # The diagonal of a matrix whose rows are joined to one.
    index = tf.range(length) * (columns + 1) + (offset if offset > 0 else -offset * columns)
    return tf.gather(tf.reshape(x, [*stack, rows * columns]), index, axis=-1)


def trace(x: Array, /, *, offset: int = 0, dtype: Dtype = None) -> Array:
    """Add up a diagonal of each matrix; integers in 64 bits unless a ``dtype`` is given."""
    found = diagonal(tensor(x, "trace", "numeric"), offset=offset)
    return tf.math.reduce_sum(tf.cast(found, dt.sum_dtype(found.dtype) if dtype is None else dtype), -1)


# --- norms ------------------------------------------------------------------------------------------------------------


def vector_norm(x: Array, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Array:
    """Return the ``ord``-norm over axes, of all elements where ``axis`` is ``None``."""
    x = tensor(x, "vector_norm", dt.FLOATING)
    axes = all_axes(axis, len(x.shape))
    size = tf.math.abs(x)
    if ord == _INFINITY:
        return _max(size, axis=axes, keepdims=keepdims)
    if ord == -_INFINITY:
        return _min(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return tf.math.reduce_sum(tf.cast(size != 0, size.dtype), axes, keepdims)
    if ord == 1:
        return tf.math.reduce_sum(size, axes, keepdims)
    if ord == 2:
        return tf.math.sqrt(tf.math.reduce_sum(size * size, axes, keepdims))
    return tf.math.reduce_sum(size**ord, axes, keepdims) ** (1.0 / ord)


def matrix_norm(x: Array, /, *, keepdims: bool = False, ord: float | Literal["fro", "nuc"] | None = "fro") -> Array:
    """Return a norm of each matrix: Frobenius's, the sum of singular values ("nuc") or the extreme one (2, -2), or
    the extreme sum of sizes of a column (1, -1) or of a row (inf, -inf).
    """
    x = tensor(x, "matrix_norm", dt.FLOATING)
    extreme = _min if isinstance(ord, (int, float)) and ord < 0 else _max
    rows, columns = len(x.shape) - 2, len(x.shape) - 1
    if ord in ("fro", None):
        return vector_norm(x, axis=(rows, columns), keepdims=keepdims)
    if ord in (1, -1, _INFINITY, -_INFINITY):
        axis, other = (rows, columns) if ord in (1, -1) else (columns, rows)
        result = extreme(tf.math.reduce_sum(tf.math.abs(x), axis, keepdims=True), axis=other, keepdims=True)
    elif ord in (2, -2):
        result = extreme(svdvals(x), axis=-1, keepdims=True)[..., None]
    elif ord == "nuc":
        result = tf.math.reduce_sum(svdvals(x), -1, keepdims=True)[..., None]
    else:
        raise ValueError(f"matrix_norm knows 'fro', 'nuc', 1, -1, 2, -2, inf and -inf, not {ord!r}.")
    return result if keepdims else tf.squeeze(result, [rows, columns])


# --- square matrices --------------------------------------------------------------------------------------------------


class SlogdetResult(NamedTuple):
    """The sign of a determinant and the logarithm of its size."""

    sign: Array
    logabsdet: Array


class EighResult(NamedTuple):
    """The eigenvalues of a Hermitian matrix, ascending, and its eigenvectors as columns."""

    eigenvalues: Array
    eigenvectors: Array


def det(x: Array, /) -> Array:
    """Return the determinant of each square matrix."""
    return tf.linalg.det(tensor(x, "det", dt.FLOATING))


def slogdet(x: Array, /) -> SlogdetResult:
    """Return the sign of each determinant and the logarithm of its size."""
    sign, size = tf.linalg.slogdet(tensor(x, "slogdet", dt.FLOATING))
    return SlogdetResult(sign, tf.math.real(size))


def inv(x: Array, /) -> Array:
    """Return the inverse of each square matrix."""
    return tf.linalg.inv(tensor(x, "inv", dt.FLOATING))


def solve(x1: Array, x2: Array, /) -> Array:
    """Solve ``x1 @ x = x2``; a 1-D ``x2`` is one right-hand side, otherwise its columns are, and stacks broadcast."""
    a, b = tensors("solve", x1, x2, kind=dt.FLOATING)
    vector = len(b.shape) == 1
    b = b[:, None] if vector else b
    if a.shape[:-2].as_list() != b.shape[:-2].as_list():
        stack = tf.broadcast_dynamic_shape(tf.shape(a)[:-2], tf.shape(b)[:-2])
        static = tf.broadcast_static_shape(a.shape[:-2], b.shape[:-2])
        a, b = (
            with_shape(tf.broadcast_to(one, tf.concat([stack, tf.shape(one)[-2:]], 0)), static + one.shape[-2:])
            for one in (a, b)
        )
    x = tf.linalg.solve(a, b)
    return tf.squeeze(x, -1) if vector else x


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """Return the lower triangular ``L`` of each ``x = L @ L^H``, or the upper one, ``L^H``."""
    lower = tf.linalg.cholesky(tensor(x, "cholesky", dt.FLOATING))
    return tf.linalg.adjoint(lower) if upper else lower


def eigh(x: Array, /) -> EighResult:
    """Return eigenvalues and eigenvectors of each Hermitian matrix, of which the lower triangle is read."""
    values, vectors = tf.linalg.eigh(tensor(x, "eigh", dt.FLOATING))
    return EighResult(tf.math.real(values), vectors)


def eigvalsh(x: Array, /) -> Array:
    """Return the eigenvalues of each Hermitian matrix, ascending."""
    return tf.math.real(tf.linalg.eigvalsh(tensor(x, "eigvalsh", dt.FLOATING)))


# --- matrices of any shape --------------------------------------------------------------------------------------------


class QRResult(NamedTuple):
    """A matrix with orthonormal columns and an upper triangular one."""

    Q: Array
    R: Array


class SVDResult(NamedTuple):
    """Left singular vectors as columns, singular values, descending, and right singular vectors as conjugate rows."""

    U: Array
    S: Array
    Vh: Array


def qr(x: Array, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """Return ``Q`` and ``R`` of each ``x = Q @ R``, with the square ``Q`` where ``mode`` is "complete"."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"mode must be 'reduced' or 'complete', got {mode!r}.")
    x = tensor(x, "qr", dt.FLOATING)
    # The kernel squares the elements, which overflow from the root of the largest number on.
    size = tf.math.maximum(tf.math.reduce_max(tf.math.abs(x), [-2, -1], keepdims=True), 1)
    size = tf.cast(tf.stop_gradient(tf.where(tf.math.is_finite(size), size, tf.ones_like(size))), x.dtype)
    q, r = tf.linalg.qr(x / size, full_matrices=mode == "complete")
    return QRResult(q, r * size)


def svd(x: Array, /, *, full_matrices: bool = True) -> SVDResult:
    """Return the singular value decomposition ``U @ diag(S) @ Vh`` of each matrix."""
    values, left, right = tf.linalg.svd(tensor(x, "svd", dt.FLOATING), full_matrices=full_matrices)
    return SVDResult(left, values, tf.linalg.adjoint(right))


def svdvals(x: Array, /) -> Array:
    """Return the singular values of each matrix, descending."""
    return tf.linalg.svd(tensor(x, "svdvals", dt.FLOATING), compute_uv=False)


def _least(x: Array, values: Array, rtol: Any) -> Array:
    """Return the size up to which a singular value counts as zero: ``rtol``, which may be an array, of the largest."""
    if rtol is None:
        rtol = dt.finfo(x.dtype).eps * tf.cast(tf.maximum(*sizes(x)[-2:]), values.dtype)
    rtol = rtol if dt.is_scalar(rtol) else tf.cast(rtol, values.dtype)[..., None]
    # The largest of none is none.
    return rtol * values[..., :1]


def matrix_rank(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Count the singular values above ``rtol`` times the largest; by default, above what rounding makes."""
    x = tensor(x, "matrix_rank", dt.FLOATING)
    values = svdvals(x)
    return tf.math.reduce_sum(tf.cast(values > _least(x, values, rtol), dt.DEFAULT_INT), -1)


def pinv(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Return the Moore-Penrose inverse, of singular values above ``rtol`` times the largest."""
    x = tensor(x, "pinv", dt.FLOATING)
    left, values, right = svd(x, full_matrices=False)
    kept = values > _least(x, values, rtol)
    inverses = tf.where(kept, 1 / tf.where(kept, values, tf.ones_like(values)), tf.zeros_like(values))
    return tf.linalg.matmul(tf.linalg.adjoint(right) * tf.cast(inverses, x.dtype)[..., None, :], left, adjoint_b=True)
