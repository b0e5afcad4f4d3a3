"""Element-wise functions."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._dtypes import tensor, tensors

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "equal",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
]

Array = Any
Kind = str | tuple[str, ...]

_REAL = ("integral", "real floating")
_BITS = ("bool", "integral")


def _unary(name: str, function: Callable[[Array], Array], kind: Kind = "real floating") -> Callable[[Array], Array]:
    """Return ``function`` as the standard's ``name``, for arrays of ``kind``."""

    def apply(x: Array, /) -> Array:
        return function(tensor(x, name, kind))

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"The standard's ``{name}``, element by element; takes arrays of {_words(kind)} dtype."
    return apply


def _binary(name: str, function: Callable[[Array, Array], Array], kind: Kind | None) -> Callable[[Any, Any], Array]:
    """Return ``function`` as the standard's ``name``, for arrays of ``kind`` promoted to one dtype."""

    def apply(x1: Any, x2: Any, /) -> Array:
        return function(*tensors(name, x1, x2, kind=kind))

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"The standard's ``{name}``, element by element; takes arrays of {_words(kind)} dtype."
    return apply


def _words(kind: Kind | None) -> str:
    return "any" if kind is None else kind if isinstance(kind, str) else " or ".join(kind)


def _unsigned(x: Array) -> bool:
    return dt.isdtype(x.dtype, "unsigned integer")


def _integral(x: Array) -> bool:
    return dt.isdtype(x.dtype, "integral")


# --- arithmetic -------------------------------------------------------------------------------------------------------

add = _binary("add", tf.math.add, _REAL)
subtract = _binary("subtract", tf.math.subtract, _REAL)
multiply = _binary("multiply", tf.math.multiply, _REAL)
divide = _binary("divide", tf.math.divide, "real floating")
floor_divide = _binary("floor_divide", tf.math.floordiv, _REAL)
remainder = _binary("remainder", tf.math.floormod, _REAL)
square = _unary("square", tf.math.square, _REAL)
positive = _unary("positive", tf.identity, _REAL)
reciprocal = _unary("reciprocal", tf.math.reciprocal)

# TensorFlow has no kernels of these four for unsigned integers.
abs = _unary("abs", lambda x: x if _unsigned(x) else tf.math.abs(x), _REAL)
negative = _unary("negative", lambda x: tf.bitwise.invert(x) + 1 if _unsigned(x) else tf.math.negative(x), _REAL)
sign = _unary("sign", lambda x: tf.cast(x != 0, x.dtype) if _unsigned(x) else tf.math.sign(x), _REAL)


def _pow(x: Array, y: Array) -> Array:
    if _unsigned(x):
        # Multiplication modulo 2 ** 64 does not see the sign.
        return tf.cast(tf.math.pow(tf.cast(x, tf.int64), tf.cast(y, tf.int64)), x.dtype)
    return tf.math.pow(x, y)


pow = _binary("pow", _pow, _REAL)

# --- exponentials, logarithms, trigonometry ---------------------------------------------------------------------------

sqrt = _unary("sqrt", tf.math.sqrt)
exp = _unary("exp", tf.math.exp)
expm1 = _unary("expm1", tf.math.expm1)
log = _unary("log", tf.math.log)
log1p = _unary("log1p", tf.math.log1p)
log2 = _unary("log2", lambda x: tf.math.log(x) * 1.4426950408889634)
log10 = _unary("log10", lambda x: tf.math.log(x) * 0.4342944819032518)
sin = _unary("sin", tf.math.sin)
cos = _unary("cos", tf.math.cos)
tan = _unary("tan", tf.math.tan)
asin = _unary("asin", tf.math.asin)
acos = _unary("acos", tf.math.acos)
atan = _unary("atan", tf.math.atan)
sinh = _unary("sinh", tf.math.sinh)
cosh = _unary("cosh", tf.math.cosh)
tanh = _unary("tanh", tf.math.tanh)
asinh = _unary("asinh", tf.math.asinh)
acosh = _unary("acosh", tf.math.acosh)
atanh = _unary("atanh", tf.math.atanh)
atan2 = _binary("atan2", tf.math.atan2, "real floating")

# --- rounding ---------------------------------------------------------------------------------------------------------


def _rounding(name: str, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return _unary(name, lambda x: x if _integral(x) else function(x), _REAL)


floor = _rounding("floor", tf.math.floor)
ceil = _rounding("ceil", tf.math.ceil)
round = _rounding("round", tf.math.round)  # half to even
trunc = _rounding("trunc", lambda x: tf.where(x < 0, tf.math.ceil(x), tf.math.floor(x)))

# --- extremes ---------------------------------------------------------------------------------------------------------


def _with_nan(result: Array, *arguments: Array) -> Array:
    """Put back the NaN that XLA's minimum and maximum lose on a CPU; TensorFlow's own kernels keep it."""
    if tf.executing_eagerly() or _integral(result):
        return result
    for x in arguments:
        result = tf.where(tf.math.is_nan(x), x, result)
    return result


def _bounded(name: str, function: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Array]:
    def apply(x1: Any, x2: Any, /) -> Array:
        x, y = tensors(name, x1, x2, kind=_REAL)
        # A Python number other than NaN needs no care.
        return _with_nan(function(x, y), *(a for a, b in ((x, x1), (y, x2)) if not dt.is_scalar(b) or b != b))

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"The standard's ``{name}``, element by element; where either is NaN so is the result."
    return apply


minimum = _bounded("minimum", tf.math.minimum)
maximum = _bounded("maximum", tf.math.maximum)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Limit ``x`` to ``[min, max]``, numbers or arrays; the result has the dtype of ``x``, and NaN stays NaN."""
    x = tensor(x, "clip", _REAL)
    for function, bound in ((maximum, min), (minimum, max)):
        if bound is not None:
            x = function(x, bound if dt.is_scalar(bound) else tf.cast(tensor(bound, "clip", _REAL), x.dtype))
    return x


# --- comparisons, tests -----------------------------------------------------------------------------------------------

equal = _binary("equal", tf.math.equal, None)
not_equal = _binary("not_equal", tf.math.not_equal, None)
less = _binary("less", tf.math.less, _REAL)
less_equal = _binary("less_equal", tf.math.less_equal, _REAL)
greater = _binary("greater", tf.math.greater, _REAL)
greater_equal = _binary("greater_equal", tf.math.greater_equal, _REAL)

isnan = _unary("isnan", lambda x: tf.zeros_like(x, tf.bool) if _integral(x) else tf.math.is_nan(x), _REAL)
isinf = _unary("isinf", lambda x: tf.zeros_like(x, tf.bool) if _integral(x) else tf.math.is_inf(x), _REAL)
isfinite = _unary("isfinite", lambda x: tf.ones_like(x, tf.bool) if _integral(x) else tf.math.is_finite(x), _REAL)

# --- logic and bits ---------------------------------------------------------------------------------------------------

logical_and = _binary("logical_and", tf.math.logical_and, "bool")
logical_or = _binary("logical_or", tf.math.logical_or, "bool")
logical_xor = _binary("logical_xor", tf.math.not_equal, "bool")
logical_not = _unary("logical_not", tf.math.logical_not, "bool")


def _bits(name: str, of_bools: Callable[..., Array], of_integers: Callable[..., Array]) -> Callable[[Any, Any], Array]:
    return _binary(name, lambda x, y: (of_bools if x.dtype == tf.bool else of_integers)(x, y), _BITS)


bitwise_and = _bits("bitwise_and", tf.math.logical_and, tf.bitwise.bitwise_and)
bitwise_or = _bits("bitwise_or", tf.math.logical_or, tf.bitwise.bitwise_or)
bitwise_xor = _bits("bitwise_xor", tf.math.not_equal, tf.bitwise.bitwise_xor)
bitwise_invert = _unary(
    "bitwise_invert", lambda x: tf.math.logical_not(x) if x.dtype == tf.bool else tf.bitwise.invert(x), _BITS
)
bitwise_left_shift = _binary("bitwise_left_shift", tf.bitwise.left_shift, "integral")
bitwise_right_shift = _binary("bitwise_right_shift", tf.bitwise.right_shift, "integral")
