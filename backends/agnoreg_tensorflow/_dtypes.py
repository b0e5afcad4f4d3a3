"""Dtypes: their kinds, their limits and their promotion, and how arguments become tensors of one dtype."""

import builtins
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import tensorflow as tf

__all__ = [
    "bfloat16",
    "bool",
    "can_cast",
    "finfo",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "result_type",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]

Array = Any
Dtype = Any

bool = tf.bool
int8, int16, int32, int64 = tf.int8, tf.int16, tf.int32, tf.int64
uint8, uint16, uint32, uint64 = tf.uint8, tf.uint16, tf.uint32, tf.uint64
float16, bfloat16, float32, float64 = tf.float16, tf.bfloat16, tf.float32, tf.float64

_SIGNED = (int8, int16, int32, int64)
_UNSIGNED = (uint8, uint16, uint32, uint64)
_REAL = (float16, bfloat16, float32, float64)
# No function here takes complex numbers. isdtype knows them, so that a caller can say so.
_COMPLEX = (tf.complex64, tf.complex128)
_KINDS: dict[str, tuple[Dtype, ...]] = {
    "bool": (bool,),
    "signed integer": _SIGNED,
    "unsigned integer": _UNSIGNED,
    "integral": _SIGNED + _UNSIGNED,
    "real floating": _REAL,
    "complex floating": _COMPLEX,
    "numeric": _SIGNED + _UNSIGNED + _REAL + _COMPLEX,
}

#: The dtype of a Python float, as everywhere in TensorFlow.
DEFAULT_FLOAT = float32
#: The dtype of a Python integer, of an index and of a sum of smaller integers. TensorFlow alone would take int32.
DEFAULT_INT = int64
DEFAULT_UINT = uint64

_FLOAT_BITS = {float16: (5, 10), bfloat16: (8, 7), float32: (8, 23), float64: (11, 52)}  # exponent, fraction


# --- what the standard asks of dtypes ---------------------------------------------------------------------------------


def isdtype(dtype: Dtype, kind: Dtype | str | tuple[Dtype | str, ...]) -> builtins.bool:
    """Say whether ``dtype`` is of a kind: a dtype, a kind's name or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"Unknown kind of dtype {kind!r}: the kinds are {', '.join(_KINDS)}.")
        return dtype in _KINDS[kind]
    return dtype == kind


@lru_cache(maxsize=1024)
def _promote(a: Dtype, b: Dtype) -> Dtype:
    if a == b:
        return a
    if a in _REAL and b in _REAL:
        # The two half precisions do not contain each other.
        return float32 if a.size == b.size else max(a, b, key=lambda dtype: dtype.size)
    for family in (_SIGNED, _UNSIGNED):
        if a in family and b in family:
            return max(a, b, key=lambda dtype: dtype.size)
    if isdtype(a, "integral") and isdtype(b, "integral"):
        signed, unsigned = (a, b) if a in _SIGNED else (b, a)
        if signed.size > unsigned.size:
            return signed
        if unsigned != uint64:
            return _SIGNED[_UNSIGNED.index(unsigned) + 1]
    raise TypeError(f"There is no common dtype of {a.name} and {b.name}: cast one of them with astype.")


def _check_scalar(value: Any, dtype: Dtype) -> None:
    """Refuse a Python scalar of a higher kind than the array's: it never changes an array's dtype."""
    kinds = {builtins.bool: ("bool",), int: ("integral", "real floating"), float: ("real floating",)}
    kind = next((kind for kind in kinds if isinstance(value, kind)), None)
    if kind is None:
        raise TypeError(f"Expected a Python bool, int or float, got {type(value).__name__}.")
    if not isdtype(dtype, kinds[kind]):
        raise TypeError(f"A Python {kind.__name__} does not combine with an array of dtype {dtype.name}.")
    if kind is int and isdtype(dtype, "integral") and not dtype.min <= value <= dtype.max:
        # TensorFlow would wrap it around.
        raise OverflowError(f"The Python int {value} is out of bounds for {dtype.name}.")


def result_type(*arrays_and_dtypes: Any) -> Dtype:
    """Return the dtype that the arguments (arrays, dtypes, Python scalars) are promoted to."""
    scalars = [item for item in arrays_and_dtypes if is_scalar(item)]
    dtypes = [item if isinstance(item, tf.DType) else item.dtype for item in arrays_and_dtypes if not is_scalar(item)]
    if not dtypes:
        raise TypeError("result_type needs at least one array or dtype.")
    dtype = reduce(_promote, dtypes)
    for scalar in scalars:
        _check_scalar(scalar, dtype)
    return dtype


def can_cast(from_: Any, to: Dtype, /) -> builtins.bool:
    """Say whether promotion can lead from the dtype ``from_`` (or an array's) to ``to``."""
    try:
        return _promote(from_ if isinstance(from_, tf.DType) else from_.dtype, to) == to
    except TypeError:
        return False


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating-point dtype, as Python numbers."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Dtype


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype, as Python integers."""

    bits: int
    max: int
    min: int
    dtype: Dtype


def finfo(type: Any, /) -> FloatInfo:
    """Return the limits of a floating-point dtype, or of an array's."""
    dtype = type if isinstance(type, tf.DType) else type.dtype
    if dtype not in _FLOAT_BITS:
        raise ValueError(f"finfo takes a floating-point dtype, got {dtype.name}.")
    exponent, fraction = _FLOAT_BITS[dtype]
    eps = 2.0**-fraction
    highest = (2.0 - eps) * 2.0 ** (2 ** (exponent - 1) - 1)
    return FloatInfo(8 * dtype.size, eps, highest, -highest, 2.0 ** (2 - 2 ** (exponent - 1)), dtype)


def iinfo(type: Any, /) -> IntegerInfo:
    """Return the limits of an integer dtype, or of an array's."""
    dtype = type if isinstance(type, tf.DType) else type.dtype
    if not isdtype(dtype, "integral"):
        raise ValueError(f"iinfo takes an integer dtype, got {dtype.name}.")
    return IntegerInfo(8 * dtype.size, int(dtype.max), int(dtype.min), dtype)


# --- arguments --------------------------------------------------------------------------------------------------------


def is_scalar(value: Any) -> builtins.bool:
    """Say whether ``value`` is a Python number."""
    return isinstance(value, (builtins.bool, int, float, complex))


def tensor(x: Any, name: str, kind: str | tuple[str, ...] | None = None) -> Array:
    """Return an array argument of the function ``name`` as a tensor (a variable is read).

    Raises
    ------
    TypeError
        If it is no array of TensorFlow, or its dtype is not of ``kind``.
    """
    if not isinstance(x, tf.Tensor):
        if not tf.is_tensor(x):
            raise TypeError(f"{name} takes TensorFlow tensors, got {type(x).__module__}.{type(x).__qualname__}.")
        x = tf.convert_to_tensor(x)
    if kind is not None and not isdtype(x.dtype, kind):
        expected = kind if isinstance(kind, str) else " or ".join(kind)
        raise TypeError(f"{name} takes arrays of a {expected} dtype, got {x.dtype.name}.")
    return x


def tensors(name: str, *items: Any, kind: str | tuple[str, ...] | None = None) -> list[Array]:
    """Return the arguments of the function ``name`` as tensors of one dtype; all but one may be Python scalars."""
    found = [item if is_scalar(item) else tensor(item, name, kind) for item in items]
    dtypes = [item.dtype for item in found if not is_scalar(item)]
    if not dtypes:
        raise TypeError(f"{name} needs at least one array, got only Python scalars.")
    dtype = result_type(*found)
    return [
        tf.constant(item, dtype) if is_scalar(item) else item if item.dtype == dtype else tf.cast(item, dtype)
        for item in found
    ]


def sum_dtype(dtype: Dtype) -> Dtype:
    """Return the dtype that elements of ``dtype`` are added up (or multiplied) in where the caller names none."""
    if dtype == bool or dtype in _SIGNED:
        return DEFAULT_INT
    return DEFAULT_UINT if dtype in _UNSIGNED else dtype
