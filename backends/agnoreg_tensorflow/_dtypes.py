"""Dtypes: their kinds, their limits and their promotion, and how arguments become tensors of one dtype."""

import builtins
import math
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import tensorflow as tf

__all__ = [
    "bfloat16",
    "bool",
    "can_cast",
    "complex64",
    "complex128",
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
complex64, complex128 = tf.complex64, tf.complex128

_SIGNED = (int8, int16, int32, int64)
_UNSIGNED = (uint8, uint16, uint32, uint64)
_REAL = (float16, bfloat16, float32, float64)
_COMPLEX = (complex64, complex128)
_KINDS: dict[str, frozenset[Dtype]] = {
    "bool": frozenset([bool]),
    "signed integer": frozenset(_SIGNED),
    "unsigned integer": frozenset(_UNSIGNED),
    "integral": frozenset(_SIGNED + _UNSIGNED),
    "real floating": frozenset(_REAL),
    "complex floating": frozenset(_COMPLEX),
    "numeric": frozenset(_SIGNED + _UNSIGNED + _REAL + _COMPLEX),
}

#: Kinds that many functions take.
REAL = ("integral", "real floating")
FLOATING = ("real floating", "complex floating")

#: The dtype of a Python float, as everywhere in TensorFlow.
DEFAULT_FLOAT = float32
#: The dtype of a Python complex number: of the same precision. TensorFlow alone would take complex128.
DEFAULT_COMPLEX = complex64
#: The dtype of a Python integer, of an index and of a sum of smaller integers. TensorFlow alone would take int32.
DEFAULT_INT = int64
DEFAULT_UINT = uint64

_FLOAT_BITS = {float16: (5, 10), bfloat16: (8, 7), float32: (8, 23), float64: (11, 52)}  # exponent, fraction


# --- what the standard asks of dtypes ---------------------------------------------------------------------------------


@lru_cache(maxsize=1024)  # every function asks this of its arguments
def isdtype(dtype: Dtype, kind: Dtype | str | tuple[Dtype | str, ...]) -> builtins.bool:
    """Return whether ``dtype`` is of a kind: a dtype, a kind's name or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, one) for one in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"Unknown kind of dtype {kind!r}: the kinds are {', '.join(_KINDS)}.")
        return dtype in _KINDS[kind]
    return dtype == kind


def complex_of(dtype: Dtype) -> Dtype:
    """Return the complex dtype of a floating-point dtype's precision, or of the least that there is."""
    return complex128 if dtype in (float64, complex128) else complex64


def real_of(dtype: Dtype) -> Dtype:
    """Return the dtype of the parts of complex numbers; a real floating-point dtype is its own."""
    return dtype.real_dtype


@lru_cache(maxsize=1024)
def _promote(a: Dtype, b: Dtype) -> Dtype:
    if a == b:
        return a
    if a in _REAL and b in _REAL:
        # The two half precisions do not contain each other.
        return float32 if a.size == b.size else max(a, b, key=lambda dtype: dtype.size)
    if isdtype(a, FLOATING) and isdtype(b, FLOATING):
        return max(complex_of(a), complex_of(b), key=lambda dtype: dtype.size)
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


def _with_scalar(dtype: Dtype, value: Any) -> Dtype:
    """Return the dtype of an array of ``dtype`` combined with a Python number.

    It changes the array's dtype only where a complex number meets real floating-point ones. Any other number of a
    higher kind is refused.
    """
    kinds: dict[type, Any] = {builtins.bool: "bool", int: "numeric", float: FLOATING, complex: FLOATING}
    kind = next((kind for kind in kinds if isinstance(value, kind)), None)
    if kind is None:
        raise TypeError(f"Expected a Python bool, int, float or complex, got {type(value).__name__}.")
    if not isdtype(dtype, kinds[kind]):
        raise TypeError(f"A Python {kind.__name__} does not combine with an array of dtype {dtype.name}.")
    if kind is int and isdtype(dtype, "integral") and not dtype.min <= value <= dtype.max:
        # TensorFlow would wrap it around.
        raise OverflowError(f"The Python int {value} is out of bounds for {dtype.name}.")
    return complex_of(dtype) if kind is complex else dtype


def result_type(*arrays_and_dtypes: Any) -> Dtype:
    """Return the dtype that the arguments (arrays, dtypes, Python scalars) are promoted to."""
    scalars = [item for item in arrays_and_dtypes if is_scalar(item)]
    dtypes = [item if isinstance(item, tf.DType) else item.dtype for item in arrays_and_dtypes if not is_scalar(item)]
    if not dtypes:
        raise TypeError("result_type needs at least one array or dtype.")
    return reduce(_with_scalar, scalars, reduce(_promote, dtypes))


def can_cast(from_: Any, to: Dtype, /) -> builtins.bool:
    """Return whether promotion can lead from the dtype ``from_`` (or an array's) to ``to``."""
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
    """Return the limits of a floating-point dtype, or of an array's; of a complex one, those of its parts."""
    dtype = type if isinstance(type, tf.DType) else type.dtype
    if not isdtype(dtype, FLOATING):
        raise ValueError(f"finfo takes a floating-point dtype, got {dtype.name}.")
    dtype = real_of(dtype)
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
    """Return whether ``value`` is a Python number."""
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


def scalar(value: Any, dtype: Dtype) -> Array:
    """Return a Python number as a tensor of ``dtype``, with its sign.

    ``tf.constant`` remembers eager scalars by their value, in which 0.0 equals -0.0: after one of them has been made it
    also returns it for the other. It tells them from the integer 0.
    """
    if isinstance(value, complex) or (value == 0 and dtype in _COMPLEX):
        value = complex(value)
        return tf.complex(scalar(value.real, real_of(dtype)), scalar(value.imag, real_of(dtype)))
    if value == 0 and isinstance(value, float):
        zero = tf.constant(0, dtype)
        return tf.math.negative(zero) if math.copysign(1, value) < 0 else zero
    return tf.constant(value, dtype)


def tensors(name: str, *items: Any, kind: str | tuple[str, ...] | None = None) -> list[Array]:
    """Return the arguments of the function ``name`` as tensors of one dtype; all but one may be Python scalars."""
    found = [item if is_scalar(item) else tensor(item, name, kind) for item in items]
    dtypes = [item.dtype for item in found if not is_scalar(item)]
    if not dtypes:
        raise TypeError(f"{name} needs at least one array, got only Python scalars.")
    dtype = dtypes[0]
    for other in dtypes[1:]:
        if other is not dtype:
            dtype = _promote(dtype, other)
    if len(dtypes) < len(found):
        for item in found:
            if is_scalar(item):
                dtype = _with_scalar(dtype, item)
        if kind is not None and not isdtype(dtype, kind):
            raise TypeError(f"{name} takes no complex numbers.")
    return [
        scalar(item, dtype) if is_scalar(item) else item if item.dtype is dtype else tf.cast(item, dtype)
        for item in found
    ]


def truth(x: Array) -> Array:
    """Return where ``x`` is not zero. TensorFlow's own cast drops the imaginary part."""
    return tf.math.not_equal(x, tf.constant(0, x.dtype)) if x.dtype in _COMPLEX else tf.cast(x, tf.bool)


def cast(x: Array, dtype: Dtype) -> Array:
    """Cast as the standard says.

    Raises
    ------
    TypeError
        If complex numbers would lose their imaginary part.
    """
    if x.dtype == dtype:
        return x
    if dtype == bool:
        return truth(x)
    if x.dtype in _COMPLEX and dtype not in _COMPLEX:
        raise TypeError(f"Complex numbers do not become {dtype.name}: take their real or imag first.")
    return tf.cast(x, dtype)


def sum_dtype(dtype: Dtype) -> Dtype:
    """Return the dtype that elements of ``dtype`` are added up (or multiplied) in where the caller names none."""
    if dtype == bool or dtype in _SIGNED:
        return DEFAULT_INT
    return DEFAULT_UINT if dtype in _UNSIGNED else dtype
