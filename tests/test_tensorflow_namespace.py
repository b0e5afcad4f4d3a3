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
        with pytest.raises(TypeError, match=f"{name} takes arrays of a real floating dtype, got {dtype}"):
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
    for a, b in itertools.product(BOOL + INTEGERS + FLOATS, repeat=2):
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


@pytest.mark.parametrize("scalar", [True, 2, 2.5])
@pytest.mark.parametrize("dtype", BOOL + INTEGERS + FLOATS)
def test_a_python_scalar_takes_the_arrays_dtype_or_is_refused(dtype, scalar):
    x = xp.ones(3, dtype=getattr(xp, dtype))
    kind = "bool" if dtype == "bool" else "float" if dtype.startswith("f") else "int"
    allowed = {"bool": (bool,), "int": (int,), "float": (int, float)}[kind]
    if type(scalar) in allowed:
        assert xp.equal(x, scalar).dtype == xp.bool
        assert xp.where(x == x, x, scalar).dtype == xp.where(x == x, scalar, x).dtype == x.dtype
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
    with pytest.raises(TypeError, match="got complex"):
        xp.add(xp.ones(2), 1j)
    with pytest.raises(TypeError, match="only Python scalars"):
        xp.add(1, 2)
    with pytest.raises(TypeError, match=r"takes TensorFlow tensors, got numpy\.ndarray"):
        xp.add(xp.ones(2), np.ones(2))


def test_kinds_of_dtypes():
    for name in BOOL + INTEGERS + FLOATS:
        for kind in ("bool", "signed integer", "unsigned integer", "integral", "real floating", "numeric"):
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
    for name in ("float16", *FLOATS):
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
    assert info.default_dtypes() == {"real floating": xp.float32, "integral": xp.int64, "indexing": xp.int64}
    assert info.dtypes(kind="real floating") == {"float32": xp.float32, "float64": xp.float64}
    assert set(info.dtypes()) == set(BOOL + INTEGERS + FLOATS)
    assert info.default_device() in info.devices()
    assert "CPU:0" in info.devices()
    assert (xp.pi, xp.e, xp.inf, xp.newaxis) == (math.pi, math.e, math.inf, None)
    assert math.isnan(xp.nan)


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
        (lambda x: backend.planes(x, 1, 2), (None, 2, 6)),
        (lambda x: backend.planes(x, tf.constant(1) * tf.shape(x)[0], 2), (None, 2, 6)),
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
    same(run(mode, xp.vecdot, x, y), np.sum(x * y, -1), 1e-12)
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
