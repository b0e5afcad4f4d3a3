"""Creation functions, ``asarray`` and ``astype``."""

import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._devices import device_of, placed
from agnoreg_tensorflow._shapes import as_shape, with_shape

__all__ = [
    "arange",
    "asarray",
    "astype",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]

Array = Any
Dtype = Any


def _leaves(obj: Any) -> Iterator[Any]:
    if isinstance(obj, (list, tuple)):
        for item in obj:
            yield from _leaves(item)
    else:
        yield obj


def _default_dtype(obj: Any) -> Dtype | None:
    """Return the dtype of a Python number or of nested sequences of them; ``None`` where anything else is inside."""
    kinds = {type(leaf) for leaf in _leaves(obj)}
    if kinds == {bool}:
        return tf.bool
    if kinds and kinds <= {bool, int}:
        return dt.DEFAULT_INT
    return dt.DEFAULT_FLOAT if kinds <= {bool, int, float} else None


def asarray(obj: Any, /, *, dtype: Dtype = None, device: Any = None, copy: bool | None = None) -> Array:
    """Turn a Python number, a nested sequence, a NumPy array, a tensor or a variable into a tensor.

    A tensor never changes, so that ``copy=True`` of one returns it as it is; whatever else is always copied, and
    ``copy=False`` of it is an error.
    """
    if tf.is_tensor(obj):
        x = tf.convert_to_tensor(obj)
        with placed(device):
            if dtype is not None and x.dtype != dtype:
                if copy is False:
                    raise ValueError(f"asarray cannot turn {x.dtype.name} into {dtype.name} without a copy.")
                x = tf.cast(x, dtype)
            return tf.identity(x) if device and device_of(x) is not None else x
    if copy is False:
        raise ValueError(f"asarray cannot turn a {type(obj).__name__} into a tensor without a copy.")
    default = _default_dtype(obj)
    with placed(device):
        if dtype is None or default is None or dtype == tf.bool:
            x = tf.convert_to_tensor(obj, default)
            return x if dtype is None or x.dtype == dtype else tf.cast(x, dtype)
        # Python numbers straight to their dtype: by way of float32 they would lose digits.
        return tf.convert_to_tensor(obj, dtype)


def astype(x: Array, dtype: Dtype, /, *, copy: bool = True, device: Any = None) -> Array:
    """Cast ``x``; a tensor never changes, so that one of that dtype is returned as it is, ``copy`` or not."""
    x = dt.tensor(x, "astype")
    if device:
        x = asarray(x, device=device)
    return x if x.dtype == dtype else tf.cast(x, dtype)


def full(shape: Any, fill_value: Any, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return an array of ``shape`` filled with ``fill_value``, whose dtype it takes unless one is given."""
    with placed(device):
        return tf.fill(as_shape(shape), asarray(fill_value, dtype=dtype))


def zeros(shape: Any, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return zeros, of float32 unless a dtype is given."""
    with placed(device):
        return tf.zeros(as_shape(shape), dt.DEFAULT_FLOAT if dtype is None else dtype)


def ones(shape: Any, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return ones, of float32 unless a dtype is given."""
    with placed(device):
        return tf.ones(as_shape(shape), dt.DEFAULT_FLOAT if dtype is None else dtype)


empty = zeros


def zeros_like(x: Array, /, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return zeros of the shape of ``x``, of its dtype unless another is given."""
    with placed(device):
        return tf.zeros_like(dt.tensor(x, "zeros_like"), dtype)


def ones_like(x: Array, /, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return ones of the shape of ``x``, of its dtype unless another is given."""
    with placed(device):
        return tf.ones_like(dt.tensor(x, "ones_like"), dtype)


empty_like = zeros_like


def full_like(x: Array, /, fill_value: Any, *, dtype: Dtype = None, device: Any = None) -> Array:
    """Return an array of the shape of ``x`` filled with ``fill_value``, of its dtype unless another is given."""
    x = dt.tensor(x, "full_like")
    with placed(device):
        return with_shape(tf.fill(tf.shape(x), asarray(fill_value, dtype=x.dtype if dtype is None else dtype)), x.shape)


def _range_dtype(dtype: Dtype, *values: Any) -> Dtype:
    if dtype is not None:
        return dtype
    return dt.DEFAULT_INT if all(isinstance(value, int) for value in values) else dt.DEFAULT_FLOAT


def _steps(start: Any, step: Any, count: int, dtype: Dtype) -> Array:
    """Return ``start + step * [0, 1, ..., count - 1]``, computed in 64 bits."""
    wide = tf.int64 if isinstance(start, int) and isinstance(step, int) else tf.float64
    values = tf.constant(start, wide) + tf.constant(step, wide) * tf.cast(tf.range(count, dtype=tf.int64), wide)
    return tf.cast(values, dtype)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Dtype = None, device: Any = None
) -> Array:
    """Return the numbers from ``start`` to ``stop``, ``stop`` excluded, ``step`` apart (Python numbers)."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ValueError("arange needs a step that is not zero.")
    count = max(0, math.ceil((stop - start) / step))
    with placed(device):
        return _steps(start, step, count, _range_dtype(dtype, start, stop, step))


def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Dtype = None,
    device: Any = None,
    endpoint: bool = True,
) -> Array:
    """Return ``num`` evenly spaced numbers from ``start`` to ``stop`` (Python numbers), both exact."""
    dtype = dt.DEFAULT_FLOAT if dtype is None else dtype
    intervals = num - 1 if endpoint else num
    with placed(device):
        if not endpoint or num < 2:
            return _steps(float(start), (stop - start) / max(intervals, 1), num, dtype)
        # The last one is stated, not added up.
        inner = _steps(float(start), (stop - start) / intervals, num - 1, dtype)
        return tf.concat([inner, tf.cast(tf.constant([stop], tf.float64), dtype)], axis=0)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Dtype = None, device: Any = None) -> Array:
    """Return a matrix with ones on its ``k``-th diagonal and zeros elsewhere."""
    columns = n_rows if n_cols is None else n_cols
    with placed(device):
        on_diagonal = tf.range(n_rows)[:, None] + k == tf.range(columns)[None, :]
        return tf.cast(on_diagonal, dt.DEFAULT_FLOAT if dtype is None else dtype)


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Return the coordinate arrays of a grid, from one 1-D array an axis."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing must be 'xy' or 'ij', got {indexing!r}.")
    if not arrays:
        return []
    return list(tf.meshgrid(*dt.tensors("meshgrid", *arrays), indexing=indexing))


def _triangle(name: str, x: Array, lower: bool, k: int) -> Array:
    x = dt.tensor(x, name)
    rows, columns = tf.shape(x)[-2], tf.shape(x)[-1]
    offset = tf.range(columns)[None, :] - tf.range(rows)[:, None]
    return tf.where(offset <= k if lower else offset >= k, x, tf.zeros_like(x))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Return the matrices ``x`` with zeros above their ``k``-th diagonal."""
    return _triangle("tril", x, True, k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """Return the matrices ``x`` with zeros below their ``k``-th diagonal."""
    return _triangle("triu", x, False, k)
