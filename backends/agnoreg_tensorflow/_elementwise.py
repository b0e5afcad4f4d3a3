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
    "conj",
    "copysign",
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
    "hypot",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "pow",
    "real",
    "reciprocal",
    "remainder",
    "round",
    "sign",
    "signbit",
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

_REAL = dt.REAL
_FLOATING = dt.FLOATING
_BITS = ("bool", "integral")

_LOG_2 = 0.6931471805599453
_LOG_10 = 2.302585092994046


def _unary(name: str, function: Callable[[Array], Array], kind: Kind = _FLOATING) -> Callable[[Array], Array]:
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


def _complex(x: Array) -> bool:
    return dt.isdtype(x.dtype, "complex floating")


def _parts(x: Array) -> tuple[Array, Array]:
    return tf.math.real(x), tf.math.imag(x)


def _by_kind(of_reals: Callable[[Array], Array], of_complex: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function that computes complex numbers in another way than real ones."""
    return lambda x: of_complex(x) if _complex(x) else of_reals(x)


# --- signs and parts --------------------------------------------------------------------------------------------------

# By number of bytes.
_OF_BITS = {2: tf.int16, 4: tf.int32, 8: tf.int64}


def _signbit(x: Array) -> Array:
    return tf.bitcast(x, _OF_BITS[x.dtype.size]) < 0


def _copysign(x: Array, y: Array) -> Array:
    # A gradient passes through this choice, as it does not through bits.
    return tf.where(tf.math.not_equal(_signbit(x), _signbit(y)), tf.math.negative(x), x)


signbit = _unary("signbit", _signbit, "real floating")
copysign = _binary("copysign", _copysign, "real floating")

conj = _unary("conj", tf.math.conj, "numeric")
real = _unary("real", tf.math.real, "numeric")
imag = _unary("imag", lambda x: tf.math.imag(x) if _complex(x) else tf.zeros_like(x), "numeric")


def _direction(x: Array) -> Array:
    """Return ``x / abs(x)``, part by part so that zeros keep their sign, and 0 where ``x`` is 0."""
    size = tf.math.abs(x)
    filled = tf.where(size == 0, tf.ones_like(size), size)
    return tf.where(size == 0, tf.zeros_like(x), tf.complex(*(part / filled for part in _parts(x))))


# TensorFlow has no kernels of these three for unsigned integers.
abs = _unary("abs", lambda x: x if _unsigned(x) else tf.math.abs(x), "numeric")
negative = _unary("negative", lambda x: tf.bitwise.invert(x) + 1 if _unsigned(x) else tf.math.negative(x), "numeric")
sign = _unary(
    "sign",
    _by_kind(lambda x: tf.cast(x != 0, x.dtype) if _unsigned(x) else tf.math.sign(x), _direction),
    "numeric",
)

# --- arithmetic -------------------------------------------------------------------------------------------------------

add = _binary("add", tf.math.add, "numeric")
subtract = _binary("subtract", tf.math.subtract, "numeric")
multiply = _binary("multiply", tf.math.multiply, "numeric")
divide = _binary("divide", tf.math.divide, _FLOATING)
floor_divide = _binary("floor_divide", tf.math.floordiv, _REAL)
square = _unary("square", tf.math.square, "numeric")
positive = _unary("positive", tf.identity, "numeric")
reciprocal = _unary("reciprocal", tf.math.reciprocal)


def _remainder(x: Array, y: Array) -> Array:
    result = tf.math.floormod(x, y)
    # A remainder of zero has the sign of the divisor, as in Python; TensorFlow's has that of the dividend.
    return result if _integral(result) else tf.where(result == 0, _copysign(result, y), result)


remainder = _binary("remainder", _remainder, _REAL)


def _pow(x: Array, y: Array) -> Array:
    if _unsigned(x):
        # Multiplication modulo 2 ** 64 does not see the sign.
        return tf.cast(tf.math.pow(tf.cast(x, tf.int64), tf.cast(y, tf.int64)), x.dtype)
    if _complex(x):
        # TensorFlow computes 0 ** 0 by a logarithm.
        return tf.where(y == 0, tf.ones([], x.dtype), tf.math.pow(x, y))
    return tf.math.pow(x, y)


pow = _binary("pow", _pow, "numeric")


def _hypot(x: Array, y: Array) -> Array:
    if x.dtype.size == 2:
        return tf.cast(_hypot(tf.cast(x, tf.float32), tf.cast(y, tf.float32)), x.dtype)
    # The size of a complex number neither overflows nor underflows on the way.
    return tf.math.abs(tf.complex(x, y))


hypot = _binary("hypot", _hypot, "real floating")


def _nextafter(x: Array, y: Array) -> Array:
    if x.dtype.size > 2:
        return tf.math.nextafter(x, y)
    # No kernel for half precision. There, as everywhere, the next number away from zero has the next bits.
    away = tf.where(y > x, x >= 0, x < 0)
    step = tf.cast(tf.where(away, 1, -1), tf.int16)
    tiny = tf.bitcast(tf.where(y > 0, tf.constant(1, tf.int16), tf.constant(-32767, tf.int16)), x.dtype)
    result = tf.where(x == 0, tiny, tf.bitcast(tf.bitcast(x, tf.int16) + step, x.dtype))
    return tf.where(x == y, y, tf.where(tf.math.is_nan(x) | tf.math.is_nan(y), x + y, result))


nextafter = _binary("nextafter", _nextafter, "real floating")

# --- exponentials, logarithms -----------------------------------------------------------------------------------------


def _complex_sqrt(x: Array) -> Array:
    result = tf.math.sqrt(x)
    # The branch cut: TensorFlow's kernel loses the sign of a zero or infinite imaginary part.
    return tf.complex(tf.math.real(result), _copysign(*map(tf.math.imag, (result, x))))


def _complex_expm1(x: Array) -> Array:
    a, b = _parts(x)
    real = tf.math.expm1(a) * tf.math.cos(b) - 2 * tf.math.square(tf.math.sin(b / 2))
    imag = tf.where(b == 0, b, tf.math.exp(a) * tf.math.sin(b))
    # At infinity an angle that is none counts only where the size does not vanish.
    nowhere = tf.math.is_inf(a) & ~tf.math.is_finite(b)
    real = tf.where(nowhere, tf.math.expm1(a), tf.where(x == 0, tf.zeros_like(a), real))
    return tf.complex(real, tf.where(nowhere & (a < 0), tf.zeros_like(b), imag))


def _log_of_size(size: Array, less_one: Array, b: Array) -> Array:
    """Return ``log(size)``, without cancellation where ``size = abs(1 + less_one + b j)`` is about 1."""
    excess = less_one * (less_one + 2) + b * b
    near = tf.math.abs(excess) < 0.5
    # A gradient must not be NaN from the side that is not taken.
    close = 0.5 * tf.math.log1p(tf.where(near, excess, tf.zeros_like(excess)))
    return tf.where(near, close, tf.math.log(size))


def _complex_log(x: Array) -> Array:
    # TensorFlow's kernel squares the parts, which overflow. The larger one is compared to 1.
    a, b = (tf.math.abs(part) for part in _parts(x))
    size = _log_of_size(tf.math.abs(x), tf.math.maximum(a, b) - 1, tf.math.minimum(a, b))
    return tf.complex(size, tf.math.angle(x))


def _complex_log1p(x: Array) -> Array:
    a, b = _parts(x)
    return tf.complex(_log_of_size(_hypot(a + 1, b), a, b), tf.math.atan2(b, a + 1))


def _logarithm(base: float) -> Callable[[Array], Array]:
    def of_complex(x: Array) -> Array:
        # Part by part: a product of complex numbers would make NaN of infinity times zero.
        return tf.complex(*(part / base for part in _parts(_complex_log(x))))

    return _by_kind(lambda x: tf.math.log(x) * (1 / base), of_complex)


def _logaddexp(x: Array, y: Array) -> Array:
    larger = _with_nan(tf.math.maximum(x, y), x, y)
    # Where they are equal the difference is 0, also that of infinities.
    difference = tf.where(x == y, tf.zeros_like(larger), x - y)
    return larger + tf.math.log1p(tf.math.exp(-tf.math.abs(difference)))


sqrt = _unary("sqrt", _by_kind(tf.math.sqrt, _complex_sqrt))
exp = _unary("exp", tf.math.exp)
expm1 = _unary("expm1", _by_kind(tf.math.expm1, _complex_expm1))
log = _unary("log", _by_kind(tf.math.log, _complex_log))
log1p = _unary("log1p", _by_kind(tf.math.log1p, _complex_log1p))
log2 = _unary("log2", _logarithm(_LOG_2))
log10 = _unary("log10", _logarithm(_LOG_10))
logaddexp = _binary("logaddexp", _logaddexp, "real floating")

# --- trigonometry -----------------------------------------------------------------------------------------------------


def _complex_tanh(x: Array) -> Array:
    a, b = _parts(x)
    real, imag = _parts(tf.math.tanh(x))
    # What vanishes at infinity has the sign of the angle.
    return tf.complex(real, tf.where(tf.math.is_inf(a) & tf.math.is_finite(b), _copysign(tf.zeros_like(b), b), imag))


sin = _unary("sin", tf.math.sin)
cos = _unary("cos", tf.math.cos)
tan = _unary("tan", tf.math.tan)
asin = _unary("asin", tf.math.asin)
acos = _unary("acos", tf.math.acos)
atan = _unary("atan", tf.math.atan)
sinh = _unary("sinh", tf.math.sinh)
cosh = _unary("cosh", tf.math.cosh)
tanh = _unary("tanh", _by_kind(tf.math.tanh, _complex_tanh))
asinh = _unary("asinh", tf.math.asinh)
acosh = _unary("acosh", tf.math.acosh)
atanh = _unary("atanh", tf.math.atanh)
atan2 = _binary("atan2", tf.math.atan2, "real floating")

# --- rounding ---------------------------------------------------------------------------------------------------------


def _rounding(name: str, function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return _unary(name, lambda x: x if _integral(x) else function(x), _REAL)


floor = _rounding("floor", tf.math.floor)
ceil = _rounding("ceil", tf.math.ceil)
round = _unary(
    "round",  # half to even
    _by_kind(lambda x: x if _integral(x) else tf.math.round(x), lambda x: tf.complex(*map(tf.math.round, _parts(x)))),
    "numeric",
)
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


def _test(name: str, function: Callable[[Array], Array], of_integers: Callable[..., Array], join: Any) -> Any:
    """Return a test of floats; complex numbers' is that of their parts, joined."""

    def apply(x: Array) -> Array:
        if _integral(x):
            return of_integers(x, tf.bool)
        return join(*map(function, _parts(x))) if _complex(x) else function(x)

    return _unary(name, apply, "numeric")


isnan = _test("isnan", tf.math.is_nan, tf.zeros_like, tf.math.logical_or)
isinf = _test("isinf", tf.math.is_inf, tf.zeros_like, tf.math.logical_or)
isfinite = _test("isfinite", tf.math.is_finite, tf.ones_like, tf.math.logical_and)

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


def _shifted_out(x: Array, y: Array, shifted: Array) -> Array:
    """Return 0 where ``y`` shifts by all bits or more: TensorFlow shifts by one less, at most."""
    return tf.where(y < 8 * x.dtype.size, shifted, tf.zeros_like(shifted))


def _right_shift(x: Array, y: Array) -> Array:
    shifted = tf.bitwise.right_shift(x, y)
    # Of signed numbers the sign is left, by one bit less too.
    return _shifted_out(x, y, shifted) if _unsigned(x) else shifted


bitwise_left_shift = _binary(
    "bitwise_left_shift", lambda x, y: _shifted_out(x, y, tf.bitwise.left_shift(x, y)), "integral"
)
bitwise_right_shift = _binary("bitwise_right_shift", _right_shift, "integral")
