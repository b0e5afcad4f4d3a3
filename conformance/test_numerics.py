"""Where digits are lost: raised intensities, flat regions, CT; and dtypes, devices, NaN and what a result is."""

import numpy as np
import pytest

import agnoreg

from .cases import CASES, FORMULAS, MASKED_CLASSES, Case
from .report import OFFSETS
from .selection import formula, one_of_each, unless
from .tolerances import CT, FLOAT32, MAP, gradient_error, value_error

NCC = [
    Case("LocalNormalizedCrossCorrelation", "image"),
    Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 3),)),
    Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 4),)),
    Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 7), ("kernel_type", "triangular"))),
    Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 5), ("kernel_type", "gaussian"))),
    Case("GlobalNormalizedCrossCorrelation", "image"),
]
SHAPE = (2, 12, 11, 10)
IMAGE = (1, 12, 11, 10)


def _check(case, inputs, maker, record, kind, limits, dtype="float32", scales=(0.0, 0.0), row=None):
    arrays = maker.all(inputs, dtype)
    value, gradients = case.expected(*(maker.numpy(array) for array in arrays))
    found, got = agnoreg.value_and_grad(case.build(reduction="none"), *arrays, argnums=(0, 1))
    error = value_error(maker.numpy(found), value)
    errors = [gradient_error(maker.numpy(a), b, scale) for a, b, scale in zip(got, gradients, scales, strict=True)]
    record(row or case.family, kind, error, max(errors))
    assert np.max(maker.numpy(found)) <= 1.0
    assert error <= limits.value
    assert max(errors) <= limits.gradient
    if case.family == "lncc":
        ncc = maker.numpy(case.build().calc_ncc(*(maker(x[..., None], dtype) for x in inputs)))
        expected = case.expected_map(*(maker.numpy(array) for array in arrays))
        assert np.max(ncc) <= 1.0
        assert np.max(np.abs(ncc[..., 0] - expected)) <= (MAP if limits is FLOAT32 else limits.value)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("case", NCC, ids=str)
def test_raised_intensities(case, offset, maker, record):
    row = f"{case.family}, offset {offset}"
    _check(case, tuple(x + offset for x in case.arrays(IMAGE)), maker, record, "offset", FLOAT32, row=row)


def _half(x, level):
    flat = x.copy()
    flat[:, : x.shape[1] // 2] = level
    return flat


FLAT = {
    "one image constant": lambda t, p: (np.full_like(t, 0.3), p),
    "both constant": lambda t, p: (np.full_like(t, 0.3), np.full_like(p, 0.7)),
    "half of one constant": lambda t, p: (t, _half(p, 0.3)),
    "half of both constant": lambda t, p: (_half(t, 0.3), _half(p, 0.7)),
    "half of both zero": lambda t, p: (_half(t, 0.0), _half(p, 0.0)),
}


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("flat", FLAT)
@pytest.mark.parametrize("case", NCC, ids=str)
def test_flat_regions(case, flat, offset, maker, record):
    images = tuple(x + offset for x in case.arrays(IMAGE))
    inputs = tuple(x + offset for x in FLAT[flat](*case.arrays(IMAGE)))
    # The gradient of constant images is next to nothing: its error is relative to that before they were flattened.
    scales = tuple(np.max(np.abs(gradient)) for gradient in case.expected(*images)[1])
    _check(case, inputs, maker, record, "flat", FLOAT32, scales=scales)


def _ct(noise):
    """Return two bodies of tissue near +50 in air at -1000: the second is moved by a voxel, with noise of its own."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in IMAGE[1:]), indexing="ij"), axis=-1)
    images = []
    for shift in (0.0, 1.0):
        inside = np.sum(((grid - np.array([6.0 + shift, 5.0, 5.0])) / 4.0) ** 2, axis=-1) < 1.0
        air = -1000.0 + noise * rng.normal(size=IMAGE)
        images.append(np.where(inside, 50.0 + 15.0 * rng.normal(size=IMAGE), air))
    return tuple(images)


@pytest.mark.parametrize("noise", [0.0, 5.0], ids=["air exactly -1000", "air with noise"])
@pytest.mark.parametrize("case", NCC, ids=str)
def test_ct(case, noise, maker, record):
    _check(case, _ct(noise), maker, record, "ct", CT)


@pytest.mark.parametrize("case", [case for case in NCC if not case.options], ids=str)
def test_ct_of_integers(case, maker, record):
    _check(case, tuple(np.round(x) for x in _ct(5.0)), maker, record, "ct", CT, dtype="int16")


@pytest.mark.parametrize("case", NCC, ids=str)
def test_an_image_with_itself_is_never_above_one(case, maker):
    for image in (*_ct(0.0), *_ct(5.0), *case.arrays(SHAPE)):
        array = maker(image, "float32")
        value = maker.numpy(case.build().call(array, array))
        assert np.all(value <= 1.0)
        assert value_error(value, np.ones_like(value)) <= FLOAT32.value


DEGENERATE = {
    "zeros": lambda x, y: (np.zeros_like(x), np.zeros_like(y)),
    "ones": lambda x, y: (np.ones_like(x), np.ones_like(y)),
    "equal": lambda x, y: (x, x),
    "one empty": lambda x, y: (x, np.zeros_like(y)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("inputs", DEGENERATE)
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_value_and_gradient_are_finite(case, inputs, dtype, maker):
    given = case.arrays(SHAPE)
    given = DEGENERATE[inputs](given[0], given[-1])[: case.inputs]
    arrays = maker.all(given, dtype)
    expected, exact = case.expected(*(maker.numpy(array) for array in arrays))
    if dtype == "float16" and max(np.max(np.abs(gradient)) for gradient in exact) > 65504.0:
        pytest.skip("the gradient itself is beyond the range of float16")
    value, gradients = agnoreg.value_and_grad(case.build(reduction="none"), *arrays, argnums=tuple(range(len(arrays))))
    assert np.all(np.isfinite(maker.numpy(value)))
    assert value_error(maker.numpy(value), expected) <= FLOAT32.value
    for gradient in gradients:
        assert np.all(np.isfinite(maker.numpy(gradient)))


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("cls", ["DiceScore", "JaccardIndex", "SumSquaredDifference"])
def test_sums_beyond_the_range_of_a_small_dtype(cls, dtype, maker):
    # 41^3 voxels are more than float16's largest number, 65504, and than any sum that uint8 holds.
    t, p = np.ones((1, 41, 41, 41)), np.ones((1, 41, 41, 41))
    p[:, :20] = 0.0
    case = Case(cls, "hard")
    expected, _ = case.expected(t, p)
    assert value_error(maker.numpy(case.build().call(maker(t, dtype), maker(p, dtype))), expected) <= FLOAT32.value


@pytest.mark.parametrize(
    "case",
    one_of_each(CASES + [case for case in MASKED_CLASSES if case.family in ("lncc", "dice", "gradient")], formula),
)
def test_nan_in_gives_nan_out(case, maker):
    inputs = case.arrays(SHAPE)
    # Where there are masks they leave nothing out: what they leave out may be NaN, see `test_masks`.
    masks = {name: mask.astype(np.float32) + 0.5 for name, mask in case.masks(*inputs).items()}
    for index in range(len(inputs)):
        spoiled = [x.copy() for x in inputs]
        spoiled[index][(1, *(n // 2 for n in spoiled[index].shape[1:]))] = np.nan
        value = maker.numpy(case.build().call(*maker.all(tuple(spoiled), "float32"), **maker.masks(masks, "float32")))
        assert np.isfinite(value[0]), f"input {index}: the other sample has no NaN"
        assert np.isnan(value[1]), f"input {index}: {value[1]} in spite of a NaN"


# --- what a result is -------------------------------------------------------------------------------------------------

FLOAT32_INPUTS = ["bool", "uint8", "int8", "uint16", "int16", "float16", "bfloat16", "float32"]
DEFAULT_INPUTS = ["int32", "uint32", "int64", "uint64"]


def _result_dtype(backend, *dtypes):
    xp = backend.xp
    wide = [xp.asarray(1.0).dtype for dtype in dtypes if dtype in DEFAULT_INPUTS]
    return xp.float64 if "float64" in dtypes or xp.float64 in wide else xp.float32


#: What becomes of a dtype is the core's choice, made for every formula alike: where checks are dear one meets them all.
CHOSEN_DTYPES = [
    pytest.param(
        case,
        dtype,
        id=f"{case}-{dtype}",
        marks=() if case.family == "ssd" or dtype in ("uint8", "float16", "int64", "float64") else unless(),
    )
    for case in FORMULAS
    for dtype in (*FLOAT32_INPUTS, *DEFAULT_INPUTS, "float64")
]


@pytest.mark.parametrize(("case", "dtype"), CHOSEN_DTYPES)
def test_dtype_of_value_and_gradient(case, dtype, backend, maker):
    arrays = maker.all(tuple(np.abs(np.round(x)) for x in case.arrays((2, 5, 5, 5))), dtype)
    value, gradient = agnoreg.value_and_grad(case.build(), *arrays)
    assert value.dtype == _result_dtype(backend, dtype)
    floating = backend.xp.isdtype(arrays[-1].dtype, "real floating")
    assert gradient.dtype == (arrays[-1].dtype if floating else value.dtype)


@pytest.mark.parametrize(
    "dtypes",
    [
        ("uint8", "float32"),
        ("float32", "float64"),
        ("float64", "float16"),
        ("bool", "bfloat16"),
        ("int16", "float32"),
        ("int32", "float32"),
        ("float16", "bfloat16"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("case", [case for case in FORMULAS if case.inputs == 2], ids=str)
def test_the_wider_of_two_dtypes_counts(case, dtypes, backend, maker):
    t, p = (np.round(x) for x in case.arrays((2, 5, 5, 5)))
    t, p = maker(t, dtypes[0]), maker(p, dtypes[1])
    value, gradients = agnoreg.value_and_grad(case.build(), t, p, argnums=(0, 1))
    assert value.dtype == _result_dtype(backend, *dtypes)
    for array, gradient in zip((t, p), gradients, strict=True):
        floating = backend.xp.isdtype(array.dtype, "real floating")
        assert gradient.dtype == (array.dtype if floating else value.dtype)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_results_are_arrays_of_the_caller_on_its_device(case, backend, maker):
    given = maker.all(case.arrays((2, 5, 5, 5)), "float32")
    for reduction, shape in (("mean", ()), ("sum", ()), ("none", (2,))):
        value, gradient = agnoreg.value_and_grad(case.build(reduction=reduction), *given)
        for result in (value, gradient, case.build(reduction=reduction)(*given), case.build().call(*given)):
            assert isinstance(result, type(given[0]))
            assert agnoreg.backend_of(result) is backend
            assert backend.device(result) == backend.device(given[0])
        assert tuple(value.shape) == shape
        assert tuple(gradient.shape) == tuple(given[-1].shape)
        values = maker.numpy(case.build().call(*given))
        reduced = {"mean": values.mean(), "sum": values.sum(), "none": values}[reduction]
        assert value_error(maker.numpy(value), reduced) <= FLOAT32.value


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_inputs_are_left_as_they_were(case, maker):
    inputs = case.arrays((2, 7, 6, 5))
    arrays = maker.all(tuple(x.copy() for x in inputs))
    agnoreg.value_and_grad(case.build(), *arrays, argnums=tuple(range(len(arrays))))
    for array, before in zip(arrays, inputs, strict=True):
        assert np.array_equal(maker.numpy(array), before)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_each_sample_is_on_its_own(case, maker):
    inputs = case.arrays((3, 7, 6, 5))
    loss = case.build()
    together = maker.numpy(loss.call(*maker.all(inputs, "float32")))
    alone = [maker.numpy(loss.call(*maker.all(tuple(x[b : b + 1] for x in inputs), "float32")))[0] for b in range(3)]
    assert value_error(together, np.array(alone)) <= FLOAT32.value
