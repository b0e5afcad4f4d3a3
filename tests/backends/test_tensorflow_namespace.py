"""The Array API namespace over TensorFlow against NumPy, eagerly, traced with an unknown batch size, and compiled."""

import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

from agnoreg_tensorflow import backend  # noqa: E402

import agnoreg  # noqa: E402

xp = backend.xp
BOOL = ["bool"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float32", "float64"]
COMPLEX = ["complex64", "complex128"]
EVERY = BOOL + INTEGERS + FLOATS + COMPLEX
MODES = ["eager", "traced"]


def signature(*arrays):
    """Return the arrays' specifications with an unknown batch size."""
    return [tf.TensorSpec([None, *a.shape[1:]] if a.ndim else [], a.dtype) for a in arrays]


def run(mode, function, *arrays):
    """Call ``function`` on the arrays as tensors, and return its results as NumPy arrays."""
    tensors = [tf.constant(array) for array in arrays]
    if mode != "eager":
        function = tf.function(
            function, input_signature=signature(*arrays), autograph=False, jit_compile=mode == "compiled"
        )
    return tf.nest.map_structure(lambda x: x.numpy(), function(*tensors))


def same(found, expected, rtol=0.0):
    """Check the values, the shape and the dtype."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)
    assert np.shape(found) == expected.shape


def numbers(dtype, shape=(3, 4), low=-5, high=5, seed=0):
    """Return random numbers of any dtype within bounds; unsigned ones are not negative."""
    generator = np.random.default_rng(seed)
    if dtype == "bool":
        return generator.random(shape) > 0.5
    if dtype in COMPLEX:
        return (generator.uniform(low, high, shape) + 1j * generator.uniform(low, high, shape)).astype(dtype)
    low = 0 if dtype.startswith("u") else low
    return generator.uniform(low, high, shape).astype(dtype)


# --- element by element -----------------------------------------------------------------------------------------------

# name: (NumPy's function, lowest, highest number to try)
OF_FLOATS = {
    "sqrt": (np.sqrt, 0, 9),
    "exp": (np.exp, -5, 5),
    "expm1": (np.expm1, -5, 5),
    "log": (np.log, 0.1, 9),
    "log1p": (np.log1p, -0.9, 9),
    "log2": (np.log2, 0.1, 9),
    "log10": (np.log10, 0.1, 9),
    "sin": (np.sin, -5, 5),
    "cos": (np.cos, -5, 5),
    "tan": (np.tan, -1.5, 1.5),
    "asin": (np.arcsin, -1, 1),
    "acos": (np.arccos, -1, 1),
    "atan": (np.arctan, -5, 5),
    "sinh": (np.sinh, -5, 5),
    "cosh": (np.cosh, -5, 5),
    "tanh": (np.tanh, -5, 5),
    "asinh": (np.arcsinh, -5, 5),
    "acosh": (np.arccosh, 1.1, 5),
    "atanh": (np.arctanh, -0.9, 0.9),
    "reciprocal": (np.reciprocal, 0.1, 9),
}
OF_NUMBERS = {
    "abs": np.abs,
    "negative": np.negative,
    "positive": np.positive,
    "square": np.square,
    "sign": np.sign,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.round,
}
OF_TWO_NUMBERS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "floor_divide": np.floor_divide,
    "remainder": np.remainder,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}
OF_BITS = {
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}
SHIFTS = {"bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift}
LOGIC = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_FLOATS)
def test_functions_of_floats_equal_numpys(name, mode):
    function, low, high = OF_FLOATS[name]
    arrays = [numbers(dtype, low=low, high=high) for dtype in FLOATS]
    found = run(mode, lambda *xs: [getattr(xp, name)(x) for x in xs], *arrays)
    for one, x, rtol in zip(found, arrays, (4e-6, 1e-13), strict=True):
        same(one, function(x), rtol)


@pytest.mark.parametrize("name", [*OF_FLOATS, "mean", "std", "var"])
def test_functions_of_floats_refuse_other_dtypes(name):
    for dtype in ("bool", "int32"):
        with pytest.raises(
            TypeError, match=f"{name} takes arrays of a real floating( or complex floating)? dtype, got {dtype}"
        ):
            getattr(xp, name)(xp.ones(2, dtype=getattr(xp, dtype)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_functions_of_numbers_equal_numpys_in_every_dtype(name, mode):
    arrays = [numbers(dtype) for dtype in INTEGERS + FLOATS]
    found = run(mode, lambda *xs: [getattr(xp, name)(x) for x in xs], *arrays)
    for one, x in zip(found, arrays, strict=True):
        expected = OF_NUMBERS[name](x)
        # NumPy's rounding makes floats of some integers.
        same(one, expected.astype(x.dtype) if name in ("floor", "ceil", "trunc", "round") else expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_TWO_NUMBERS)
def test_functions_of_two_numbers_equal_numpys_in_every_dtype(name, mode):
    mine, numpys = getattr(xp, name), OF_TWO_NUMBERS[name]
    pairs = [
        (numbers(dtype), np.maximum(numbers(dtype, low=1, high=9, seed=1), 1).astype(dtype))
        for dtype in INTEGERS + FLOATS
    ]
    found = run(
        mode,
        lambda *a: [(mine(x, y), mine(x, 3), mine(3, y)) for x, y in zip(a[::2], a[1::2], strict=True)],
        *itertools.chain(*pairs),
    )
    for (both, right, left), (x, y) in zip(found, pairs, strict=True):
        three = np.asarray(3, x.dtype)
        same(both, numpys(x, y), 1e-6)
        same(right, numpys(x, three), 1e-6)
        same(left, numpys(three, y), 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_functions_of_two_floats_equal_numpys(mode):
    for dtype in FLOATS:
        x, y = numbers(dtype), numbers(dtype, low=0.1, seed=1)
        same(run(mode, xp.divide, x, y), x / y, 1e-6)
        same(run(mode, xp.atan2, x, y), np.arctan2(x, y), 1e-6)
        same(run(mode, xp.pow, y, x), y**x, 1e-5)
        same(run(mode, lambda a: xp.divide(1, a), y), 1 / y, 1e-6)
        same(run(mode, lambda a: xp.pow(a, 2), x), x**2, 1e-6)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_powers_wrap_around_as_numpys_do(dtype):
    x, y = numbers(dtype, high=9), np.abs(numbers(dtype, low=0, high=9, seed=1))
    same(run("eager", xp.pow, x, y), x**y)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*OF_BITS, *SHIFTS])
def test_functions_of_bits_equal_numpys(name, mode):
    mine, numpys = getattr(xp, name), (OF_BITS | SHIFTS)[name]
    dtypes = INTEGERS if name in SHIFTS else BOOL + INTEGERS
    pairs = [(numbers(dtype), numbers(dtype, low=0, high=4, seed=1)) for dtype in dtypes]
    found = run(mode, lambda *a: [mine(x, y) for x, y in zip(a[::2], a[1::2], strict=True)], *itertools.chain(*pairs))
    for one, (x, y) in zip(found, pairs, strict=True):
        same(one, numpys(x, y))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts_by_more_bits_than_there_are_leave_none(dtype):
    ends = np.array([np.iinfo(dtype).min, 5, np.iinfo(dtype).max], dtype)[:, None]
    by = np.array([0, 1, 7, 8, 31, 32, 63, 64, 100], dtype)
    for name, function in SHIFTS.items():
        same(run("eager", getattr(xp, name), ends, by), function(ends, by))


@pytest.mark.parametrize("mode", MODES)
def test_inversion_and_logic_equal_numpys(mode):
    for dtype in BOOL + INTEGERS:
        same(run(mode, xp.bitwise_invert, numbers(dtype)), np.invert(numbers(dtype)))
    x, y = numbers("bool"), numbers("bool", seed=1)
    for name, function in LOGIC.items():
        same(run(mode, getattr(xp, name), x, y), function(x, y))
    same(run(mode, xp.logical_not, x), ~x)
    with pytest.raises(TypeError, match="logical_and takes arrays of a bool dtype, got float32"):
        xp.logical_and(xp.ones(2), xp.ones(2))


@settings(deadline=None, max_examples=25)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3))
def test_arguments_broadcast_as_numpys_do(shapes):
    x, y, z = (numbers("float32", shape, seed=i) for i, shape in enumerate(shapes.input_shapes))
    same(run("eager", xp.add, x, y), x + y)
    same(run("eager", lambda a, b, c: xp.where(a > 0, b, c), x, y, z), np.where(x > 0, y, z))
    same(run("eager", xp.clip, x, np.minimum(y, z), np.maximum(y, z)), np.clip(x, np.minimum(y, z), np.maximum(y, z)))
    for found, expected in zip(run("eager", xp.broadcast_arrays, x, y, z), np.broadcast_arrays(x, y, z), strict=True):
        same(found, expected)


# --- dtypes -----------------------------------------------------------------------------------------------------------


def test_promotion_is_the_standards():
    for a, b in itertools.product(EVERY, repeat=2):
        try:
            expected = strict.result_type(getattr(strict, a), getattr(strict, b))
        except TypeError:
            with pytest.raises(TypeError, match="no common dtype"):
                xp.result_type(getattr(xp, a), getattr(xp, b))
            with pytest.raises(TypeError, match="no common dtype"):
                xp.equal(xp.ones(2, dtype=getattr(xp, a)), xp.ones(2, dtype=getattr(xp, b)))
            continue
        name = str(expected).removeprefix("array_api_strict.")
        assert xp.result_type(getattr(xp, a), getattr(xp, b)) == getattr(xp, name)
        arrays = xp.ones(2, dtype=getattr(xp, a)), xp.ones(2, dtype=getattr(xp, b))
        assert xp.result_type(*arrays) == getattr(xp, name)
        assert xp.concat(arrays).dtype == xp.where(xp.asarray([True, False]), *arrays).dtype == getattr(xp, name)
        assert xp.can_cast(getattr(xp, a), getattr(xp, name))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("float16", "float16", "float16"),
        ("float16", "bfloat16", "float32"),
        ("float16", "float32", "float32"),
        ("bfloat16", "float64", "float64"),
    ],
)
def test_half_precision_promotes(a, b, expected):
    for pair in ((a, b), (b, a)):
        assert xp.result_type(*(getattr(xp, name) for name in pair)) == getattr(xp, expected)
        assert xp.add(*(xp.ones(1, dtype=getattr(xp, name)) for name in pair)).dtype == getattr(xp, expected)


@pytest.mark.parametrize("scalar", [True, 2, 2.5, 2j])
@pytest.mark.parametrize("dtype", EVERY)
def test_a_python_scalar_takes_the_arrays_dtype_or_is_refused(dtype, scalar):
    x = xp.ones(3, dtype=getattr(xp, dtype))
    kind = "bool" if dtype == "bool" else "float" if dtype in FLOATS + COMPLEX else "int"
    allowed = {"bool": (bool,), "int": (int,), "float": (int, float, complex)}[kind]
    if type(scalar) in allowed:
        assert xp.equal(x, scalar).dtype == xp.bool
        expected = {"float32": xp.complex64, "float64": xp.complex128}.get(dtype, x.dtype) if scalar == 2j else x.dtype
        assert xp.where(x == x, x, scalar).dtype == xp.where(x == x, scalar, x).dtype == expected
        assert xp.result_type(x, scalar) == xp.result_type(scalar, x.dtype) == expected
    else:
        with pytest.raises(TypeError, match=f"A Python {type(scalar).__name__} does not combine"):
            xp.equal(x, scalar)


def test_a_scalar_never_makes_float32_wider():
    x = xp.ones(3)
    for function in (xp.add, xp.multiply, xp.divide, xp.pow, xp.minimum, xp.atan2):
        assert function(x, math.pi).dtype == function(math.pi, x).dtype == xp.float32
    assert xp.clip(x, 0.1, 1e30).dtype == xp.float32


def test_scalars_out_of_bounds_or_of_other_types_are_refused():
    with pytest.raises(OverflowError, match="300 is out of bounds for uint8"):
        xp.add(xp.ones(2, dtype=xp.uint8), 300)
    with pytest.raises(TypeError, match="minimum takes no complex numbers"):
        xp.minimum(xp.ones(2), 1j)
    with pytest.raises(TypeError, match="A Python complex does not combine with an array of dtype int64"):
        xp.add(xp.ones(2, dtype=xp.int64), 1j)
    with pytest.raises(TypeError, match="got complex64"):
        xp.floor(xp.ones(2, dtype=xp.complex64))
    with pytest.raises(TypeError, match="only Python scalars"):
        xp.add(1, 2)
    with pytest.raises(TypeError, match=r"takes TensorFlow tensors, got numpy\.ndarray"):
        xp.add(xp.ones(2), np.ones(2))


def test_kinds_of_dtypes():
    kinds = ("bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric")
    for name in EVERY:
        for kind in kinds:
            assert xp.isdtype(getattr(xp, name), kind) == strict.isdtype(getattr(strict, name), kind)
    for half in (tf.float16, tf.bfloat16):
        assert xp.isdtype(half, "real floating")
        assert xp.isdtype(half, ("bool", "numeric"))
        assert not xp.isdtype(half, ("integral", xp.float32))
        assert xp.isdtype(half, half)
    assert xp.isdtype(tf.complex64, "complex floating")
    assert not xp.isdtype(tf.string, "numeric")
    with pytest.raises(ValueError, match="Unknown kind of dtype 'floating'"):
        xp.isdtype(xp.float32, "floating")


def test_limits_of_dtypes_are_numpys():
    for name in ("float16", *FLOATS, *COMPLEX):
        mine, theirs = xp.finfo(getattr(xp, name)), np.finfo(name)
        for field in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(mine, field) == float(getattr(theirs, field))
    for name in INTEGERS:
        mine, theirs = xp.iinfo(getattr(xp, name)), np.iinfo(name)
        assert (mine.bits, mine.max, mine.min) == (theirs.bits, theirs.max, theirs.min)
    assert xp.finfo(xp.bfloat16).eps == 2.0**-7
    assert xp.finfo(xp.ones(2)).dtype == xp.float32
    with pytest.raises(ValueError, match="finfo takes a floating-point dtype, got int32"):
        xp.finfo(xp.int32)
    with pytest.raises(ValueError, match="iinfo takes an integer dtype, got float32"):
        xp.iinfo(xp.float32)


def test_the_namespace_describes_itself():
    info = xp.__array_namespace_info__()
    assert xp.__array_api_version__ == "2024.12"
    assert info.default_dtypes() == {
        "real floating": xp.float32,
        "complex floating": xp.complex64,
        "integral": xp.int64,
        "indexing": xp.int64,
    }
    assert {"real": xp.asarray(1.0).dtype, "complex": xp.asarray(1j).dtype} == {
        "real": info.default_dtypes()["real floating"],
        "complex": info.default_dtypes()["complex floating"],
    }
    assert info.dtypes(kind="real floating") == {"float32": xp.float32, "float64": xp.float64}
    assert info.dtypes(kind=("bool", "complex floating")).keys() == {"bool", *COMPLEX}
    assert set(info.dtypes()) == set(EVERY)
    # Functions take a device as a tensor names it.
    assert info.default_device() in info.devices()
    assert xp.zeros(2).device == info.default_device()
    assert xp.zeros(2, device=info.devices()[0]).device == info.devices()[0]
    assert info.capabilities().keys() == {"boolean indexing", "data-dependent shapes", "max dimensions"}
    assert (xp.pi, xp.e, xp.inf, xp.newaxis) == (math.pi, math.e, math.inf, None)
    assert math.isnan(xp.nan)


def test_as_many_dimensions_as_stated_are_computed_with():
    most = xp.__array_namespace_info__().capabilities()["max dimensions"]
    x = numbers("float32", (2, 3) + (1,) * (most - 3) + (2,))
    assert x.ndim == most
    for name in ("argmax", "argmin", "sort", "flip", "sum", "max"):
        for axis in (0, most - 1):
            found = run("traced", lambda a, name=name, axis=axis: getattr(xp, name)(a, axis=axis), x)
            np.testing.assert_allclose(found, getattr(np, name)(x, axis=axis), rtol=1e-6)
    same(run("traced", lambda a: xp.where(a > 0, a, a[..., :1]), x), np.where(x > 0, x, x[..., :1]))
    same(run("eager", lambda a: a[::-1, ..., None, 0], x), x[::-1, ..., None, 0])
    for found, expected in zip(run("eager", lambda a: xp.nonzero(a > 0), x), np.nonzero(x > 0), strict=True):
        same(found, expected)


def test_the_namespace_has_every_function_that_the_core_uses():
    used = {
        node.attr
        for path in Path(agnoreg.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "xp"
    }
    assert len(used) > 10
    assert {name for name in used if not hasattr(xp, name)} == set()


# --- NaN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*MODES, "compiled"])
def test_nan_survives_minimum_maximum_and_clip(mode):
    x = np.array([np.nan, 1, np.nan, 4], "float32")
    y = np.array([2, np.nan, np.nan, 3], "float32")
    for mine, numpys in ((xp.minimum, np.minimum), (xp.maximum, np.maximum)):
        both, right, left = run(mode, lambda a, b, f=mine: (f(a, b), f(a, 2.0), f(2.0, a)), x, y)
        same(both, numpys(x, y))
        same(right, numpys(x, np.float32(2)))
        same(left, numpys(x, np.float32(2)))
    same(run(mode, lambda a: xp.clip(a, 0.0, 1.0), x), np.clip(x, 0, 1))
    same(run(mode, lambda a, b: xp.clip(a, b), x, y), np.clip(x, y, None))
    same(run(mode, lambda a: xp.clip(a, max=math.nan), y), np.full(4, np.nan, "float32"))


@pytest.mark.parametrize("mode", [*MODES, "compiled"])
def test_nan_survives_reductions(mode):
    names = ["min", "max", "sum", "prod", "mean", "var", "std"]
    arrays = [np.arange(10, dtype="float32").reshape(2, 5) for _ in range(5)]
    for position, x in enumerate(arrays):
        x[1, position] = np.nan
    functions = [getattr(xp, name) for name in names]
    for whole, rows in run(mode, lambda *xs: [(f(x), f(x, axis=1)) for f in functions for x in xs], *arrays):
        assert np.isnan(whole)
        np.testing.assert_array_equal(np.isnan(rows), [False, True])


def test_clip_takes_numbers_arrays_or_nothing():
    x = numbers("float32")
    same(run("eager", lambda a: xp.clip(a), x), x)
    same(run("eager", lambda a: xp.clip(a, -1), x), np.clip(x, -1, None))
    same(run("eager", lambda a: xp.clip(a, max=1.5), x), np.clip(x, None, 1.5))
    same(run("eager", lambda a: xp.clip(a, xp.full(4, -1.0, dtype=xp.float64), 1), x), np.clip(x, -1, 1))
    same(run("eager", lambda a: xp.clip(a, 2, 3), numbers("uint16")), np.clip(numbers("uint16"), 2, 3))


def test_the_gradient_of_clip_passes_at_the_bounds_and_not_beyond():
    x = tf.constant([-1.0, 0.0, 0.5, 1.0, 2.0])
    for clip in (xp.clip, tf.function(xp.clip)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = clip(x, 0.0, 1.0)
        np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 1, 0])


# --- creation ---------------------------------------------------------------------------------------------------------


def test_asarray_gives_python_numbers_the_default_dtypes():
    for value, dtype in (
        (True, xp.bool),
        (3, xp.int64),
        (1.5, xp.float32),
        ([[1, 2]], xp.int64),
        ([True, 2.0], xp.float32),
    ):
        assert xp.asarray(value).dtype == dtype
    assert xp.asarray(2**40).numpy() == 2**40
    assert xp.asarray([1, 2], dtype=xp.uint8).dtype == xp.uint8
    assert xp.asarray([xp.asarray(1.0), 2.0]).shape == (2,)


@pytest.mark.parametrize("dtype", BOOL + INTEGERS + FLOATS + ["float16"])
def test_asarray_keeps_what_an_array_is(dtype):
    x = numbers(dtype)
    same(xp.asarray(x).numpy(), x)
    same(xp.asarray(x, dtype=xp.float64).numpy(), x.astype("float64"))
    tensor = xp.asarray(x)
    assert xp.asarray(tensor) is tensor
    assert xp.asarray(tensor, copy=True) is tensor
    same(xp.asarray(tf.Variable(tensor)).numpy(), x)


def test_asarray_copies_numpys_memory_and_says_so():
    x = np.zeros(4096, "float32")
    tensor = xp.asarray(x)
    x[:] = 1
    assert not tensor.numpy().any()
    with pytest.raises(ValueError, match="ndarray into a tensor without a copy"):
        xp.asarray(x, copy=False)
    with pytest.raises(ValueError, match="float32 into float64 without a copy"):
        xp.asarray(tensor, dtype=xp.float64, copy=False)
    assert xp.asarray(tensor, copy=False) is tensor


@pytest.mark.parametrize("device", ["cpu", "CPU:0", "/CPU:0", "/job:localhost/replica:0/task:0/device:CPU:0", "", None])
def test_creation_takes_a_device_in_any_spelling(device):
    for x in (xp.zeros(2, device=device), xp.asarray([1.0], device=device), xp.arange(3, device=device)):
        assert backend.device(x) == "CPU:0" or device in ("", None)
    assert backend.device(xp.asarray(xp.ones(2), device="cpu")) == "CPU:0"


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"no device 'gpu:99' here, only .*CPU:0"):
        xp.zeros(2, device="gpu:99")
    with pytest.raises(ValueError, match=r"no device 'GPU:99' here, only .*CPU:0"):
        backend.from_numpy(np.zeros(2), device="GPU:99")


def test_filled_arrays_equal_numpys():
    for dtype in BOOL + INTEGERS + FLOATS:
        mine = getattr(xp, dtype)
        x = xp.asarray(numbers(dtype))
        for shape in ((2, 3), 4, ()):
            same(xp.zeros(shape, dtype=mine).numpy(), np.zeros(shape, dtype))
            same(xp.ones(shape, dtype=mine).numpy(), np.ones(shape, dtype))
            same(xp.full(shape, 1, dtype=mine).numpy(), np.full(shape, 1, dtype))
            assert xp.empty(shape, dtype=mine).shape == np.zeros(shape).shape
        same(xp.zeros_like(x).numpy(), np.zeros((3, 4), dtype))
        same(xp.ones_like(x).numpy(), np.ones((3, 4), dtype))
        same(xp.full_like(x, 1).numpy(), np.ones((3, 4), dtype))
        assert xp.empty_like(x, dtype=xp.int8).dtype == xp.int8
    assert xp.zeros(2).dtype == xp.full(2, 1.0).dtype == xp.float32
    assert xp.full(2, 1).dtype == xp.int64
    assert xp.full(2, True).dtype == xp.bool
    assert xp.full(2, xp.asarray(1, dtype=xp.int8)).dtype == xp.int8


@pytest.mark.parametrize(
    "arguments", [(5,), (0,), (2, 7), (7, 2), (7, 2, -2), (0, 10, 3), (0.0, 1.0, 0.1), (1.0, 2.5, 0.5), (0, -5, -1)]
)
def test_arange_equals_numpys(arguments):
    expected = np.arange(*arguments)
    same(xp.arange(*arguments).numpy(), expected.astype("float32" if expected.dtype == float else "int64"))
    same(xp.arange(*arguments, dtype=xp.float64).numpy(), expected.astype("float64"), 1e-15)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (-2.5, 7.5), (3, -3)])
@pytest.mark.parametrize("num", [0, 1, 2, 3, 10, 23])
@pytest.mark.parametrize("endpoint", [True, False])
def test_linspace_equals_numpys(start, stop, num, endpoint):
    expected = np.linspace(start, stop, num, endpoint=endpoint)
    found = xp.linspace(start, stop, num, dtype=xp.float64, endpoint=endpoint).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-15)
    assert xp.linspace(start, stop, num, endpoint=endpoint).dtype == xp.float32
    if endpoint and num > 1:
        assert found[-1] == stop


def test_matrices_and_grids_equal_numpys():
    for arguments, k in (((3,), 0), ((3, 4), 1), ((4, 3), -2), ((2, 2), 5)):
        same(xp.eye(*arguments, k=k).numpy(), np.eye(*arguments, k=k, dtype="float32"))
    assert not xp.any(xp.eye(3, k=10**20))
    assert xp.all(xp.triu(xp.ones((3, 3)), k=-(10**20)))
    x = numbers("float32", (2, 3, 4))
    for k in (-1, 0, 2):
        same(run("traced", lambda a, k=k: xp.tril(a, k=k), x), np.tril(x, k))
        same(run("traced", lambda a, k=k: xp.triu(a, k=k), x), np.triu(x, k))
    axes = numbers("float32", (2,)), numbers("float32", (3,)), numbers("float32", (4,))
    for indexing in ("xy", "ij"):
        found = xp.meshgrid(*(xp.asarray(a) for a in axes), indexing=indexing)
        for one, other in zip(found, np.meshgrid(*axes, indexing=indexing), strict=True):
            same(one.numpy(), other)
    assert xp.meshgrid() == []


@pytest.mark.parametrize("source", BOOL + INTEGERS + FLOATS)
def test_astype_equals_numpys(source):
    x = numbers(source, low=0)
    targets = BOOL + INTEGERS + FLOATS + ["float16"]
    found = run("eager", lambda a: [xp.astype(a, getattr(xp, target)) for target in targets], x)
    for one, target in zip(found, targets, strict=True):
        same(one, x.astype(target))
    tensor = tf.constant(x)
    assert xp.astype(tensor, tensor.dtype) is tensor


# --- reductions -------------------------------------------------------------------------------------------------------

AXES = [None, 0, -1, (0, 2), (), (-1, 0, 1)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "min", "max", "std", "var", "all", "any", "count_nonzero"])
def test_reductions_equal_numpys(name, mode):
    x = numbers("float32", (2, 3, 4))
    x[0, 0] = 0
    ways = [{"axis": axis, "keepdims": keepdims} for axis in AXES for keepdims in (False, True)]
    found = run(mode, lambda a: [getattr(xp, name)(a, **way) for way in ways], x)
    for one, way in zip(found, ways, strict=True):
        expected = np.asarray(getattr(np, name)(x, **way))
        assert one.dtype == expected.dtype
        assert one.shape == expected.shape
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", BOOL + INTEGERS)
def test_sums_of_small_integers_are_added_up_in_64_bits(dtype):
    x = np.ones((50, 30), "bool") if dtype == "bool" else np.full((50, 30), np.iinfo(dtype).max // 1500 or 100, dtype)
    x = np.full_like(x, 120) if dtype in ("int8", "uint8") else x
    wide = "uint64" if dtype.startswith("u") else "int64"
    same(run("eager", xp.sum, x), np.sum(x, dtype=wide))
    same(run("eager", lambda a: xp.sum(a, axis=0), x), np.sum(x, axis=0, dtype=wide))
    same(run("eager", lambda a: xp.cumulative_sum(a, axis=1), x), np.cumsum(x, axis=1, dtype=wide))
    same(run("eager", xp.prod, x[:2, :1]), np.prod(x[:2, :1], dtype=wide))
    same(run("eager", lambda a: xp.sum(a, dtype=xp.float64), x), np.sum(x, dtype="float64"), 1e-12)


@pytest.mark.parametrize("name", ["min", "max", "argmin", "argmax"])
def test_extremes_equal_numpys_in_every_dtype(name):
    mine, numpys = getattr(xp, name), getattr(np, name)
    arrays = [numbers(dtype, (3, 4)) for dtype in INTEGERS + FLOATS]
    ways = [{"axis": axis, "keepdims": keepdims} for axis in (None, 1) for keepdims in (False, True)]
    found = run("traced", lambda *xs: [[mine(x, **way) for way in ways] for x in xs], *arrays)
    for row, x in zip(found, arrays, strict=True):
        for one, way in zip(row, ways, strict=True):
            same(one, numpys(x, **way))


def test_variance_takes_a_correction():
    x = numbers("float64", (3, 4))
    ways = [{"axis": axis, "correction": correction} for axis in (None, 0, (0, 1)) for correction in (0, 1, 0.5)]
    found = run("traced", lambda a: [(xp.var(a, **way), xp.std(a, **way)) for way in ways], x)
    for (var, std), way in zip(found, ways, strict=True):
        same(var, np.var(x, **way), 1e-12)
        same(std, np.std(x, **way), 1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_scans_equal_numpys(name, mode):
    x = numbers("float32", (2, 3))
    ways = [{"axis": axis, "include_initial": initial} for axis in (0, 1, -1) for initial in (False, True)]
    found = run(mode, lambda a: [getattr(xp, name)(a, **way) for way in ways], x)
    for one, way in zip(found, ways, strict=True):
        same(one, getattr(np, name)(x, **way), 1e-6)
    same(run(mode, getattr(xp, name), x[0]), getattr(np, name)(x[0]), 1e-6)
    with pytest.raises(ValueError, match=f"{name} needs an axis for an array of 2 dimensions"):
        getattr(xp, name)(xp.ones((2, 2)))


def test_results_without_axes_are_0d_tensors():
    for result in (
        xp.sum(xp.ones((2, 2))),
        xp.max(xp.ones(3)),
        xp.argmax(xp.ones(3)),
        xp.mean(xp.ones(3)),
        xp.asarray(1.0),
    ):
        assert tf.is_tensor(result)
        assert result.shape == ()


@pytest.mark.parametrize("function", [xp.sum, xp.mean, xp.max, xp.all, xp.flip, xp.count_nonzero])
def test_wrong_axes_are_refused(function):
    with pytest.raises(IndexError, match="axis 2 is out of bounds for an array of 2 dimensions"):
        function(xp.ones((2, 2)), axis=2)
    with pytest.raises(ValueError, match="names one axis twice"):
        function(xp.ones((2, 2)), axis=(0, -2))


# --- moving elements --------------------------------------------------------------------------------------------------

# (function of the namespace, NumPy's, the shapes of the arrays)
MOVES = {
    "reshape": (lambda a: xp.reshape(a, (-1, 6)), lambda a: a.reshape(-1, 6), [(4, 3, 2)]),
    "reshape, own size": (lambda a: xp.reshape(a, (None, 6)), lambda a: a.reshape(4, 6), [(4, 3, 2)]),
    "reshape, own size and rest": (lambda a: xp.reshape(a, (None, -1)), lambda a: a.reshape(4, 6), [(4, 3, 2)]),
    "reshape to 1-D": (lambda a: xp.reshape(a, -1), lambda a: a.reshape(-1), [(4, 3, 2)]),
    "concat": (lambda a, b: xp.concat([a, b]), lambda a, b: np.concatenate([a, b]), [(2, 3), (4, 3)]),
    "concat, axis 1": (
        lambda a, b: xp.concat([a, b], axis=-1),
        lambda a, b: np.concatenate([a, b], 1),
        [(2, 3), (2, 1)],
    ),
    "concat, flattened": (
        lambda a, b: xp.concat([a, b], axis=None),
        lambda a, b: np.concatenate([a, b], None),
        [(2, 3), (2,)],
    ),
    "stack": (lambda a, b: xp.stack([a, b]), lambda a, b: np.stack([a, b]), [(2, 3), (2, 3)]),
    "stack, last": (lambda a, b: xp.stack([a, b], axis=-1), lambda a, b: np.stack([a, b], -1), [(2, 3), (2, 3)]),
    "unstack": (lambda a: xp.unstack(a, axis=1), lambda a: tuple(np.moveaxis(a, 1, 0)), [(2, 3, 4)]),
    "expand_dims": (lambda a: xp.expand_dims(a, axis=-1), lambda a: a[..., None], [(2, 3)]),
    "expand_dims, first": (lambda a: xp.expand_dims(a), lambda a: a[None], [(2, 3)]),
    "squeeze": (lambda a: xp.squeeze(a, (1, -1)), lambda a: a.squeeze((1, -1)), [(2, 1, 3, 1)]),
    "squeeze, nothing": (lambda a: xp.squeeze(a, ()), lambda a: a, [(1, 1)]),
    "permute_dims": (lambda a: xp.permute_dims(a, (2, 0, 1)), lambda a: a.transpose(2, 0, 1), [(2, 3, 4)]),
    "moveaxis": (lambda a: xp.moveaxis(a, 0, -1), lambda a: np.moveaxis(a, 0, -1), [(2, 3, 4)]),
    "moveaxis, two": (lambda a: xp.moveaxis(a, (0, 1), (2, 0)), lambda a: np.moveaxis(a, (0, 1), (2, 0)), [(2, 3, 4)]),
    "flip": (lambda a: xp.flip(a), np.flip, [(2, 3)]),
    "flip, one axis": (lambda a: xp.flip(a, axis=-1), lambda a: np.flip(a, -1), [(2, 3)]),
    "roll": (lambda a: xp.roll(a, 2), lambda a: np.roll(a, 2), [(2, 3)]),
    "roll, one axis": (lambda a: xp.roll(a, -1, axis=1), lambda a: np.roll(a, -1, 1), [(2, 3)]),
    "roll, one shift": (lambda a: xp.roll(a, 1, axis=(0, 1)), lambda a: np.roll(a, 1, (0, 1)), [(2, 3)]),
    "roll, two": (lambda a: xp.roll(a, (1, 2), axis=(1, 1)), lambda a: np.roll(a, (1, 2), (1, 1)), [(2, 3)]),
    "broadcast_to": (lambda a: xp.broadcast_to(a, (4, 2, 3)), lambda a: np.broadcast_to(a, (4, 2, 3)), [(2, 1)]),
    "broadcast_to, own size": (
        lambda a: xp.broadcast_to(a, (4, None, 3)),
        lambda a: np.broadcast_to(a, (4, 2, 3)),
        [(2, 1)],
    ),
    "broadcast_arrays": (lambda a, b: xp.broadcast_arrays(a, b), np.broadcast_arrays, [(2, 1), (1, 3)]),
    "tile": (lambda a: xp.tile(a, (2, 3)), lambda a: np.tile(a, (2, 3)), [(2, 3)]),
    "tile, more": (lambda a: xp.tile(a, (2, 1, 3)), lambda a: np.tile(a, (2, 1, 3)), [(2, 3)]),
    "tile, fewer": (lambda a: xp.tile(a, (3,)), lambda a: np.tile(a, 3), [(2, 3)]),
    "repeat": (lambda a: xp.repeat(a, 2), lambda a: np.repeat(a, 2), [(2, 3)]),
    "repeat, one axis": (lambda a: xp.repeat(a, 2, axis=1), lambda a: np.repeat(a, 2, 1), [(2, 3)]),
    "repeat, each": (
        lambda a: xp.repeat(a, xp.asarray([0, 2, 1]), axis=1),
        lambda a: np.repeat(a, [0, 2, 1], 1),
        [(2, 3)],
    ),
    "take": (lambda a: xp.take(a, xp.asarray([2, 0, -1]), axis=1), lambda a: a[:, [2, 0, -1]], [(2, 3)]),
    "take, batch": (lambda a: xp.take(a, xp.asarray([1, -2]), axis=0), lambda a: a[[1, -2]], [(2, 3)]),
    "take, 1-D": (lambda a: xp.take(a, xp.asarray([1], dtype=xp.uint8)), lambda a: a[[1]], [(3,)]),
    "matrix_transpose": (lambda a: xp.matrix_transpose(a), lambda a: a.swapaxes(-1, -2), [(2, 3, 4)]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("move", MOVES)
def test_elements_move_as_numpys_do_in_every_dtype(move, mode):
    mine, numpys, shapes = MOVES[move]
    for dtype in BOOL + INTEGERS + FLOATS if mode == "eager" else ["float32", "uint16"]:
        arrays = [numbers(dtype, shape, seed=i) for i, shape in enumerate(shapes)]
        found, expected = run(mode, mine, *arrays), numpys(*arrays)
        if isinstance(expected, tuple | list):
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                same(one, other)
        else:
            same(found, expected)


def test_wrong_moves_are_refused():
    x = xp.ones((2, 3))
    with pytest.raises(ValueError, match=r"squeeze needs a size of one, axis 1 of shape \(2, 3\)"):
        xp.squeeze(x, 1)
    with pytest.raises(ValueError, match="needs every axis"):
        xp.permute_dims(x, (0,))
    with pytest.raises(ValueError, match="as many destinations as sources"):
        xp.moveaxis(x, (0, 1), 0)
    with pytest.raises(ValueError, match="take needs an axis"):
        xp.take(x, xp.asarray([0]))
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        xp.take_along_axis(x, xp.asarray([0, 1, 0]))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (xp.zeros_like, (None, 4, 6)),
        (xp.ones_like, (None, 4, 6)),
        (lambda x: xp.full_like(x, 2.0), (None, 4, 6)),
        (lambda x: xp.concat([x[:, :1], x], axis=1), (None, 5, 6)),
        (lambda x: xp.concat([x, x], axis=0), (None, 4, 6)),
        (lambda x: xp.stack([x, x], axis=-1), (None, 4, 6, 2)),
        (lambda x: xp.reshape(x, (-1, 24)), (None, 24)),
        (lambda x: xp.reshape(x, (-1, 1, 4, 6)), (None, 1, 4, 6)),
        (lambda x: xp.reshape(x, (None, 24)), (None, 24)),
        (lambda x: xp.reshape(x, (None, -1)), (None, None)),
        (lambda x: xp.expand_dims(x, axis=3), (None, 4, 6, 1)),
        (lambda x: xp.moveaxis(x, 1, 2), (None, 6, 4)),
        (lambda x: xp.flip(x, axis=1), (None, 4, 6)),
        (lambda x: xp.roll(x, 1), (None, 4, 6)),
        (lambda x: xp.clip(x, 0.0, 1.0), (None, 4, 6)),
        (lambda x: xp.where(x > 0, x, 0.0), (None, 4, 6)),
        (lambda x: xp.sum(x, axis=1, keepdims=True), (None, 1, 6)),
        (lambda x: xp.var(x, axis=(1, 2), correction=1), (None,)),
        (lambda x: xp.cumulative_sum(x, axis=1, include_initial=True), (None, 5, 6)),
        (lambda x: xp.take(x, xp.asarray([0, 1]), axis=1), (None, 2, 6)),
        (lambda x: xp.sort(x, axis=1), (None, 4, 6)),
        (lambda x: xp.matmul(x, xp.matrix_transpose(x)), (None, 4, 4)),
        (lambda x: xp.tensordot(x, xp.ones((6, 2)), axes=1), (None, 4, 2)),
        (lambda x: xp.vecdot(x, x), (None, 4)),
        (lambda x: backend.execution.planes(x, 1, 2), (None, 2, 6)),
        (lambda x: backend.execution.planes(x, tf.constant(1) * tf.shape(x)[0], 2), (None, 2, 6)),
    ],
)
def test_known_sizes_stay_known_where_the_batch_is_not(function, shape):
    seen = []
    traced = tf.function(lambda x: seen.append(tuple(function(x).shape)))
    traced.get_concrete_function(tf.TensorSpec([None, 4, 6]))
    assert seen == [shape]


# --- choosing, sorting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_along_axis_equals_numpys(axis, mode):
    x = numbers("float32", (3, 4, 2))
    indices = np.random.default_rng(1).integers(-2, 2, (3, 4, 2))
    narrow = (..., slice(1)) if axis != -1 else (slice(None), slice(1))
    for a, i in ((x, indices), (x, indices[narrow]), (x[narrow], indices)):
        found = run(mode, lambda a, i: xp.take_along_axis(a, i, axis=axis), a, i)
        same(found, np.take_along_axis(a, i, axis))


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(
        "float32",
        hnp.array_shapes(max_dims=3, max_side=6),
        elements=st.sampled_from([math.nan, -math.inf, math.inf, -0.0, 0.0, 1.0, -2.0, 3.5]),
    ),
    st.booleans(),
    st.data(),
)
def test_sorting_is_stable_and_puts_nan_after_infinity(x, descending, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    # NumPy sorts NaN last; backwards, and stably, that is a sort of the reversed array.
    if descending:
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, stable=True), axis)
    else:
        order = np.argsort(x, axis, stable=True)
    same(run("eager", lambda a: xp.argsort(a, axis=axis, descending=descending), x), order)
    same(run("eager", lambda a: xp.sort(a, axis=axis, descending=descending), x), np.take_along_axis(x, order, axis))


@pytest.mark.parametrize("mode", MODES)
def test_every_dtype_sorts(mode):
    arrays = [numbers(dtype, (3, 5)) for dtype in INTEGERS + FLOATS]
    found = run(mode, lambda *xs: [(xp.sort(x), xp.argsort(x, axis=0)) for x in xs], *arrays)
    for (values, order), x in zip(found, arrays, strict=True):
        same(values, np.sort(x))
        same(order, np.argsort(x, 0, stable=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_equals_numpys(side, mode):
    pairs = [(np.sort(numbers(dtype, (6,))), numbers(dtype, (2, 3), seed=1)) for dtype in INTEGERS + FLOATS]
    found = run(
        mode,
        lambda *a: [xp.searchsorted(e, x, side=side) for e, x in zip(a[::2], a[1::2], strict=True)],
        *itertools.chain(*pairs),
    )
    for one, (edges, x) in zip(found, pairs, strict=True):
        same(one, np.searchsorted(edges, x, side))
    shuffled = numbers("float32", (6,))
    x, order = numbers("float32", (2, 3), seed=1), np.argsort(shuffled)
    found = run(mode, lambda e, a, o: xp.searchsorted(e, a, side=side, sorter=o), shuffled, x, order)
    same(found, np.searchsorted(shuffled, x, side, sorter=order))


@pytest.mark.parametrize("mode", MODES)
def test_where_and_nonzero_equal_numpys(mode):
    x, y = numbers("float32"), numbers("float32", seed=1)
    same(run(mode, lambda a, b: xp.where(a > b, a, b), x, y), np.where(x > y, x, y))
    same(run(mode, lambda a: xp.where(a > 0, a, 0.0), x), np.where(x > 0, x, np.float32(0)))
    for found, expected in zip(run(mode, lambda a: xp.nonzero(a > 0), x), np.nonzero(x > 0), strict=True):
        same(found, expected)
    with pytest.raises(TypeError, match="where takes arrays of a bool dtype"):
        xp.where(xp.ones(2), xp.ones(2), xp.ones(2))


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "shapes", [((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4))]
)
def test_matmul_equals_numpys(shapes, mode):
    pairs = [[numbers(dtype, shape, seed=i) for i, shape in enumerate(shapes)] for dtype in INTEGERS + FLOATS]
    found = run(
        mode, lambda *a: [xp.matmul(x, y) for x, y in zip(a[::2], a[1::2], strict=True)], *itertools.chain(*pairs)
    )
    for one, (x, y) in zip(found, pairs, strict=True):
        np.testing.assert_allclose(one, x @ y, rtol=1e-5, atol=1e-5)
        assert one.dtype == x.dtype


def test_matmul_refuses_scalars():
    with pytest.raises(ValueError, match="at least one dimension"):
        xp.matmul(xp.asarray(1.0), xp.ones(2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axes", [1, 2, ((1,), (0,)), ((0, 1), (1, 0)), 0])
def test_tensordot_equals_numpys(axes, mode):
    for dtype in ("float32", "int16"):
        x = numbers(dtype, (3, 3))
        y = numbers(dtype, (3, 3), seed=1)
        found = run(mode, lambda a, b: xp.tensordot(a, b, axes=axes), x, y)
        np.testing.assert_allclose(found, np.tensordot(x, y, axes), rtol=1e-5, atol=1e-5)
        assert found.dtype == dtype


@pytest.mark.parametrize("mode", MODES)
def test_vectors_multiply_as_numpys_do(mode):
    x, y = numbers("float64", (2, 3, 4)), numbers("float64", (3, 1), seed=1)
    same(run(mode, xp.vecdot, x, x[0, :1]), np.vecdot(x, x[0, :1]), 1e-12)
    same(run(mode, lambda a, b: xp.vecdot(a, b, axis=-2), x, y), np.sum(x * y, -2), 1e-12)
    same(run(mode, xp.linalg.outer, x[0, 0], y[:, 0]), np.outer(x[0, 0], y[:, 0]))


@pytest.mark.parametrize("mode", MODES)
def test_norms_equal_numpys(mode):
    x = numbers("float64", (3, 4))
    ways = [
        {"axis": axis, "ord": ord, "keepdims": keepdims}
        for axis in (None, 0, -1)
        for ord in (2, 1, 0, math.inf, -math.inf, 3, 0.5)
        for keepdims in (False, True)
    ]
    found = run(mode, lambda a: [xp.linalg.vector_norm(a, **way) for way in ways], x)
    for one, way in zip(found, ways, strict=True):
        same(one, np.linalg.vector_norm(x, **way), 1e-12)
    same(run(mode, lambda a: xp.linalg.vector_norm(a, axis=(0, 1)), x), np.linalg.vector_norm(x), 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_diagonals_equal_numpys(mode):
    x = numbers("float32", (5, 3, 4))
    offsets = (-4, -1, 0, 2)
    found = run(mode, lambda a: [(xp.linalg.diagonal(a, offset=k), xp.linalg.trace(a, offset=k)) for k in offsets], x)
    for (diagonal, trace), k in zip(found, offsets, strict=True):
        same(diagonal, np.linalg.diagonal(x, offset=k))
        same(trace, np.linalg.trace(x, offset=k), 1e-6)
    assert xp.linalg.trace(xp.ones((2, 2), dtype=xp.uint8)).dtype == xp.uint64


@pytest.mark.parametrize("mode", MODES)
def test_linear_systems_equal_numpys(mode):
    a = numbers("float64", (2, 3, 3)) + 10 * np.eye(3)
    b, v = numbers("float64", (2, 3, 2), seed=1), numbers("float64", (3,), seed=1)
    same(run(mode, xp.linalg.solve, a, b), np.linalg.solve(a, b), 1e-12)
    same(run(mode, xp.linalg.solve, a[0], v), np.linalg.solve(a[0], v), 1e-12)
    same(run(mode, xp.linalg.inv, a), np.linalg.inv(a), 1e-12)
    same(run(mode, xp.linalg.det, a), np.linalg.det(a), 1e-12)


# --- complex numbers --------------------------------------------------------------------------------------------------

OF_COMPLEX = {
    "sqrt": np.sqrt,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "reciprocal": np.reciprocal,
    "square": np.square,
    "negative": np.negative,
    "positive": np.positive,
    "abs": np.abs,
    "sign": np.sign,
    "conj": np.conj,
    "real": np.real,
    "imag": np.imag,
    "round": np.round,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_COMPLEX)
def test_functions_of_complex_numbers_equal_numpys(name, mode):
    arrays = [numbers(dtype, low=-3, high=3) for dtype in COMPLEX]
    found = run(mode, lambda *xs: [getattr(xp, name)(x) for x in xs], *arrays)
    for one, x, rtol in zip(found, arrays, (5e-6, 1e-13), strict=True):
        same(one, OF_COMPLEX[name](x), rtol)


@pytest.mark.parametrize("mode", MODES)
def test_functions_of_two_complex_numbers_equal_numpys(mode):
    functions = {"divide": np.divide, "pow": np.power} | {
        name: OF_TWO_NUMBERS[name] for name in ("add", "subtract", "multiply", "equal", "not_equal")
    }
    pairs = [(numbers(dtype), numbers(dtype, low=1, seed=1)) for dtype in COMPLEX]
    found = run(
        mode,
        lambda *a: [
            [(getattr(xp, name)(x, y), getattr(xp, name)(x, 2j)) for name in functions]
            for x, y in zip(a[::2], a[1::2], strict=True)
        ],
        *itertools.chain(*pairs),
    )
    for row, (x, y), rtol in zip(found, pairs, (2e-5, 1e-12), strict=True):
        for (both, right), function in zip(row, functions.values(), strict=True):
            same(both, function(x, y), rtol)
            same(right, function(x, np.asarray(2j, x.dtype)), rtol)


def test_logarithms_of_complex_numbers_neither_overflow_nor_cancel():
    z = np.array([1e30 + 1e30j, -1e-30 + 1e-30j, 3 - 1e38j, 1e-25j, -1, 0.6 + 0.8j], "complex64")
    exact = np.log(z.astype("complex128"))
    found = xp.log(tf.constant(z)).numpy()
    np.testing.assert_allclose(found, exact, rtol=2e-7, atol=1e-7)
    small = np.array([1e-6 + 1e-5j, -1e-7 + 1e-7j, 1e-12j], "complex64")
    np.testing.assert_allclose(xp.log1p(tf.constant(small)), np.log1p(small.astype("complex128")), rtol=3e-7)


def test_roots_lie_on_the_side_of_the_branch_cut_that_the_sign_of_zero_says():
    above, below = complex(-4, 0.0), complex(-4, -0.0)
    z = tf.constant(np.array([above, below]))
    np.testing.assert_array_equal(xp.sqrt(z), [2j, -2j])
    np.testing.assert_allclose(xp.imag(xp.log(z)), [np.pi, -np.pi])


def test_zero_to_the_power_of_zero_is_one():
    for dtype in INTEGERS + FLOATS + COMPLEX:
        zero = xp.zeros(2, dtype=getattr(xp, dtype))
        np.testing.assert_array_equal(xp.pow(zero, zero), [1, 1])


def test_complex_numbers_are_not_cast_to_real_ones():
    x = xp.asarray([0j, 2j])
    for dtype in ("int32", "float64"):
        with pytest.raises(TypeError, match=f"do not become {dtype}: take their real or imag first"):
            xp.astype(x, getattr(xp, dtype))
    np.testing.assert_array_equal(xp.astype(x, xp.bool), [False, True])
    assert xp.astype(xp.asarray([1.5]), xp.complex128).numpy() == 1.5


# --- infinity, NaN and signed zeros -----------------------------------------------------------------------------------

SPECIAL = [math.nan, -math.inf, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, 3.0, math.inf]
OF_TWO_SPECIAL = {
    "remainder": np.remainder,
    # The standard rounds the quotient of infinity; NumPy follows Python, which has none.
    "floor_divide": lambda x, y: np.floor(x / y),
    "divide": np.divide,
    "pow": np.power,
    "atan2": np.arctan2,
    "hypot": np.hypot,
    "copysign": np.copysign,
    "nextafter": np.nextafter,
    "logaddexp": np.logaddexp,
}
OF_SPECIAL = {name: function for name, (function, _, _) in OF_FLOATS.items()} | {
    name: OF_NUMBERS[name] for name in ("floor", "ceil", "trunc", "round", "sign", "abs", "negative", "square")
}


def same_sign_too(found, expected, rtol):
    np.testing.assert_allclose(found, expected, rtol=rtol)
    counts = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[counts], np.signbit(expected)[counts])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_TWO_SPECIAL)
@np.errstate(all="ignore")
def test_functions_of_two_special_numbers_equal_numpys(name, mode):
    x, y = (one.ravel() for one in np.meshgrid(SPECIAL, SPECIAL))
    for dtype, rtol in (("float32", 1e-6), ("float64", 1e-14)):
        a, b = x.astype(dtype), y.astype(dtype)
        same_sign_too(run(mode, getattr(xp, name), a, b), OF_TWO_SPECIAL[name](a, b), rtol)


@pytest.mark.parametrize("name", OF_SPECIAL)
@np.errstate(all="ignore")
def test_functions_of_special_numbers_equal_numpys(name):
    for dtype, rtol in (("float32", 4e-6), ("float64", 1e-13)):
        x = np.array(SPECIAL, dtype)
        same_sign_too(run("eager", getattr(xp, name), x), OF_SPECIAL[name](x), rtol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
def test_the_sign_bit_of_every_number_is_seen_and_copied(dtype, mode):
    x = np.array([-0.0, 0.0, -1.0, 2.0, math.inf, -math.inf, math.nan, -math.nan], dtype)
    x[-1] = np.copysign(x[-1], -1)
    same(run(mode, xp.signbit, x), np.signbit(x))
    for sign in (1.0, -0.0):
        found = run(mode, lambda a, s=sign: xp.copysign(a, s), x)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(np.copysign(x, sign)))
    x = tf.constant([-2.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = xp.copysign(x, 1.0)
    np.testing.assert_array_equal(tape.gradient(y, x), [-1, 1])


def test_the_next_number_of_half_precision_is_numpys():
    every = np.arange(1 << 16, dtype="uint16").view("float16")
    every = every[np.isfinite(every)]
    for toward in (-math.inf, 0.0, 1.0, math.inf):
        found = xp.nextafter(tf.constant(every), toward).numpy()
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(found, np.nextafter(every, np.float16(toward)))
    x = tf.constant([1.0, 0.0, -0.0, -1.0], tf.bfloat16)
    np.testing.assert_array_equal(tf.cast(xp.nextafter(x, math.inf) - x, tf.float64)[0], 2.0**-7)


def test_scalars_keep_the_sign_of_zero():
    # tf.constant(0.0) is -0.0 here, which TensorFlow has been asked for first.
    for dtype in FLOATS:
        tf.constant(-0.0, getattr(tf, dtype))
        mine = getattr(xp, dtype)
        for x in (xp.asarray(0.0, dtype=mine), xp.full(2, 0.0, dtype=mine), xp.asarray(np.zeros((), dtype))):
            assert not np.signbit(x).any()
        assert np.signbit(xp.asarray(-0.0, dtype=mine))
        assert not np.signbit(xp.maximum(xp.asarray([-1.0], dtype=mine), 0.0)).any()
        np.testing.assert_array_equal(xp.divide(1.0, xp.asarray(0.0, dtype=mine)), math.inf)
    for parts in itertools.product([0.0, -0.0, 1.0], repeat=2):
        x = xp.asarray(complex(*parts)).numpy()
        assert (math.copysign(1, x.real), math.copysign(1, x.imag)) == tuple(math.copysign(1, part) for part in parts)
        assert (x.real, x.imag) == parts


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_integers_wrap_around_and_round_down_as_numpys_do(dtype):
    least = np.iinfo(dtype).min
    x, y = (one.ravel() for one in np.meshgrid([least, -7, -6, 0, 6, 7, -least - 1], [-3, -1, 1, 3, -least - 1]))
    x, y = x.astype(dtype), y.astype(dtype)
    with np.errstate(over="ignore"):
        for name in ("add", "subtract", "multiply", "floor_divide", "remainder"):
            same(run("eager", getattr(xp, name), x, y), OF_TWO_NUMBERS[name](x, y))
        same(run("eager", xp.negative, x), -x)
        same(run("eager", xp.abs, x), np.abs(x))


# --- creation ---------------------------------------------------------------------------------------------------------


def test_asarray_takes_numbers_of_several_types():
    assert xp.asarray([0, 0.5j]).dtype == xp.complex64
    assert xp.asarray([[True], [1j]]).numpy().tolist() == [[1], [1j]]
    assert xp.asarray([[True, 9], [0, False]], dtype=xp.uint8).numpy().tolist() == [[1, 9], [0, 0]]
    assert xp.asarray([1, 2.5], dtype=xp.complex128).dtype == xp.complex128
    assert xp.asarray([0.25, 0.0], dtype=xp.bool).numpy().tolist() == [True, False]
    assert xp.asarray([1.75, -1.75], dtype=xp.int32).numpy().tolist() == [1, -1]
    assert xp.asarray(True, dtype=xp.float32).numpy() == 1
    assert xp.asarray(2**64 - 1, dtype=xp.uint64).numpy() == 2**64 - 1
    assert xp.asarray([]).shape == (0,)
    with pytest.raises(TypeError, match="do not become float32"):
        xp.asarray(1j, dtype=xp.float32)


def test_ranges_reach_every_dtypes_ends():
    top = 2**64
    assert xp.arange(top - 3, top, dtype=xp.uint64).numpy().tolist() == [top - 3, top - 2, top - 1]
    assert xp.arange(-(2**63), -(2**63) + 2).numpy().tolist() == [-(2**63), -(2**63) + 1]
    assert xp.arange(2**53, 2**53 + 2).numpy().tolist() == [2**53, 2**53 + 1]
    found = xp.linspace(1j, 2, 5)
    assert found.dtype == xp.complex64
    np.testing.assert_allclose(found, np.linspace(1j, 2, 5), rtol=1e-6)


def placed_at(offset, dtype, shape):
    """Return zeros that begin ``offset`` bytes after a multiple of 64."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 128, "uint8")
    start = -memory.ctypes.data % 64 + offset
    return memory[start : start + size].view(dtype).reshape(shape)


def test_data_come_by_dlpack():
    # TensorFlow computes at addresses that are multiples of 64, and otherwise aborts.
    aligned, other = placed_at(0, "uint16", (2, 3)), placed_at(16, "uint16", (2, 3))
    shared, copied, moved = xp.from_dlpack(aligned), xp.from_dlpack(aligned, copy=True), xp.from_dlpack(other)
    assert xp.from_dlpack(aligned, copy=False).shape == (2, 3)
    aligned += 9
    other += 9
    for x, value in ((shared, 10), (copied, 1), (moved, 1)):
        np.testing.assert_array_equal(xp.add(x, 1), np.full((2, 3), value))
    with pytest.raises(BufferError, match="cannot move the data to an address that is a multiple of 64 without a copy"):
        xp.from_dlpack(other, copy=False)
    for dtype in EVERY:
        same(xp.from_dlpack(numbers(dtype)).numpy(), numbers(dtype))
        same(xp.from_dlpack(tf.constant(numbers(dtype)), device="cpu", copy=False).numpy(), numbers(dtype))
    with pytest.raises(BufferError, match="takes contiguous data"):
        xp.from_dlpack(aligned[:, ::2])
    with pytest.raises(AttributeError, match="__dlpack__"):
        xp.from_dlpack([1, 2])


def test_asarray_copies_memory_that_tensorflow_could_share():
    x = placed_at(0, "float32", (64, 64))
    tensor = xp.asarray(x)
    x[:] = 1
    assert not tensor.numpy().any()


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("dtype", EVERY)
def test_grids_of_every_dtype_equal_numpys(dtype, indexing):
    axes = [numbers(dtype, (n,), seed=n) for n in (2, 3, 1)]
    for count in (1, 2, 3):
        found = run("eager", lambda *a: xp.meshgrid(*a, indexing=indexing), *axes[:count])
        for one, other in zip(found, np.meshgrid(*axes[:count], indexing=indexing), strict=True):
            same(one, other)


# --- sets, differences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_sets_equal_numpys_in_every_dtype(mode):
    arrays = [numbers(dtype, (4, 5), low=-2, high=3) for dtype in EVERY]
    arrays += [np.round(a) for a in arrays if a.dtype.name in COMPLEX] + [np.zeros((0, 2), "float32")]
    found = run(mode, lambda *xs: [tuple(xp.unique_all(x)) for x in xs], *arrays)
    for (values, indices, inverse, counts), x in zip(found, arrays, strict=True):
        expected = np.unique_all(x)
        same(values, expected.values)
        same(indices, expected.indices)
        same(inverse, expected.inverse_indices)
        same(counts, expected.counts)
    x = tf.constant(arrays[2])
    every = xp.unique_all(x)
    np.testing.assert_array_equal(xp.unique_values(x), every.values)
    np.testing.assert_array_equal(xp.unique_counts(x).counts, every.counts)
    np.testing.assert_array_equal(xp.unique_inverse(x).inverse_indices, every.inverse_indices)


@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_every_nan_is_distinct_and_zeros_are_equal(dtype):
    x = tf.constant(np.array([math.nan, 0.0, 1.0, -0.0, math.nan, 1.0], dtype))
    values, _, inverse, counts = xp.unique_all(x)
    np.testing.assert_array_equal(values, np.array([0, 1, math.nan, math.nan], dtype))
    np.testing.assert_array_equal(counts, [2, 2, 1, 1])
    np.testing.assert_array_equal(np.take(values, inverse), x)


@pytest.mark.parametrize("mode", MODES)
def test_differences_equal_numpys(mode):
    x, before = numbers("int32", (3, 5)), numbers("int32", (3, 2), seed=1)
    found = run(
        mode,
        lambda a, b: [xp.diff(a), xp.diff(a, axis=0, n=2), xp.diff(a, prepend=b, append=a), xp.diff(a, n=9)],
        x,
        before,
    )
    expected = [np.diff(x), np.diff(x, 2, 0), np.diff(x, prepend=before, append=x), np.diff(x, 9)]
    for one, other in zip(found, expected, strict=True):
        same(one, other)
    assert xp.diff(xp.ones(3, dtype=xp.complex64)).dtype == xp.complex64


# --- decompositions ---------------------------------------------------------------------------------------------------


def matrices(dtype, shape, seed=0):
    return numbers(dtype, shape, -2, 2, seed)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", FLOATS + COMPLEX)
def test_decompositions_are_what_they_say(dtype, mode):
    rtol = 1e-4 if dtype in ("float32", "complex64") else 1e-11
    real = np.finfo(dtype).dtype
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)  # noqa: E731
    for shape in ((2, 4, 3), (3, 4), (2, 3, 3)):
        x = matrices(dtype, shape)
        m, n = shape[-2:]
        k = min(m, n)
        for full in (False, True):
            u, s, vh = run(mode, lambda a, full=full: tuple(xp.linalg.svd(a, full_matrices=full)), x)
            assert (u.shape[-1], vh.shape[-2]) == ((m, n) if full else (k, k))
            assert s.dtype == real
            close(u[..., :k] * s[..., None, :] @ vh[..., :k, :], x)
            close(
                np.conj(np.swapaxes(u, -1, -2)) @ u,
                np.broadcast_to(np.eye(u.shape[-1]), (*shape[:-2], *u.shape[-1:] * 2)),
            )
            close(s, np.linalg.svdvals(x))
            q, r = run(mode, lambda a, full=full: tuple(xp.linalg.qr(a, mode="complete" if full else "reduced")), x)
            assert (q.shape[-1], r.shape[-2]) == ((m, m) if full else (k, k))
            close(q @ r, x)
            close(r, np.triu(r))
        close(run(mode, xp.linalg.svdvals, x), np.linalg.svdvals(x))
        close(run(mode, xp.linalg.pinv, x), np.linalg.pinv(x))
        same(run(mode, xp.linalg.matrix_rank, x), np.linalg.matrix_rank(x).astype("int64"))
    hermitian = x + np.conj(np.swapaxes(x, -1, -2))
    values, vectors = run(mode, lambda a: tuple(xp.linalg.eigh(a)), hermitian)
    assert values.dtype == real
    close(values, np.linalg.eigvalsh(hermitian))
    close(hermitian @ vectors, vectors * values[..., None, :])
    close(run(mode, xp.linalg.eigvalsh, hermitian), values)
    positive = (x @ np.conj(np.swapaxes(x, -1, -2)) + np.eye(3)).astype(dtype)
    for upper in (False, True):
        factor = run(mode, lambda a, upper=upper: xp.linalg.cholesky(a, upper=upper), positive)
        close(factor, np.linalg.cholesky(positive, upper=upper))
    sign, size = run(mode, lambda a: tuple(xp.linalg.slogdet(a)), x)
    assert (sign.dtype, size.dtype) == (dtype, real)
    close(sign * np.exp(size), np.linalg.det(x))
    for power in (-2, 0, 1, 5):
        close(
            run(mode, lambda a, p=power: xp.linalg.matrix_power(a, p), positive / 9),
            np.linalg.matrix_power(positive / 9, power),
        )


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_decompositions_of_large_numbers_do_not_overflow(dtype):
    x = (matrices(dtype, (4, 3)) * 1e30).astype(dtype)
    q, r = xp.linalg.qr(tf.constant(x))
    np.testing.assert_allclose(q.numpy() @ (r.numpy() / 1e30), x / 1e30, atol=1e-5)
    u, s, vh = xp.linalg.svd(tf.constant(x), full_matrices=False)
    np.testing.assert_allclose((u.numpy() * (s.numpy() / 1e30)) @ vh.numpy(), x / 1e30, atol=1e-5)
    hermitian = (x[:3] + np.conj(x[:3].T)) / 2
    values = xp.linalg.eigvalsh(tf.constant(hermitian)).numpy() / 1e30
    np.testing.assert_allclose(values, np.linalg.eigvalsh(hermitian.astype("complex128") / 1e30), atol=1e-5)


def test_tolerances_of_singular_values_are_relative_and_may_be_arrays():
    x = np.stack([np.diag([4.0, 1.0, 1e-3]), np.diag([1.0, 1.0, 0.0])])
    for rtol in (1e-2, np.array([0.5, 1e-9])):
        mine = rtol if isinstance(rtol, float) else tf.constant(rtol)
        np.testing.assert_array_equal(
            xp.linalg.matrix_rank(tf.constant(x), rtol=mine), np.linalg.matrix_rank(x, rtol=rtol)
        )
        np.testing.assert_allclose(xp.linalg.pinv(tf.constant(x), rtol=mine), np.linalg.pinv(x, rtol=rtol), rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_norms_of_matrices_equal_numpys(mode):
    for dtype, rtol in (("float64", 1e-12), ("complex64", 2e-6)):
        x = matrices(dtype, (2, 3, 4))
        ways = [
            {"ord": ord, "keepdims": keepdims}
            for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
            for keepdims in (False, True)
        ]
        found = run(mode, lambda a, ways=ways: [xp.linalg.matrix_norm(a, **way) for way in ways], x)
        for one, way in zip(found, ways, strict=True):
            same(one, np.linalg.matrix_norm(x, **way), rtol)
        same(
            run(mode, lambda a: xp.linalg.vector_norm(a, axis=1, ord=-2), x),
            np.linalg.vector_norm(x, axis=1, ord=-2),
            rtol,
        )
    with pytest.raises(ValueError, match="not 'frobenius'"):
        xp.linalg.matrix_norm(xp.ones((2, 2)), ord="frobenius")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "complex128"])
def test_cross_products_equal_numpys(dtype, mode):
    x, y = numbers(dtype, (4, 3, 5)), numbers(dtype, (4, 3, 1), seed=1)
    found = run(mode, lambda a, b: xp.linalg.cross(a, b, axis=-2), x, y)
    expected = np.cross(*np.broadcast_arrays(x, y), axis=-2)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.dtype == expected.dtype
    with pytest.raises(ValueError, match="three elements along axis -1"):
        xp.linalg.cross(xp.ones((3, 2)), xp.ones((3, 2)))
    for function in (xp.vecdot, xp.linalg.cross):
        with pytest.raises(ValueError, match=r"needs one size along axis -1, got the shapes \(2, 3\) and \(2, 1\)"):
            function(xp.ones((2, 3)), xp.ones((2, 1)))


@pytest.mark.parametrize("mode", MODES)
def test_products_conjugate_and_broadcast_as_numpys_do(mode):
    x, y = numbers("complex128", (2, 3)), numbers("complex128", (2, 3), seed=1)
    same(run(mode, xp.vecdot, x, y), np.vecdot(x, y), 1e-12)
    same(run(mode, xp.matmul, x, y.T.copy()), x @ y.T, 1e-12)
    same(run(mode, lambda a, b: xp.tensordot(a, b, axes=((1,), (1,))), x, y), np.tensordot(x, y, ((1,), (1,))), 1e-12)
    a, b = numbers("float64", (2, 1, 3, 3)) + 9 * np.eye(3), numbers("float64", (4, 3, 2), seed=1)
    same(run(mode, xp.linalg.solve, a, b), np.linalg.solve(a, b), 1e-12)
    a, b = matrices("complex128", (3, 3)) + 9 * np.eye(3), matrices("complex128", (3,), seed=1)
    same(run(mode, xp.linalg.solve, a, b), np.linalg.solve(a, b), 1e-12)


def test_empty_matrices_equal_numpys():
    none = np.zeros((2, 0, 0))
    same(xp.linalg.det(tf.constant(none)).numpy(), np.linalg.det(none))
    same(xp.linalg.inv(tf.constant(none)).numpy(), np.linalg.inv(none))
    same(xp.matmul(xp.ones((2, 0)), xp.ones((0, 3))).numpy(), np.zeros((2, 3), "float32"))
    for shape in ((2, 0, 3, 2), (2, 0, 3), (3, 0), (0, 0)):
        same(xp.linalg.diagonal(xp.ones(shape)).numpy(), np.linalg.diagonal(np.ones(shape, "float32")))
    assert xp.linalg.matrix_rank(xp.ones((2, 0, 3))).numpy().tolist() == [0, 0]
    assert xp.linalg.pinv(xp.ones((2, 0, 3))).shape == (2, 3, 0)


# --- Fourier transforms -----------------------------------------------------------------------------------------------

NORMS = ["backward", "ortho", "forward"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_transforms_along_an_axis_equal_numpys(name, mode):
    dtypes = ["float32", "float64"] if name in ("rfft", "ihfft") else COMPLEX
    arrays = [numbers(dtype, (3, 6, 5)) for dtype in dtypes]
    ways = [{"n": n, "axis": axis, "norm": norm} for n in (None, 4, 9) for axis in (0, 1, -1) for norm in NORMS]
    found = run(mode, lambda *xs: [[getattr(xp.fft, name)(x, **way) for way in ways] for x in xs], *arrays)
    for row, x, rtol in zip(found, arrays, (1e-5, 1e-12), strict=True):
        for one, way in zip(row, ways, strict=True):
            expected = getattr(np.fft, name)(x, **way)
            np.testing.assert_allclose(one, expected, rtol=rtol, atol=10 * rtol)
            assert one.dtype == expected.dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
def test_transforms_along_several_axes_equal_numpys(name, mode):
    x = numbers("float64" if name == "rfftn" else "complex128", (3, 6, 4))
    ways = [{}, {"axes": (0, 2)}, {"axes": (2, 1), "s": (5, 4)}, {"axes": (1,), "s": (-1,)}]
    ways = [way | {"norm": norm} for way in ways for norm in NORMS]
    if name == "irfftn":  # NumPy takes -1 for the size of half of the axis there, the standard for that of all.
        ways = [way for way in ways if way.get("s") != (-1,)]
    found = run(mode, lambda a: [getattr(xp.fft, name)(a, **way) for way in ways], x)
    for one, way in zip(found, ways, strict=True):
        np.testing.assert_allclose(one, getattr(np.fft, name)(x, **way), rtol=1e-12, atol=1e-12)


def test_frequencies_equal_numpys():
    for n in (1, 2, 7, 8):
        for name in ("fftfreq", "rfftfreq"):
            expected = getattr(np.fft, name)(n, 0.5)
            np.testing.assert_allclose(getattr(xp.fft, name)(n, d=0.5, dtype=xp.float64), expected, rtol=1e-15)
            assert getattr(xp.fft, name)(n).dtype == xp.float32
        x = numbers("float32", (n, 5))
        for axes in (None, 0, (0, 1), ()):
            same(run("traced", lambda a, axes=axes: xp.fft.fftshift(a, axes=axes), x), np.fft.fftshift(x, axes))
            same(run("traced", lambda a, axes=axes: xp.fft.ifftshift(a, axes=axes), x), np.fft.ifftshift(x, axes))


def test_wrong_transforms_are_refused():
    z = xp.ones((2, 3), dtype=xp.complex64)
    with pytest.raises(ValueError, match="norm must be 'backward', 'ortho' or 'forward', got 'none'"):
        xp.fft.fft(z, norm="none")
    with pytest.raises(TypeError, match="rfft takes arrays of a real floating dtype, got complex64"):
        xp.fft.rfft(z)
    with pytest.raises(ValueError, match="axes, which must be given"):
        xp.fft.fftn(z, s=(2, 2))


# --- the whole standard -----------------------------------------------------------------------------------------------

# The names of Python Array API 2024.12.
CONSTANTS = ["e", "inf", "nan", "newaxis", "pi"]
ARRAYLESS = [
    *("__array_namespace_info__", "arange", "asarray", "can_cast", "empty", "eye", "finfo", "from_dlpack", "full"),
    *("iinfo", "isdtype", "linspace", "ones", "result_type", "zeros"),
]

# A call of every other function: of real floating-point numbers (x, y), integers (i, j) or complex numbers (z).
CALLS = (
    {
        name: lambda a, name=name: getattr(xp, name)(a["x"])
        for name in (
            *("abs", "acos", "acosh", "all", "any", "argmax", "argmin", "argsort", "asin", "asinh", "atan", "atanh"),
            *(
                "ceil",
                "conj",
                "cos",
                "cosh",
                "count_nonzero",
                "empty_like",
                "exp",
                "expm1",
                "floor",
                "imag",
                "isfinite",
            ),
            *("isinf", "isnan", "log", "log1p", "log2", "log10", "matrix_transpose", "max", "mean", "min"),
            *("negative", "nonzero", "ones_like", "positive", "prod", "real", "reciprocal", "round", "sign", "signbit"),
            *("sin", "sinh", "sort", "sqrt", "square", "std", "sum", "tan", "tanh", "tril", "triu", "trunc"),
            *("unique_all", "unique_counts", "unique_inverse", "unique_values", "var", "zeros_like"),
        )
    }
    | {
        name: lambda a, name=name: getattr(xp, name)(a["x"], a["y"])
        for name in (
            *(
                "add",
                "atan2",
                "copysign",
                "divide",
                "equal",
                "floor_divide",
                "greater",
                "greater_equal",
                "hypot",
                "less",
            ),
            *(
                "less_equal",
                "logaddexp",
                "maximum",
                "minimum",
                "multiply",
                "nextafter",
                "not_equal",
                "pow",
                "remainder",
            ),
            *("subtract", "vecdot"),
        )
    }
    | {
        name: lambda a, name=name: getattr(xp, name)(a["i"], a["j"])
        for name in ("bitwise_and", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor")
    }
    | {
        name: lambda a, name=name: getattr(xp, name)(a["x"] > 0.5, a["y"] > 0.5)
        for name in ("logical_and", "logical_or", "logical_xor")
    }
    | {
        "astype": lambda a: xp.astype(a["x"], xp.int32),
        "bitwise_invert": lambda a: xp.bitwise_invert(a["i"]),
        "broadcast_arrays": lambda a: xp.broadcast_arrays(a["x"], a["x"][:, :1]),
        "broadcast_to": lambda a: xp.broadcast_to(a["x"], (2, 3, 3)),
        "clip": lambda a: xp.clip(a["x"], 0.2, a["y"]),
        "concat": lambda a: xp.concat([a["x"], a["y"]], axis=-1),
        "cumulative_prod": lambda a: xp.cumulative_prod(a["x"], axis=0),
        "cumulative_sum": lambda a: xp.cumulative_sum(a["x"], axis=0),
        "diff": lambda a: xp.diff(a["x"]),
        "expand_dims": lambda a: xp.expand_dims(a["x"], axis=1),
        "flip": lambda a: xp.flip(a["x"]),
        "full_like": lambda a: xp.full_like(a["x"], 3.0),
        "logical_not": lambda a: xp.logical_not(a["x"] > 0.5),
        "matmul": lambda a: xp.matmul(a["x"], a["y"]),
        "meshgrid": lambda a: xp.meshgrid(a["x"][:, 0], a["y"][:, 1]),
        "moveaxis": lambda a: xp.moveaxis(a["x"], 0, 1),
        "permute_dims": lambda a: xp.permute_dims(a["x"], (1, 0)),
        "repeat": lambda a: xp.repeat(a["x"], 2, axis=0),
        "reshape": lambda a: xp.reshape(a["x"], (-1,)),
        "roll": lambda a: xp.roll(a["x"], 1),
        "searchsorted": lambda a: xp.searchsorted(xp.sort(a["x"][:, 0]), a["y"]),
        "squeeze": lambda a: xp.squeeze(a["x"][:, :1], 1),
        "stack": lambda a: xp.stack([a["x"], a["y"]]),
        "take": lambda a: xp.take(a["x"], a["i"][:, 0], axis=0),
        "take_along_axis": lambda a: xp.take_along_axis(a["x"], a["i"], axis=0),
        "tensordot": lambda a: xp.tensordot(a["x"], a["y"], axes=1),
        "tile": lambda a: xp.tile(a["x"], (2, 1)),
        "unstack": lambda a: xp.unstack(a["x"], axis=1),
        "where": lambda a: xp.where(a["x"] > 0.5, a["x"], a["y"]),
    }
)
LINALG = (
    {
        name: lambda a, name=name: getattr(xp.linalg, name)(a["x"] + 4 * xp.eye(3))
        for name in (
            *("det", "diagonal", "inv", "matrix_norm", "matrix_rank", "matrix_transpose", "pinv", "qr", "slogdet"),
            *("svdvals", "trace", "vector_norm"),
        )
    }
    | {
        name: lambda a, name=name: getattr(xp.linalg, name)(a["x"] + xp.matrix_transpose(a["x"]) + 4 * xp.eye(3))
        for name in ("cholesky", "eigvalsh")
    }
    | {
        name: lambda a, name=name: getattr(xp.linalg, name)(a["x"], a["y"])
        for name in ("cross", "matmul", "tensordot", "vecdot")
    }
    | {
        # Vectors have no sign of their own.
        "eigh": lambda a: xp.linalg.eigh(a["x"] + xp.matrix_transpose(a["x"])).eigenvalues,
        "svd": lambda a: xp.linalg.svd(a["x"]).S,
        "matrix_power": lambda a: xp.linalg.matrix_power(a["x"], 3),
        "outer": lambda a: xp.linalg.outer(a["x"][:, 0], a["y"][:, 1]),
        "solve": lambda a: xp.linalg.solve(a["x"] + 4 * xp.eye(3), a["y"]),
    }
)
FFT = {
    name: lambda a, name=name: getattr(xp.fft, name)(a["z"])
    for name in ("fft", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "irfft", "irfftn")
} | {name: lambda a, name=name: getattr(xp.fft, name)(a["x"]) for name in ("ihfft", "rfft", "rfftn")}
FREQUENCIES = ["fftfreq", "rfftfreq"]

# What XLA cannot compile: results whose shape depends on the values, and operations that TensorFlow has not given it.
UNCOMPILED = {"nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values", "det", "slogdet"}


def test_the_namespace_is_whole():
    top = [*CONSTANTS, *EVERY, *ARRAYLESS, *CALLS]
    assert (len(ARRAYLESS), len(CALLS), len(LINALG), len(FFT) + len(FREQUENCIES)) == (15, 119, 23, 14)
    assert {name for name in top if not hasattr(xp, name)} == set()
    assert {name for name in LINALG if not hasattr(xp.linalg, name)} == set()
    assert {name for name in [*FFT, *FREQUENCIES] if not hasattr(xp.fft, name)} == set()
    assert set(xp.linalg.__all__) == set(LINALG)
    assert set(xp.fft.__all__) == {*FFT, *FREQUENCIES}


def arguments():
    x, y = (np.random.default_rng(seed).uniform(0.1, 0.9, (3, 3)).astype("float32") for seed in (0, 1))
    i, j = (np.random.default_rng(seed).integers(0, 3, (3, 3)) for seed in (2, 3))
    return {name: tf.constant(one) for name, one in {"x": x, "y": y, "i": i, "j": j, "z": x + 1j * y}.items()}


def results(found):
    return [one.numpy() for one in tf.nest.flatten(tf.nest.map_structure(tf.convert_to_tensor, found))]


@pytest.mark.parametrize(
    ("name", "call"),
    [(name, call) for table in (CALLS, LINALG, FFT) for name, call in table.items()],
    ids=[f"{table}{name}" for table, calls in (("", CALLS), ("linalg.", LINALG), ("fft.", FFT)) for name in calls],
)
def test_a_traced_function_equals_an_eager_one(name, call):
    given = arguments()
    # The standard leaves empty arrays' values open; here they are zeros.
    eager = results(call(given))
    # A matrix whose size is unknown is not square to a tracer.
    signature = {key: tf.TensorSpec(x.shape, x.dtype) for key, x in given.items()}
    if call not in LINALG.values():
        signature = {key: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for key, x in given.items()}
    traced = results(tf.function(call, input_signature=[signature], autograph=False)(given))
    for one, other in zip(traced, eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)


def test_what_has_a_shape_beforehand_is_compiled_by_xla():
    given = arguments()
    calls = [call for table in (CALLS, LINALG, FFT) for name, call in table.items() if name not in UNCOMPILED]

    def everything(a):
        return [call(a) for call in calls]

    compiled = results(tf.function(everything, autograph=False, jit_compile=True)(given))
    for one, other in zip(compiled, results(everything(given)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
