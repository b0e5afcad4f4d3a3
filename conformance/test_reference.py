"""Every loss, with every option, in every dtype, against the float64 reference on random inputs of several shapes."""

import numpy as np
import pytest

import agnoreg

from .cases import CASES, FORMULAS, MASKED, MASKED_CLASSES, NARROW, SHAPES, THIN, THIN_SHAPES, Case, shapes
from .selection import DEAR, firsts, formula, kind_of_work, one_of_each, unless
from .tolerances import FLOAT32, FLOAT64, HALF, gradient_error, half_gradient_error, value_error

#: Shapes are for indices and dtypes for roundings: where checks are dear, float32 is for one shape of each formula.
ROUNDED = [(case, "even") for case in firsts(CASES + MASKED, formula)]
SHAPED = [
    pytest.param(
        case,
        shape,
        dtype,
        id=f"{case}-{name}-{dtype}",
        marks=unless() if dtype == "float32" and (case, name) not in ROUNDED else (),
    )
    for case in CASES + MASKED
    for name, shape in shapes(case).items()
    for dtype in ("float64", "float32")
]
LIMITS = {"float64": FLOAT64, "float32": FLOAT32, **HALF}


def _check(case: Case, inputs, dtypes, maker, record, kind, limits, wrt=(0, 1)):
    """Compare the value ``(B,)`` and the gradients of its sum; the inputs are rounded to their dtypes first."""
    arrays, masks = tuple(maker(x, dtype) for x, dtype in zip(inputs, dtypes, strict=True)), case.masks(*inputs)
    value, gradients = case.expected(*(maker.numpy(array) for array in arrays), **masks)
    wrt, masks = wrt[: case.inputs], maker.masks(masks, dtypes[0])
    found, found_gradients = agnoreg.value_and_grad(case.build(reduction="none"), *arrays, argnums=wrt, **masks)
    error = value_error(maker.numpy(found), value)
    errors = [
        half_gradient_error(maker.numpy(got), gradients[index], dtypes[index])
        if dtypes[index] in HALF
        else gradient_error(maker.numpy(got), gradients[index])
        for got, index in zip(found_gradients, wrt, strict=True)
    ]
    for block in [kind, *(case.blocks if kind == "float64" else [])]:
        record(case.family, block, error, max(errors))
    assert error <= limits.value
    assert max(errors) <= limits.gradient


@pytest.mark.parametrize(("case", "shape", "dtype"), SHAPED)
def test_value_and_gradients(case, shape, dtype, maker, record):
    inputs = case.arrays(shape)
    _check(case, inputs, (dtype,) * len(inputs), maker, record, dtype, LIMITS[dtype])


@pytest.mark.parametrize("case", one_of_each(CASES + MASKED, formula))
def test_the_value_alone_is_that_beside_a_gradient(case, maker):
    inputs = case.arrays(SHAPES["even"])
    masks = case.masks(*inputs)
    found = case.build().call(*maker.all(inputs), **maker.masks(masks))
    assert value_error(maker.numpy(found), case.expected(*inputs, **masks)[0]) <= FLOAT64.value


@pytest.mark.parametrize("case", NARROW, ids=str)
def test_narrow_windows_of_many_bins(case, maker, record):
    inputs = case.arrays(SHAPES["even"])
    _check(case, inputs, ("float32",) * 2, maker, record, "narrow", FLOAT32)


@pytest.mark.filterwarnings("ignore:An axis of the image has one voxel")
@pytest.mark.parametrize("shape", THIN_SHAPES)
@pytest.mark.parametrize("case", THIN, ids=str)
def test_images_that_are_single_voxels_along_an_axis(case, shape, maker, record):
    inputs = case.arrays(THIN_SHAPES[shape])
    _check(case, inputs, ("float64",) * 2, maker, record, "float64", FLOAT64)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_half_precision_is_computed_in_float32(case, dtype, maker, record):
    inputs = case.arrays(SHAPES["even"])
    _check(case, inputs, (dtype,) * len(inputs), maker, record, dtype, LIMITS[dtype])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("case", [case for case in FORMULAS if case.family in ("ssd", "dice", "jaccard")], ids=str)
def test_labels_of_integers(case, dtype, maker, record):
    inputs = tuple(np.round(x) for x in case.arrays(SHAPES["odd"]))
    _check(case, inputs, (dtype,) * 2, maker, record, "integer", FLOAT32)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("case", [case for case in FORMULAS if case.family in ("lncc", "gncc")], ids=str)
def test_images_of_integers(case, dtype, maker, record):
    inputs = tuple(np.round(255 * x) for x in case.arrays(SHAPES["odd"]))
    _check(case, inputs, (dtype,) * 2, maker, record, "integer", FLOAT32)


@pytest.mark.parametrize(
    "dtypes", [("uint8", "float32"), ("bool", "float32"), ("float16", "float32"), ("float32", "float64")], ids="-".join
)
@pytest.mark.parametrize("case", [case for case in FORMULAS if case.inputs == 2], ids=str)
def test_two_dtypes_at_once(case, dtypes, maker, record):
    t, p = case.arrays(SHAPES["odd"])
    inputs = (np.round(t) if dtypes[0] in ("uint8", "bool") else t), p
    _check(case, inputs, dtypes, maker, record, "mixed", FLOAT32, wrt=(1,))


@pytest.mark.parametrize("case", one_of_each(CASES + MASKED_CLASSES, kind_of_work, (*DEAR, "torch")))
def test_slabs_of_a_few_planes(case, maker, record, backend, monkeypatch):
    # An adapter chooses how much of an image is worked on at once; the result does not depend on it. 4 planes a slab,
    # and 1 in the last one; a window or a stencil that reaches further has more.
    monkeypatch.setattr(backend.execution, "slab_elements", lambda array, kind: 100)
    inputs = case.arrays((1, 17, 5, 5))
    _check(case, inputs, ("float64",) * len(inputs), maker, record, "float64", FLOAT64)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_slabs_of_a_few_samples(case, maker, record, backend, monkeypatch):
    monkeypatch.setattr(backend.execution, "slab_elements", lambda array, kind: 260)
    inputs = case.arrays((3, 5, 5, 5))
    _check(case, inputs, ("float64",) * len(inputs), maker, record, "float64", FLOAT64)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_views_with_their_axes_turned(case, maker, record, backend):
    inputs = case.arrays(SHAPES["even"])
    value, gradients = case.expected(*inputs)
    back = (0, 3, 2, 1, *range(4, inputs[0].ndim))
    turned = tuple(backend.xp.permute_dims(maker(x.transpose(back).copy()), back) for x in inputs)
    loss = case.build(reduction="sum")
    total, found = agnoreg.value_and_grad(loss, *turned, argnums=tuple(range(len(turned))))
    errors = [gradient_error(maker.numpy(got), expected) for got, expected in zip(found, gradients, strict=True)]
    record(case.family, "float64", value_error(maker.numpy(total), value.sum()), max(errors))
    assert value_error(maker.numpy(total), value.sum()) <= FLOAT64.value
    assert max(errors) <= FLOAT64.gradient


@pytest.mark.parametrize("channel", [(True, False), (False, True)], ids=["y_true", "y_pred"])
def test_lncc_takes_one_image_with_a_channel_and_one_without(channel, maker, record):
    case = Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 5),))
    inputs = case.arrays(SHAPES["even"])
    inputs = tuple(x[..., None] if has else x for x, has in zip(inputs, channel, strict=True))
    _check(case, inputs, ("float64",) * 2, maker, record, "float64", FLOAT64)


@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
def test_the_map_of_lncc(kernel_type, maker, record):
    case = Case("LocalNormalizedCrossCorrelation", "image", (("kernel_size", 5), ("kernel_type", kernel_type)))
    t, p = case.arrays(SHAPES["even"])
    expected = case.expected_map(t, p)
    found = maker.numpy(case.build().calc_ncc(maker(t[..., None]), maker(p[..., None])))
    error = value_error(found, expected[..., None])
    record("lncc", "float64", error)
    assert error <= FLOAT64.value
