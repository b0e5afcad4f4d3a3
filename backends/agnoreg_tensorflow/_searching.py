"""Choosing, indexing, sorting and sets."""

from typing import Any, NamedTuple

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._dtypes import tensor, tensors
from agnoreg_tensorflow._manipulation import broadcast_to
from agnoreg_tensorflow._shapes import one_axis, sizes

__all__ = [
    "argmax",
    "argmin",
    "argsort",
    "nonzero",
    "searchsorted",
    "sort",
    "take",
    "take_along_axis",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "where",
]

Array = Any

_REAL = dt.REAL


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """Choose from ``x1`` where ``condition`` is true, else from ``x2``; one of them may be a number."""
    return tf.where(tensor(condition, "where", "bool"), *tensors("where", x1, x2))


def nonzero(x: Array, /) -> tuple[Array, ...]:
    """Return the indices of the elements that are not zero, one array an axis."""
    x = tensor(x, "nonzero")
    return tuple(tf.unstack(tf.where(dt.truth(x)), num=len(x.shape), axis=1))


def _arg_extreme(name: str, x: Array, axis: int | None, keepdims: bool) -> Array:
    x = tensor(x, name, _REAL)
    function = getattr(tf.math, name)
    rank = len(x.shape)
    if axis is None:
        found = function(tf.reshape(x, [-1]), axis=0, output_type=dt.DEFAULT_INT)
        return tf.reshape(found, [1] * rank) if keepdims else found
    axis = one_axis(axis, rank)
    if rank > 7:
        # The kernels end there.
        others = [one for one in range(rank) if one != axis]
        rows = tf.reshape(tf.transpose(x, [*others, axis]), [-1, sizes(x)[axis]])
        found = tf.reshape(function(rows, axis=1, output_type=dt.DEFAULT_INT), [sizes(x)[one] for one in others])
    else:
        found = function(x, axis=axis, output_type=dt.DEFAULT_INT)
    return tf.expand_dims(found, axis) if keepdims else found


def argmax(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Return the index of the first largest element, of the flattened array where ``axis`` is ``None``."""
    return _arg_extreme("argmax", x, axis, keepdims)


def argmin(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
    """Return the index of the first smallest element, of the flattened array where ``axis`` is ``None``."""
    return _arg_extreme("argmin", x, axis, keepdims)


# --- indexing ---------------------------------------------------------------------------------------------------------


def _from_front(indices: Array, size: Any) -> Array:
    """Count negative indices from the front: gather takes none."""
    if dt.isdtype(indices.dtype, "unsigned integer"):
        return tf.cast(indices, tf.int64)
    return tf.where(indices < 0, indices + tf.cast(size, indices.dtype), indices)


def _gatherable(name: str, indices: Array) -> Array:
    indices = tensor(indices, name, "integral")
    return indices if indices.dtype in (tf.int32, tf.int64) else tf.cast(indices, tf.int64)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Return the planes that 1-D ``indices`` name along an axis."""
    x = tensor(x, "take")
    if axis is None and len(x.shape) != 1:
        raise ValueError(f"take needs an axis for an array of {len(x.shape)} dimensions.")
    axis = one_axis(axis or 0, len(x.shape))
    return tf.gather(x, _from_front(_gatherable("take", indices), sizes(x)[axis]), axis=axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Return, for every position of ``indices``, the element along ``axis`` that it names; other axes broadcast."""
    x, indices = tensor(x, "take_along_axis"), _gatherable("take_along_axis", indices)
    rank = len(x.shape)
    if len(indices.shape) != rank:
        raise ValueError(
            f"take_along_axis needs indices of the array's number of dimensions, got {x.shape} and {indices.shape}."
        )
    axis = one_axis(axis, rank)
    indices = _from_front(indices, sizes(x)[axis])
    mine, theirs = sizes(x), sizes(indices)
    # What the two have in common off the axis; there, each keeps its own size.
    common: list[Any] = [theirs[one] if x.shape[one] == 1 else mine[one] for one in range(rank)]
    common[axis] = None
    x, indices = broadcast_to(x, common), broadcast_to(indices, common)
    order = [one for one in range(rank) if one != axis] + [axis]
    back = [order.index(one) for one in range(rank)]
    found = tf.gather(tf.transpose(x, order), tf.transpose(indices, order), axis=rank - 1, batch_dims=rank - 1)
    return tf.transpose(found, back)


# --- sorting ----------------------------------------------------------------------------------------------------------


def argsort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Return the indices that sort ``x``. NaN counts as the largest; equal elements keep their order."""
    x = tensor(x, "argsort", _REAL)
    axis = one_axis(axis, len(x.shape))
    direction = "DESCENDING" if descending else "ASCENDING"
    if dt.isdtype(x.dtype, "integral"):
        return tf.cast(tf.argsort(x, axis, direction, stable=True), dt.DEFAULT_INT)
    # NaN upsets TensorFlow's sort: sort without it, then bring it to its end by a second stable sort.
    nan = tf.math.is_nan(x)
    order = tf.argsort(tf.where(nan, tf.zeros_like(x), x), axis, direction, stable=True)
    moved = tf.cast(take_along_axis(nan, order, axis=axis), tf.int32)
    last = tf.argsort(moved, axis, direction, stable=True)
    return tf.cast(take_along_axis(order, last, axis=axis), dt.DEFAULT_INT)


def sort(x: Array, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    """Sort. NaN counts as the largest."""
    order = argsort(x, axis=axis, descending=descending, stable=stable)
    return take_along_axis(x, order, axis=axis)


def searchsorted(x1: Array, x2: Array, /, *, side: str = "left", sorter: Array | None = None) -> Array:
    """Return where in the sorted 1-D ``x1`` each element of ``x2`` would be inserted to keep it sorted."""
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}.")
    x1, x2 = tensors("searchsorted", x1, x2, kind=_REAL)
    if sorter is not None:
        x1 = take(x1, sorter)
    flat = tf.searchsorted(x1, tf.reshape(x2, [-1]), side=side, out_type=dt.DEFAULT_INT)
    return tf.reshape(flat, sizes(x2))


# --- sets -------------------------------------------------------------------------------------------------------------


class UniqueAll(NamedTuple):
    """The distinct values, where each is found first, where each element is among them, and how often they come."""

    values: Array
    indices: Array
    inverse_indices: Array
    counts: Array


class UniqueCounts(NamedTuple):
    """The distinct values and how often they come."""

    values: Array
    counts: Array


class UniqueInverse(NamedTuple):
    """The distinct values, and where each element is among them."""

    values: Array
    inverse_indices: Array


def _order(x: Array) -> Array:
    """Return the indices that sort 1-D ``x`` of any dtype stably; complex numbers by their real part first."""
    if x.dtype == tf.bool:
        return argsort(tf.cast(x, tf.uint8))
    if not dt.isdtype(x.dtype, "complex floating"):
        return argsort(x)
    order = argsort(tf.math.imag(x))
    return tf.gather(order, argsort(tf.gather(tf.math.real(x), order)))


def unique_all(x: Array, /) -> UniqueAll:
    """Return the distinct values in ascending order; every NaN counts as one of its own, zeros of both signs as one."""
    x = tensor(x, "unique_all")
    flat = tf.reshape(x, [-1])
    order = _order(flat)
    ordered = tf.gather(flat, order)
    first = tf.concat([tf.ones_like(ordered[:1], tf.bool), ordered[1:] != ordered[:-1]], axis=0)
    # The number of each sorted element's value, from 0; a stable sort begins with the first of equal elements.
    number = tf.cumsum(tf.cast(first, dt.DEFAULT_INT)) - 1
    inverse = tf.scatter_nd(order[:, None], number, tf.shape(flat, out_type=dt.DEFAULT_INT))
    starts = tf.reshape(tf.where(first), [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(number), number, tf.size(starts))
    return UniqueAll(tf.gather(ordered, starts), tf.gather(order, starts), tf.reshape(inverse, sizes(x)), counts)


def unique_counts(x: Array, /) -> UniqueCounts:
    """Return the distinct values and how often they come, as ``unique_all`` does."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Array, /) -> UniqueInverse:
    """Return the distinct values and where each element is among them, as ``unique_all`` does."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Array, /) -> Array:
    """Return the distinct values, as ``unique_all`` does."""
    return unique_all(x).values
