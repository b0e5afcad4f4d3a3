"""Creation functions, ``asarray`` and ``astype``."""

import ctypes
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._devices import device_name, device_of, placed
from agnoreg_tensorflow._shapes import as_shape, sizes, with_shape

__all__ = [
    "arange",
    "asarray",
    "astype",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
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


#: The types of Python numbers, each with the kinds of dtypes that hold them, its default dtype and its widest.
_NUMBERS: dict[type, tuple[Any, Dtype, Dtype]] = {
    bool: ("bool", tf.bool, tf.bool),
    int: ("numeric", dt.DEFAULT_INT, tf.int64),
    float: (dt.FLOATING, dt.DEFAULT_FLOAT, tf.float64),
    complex: ("complex floating", dt.DEFAULT_COMPLEX, tf.complex128),
}


def _nested(obj: Any, kind: Callable[[Any], Any]) -> Any:
    """Return nested sequences of numbers of one type."""
    return [_nested(item, kind) for item in obj] if isinstance(obj, (list, tuple)) else kind(obj)


def _from_python(obj: Any, dtype: Dtype) -> Array:
    """Return what is no tensor as one: a Python number, sequences, a NumPy array."""
    kinds = {type(leaf) for leaf in _leaves(obj)}
    if not kinds <= _NUMBERS.keys():
        # A NumPy scalar would come from TensorFlow's memory of scalars, in which 0.0 is -0.0.
        scalar = getattr(obj, "shape", None) == ()
        x = tf.reshape(tf.convert_to_tensor([obj]), []) if scalar else tf.convert_to_tensor(obj)
        return x if dtype is None else dt.cast(x, dtype)
    kind = next((kind for kind in reversed(_NUMBERS) if kind in kinds), float)
    holding, default, widest = _NUMBERS[kind]
    # Python numbers straight to their dtype: by way of float32 they would lose digits.
    target = default if dtype is None else dtype if dt.isdtype(dtype, holding) else widest
    if dt.is_scalar(obj):
        x = dt.scalar(obj, target)
    else:
        # TensorFlow takes few mixtures of types.
        x = tf.convert_to_tensor(_nested(obj, kind) if len(kinds) > 1 else obj, target)
    return x if dtype is None else dt.cast(x, dtype)


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
                x = dt.cast(x, dtype)
            return tf.identity(x) if device and device_of(x) is not None else x
    if copy is False:
        raise ValueError(f"asarray cannot turn a {type(obj).__name__} into a tensor without a copy.")
    with placed(device):
        return _from_python(obj, dtype)


def astype(x: Array, dtype: Dtype, /, *, copy: bool = True, device: Any = None) -> Array:
    """Cast ``x``; a tensor never changes, so that one of that dtype is returned as it is, ``copy`` or not."""
    x = dt.tensor(x, "astype")
    if device:
        x = asarray(x, device=device)
    return x if x.dtype is dtype else dt.cast(x, dtype)


class _Header(ctypes.Structure):
    """How DLPack describes data, as far as it is read here."""

    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("dimensions", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    ]


def _aligned(capsule: Any) -> bool:
    """Return whether TensorFlow can compute with DLPack's data where they are.

    On a CPU its kernels take memory that begins at a multiple of 64 bytes, and abort the process at any other, which it
    takes by DLPack without a word. NumPy's arrays seldom begin there.
    """
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    header = _Header.from_address(pointer(capsule, b"dltensor"))
    on_cpu = header.device_type == 1
    return not on_cpu or ((header.data or 0) + header.byte_offset) % 64 == 0


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Array:
    """Return the data of an array of any library that offers them by DLPack, without a copy where that can be.

    Raises
    ------
    BufferError
        If the data are not contiguous; or if ``copy=False`` and they live on another device than the one named, or
        begin at an address that TensorFlow cannot compute at.
    """
    capsule = x.__dlpack__()
    aligned = _aligned(capsule)
    try:
        there = tf.experimental.dlpack.from_dlpack(capsule)
    except tf.errors.InvalidArgumentError as error:
        raise BufferError(f"TensorFlow takes contiguous data of its own dtypes by DLPack: {error.message}") from error
    moved = bool(device) and device_of(there) != device_name(str(device))
    if copy is False and (moved or not aligned):
        reason = f"from {device_of(there)} to {device}" if moved else "to an address that is a multiple of 64"
        raise BufferError(f"from_dlpack cannot move the data {reason} without a copy.")
    if not aligned:
        there = tf.convert_to_tensor(there.numpy())
    elif copy and not moved:
        # The memory is the other array's, and may change. A roll, even one by nothing, writes to memory of its own.
        there = tf.reshape(tf.roll(tf.reshape(there, [-1]), 0, 0), there.shape)
    with placed(device):
        return tf.identity(there) if moved else there


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


def _wrapped(value: int) -> Array:
    """Return an integer modulo ``2 ** 64`` as int64, for numbers beyond int64 that uint64 holds."""
    return tf.constant((value + 2**63) % 2**64 - 2**63, tf.int64)


def _steps(start: Any, step: Any, count: int, dtype: Dtype) -> Array:
    """Return ``start + step * [0, 1, ..., count - 1]``, computed in 64 bits (each part of complex numbers)."""
    index = tf.range(count, dtype=tf.int64)
    if isinstance(start, int) and isinstance(step, int):
        return tf.cast(_wrapped(start) + _wrapped(step) * index, dtype)
    if isinstance(start, complex) or isinstance(step, complex):
        start, step = complex(start), complex(step)
        parts = (_steps(a, b, count, tf.float64) for a, b in ((start.real, step.real), (start.imag, step.imag)))
        return tf.cast(tf.complex(*parts), dtype)
    return tf.cast(dt.scalar(start, tf.float64) + dt.scalar(step, tf.float64) * tf.cast(index, tf.float64), dtype)


def arange(
    start: float, /, stop: float | None = None, step: float = 1, *, dtype: Dtype = None, device: Any = None
) -> Array:
    """Return the numbers from ``start`` to ``stop``, ``stop`` excluded, ``step`` apart (Python numbers)."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise ValueError("arange needs a step that is not zero.")
    # Integers are divided as integers: they may have more digits than a float.
    whole = all(isinstance(value, int) for value in (start, stop, step))
    count = max(0, int(-((start - stop) // step)) if whole else math.ceil((stop - start) / step))
    with placed(device):
        return _steps(start, step, count, (dt.DEFAULT_INT if whole else dt.DEFAULT_FLOAT) if dtype is None else dtype)


def linspace(
    start: complex,
    stop: complex,
    /,
    num: int,
    *,
    dtype: Dtype = None,
    device: Any = None,
    endpoint: bool = True,
) -> Array:
    """Return ``num`` evenly spaced numbers from ``start`` to ``stop`` (Python numbers), both exact."""
    if dtype is None:
        dtype = dt.DEFAULT_COMPLEX if isinstance(start, complex) or isinstance(stop, complex) else dt.DEFAULT_FLOAT
    step = (stop - start) / max(num - 1 if endpoint else num, 1)
    with placed(device):
        if not endpoint or num < 2:
            return _steps(start * 1.0, step, num, dtype)
        # The last one is stated, not added up.
        return tf.concat([_steps(start * 1.0, step, num - 1, dtype), asarray([stop], dtype=dtype)], axis=0)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Dtype = None, device: Any = None) -> Array:
    """Return a matrix with ones on its ``k``-th diagonal and zeros elsewhere."""
    columns = n_rows if n_cols is None else n_cols
    k = min(max(k, -n_rows), columns)
    with placed(device):
        on_diagonal = tf.range(n_rows)[:, None] + k == tf.range(columns)[None, :]
        return tf.cast(on_diagonal, dt.DEFAULT_FLOAT if dtype is None else dtype)


def meshgrid(*arrays: Array, indexing: str = "xy") -> list[Array]:
    """Return the coordinate arrays of a grid, from one 1-D array an axis."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing must be 'xy' or 'ij', got {indexing!r}.")
    found = [tf.reshape(x, [-1]) for x in dt.tensors("meshgrid", *arrays)] if arrays else []
    lengths = [sizes(x)[0] for x in found]
    grid = [tf.reshape(x, [1] * i + [-1] + [1] * (len(found) - i - 1)) for i, x in enumerate(found)]
    grid = [tf.broadcast_to(x, lengths) for x in grid]
    if indexing == "xy" and len(grid) > 1:
        order = [1, 0, *range(2, len(grid))]
        grid = [tf.transpose(x, order) for x in grid]
    return grid


def _triangle(name: str, x: Array, lower: bool, k: int) -> Array:
    x = dt.tensor(x, name)
    rows, columns = tf.shape(x)[-2], tf.shape(x)[-1]
    k = min(max(k, tf.int32.min), tf.int32.max)
    offset = tf.range(columns)[None, :] - tf.range(rows)[:, None]
    return tf.where(offset <= k if lower else offset >= k, x, tf.zeros_like(x))


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Return the matrices ``x`` with zeros above their ``k``-th diagonal."""
    return _triangle("tril", x, True, k)


def triu(x: Array, /, *, k: int = 0) -> Array:
    """Return the matrices ``x`` with zeros below their ``k``-th diagonal."""
    return _triangle("triu", x, False, k)
