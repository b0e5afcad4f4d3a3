"""Reductions and cumulative sums."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._dtypes import tensor, tensors
from agnoreg_tensorflow._shapes import Axis, all_axes, one_axis, size

__all__ = [
    "all",
    "any",
    "count_nonzero",
    "cumulative_prod",
    "cumulative_sum",
    "diff",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
]

Array = Any
Dtype = Any

_REAL = dt.REAL
_ADDABLE = ("bool", "numeric")


def sum(x: Array, /, *, axis: Axis = None, dtype: Dtype = None, keepdims: bool = False) -> Array:
    """Add up; bool and integers are added up in 64 bits unless a ``dtype`` is given."""
    x = tensor(x, "sum", _ADDABLE)
    x = tf.cast(x, dt.sum_dtype(x.dtype) if dtype is None else dtype)
    return tf.math.reduce_sum(x, all_axes(axis, len(x.shape)), keepdims)


def prod(x: Array, /, *, axis: Axis = None, dtype: Dtype = None, keepdims: bool = False) -> Array:
    """Multiply; bool and integers are multiplied in 64 bits unless a ``dtype`` is given."""
    x = tensor(x, "prod", _ADDABLE)
    x = tf.cast(x, dt.sum_dtype(x.dtype) if dtype is None else dtype)
    return tf.math.reduce_prod(x, all_axes(axis, len(x.shape)), keepdims)


def mean(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return the arithmetic mean of floating-point numbers."""
    x = tensor(x, "mean", dt.FLOATING)
    return tf.math.reduce_mean(x, all_axes(axis, len(x.shape)), keepdims)


def var(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """Return the variance: the sum of squared deviations over ``n - correction``."""
    x = tensor(x, "var", "real floating")
    axes = all_axes(axis, len(x.shape))
    deviation = x - tf.math.reduce_mean(x, axes, keepdims=True)
    population = tf.math.reduce_mean(deviation * deviation, axes, keepdims)
    if correction == 0:
        return population
    count = size(x, axes, tf.float64)  # half precision ends at 65504
    return population * tf.cast(count / (count - correction), x.dtype)


def std(x: Array, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Array:
    """Return the square root of ``var``."""
    x = tensor(x, "std", "real floating")
    return tf.math.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _extreme(name: str, function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
        x = tensor(x, name, _REAL)
        axes = all_axes(axis, len(x.shape))
        result = function(x, axes, keepdims)
        if tf.executing_eagerly() or dt.isdtype(x.dtype, "integral"):
            return result
        # XLA loses the NaN on a CPU; TensorFlow's own kernels keep it.
        found = tf.math.reduce_any(tf.math.is_nan(x), axes, keepdims)
        return tf.where(found, tf.constant(float("nan"), x.dtype), result)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"Return the {name}imum; NaN where one of the elements is."
    return apply


min = _extreme("min", tf.math.reduce_min)
max = _extreme("max", tf.math.reduce_max)


def all(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return whether all elements are true (or not zero)."""
    x = tensor(x, "all")
    return tf.math.reduce_all(dt.truth(x), all_axes(axis, len(x.shape)), keepdims)


def any(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Return whether any element is true (or not zero)."""
    x = tensor(x, "any")
    return tf.math.reduce_any(dt.truth(x), all_axes(axis, len(x.shape)), keepdims)


def count_nonzero(x: Array, /, *, axis: Axis = None, keepdims: bool = False) -> Array:
    """Count the elements that are not zero."""
    x = tensor(x, "count_nonzero")
    return tf.math.reduce_sum(tf.cast(dt.truth(x), dt.DEFAULT_INT), all_axes(axis, len(x.shape)), keepdims)


def _cumulative(name: str, scan: Callable[..., Array], like: Callable[..., Array]) -> Callable[..., Array]:
    def apply(x: Array, /, *, axis: int | None = None, dtype: Dtype = None, include_initial: bool = False) -> Array:
        x = tensor(x, name, _ADDABLE)
        rank = len(x.shape)
        if axis is None and rank != 1:
            raise ValueError(f"{name} needs an axis for an array of {rank} dimensions.")
        axis = one_axis(axis or 0, rank)
        x = tf.cast(x, dt.sum_dtype(x.dtype) if dtype is None else dtype)
        result = scan(x, axis)
        if not include_initial:
            return result
        # The empty sum (product) of a plane, which x may have none of.
        shape = tf.concat([tf.shape(x)[:axis], [1], tf.shape(x)[axis + 1 :]], axis=0)
        first = tf.ensure_shape(like(shape, x.dtype), [*x.shape[:axis], 1, *x.shape[axis + 1 :]])
        return tf.concat([first, result], axis)

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = "Scan along ``axis``; bool and integers in 64 bits unless a ``dtype`` is given."
    return apply


def diff(
    x: Array, /, *, axis: int = -1, n: int = 1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    """Return the ``n``-th differences along ``axis`` of ``x`` between what is prepended and appended to it."""
    joined = [y for y in (prepend, x, append) if y is not None]
    x = tensors("diff", *joined, kind="numeric")
    axis = one_axis(axis, len(x[0].shape))
    x = tf.concat(x, axis)
    for _ in range(n):
        before = [slice(None)] * axis + [slice(None, -1)]
        after = [slice(None)] * axis + [slice(1, None)]
        x = x[tuple(after)] - x[tuple(before)]
    return x


cumulative_sum = _cumulative("cumulative_sum", tf.math.cumsum, tf.zeros)
cumulative_prod = _cumulative("cumulative_prod", tf.math.cumprod, tf.ones)
