"""Masks: what they leave out has no part in any loss, and what they keep counts as much as they say."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import torch
from every import LOSSES, METRICS
from hypothesis import given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg import functional
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelationLoss,
    NormalizedGradientField,
)
from agnoreg.loss.label import CrossEntropy, CrossEntropyLoss, DiceLoss, DiceScore, JaccardLoss, SumSquaredDifference
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin
from agnoreg.objects.weighted import WeightedLoss
from conformance.settings import set_for

#: Every loss and metric, and options that meet a mask in another way.
VARIANTS = {name: cls(reduction="none") for name, cls in METRICS.items()} | {
    "LocalNormalizedCrossCorrelationLoss": LocalNormalizedCrossCorrelationLoss(kernel_size=3, reduction="none"),
    "lncc, even": LocalNormalizedCrossCorrelation(kernel_size=4, reduction="none"),
    "lncc, one voxel": LocalNormalizedCrossCorrelation(kernel_size=1, reduction="none"),
    "lncc, triangular": LocalNormalizedCrossCorrelation(kernel_size=5, kernel_type="triangular", reduction="none"),
    "lncc, gaussian": LocalNormalizedCrossCorrelation(
        kernel_size=5, kernel_type="gaussian", padding="truncate", reduction="none"
    ),
    "lncc, truncated": LocalNormalizedCrossCorrelation(kernel_size=5, padding="truncate", reduction="none"),
    "lncc, signed": LocalNormalizedCrossCorrelation(kernel_size=3, squared=False, reduction="none"),
    "lncc, ants": LocalNormalizedCrossCorrelation(kernel_size=3, convention="ants", reduction="none"),
    "gmi, narrow": GlobalMutualInformation(num_bins=7, sigma_ratio=0.05, reduction="none"),
    "dice, no constants": DiceScore(smooth_nr=0.0, smooth_dr=0.0, reduction="none"),
    "dice, squared": DiceScore(squared=True, background_weight=0.2, reduction="none"),
    "dice, binary": DiceScore(binary=True, background_weight=0.1, reduction="none"),
    "dice, scales": DiceLoss(scales=(0, 1.5), background_weight=0.3, reduction="none"),
    "jaccard, scales": JaccardLoss(scales=1.0, kernel="cauchy", reduction="none"),
    "cross-entropy, background": CrossEntropy(background_weight=0.3, reduction="none"),
    "cross-entropy, scales": CrossEntropyLoss(scales=(0, 1), reduction="none"),
    "gradient, l1": GradientNorm(l1=True, spacing=(0.7, 1.5, 2.0), reduction="none"),
    "gradient, compact": GradientNorm(stencil="compact", spacing=(0.7, 1.5, 2.0), reduction="none"),
    "gradient, compact l1": GradientNorm(stencil="compact", l1=True, reduction="none"),
    "bending, compact": BendingEnergy(stencil="compact", spacing=(0.7, 1.5, 2.0), reduction="none"),
}
#: Beyond the border there are zeros that count, which a margin or a crop moves.
BORDERED = {
    name
    for name, loss in VARIANTS.items()
    if isinstance(loss, LocalNormalizedCrossCorrelation) and loss.padding == "zero"
}
#: They read neighbours, which beyond the border repeat the outermost voxels.
STENCILS = {name for name, loss in VARIANTS.items() if isinstance(loss, NormalizedGradientField)}
FREE = [name for name in VARIANTS if name not in BORDERED | STENCILS]
#: Where weights are only compared with one another: means, and ratios without constants.
CONSTANTS = ("lncc", "local", "dice", "jaccard", "tversky")
RELATIVE = [name for name in FREE if not any(word in name.lower() for word in CONSTANTS)] + [
    "lncc, ants",
    "dice, no constants",
]
SMOOTH = [name for name in VARIANTS if name not in ("dice, binary", "lncc, one voxel")]
#: One loss for each name, with a window that soon is traced.
NAMED = {name: VARIANTS[cls.__name__] for name, cls in LOSSES.items()}
#: One of each kind of work, for what depends on a framework alone.
KINDS = ["lncc", "gmi", "dice", "cross-entropy", "gradient", "bending"]

SHAPE = (2, 6, 7, 10)


@pytest.fixture(params=["numpy", "torch", "tensorflow", "jax"])
def framework(request):
    """Return the backend of a framework that users compute with."""
    found = agnoreg.get_backend(request.param)
    with set_for("float64"):
        yield found


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Let PyTorch compute such small images by one thread: several take longer to agree than to compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def some_slabs(monkeypatch):
    """Cut such small images into some slabs of a few planes or samples each."""
    sizes = {"streaming": 500, "windows": 200, "bins": 3000, "voxels": 150}
    own = (type(agnoreg.get_backend(name).execution) for name in ("torch", "tensorflow", "jax"))
    for kind in (agnoreg.backend.Execution, *own):
        monkeypatch.setattr(kind, "slab_sizes", sizes)


#: On NumPy every variant; elsewhere one of each measure and combination of them. `conformance` has the others.
ELSEWHERE = [
    *(cls.__name__ for cls in LOSSES.values()),
    "dice, scales",
    "gradient, compact",
]


def on_every_framework(names=tuple(VARIANTS)):
    """Run a test with these variants on NumPy, and with some of them on the others."""
    cases = [("numpy", name) for name in names]
    cases += [(framework, name) for framework in ("torch", "tensorflow", "jax") for name in names if name in ELSEWHERE]
    return pytest.mark.parametrize(("framework", "name"), cases, indirect=["framework"])


def arrays_for(loss, rng, shape=SHAPE):
    """Return two images that resemble each other, or a field."""
    if loss.inputs == 1:
        return (rng.normal(size=(*shape, 3)),)
    t = rng.random(shape)
    return t, 0.7 * t + 0.3 * rng.random(shape)


def mask_for(loss, rng, shape=SHAPE, soft=True):
    """Return weights of which some 30 % are 0: in a region, where stencils need neighbours, and elsewhere."""
    mask = np.arange(shape[3]) + rng.random(shape) > 0.3 * shape[3]
    if loss.inputs == 2 and not isinstance(loss, NormalizedGradientField):
        mask &= rng.random(shape) > 0.1
    return mask * rng.uniform(0.1, 2.0, size=shape) if soft else mask


def spread(mask, array):
    """Return which entries of an input have a weight."""
    there = mask > 0
    return np.broadcast_to(there[..., None] if array.ndim > mask.ndim else there, array.shape)


def evaluated(loss, arrays, backend=None, dtype="float64", **masks):
    """Return the value and the gradients by every input, as NumPy arrays; masks keep their dtypes."""
    backend = backend or agnoreg.get_backend("numpy")
    given = [backend.from_numpy(x.astype(dtype)) for x in arrays]
    masks = {name: backend.from_numpy(mask) for name, mask in masks.items()}
    value, gradients = agnoreg.value_and_grad(loss, *given, argnums=range(loss.inputs), **masks)
    return backend.to_numpy(value), [backend.to_numpy(gradient) for gradient in gradients]


def assert_same(found, expected):
    """Check that not a bit differs."""
    np.testing.assert_array_equal(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(found, expected, rtol=1e-10):
    """Check values, and gradients relative to the largest."""
    np.testing.assert_allclose(found[0], expected[0], rtol=rtol, atol=1e-14)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=rtol * np.abs(other).max() + 1e-300)


# --- what counts ------------------------------------------------------------------------------------------------------


@on_every_framework()
def test_a_mask_of_ones_changes_nothing(framework, rng, name):
    loss = VARIANTS[name]
    arrays = arrays_for(loss, rng)
    expected = evaluated(loss, arrays, framework)
    for mask in (np.ones(SHAPE, dtype=bool), np.ones((1, 1, 1, 1))):
        assert_close(evaluated(loss, arrays, framework, mask=mask), expected)


ANYTHING = {
    "others": lambda rng, shape: rng.normal(size=shape),
    "large": lambda rng, shape: np.full(shape, 1e30),
    "NaN": lambda rng, shape: np.full(shape, np.nan),
    "infinite": lambda rng, shape: np.full(shape, -np.inf),
}


@pytest.mark.parametrize("soft", [True, False], ids=["soft", "hard"])
@on_every_framework()
def test_what_a_mask_leaves_out_changes_no_bit(framework, rng, request, name, soft):
    loss = VARIANTS[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng, soft=soft)
    if not soft:
        request.getfixturevalue("some_slabs")
    there = spread(mask, arrays[0])
    for dtype in ("float32", "float64") if framework.name == "numpy" else ("float32",):
        expected = evaluated(loss, arrays, framework, dtype, mask=mask)
        assert np.all(np.isfinite(expected[0]))
        for gradient in expected[1]:
            assert np.any(gradient) == (name not in ("dice, binary", "lncc, one voxel"))
            assert not np.any(gradient[~there])
        for anything in ANYTHING.values() if framework.name == "numpy" else (ANYTHING["NaN"],):
            spoiled = [np.where(there, x, anything(rng, x.shape)) for x in arrays]
            assert_same(evaluated(loss, spoiled, framework, dtype, mask=mask), expected)


@pytest.mark.parametrize("soft", [True, False], ids=["soft", "hard"])
@pytest.mark.parametrize("name", VARIANTS)
def test_slabs_change_no_masked_value_and_no_gradient(rng, request, name, soft):
    loss = VARIANTS[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng, soft=soft)
    expected = evaluated(loss, arrays, mask=mask)
    request.getfixturevalue("small_slabs")
    for backend in ("numpy", "torch"):
        assert_close(evaluated(loss, arrays, agnoreg.get_backend(backend), mask=mask), expected)


@on_every_framework(FREE)
def test_a_box_is_a_crop(framework, rng, name):
    loss = VARIANTS[name]
    arrays, mask = arrays_for(loss, rng, (2, 8, 9, 11)), np.zeros((2, 8, 9, 11), dtype=bool)
    box = (slice(None), slice(1, 7), slice(3, 9), slice(0, 8))
    mask[box] = True
    expected = evaluated(loss, [x[box] for x in arrays], framework)
    value, gradients = evaluated(loss, arrays, framework, mask=mask)
    assert_close((value, [gradient[box] for gradient in gradients]), expected)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in STENCILS])
@settings(max_examples=5, deadline=None)
@given(
    before=st.tuples(*[st.integers(0, 9)] * 3),
    after=st.tuples(*[st.integers(0, 9)] * 3),
    fill=st.sampled_from([0.0, np.nan]),
    seed=st.integers(0, 99),
)
def test_a_margin_of_any_width_that_a_mask_leaves_out_changes_nothing(name, before, after, fill, seed):
    loss, rng = without_border(VARIANTS[name]), np.random.default_rng(seed)
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    expected = evaluated(loss, arrays, mask=mask)
    margin = [(0, 0), *zip(before, after, strict=True)]
    larger = [np.pad(x, margin + [(0, 0)] * (x.ndim - 4), constant_values=fill) for x in arrays]
    value, gradients = evaluated(loss, larger, mask=np.pad(mask, margin))
    inside = (slice(None), *(slice(first, first + n) for first, n in zip(before, SHAPE[1:], strict=True)))
    assert_close((value, [gradient[inside] for gradient in gradients]), expected)


def without_border(loss):
    """Return a loss in which nothing lies beyond the border of an image, where zeros would count."""
    if not isinstance(loss, LocalNormalizedCrossCorrelation):
        return loss
    return dataclasses.replace(loss, padding="truncate")


@pytest.mark.parametrize("name", RELATIVE)
@settings(max_examples=5, deadline=None)
@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_weights_are_relative(name, factor, seed):
    loss, rng = VARIANTS[name], np.random.default_rng(seed)
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    assert_close(evaluated(loss, arrays, mask=mask * factor), evaluated(loss, arrays, mask=mask))


def test_a_weight_of_two_is_a_voxel_that_is_there_twice(rng):
    for name in ("ssd", "gncc", "gmi", "dice", "jaccard", "cross-entropy"):
        loss = agnoreg.build_loss({"name": name, "reduction": "none"})
        arrays = rng.random((2, 2, 4, 5, 6))
        twice = [np.concatenate([x, x[:, :2]], axis=1) for x in arrays]
        mask = np.where(np.arange(4) < 2, 2.0, 1.0)[None, :, None, None]
        np.testing.assert_allclose(loss(*arrays, mask=mask), loss(*twice), rtol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_with_soft_masks_are_those_of_the_value(rng, name):
    loss = dataclasses.replace(VARIANTS[name], reduction="sum")
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    _, gradients = evaluated(loss, arrays, mask=mask)
    for index, gradient in enumerate(gradients):
        direction, ends = rng.normal(size=gradient.shape), []
        for step in (1e-6, -1e-6):
            moved = [x + step * direction if i == index else x for i, x in enumerate(arrays)]
            ends.append(float(loss(*moved, mask=mask)))
        slope = (ends[0] - ends[1]) / 2e-6
        assert np.vdot(gradient, direction) == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.linalg.norm(gradient))


# --- what a mask may be -----------------------------------------------------------------------------------------------


@on_every_framework()
def test_several_masks_are_their_product(framework, rng, name):
    loss = VARIANTS[name]
    arrays, fixed, moving, both = (arrays_for(loss, rng), *(mask_for(loss, rng) for _ in range(3)))
    expected = evaluated(loss, arrays, framework, mask=fixed * moving)
    assert_close(evaluated(loss, arrays, framework, fixed_mask=fixed, moving_mask=moving), expected)
    expected = evaluated(loss, arrays, framework, mask=both * fixed)
    assert_close(evaluated(loss, arrays, framework, mask=both, fixed_mask=fixed), expected)
    hard = evaluated(loss, arrays, framework, fixed_mask=fixed > 0, moving_mask=moving > 0)
    assert_close(hard, evaluated(loss, arrays, framework, mask=(fixed > 0) & (moving > 0)))
    mixed = evaluated(loss, arrays, framework, fixed_mask=fixed > 0, moving_mask=moving)
    assert_close(mixed, evaluated(loss, arrays, framework, mask=(fixed > 0) * moving))


@on_every_framework()
def test_a_mask_of_any_dtype_is_the_same(framework, rng, name):
    loss = VARIANTS[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng, soft=False)
    expected = evaluated(loss, arrays, framework, "float32", mask=mask)
    assert {x.dtype for x in (expected[0], *expected[1])} == {np.dtype("float32")}
    for dtype in ("uint8", "int64", "float16", "float32", "float64"):
        found = evaluated(loss, arrays, framework, "float32", mask=mask.astype(dtype))
        assert {x.dtype for x in (found[0], *found[1])} == {np.dtype("float32")}
        assert_close(found, expected, rtol=1e-6)


@on_every_framework()
def test_a_mask_may_have_size_1_along_any_axis(framework, rng, name):
    loss = VARIANTS[name]
    arrays, weights = arrays_for(loss, rng), mask_for(loss, rng)
    for axes in ((0,), (2, 3), (0, 1, 2)):
        mask = weights[tuple(slice(-1, None) if axis in axes else slice(None) for axis in range(4))]
        expected = evaluated(loss, arrays, framework, mask=np.broadcast_to(mask, SHAPE).copy())
        assert_close(evaluated(loss, arrays, framework, mask=mask), expected)
        # With an axis for components, or for the one channel of an image without that axis.
        assert_close(evaluated(loss, arrays, framework, mask=mask[..., None]), expected)


CHANNELS = {
    "lncc": LocalNormalizedCrossCorrelation,
    "gncc": GlobalNormalizedCrossCorrelation,
    "gmi": GlobalMutualInformation,
    "ssd": SumSquaredDifference,
    "dice": DiceScore,
    "jaccard, scales": lambda **options: JaccardLoss(scales=(0, 1), **options),
    "cross-entropy": CrossEntropy,
    "gradient": GradientNorm,
    "bending": BendingEnergy,
}


@pytest.mark.parametrize("place", [1, 4], ids=["channels first", "channels last"])
@pytest.mark.parametrize("name", CHANNELS)
def test_a_mask_may_lack_the_axis_of_channels_or_components(framework, rng, name, place):
    loss = CHANNELS[name](data_format="channels_first" if place == 1 else "channels_last", reduction="none")
    last = (*SHAPE, 3)
    arrays = tuple(np.moveaxis(rng.random(last), -1, place).copy() for _ in range(loss.inputs))
    mask = mask_for(loss, rng)
    channel = np.expand_dims(mask, place)
    expected = evaluated(loss, arrays, framework, mask=channel)
    assert_close(evaluated(loss, arrays, framework, mask=mask), expected)
    if loss.inputs == 2:
        every = np.broadcast_to(channel, arrays[0].shape).copy()
        assert_close(evaluated(loss, arrays, framework, mask=every), expected)


def test_an_image_with_an_axis_for_its_channel_may_meet_one_without(framework, rng):
    loss = VARIANTS["lncc, even"]
    t, p = arrays_for(loss, rng)
    mask = mask_for(loss, rng)
    expected = evaluated(loss, (t, p), framework, mask=mask)
    for images in ((t[..., None], p), (t, p[..., None]), (t[..., None], p[..., None])):
        for weights in (mask, mask[..., None]):
            value, gradients = evaluated(loss, images, framework, mask=weights)
            assert [x.shape for x in gradients] == [x.shape for x in images]
            assert_same((value, [x.reshape(SHAPE) for x in gradients]), expected)


@pytest.mark.parametrize("argument", ["mask", "fixed_mask", "moving_mask"])
@pytest.mark.parametrize("name", ["lncc", "dice", "gradient"])
def test_a_mask_that_does_not_fit_is_named(framework, rng, name, argument):
    loss = agnoreg.build_loss(name)
    arrays = [framework.from_numpy(x) for x in arrays_for(loss, rng)]
    for shape in ((), (6, 7, 10), (2, 6, 7, 9), (3, 6, 7, 10), (2, 6, 7, 10, 2)):
        with pytest.raises(ValueError, match=rf"(?i)\b{argument}\b.*\(2, 6, 7, 10"):
            loss(*arrays, **{argument: framework.from_numpy(np.ones(shape))})
    with pytest.raises(TypeError, match=f"{argument} must hold real numbers"):
        loss(*arrays, **{argument: framework.from_numpy(np.ones(SHAPE, dtype=complex))})
    with pytest.raises(TypeError, match="Expected an array, got builtins"):
        loss(*arrays, **{argument: [1.0]})
    other = agnoreg.get_backend("numpy" if framework.name != "numpy" else "torch")
    with pytest.raises(TypeError, match="two frameworks"):
        agnoreg.value_and_grad(loss, *arrays, **{argument: other.from_numpy(np.ones(SHAPE))})


def test_a_mask_on_another_device_is_refused(rng):
    t, p = torch.rand(2, 1, 4, 4, 4)
    with pytest.raises(TypeError, match="two devices: cpu and meta"):
        functional.ssd(t, p, mask=torch.ones(1, 4, 4, 4, device="meta"))


@pytest.mark.parametrize("name", LOSSES)
def test_no_mask_leaves_its_device(name):
    # A tensor on the device "meta" has no data: whoever reads a value, or copies to the host, fails.
    loss = LOSSES[name]()
    shape = (2, 8, 8, 8) if loss.inputs == 2 else (2, 8, 8, 8, 3)
    arrays = [torch.zeros(shape, device="meta") for _ in range(loss.inputs)]
    for dtype in (torch.bool, torch.float32):
        mask = torch.zeros((2, 8, 8, 8), device="meta", dtype=dtype)
        value, gradient = agnoreg.value_and_grad(loss, *arrays, mask=mask)
        assert value.device.type == gradient.device.type == "meta"


def test_no_mask_is_none(rng):
    t, p = rng.random((2, 2, 4, 4, 4))
    for loss in (agnoreg.build_loss("ssd"), agnoreg.build_loss([{"name": "ssd"}]), functional.ssd):
        np.testing.assert_array_equal(loss(t, p, mask=None, fixed_mask=None, moving_mask=None), loss(t, p))
        _, gradient = agnoreg.value_and_grad(loss, t, p, mask=None)
        np.testing.assert_array_equal(gradient, agnoreg.value_and_grad(loss, t, p)[1])
    loss, field = agnoreg.build_loss({"regularization": "bending"}), rng.random((1, 5, 5, 5, 3))
    assert loss(regularization=field, mask=None) == loss(regularization=field)


FUNCTIONS = {
    "lncc": (functional.lncc, "LocalNormalizedCrossCorrelation"),
    "gncc": (functional.gncc, "GlobalNormalizedCrossCorrelation"),
    "gmi": (functional.mutual_information, "GlobalMutualInformation"),
    "ssd": (functional.ssd, "SumSquaredDifference"),
    "dice": (functional.dice, "DiceScore"),
    "jaccard": (functional.jaccard, "JaccardIndex"),
    "cross-entropy": (functional.cross_entropy, "CrossEntropy"),
    "gradient": (functional.gradient_norm, "GradientNorm"),
    "bending": (functional.bending_energy, "BendingEnergy"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_masks_as_losses_do(framework, rng, name):
    function, cls = FUNCTIONS[name]
    loss = VARIANTS[cls]
    arrays = [framework.from_numpy(x) for x in arrays_for(loss, rng)]
    masks = {"mask": framework.from_numpy(mask_for(loss, rng))}
    if loss.inputs == 2:
        masks |= {one: framework.from_numpy(mask_for(loss, rng, soft=False)) for one in ("fixed_mask", "moving_mask")}
    value, gradient = agnoreg.value_and_grad(function, *arrays, **masks)
    expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays, **masks)
    for found, one in ((value, expected), (function(*arrays, **masks), expected), (gradient, expected_gradient)):
        np.testing.assert_allclose(framework.to_numpy(found), framework.to_numpy(one), rtol=1e-12)


# --- nothing left -----------------------------------------------------------------------------------------------------


@on_every_framework()
def test_a_sample_of_an_empty_mask_is_nan_with_a_warning(framework, rng, name):
    loss = VARIANTS[name]
    shape = (3, *SHAPE[1:])
    arrays, mask = arrays_for(loss, rng, shape), mask_for(loss, rng, shape)
    value, gradients = evaluated(loss, arrays, framework, mask=mask)
    mask[1] = 0
    for empty, values in ((mask, value), (mask > 0, None)):
        with pytest.warns(agnoreg.EmptyMaskWarning, match="mask leaves no voxel of a sample: its value is NaN"):
            found, others = evaluated(loss, arrays, framework, mask=empty)
        assert np.isnan(found[1])
        assert np.all(np.isfinite(found[[0, 2]]))
        for other in others:
            assert not np.any(other[1])
        if values is not None:
            np.testing.assert_array_equal(found[[0, 2]], values[[0, 2]])
            for gradient, other in zip(gradients, others, strict=True):
                np.testing.assert_array_equal(other[[0, 2]], gradient[[0, 2]])


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "core"])
@pytest.mark.parametrize("options", [{"convention": "deepreg"}, {"convention": "monai"}, {"squared": False}], ids=str)
def test_without_constants_a_window_around_a_masked_voxel_may_be_empty(options, kernels, rng, monkeypatch):
    monkeypatch.setattr(agnoreg.Backend, "kernels", kernels)
    loss = LocalNormalizedCrossCorrelation(kernel_size=3, smooth_nr=0.0, smooth_dr=0.0, reduction="none", **options)
    t, p = rng.random((2, 1, 9, 8, 7))
    mask = (np.arange(9) < 4)[None, :, None, None]
    value, gradient = agnoreg.value_and_grad(loss, t, p, mask=mask)
    # What lies beyond the mask is 0, as what lies beyond the border; a last plane of 0 closes the kept four.
    crop, open_crop = (np.pad(image[:, :4], [(0, 0), (0, 1), (0, 0), (0, 0)]) for image in (t, p))
    kept = np.arange(5)[None, :, None, None] < 4
    expected, slope = agnoreg.value_and_grad(loss, crop, open_crop, mask=kept)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient[:, :4], slope[:, :4], rtol=0, atol=1e-12)
    assert not gradient[:, 4:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_two_masks_that_exclude_each_other_leave_nothing(framework, rng, name):
    loss = LOSSES[name]()
    arrays = [framework.from_numpy(x) for x in arrays_for(loss, rng)]
    mask = rng.random(SHAPE) > 0.5
    masks = {"fixed_mask": framework.from_numpy(mask), "moving_mask": framework.from_numpy(~mask)}
    with pytest.warns(agnoreg.EmptyMaskWarning, match="fixed_mask and moving_mask leaves no voxel"):
        value, gradient = agnoreg.value_and_grad(loss, *arrays, **masks)
    assert np.isnan(framework.to_numpy(value))
    assert not np.any(framework.to_numpy(gradient))


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_mask_has_no_gradient_on_its_way_back(rng, name):
    loss = NAMED[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    mask[1] = 0
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    with pytest.warns(agnoreg.EmptyMaskWarning):
        loss(*tensors, mask=torch.tensor(mask)).sum().backward()
    variables = [tf.Variable(x) for x in arrays]
    with pytest.warns(agnoreg.EmptyMaskWarning), tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(*variables, mask=tf.constant(mask)))
    for tensor, gradient in zip(tensors, tape.gradient(value, variables), strict=True):
        for found in (tensor.grad.numpy(), gradient.numpy()):
            assert np.all(np.isfinite(found))
            assert np.any(found[0])
            assert not np.any(found[1])


# --- inside the frameworks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_backward_and_tape_give_the_gradient_of_value_and_grad(rng, name):
    loss = dataclasses.replace(VARIANTS[name], reduction="mean")
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    _, expected = evaluated(loss, arrays, mask=mask)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    (3 * loss(*tensors, mask=torch.tensor(mask))).backward()
    variables = [tf.Variable(x) for x in arrays]
    with tf.GradientTape() as tape:
        value = 3.0 * loss(*variables, mask=tf.Variable(mask))
    for tensor, gradient, one in zip(tensors, tape.gradient(value, variables), expected, strict=True):
        for found in (tensor.grad.numpy(), gradient.numpy()):
            np.testing.assert_allclose(found, 3 * one, atol=1e-10 * np.abs(one).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_native_autodiff_gives_the_same_gradient(rng, name):
    loss = VARIANTS[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    there = spread(mask, arrays[0])
    expected = evaluated(loss, arrays, mask=mask)
    arrays = [np.where(there, x, np.nan) for x in arrays]
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    variables = [tf.Variable(x) for x in arrays]
    with agnoreg.native_autodiff():
        value = loss(*tensors, mask=torch.tensor(mask))
        with tf.GradientTape() as tape:
            other = loss(*variables, mask=tf.constant(mask))
    if value.requires_grad:
        gradients = [x.numpy() for x in torch.autograd.grad(value.sum(), tensors)]
        assert_close((value.detach().numpy(), gradients), expected, rtol=1e-8)
    taped = tape.gradient(other, variables, unconnected_gradients="zero")
    assert_close((other.numpy(), [x.numpy() for x in taped]), expected, rtol=1e-8)


@pytest.mark.parametrize("native", [False, True], ids=["closed form", "native"])
@pytest.mark.parametrize("name", KINDS)
def test_a_mask_is_a_constant(rng, name, native):
    loss = LOSSES[name](native=native)
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    expected, (*_, expected_gradient) = evaluated(loss, arrays, mask=mask)
    *fixed, moving = [torch.tensor(x) for x in arrays]
    weights = torch.tensor(mask, requires_grad=True)
    # Where nothing else requires a gradient there is none.
    assert not loss(*fixed, moving, mask=weights).requires_grad
    value = loss(*fixed, moving.requires_grad_(), mask=weights)
    value.backward()
    assert weights.grad is None
    np.testing.assert_allclose(moving.grad.numpy(), expected_gradient, atol=1e-8 * np.abs(expected_gradient).max())
    *others, last = [tf.constant(x) for x in arrays]
    weights = tf.Variable(mask)
    with tf.GradientTape() as tape:
        tape.watch(last)
        value = loss(*others, last, mask=weights)
    gradient, none = tape.gradient(value, (last, weights))
    assert none is None
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(gradient.numpy(), expected_gradient, atol=1e-8 * np.abs(expected_gradient).max())


@pytest.mark.parametrize("name", NAMED)
def test_a_traced_function_takes_masks_of_any_batch(rng, name):
    loss, tail = NAMED[name], SHAPE[1:]
    inputs = [tf.TensorSpec((None, *tail, 3) if loss.inputs == 1 else (None, *tail), tf.float64)] * loss.inputs
    masks = [((None, *tail), tf.bool), ((None, *tail), tf.float32), ((1, *tail), tf.float64)]

    @tf.function(input_signature=[*inputs, *(tf.TensorSpec(*mask) for mask in masks)])
    def step(*given):
        *arrays, hard, soft, shared = given
        with tf.GradientTape() as tape:
            tape.watch(arrays[-1])
            value = loss(*arrays, fixed_mask=hard, moving_mask=soft, mask=shared)
        return value, tape.gradient(value, arrays[-1])

    for batch in (1, 3):
        shape = (batch, *tail)
        arrays, hard = arrays_for(loss, rng, shape), mask_for(loss, rng, shape, soft=False)
        soft, shared = mask_for(loss, rng, shape).astype(np.float32), mask_for(loss, rng, (1, *tail))
        expected, gradients = evaluated(loss, arrays, mask=hard * soft.astype(np.float64) * shared)
        value, gradient = step(*map(tf.constant, (*arrays, hard, soft, shared)))
        assert_close((value.numpy(), [gradient.numpy()]), (expected, gradients[-1:]), rtol=1e-9)


@pytest.mark.parametrize("shared", [False, True], ids=["of a batch", "of one sample"])
@pytest.mark.parametrize(
    ("name", "dtype"), [*(("ssd", dtype) for dtype in ("bool", "uint8", "float64")), ("gradient", "bool")]
)
def test_a_traced_function_takes_one_mask_of_any_dtype(rng, name, dtype, shared):
    loss, tail = NAMED[name], SHAPE[1:]
    inputs = [tf.TensorSpec((None, *tail, 3) if loss.inputs == 1 else (None, *tail), tf.float64)] * loss.inputs

    @tf.function(input_signature=[*inputs, tf.TensorSpec((1 if shared else None, *tail), dtype)])
    def step(*given):
        value, gradients = agnoreg.value_and_grad(loss, *given[:-1], argnums=range(loss.inputs), mask=given[-1])
        return value, *gradients

    for batch in (1, 3):
        shape = (batch, *tail)
        arrays, mask = arrays_for(loss, rng, shape), mask_for(loss, rng, (1, *tail) if shared else shape, soft=False)
        value, *gradients = step(*map(tf.constant, (*arrays, mask.astype(dtype))))
        assert_close((value.numpy(), [x.numpy() for x in gradients]), evaluated(loss, arrays, mask=mask), rtol=1e-9)


@pytest.mark.usefixtures("some_slabs")
@pytest.mark.parametrize("name", ["lncc", "gmi", "dice", "bending"])
def test_a_loop_of_the_graph_passes_masks_by(rng, name):
    loss = NAMED[name]
    arrays, mask = arrays_for(loss, rng, (2, 14, 7, 8)), mask_for(loss, rng, (2, 14, 7, 8))
    expected = evaluated(loss, arrays, mask=mask)
    traced = tf.function(lambda *given: agnoreg.value_and_grad(loss, *given[:-1], mask=given[-1]))
    value, gradient = traced(*map(tf.constant, (*arrays, mask)))
    assert_close((value.numpy(), [gradient.numpy()]), (expected[0], expected[1][-1:]))


@pytest.mark.parametrize("name", ["lncc", "dice"])
def test_what_tensorflow_compiles_for_a_large_image_takes_masks(rng, name, monkeypatch):
    monkeypatch.setattr("agnoreg_tensorflow.execution.LEAST_COMPILED", 1)
    loss = NAMED[name]
    arrays, mask = arrays_for(loss, rng), mask_for(loss, rng)
    backend = agnoreg.get_backend("tensorflow")
    for masks in ({"mask": mask}, {}, {"mask": mask[:1] > 0}):
        assert_close(evaluated(loss, arrays, backend, **masks), evaluated(loss, arrays, **masks))


# PyTorch's own compiler instantiates autograd.Function, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["lncc", "dice", "bending"])
@pytest.mark.slow
def test_every_loss_compiles_with_a_mask_as_one_graph(rng, name):
    loss = dataclasses.replace(NAMED[name], reduction="mean")
    *fixed, moving = (torch.tensor(x) for x in arrays_for(loss, rng))
    masks = torch.tensor(mask_for(loss, rng)), torch.tensor(mask_for(loss, rng, soft=False))
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda *arrays, soft, hard: loss(*arrays, mask=soft, fixed_mask=hard), fullgraph=True, backend="aot_eager"
    )
    leaf = moving.clone().requires_grad_()
    value = compiled(*fixed, leaf, soft=masks[0], hard=masks[1])
    value.backward()
    expected, gradient = agnoreg.value_and_grad(loss, *fixed, moving, mask=masks[0], fixed_mask=masks[1])
    torch.testing.assert_close(value.detach(), expected, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(leaf.grad, gradient, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_mapped_with_its_masks(rng, name):
    loss = LOSSES[name]()
    arrays = [torch.tensor(x)[:, None] for x in arrays_for(loss, rng)]
    masks = torch.tensor(mask_for(loss, rng))[:, None]
    last = len(arrays) - 1

    def masked(*given):
        return loss(*given[:-1], mask=given[-1])

    mapped = torch.func.vmap(torch.func.grad(masked, argnums=last))(*arrays, masks)
    shared = torch.func.vmap(torch.func.grad(masked, argnums=last), in_dims=(*[0] * len(arrays), None))(
        *arrays, masks[0]
    )
    for i in range(2):
        given = [x[i] for x in arrays]
        for found, mask in ((mapped[i], masks[i]), (shared[i], masks[0])):
            _, gradient = agnoreg.value_and_grad(loss, *given, argnums=last, mask=mask)
            torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.usefixtures("small_slabs")
def test_threads_change_no_bit_of_a_masked_loss(rng):
    numpy_backend = agnoreg.get_backend("numpy")
    loss = VARIANTS["GlobalMutualInformation"]
    arrays, mask = arrays_for(loss, rng, (2, 17, 9, 8)), mask_for(loss, rng, (2, 17, 9, 8))
    results = []
    try:
        for threads in (1, 4):
            numpy_backend.threads = threads
            results.append(evaluated(loss, arrays, mask=mask))
    finally:
        numpy_backend.threads = None
    assert_same(*results)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16"])
@pytest.mark.parametrize("name", ["lncc", "gncc", "ssd", "dice", "dice of scales"])
def test_images_of_other_dtypes_are_masked_as_the_float32_that_they_become(no_kernels, framework, rng, name, dtype):
    loss = VARIANTS["dice, scales"] if name == "dice of scales" else NAMED[name]
    arrays = [np.round(x).astype(dtype) for x in arrays_for(loss, rng)]
    mask = mask_for(loss, rng)
    expected, _ = evaluated(loss, arrays, framework, "float32", mask=mask)
    given = [framework.from_numpy(x) for x in arrays]
    value, gradient = agnoreg.value_and_grad(loss, *given, mask=framework.from_numpy(mask))
    np.testing.assert_array_equal(framework.to_numpy(value), expected)
    assert not np.any(framework.to_numpy(gradient)[mask == 0])


# --- losses of losses, and of users -----------------------------------------------------------------------------------


def test_a_weighted_sum_is_that_of_its_masked_parts(framework, rng):
    parts = [{"name": "lncc", "kernel_size": 3}, {"name": "dice", "scales": [0, 1], "weight": 0.5}, {"name": "gmi"}]
    loss = agnoreg.build_loss([{**part, "reduction": "none"} for part in parts])
    arrays = arrays_for(loss, rng)
    masks = {"fixed_mask": mask_for(loss, rng), "moving_mask": mask_for(loss, rng, soft=False)}
    found = evaluated(loss, arrays, framework, **masks)
    single = [evaluated(part, arrays, framework, **masks) for part in loss.losses]
    value = sum(w * one for w, (one, _) in zip(loss.weights, single, strict=True))
    gradients = [sum(w * one[1][i] for w, one in zip(loss.weights, single, strict=True)) for i in range(2)]
    assert_close(found, (value, gradients))
    given = [framework.from_numpy(x) for x in arrays]
    terms = loss.terms(*given, **{name: framework.from_numpy(mask) for name, mask in masks.items()})
    for term, weight, (one, _) in zip(terms.values(), loss.weights, single, strict=True):
        np.testing.assert_allclose(framework.to_numpy(term), weight * one, rtol=1e-12)


def test_a_registration_hands_its_masks_to_every_section(framework, rng):
    loss = agnoreg.build_loss(
        {
            "image": [{"name": "lncc", "kernel_size": 3}, {"name": "ssd", "weight": 0.2}],
            "label": {"name": "dice", "weight": 0.5},
            "regularization": [{"name": "bending", "weight": 0.3}, {"name": "gradient", "stencil": "compact"}],
        }
    )
    t, p, a, b = (framework.from_numpy(x) for x in rng.random((4, *SHAPE)))
    ddf = framework.from_numpy(rng.normal(size=(*SHAPE, 3)))
    mask = framework.from_numpy(mask_for(GradientNorm(), rng))
    sections = {"image": (t, p), "label": (a, b), "regularization": ddf}
    total, terms = loss(**sections, mask=mask, return_terms=True)
    parts = {
        name: getattr(loss, name)(*(arrays if isinstance(arrays, tuple) else (arrays,)), mask=mask)
        for name, arrays in sections.items()
    }
    np.testing.assert_allclose(float(total), sum(map(float, parts.values())), rtol=1e-12)
    np.testing.assert_allclose(float(loss(**sections, mask=mask)), float(total), rtol=1e-12)
    np.testing.assert_allclose(sum(map(float, terms.values())), float(total), rtol=1e-12)
    assert {name: float(term) for name, term in loss.terms(**sections, mask=mask).items()} == {
        name: float(term) for name, term in terms.items()
    }
    for name, index in (("image", 1), ("label", 1), ("regularization", 0)):
        arrays = sections[name] if isinstance(sections[name], tuple) else (sections[name],)
        (again, named), gradient = agnoreg.value_and_grad(loss, **sections, mask=mask, argnums=name, return_terms=True)
        _, expected = agnoreg.value_and_grad(getattr(loss, name), *arrays, argnums=index, mask=mask)
        np.testing.assert_allclose(float(again), float(total), rtol=1e-12)
        assert list(named) == list(terms)
        np.testing.assert_allclose(framework.to_numpy(gradient), framework.to_numpy(expected), rtol=1e-12)
        assert not np.any(framework.to_numpy(gradient)[framework.to_numpy(mask) == 0])


class WeightedDifference(agnoreg.Loss):
    """A user's loss that knows masks."""

    def call(self, y_true, y_pred, mask=None):
        xp = agnoreg.backend_of(y_true).xp
        weights = xp.ones_like(y_true) if mask is None else xp.astype(mask, y_true.dtype) * xp.ones_like(y_true)
        axes = tuple(range(1, len(y_true.shape)))
        # Whoever takes a mask takes care of what it leaves out.
        return xp.sum(weights * (y_true - y_pred) ** 2, axis=axes) / xp.sum(weights, axis=axes)

    def gradient(self, y_true, y_pred, wrt, mask=None):
        xp = agnoreg.backend_of(y_true).xp
        weights = xp.ones_like(y_true) if mask is None else xp.astype(mask, y_true.dtype) * xp.ones_like(y_true)
        total = xp.sum(weights, axis=tuple(range(1, len(y_true.shape))), keepdims=True)
        step = 2.0 * weights * (y_pred - y_true) / total
        return tuple(step if index == 1 else -step for index in wrt)


class NegativeDifference(NegativeLossMixin, WeightedDifference):
    """The same with one mixin."""


class ScaledDifference(MultiScaleMixin, WeightedDifference):
    """The same with the other."""


class Maskless(agnoreg.Loss):
    """A user's loss that knows no masks."""

    def call(self, y_true, y_pred):
        xp = agnoreg.backend_of(y_true).xp
        return xp.mean((y_true - y_pred) ** 2, axis=(1, 2, 3))


@pytest.mark.parametrize("names", [("mask",), ("fixed_mask", "moving_mask"), ("mask", "fixed_mask")], ids="+".join)
def test_a_users_loss_gets_the_mask(framework, rng, names):
    ours = agnoreg.loss.label.SumSquaredDifferenceLoss
    arrays = arrays_for(Maskless(), rng)
    masks = {name: mask_for(Maskless(), rng, soft=i == 0) for i, name in enumerate(names)}
    half = WeightedLoss((WeightedDifference(), SumSquaredDifference()), (0.5, 0.5), reduction="none")
    expected = evaluated(ours(reduction="none"), arrays, framework, **masks)
    assert_close(evaluated(WeightedDifference(reduction="none"), arrays, framework, **masks), expected)
    assert_close(evaluated(half, arrays, framework, **masks), expected)
    value, gradients = evaluated(NegativeDifference(reduction="none"), arrays, framework, **masks)
    assert_close((-value, [-gradient for gradient in gradients]), expected)
    scaled = evaluated(ScaledDifference(scales=(0, 1), reduction="none"), arrays, framework, **masks)
    assert_close(scaled, evaluated(ours(scales=(0, 1), reduction="none"), arrays, framework, **masks))


def test_a_users_loss_is_differentiated_with_its_mask_by_the_framework(rng):
    class Taught(agnoreg.Loss):
        def call(self, y_true, y_pred, mask=None):
            xp = agnoreg.backend_of(y_true).xp
            return xp.sum(mask * (y_true - y_pred) ** 2, axis=(1, 2, 3)) / xp.sum(mask, axis=(1, 2, 3))

    arrays, mask = arrays_for(Taught(), rng), mask_for(Taught(), rng)
    expected = evaluated(SumSquaredDifference(), arrays, mask=mask)
    for name in ("torch", "tensorflow", "jax"):
        backend = agnoreg.get_backend(name)
        with set_for("float64"):
            assert_close(evaluated(Taught(), arrays, backend, mask=mask), expected)


@pytest.mark.parametrize("argument", ["mask", "fixed_mask", "moving_mask"])
def test_a_users_loss_that_knows_no_masks_says_what_to_do(framework, rng, argument):
    arrays = [framework.from_numpy(x) for x in arrays_for(Maskless(), rng)]
    mask = {argument: framework.from_numpy(mask_for(Maskless(), rng))}
    message = r"Maskless takes no mask: give its call an argument mask=None\."
    for loss in (Maskless(), WeightedLoss((SumSquaredDifference(), Maskless()), (1, 1))):
        with pytest.raises(TypeError, match=message):
            loss(*arrays, **mask)
        with pytest.raises(TypeError, match=message):
            agnoreg.value_and_grad(loss, *arrays, **mask)


@pytest.mark.parametrize("shape", [(2, 6, 7, 9), (6, 7, 10)], ids=str)
def test_a_users_loss_is_given_no_mask_that_does_not_fit(framework, rng, shape):
    arrays = [framework.from_numpy(x) for x in arrays_for(Maskless(), rng)]
    with pytest.raises(ValueError, match="mask must have the input's shape"):
        WeightedDifference()(*arrays, mask=framework.from_numpy(np.ones(shape)))
