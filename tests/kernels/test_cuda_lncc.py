"""Local correlation by CUDA kernels, emulated on the CPU: every convention, masks, cut-off windows and other windows.

The conformance suite compares them with its reference (`test_cuda`); here are the images that cost digits.
"""

import numpy as np
import pytest
from agnoreg_cuda.local_correlation import CudaLocalCorrelation
from core_path import core
from cuda_on_cpu import COMPILER, ORDERS, EmulatedCard

import agnoreg
from agnoreg.backend import lookup
from agnoreg.compat import monai
from agnoreg.measures.lncc import KERNELS, LOCAL_CONVENTIONS, LocalCorrelation

pytestmark = [
    pytest.mark.needs_compiler,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, to emulate the kernels with"),
]

MEASURES = {
    "truncated": LocalCorrelation(3, padding="truncate"),
    "monai": LocalCorrelation(3, convention="monai"),
    "ants": LocalCorrelation(3, convention="ants"),
    "exact": LocalCorrelation(3, convention="exact"),
    "exact, signed, even": LocalCorrelation(4, convention="exact", squared=False, flat_value=0.5),
    "signed": LocalCorrelation(3, squared=False, flat_value=0.25, padding="truncate"),
    "triangular": LocalCorrelation(5, "triangular", padding="truncate"),
}


def in_float64(measure, arrays, wrt=(0, 1)):
    wide = tuple(x.astype(np.float64) if x.dtype == np.float32 else x for x in arrays)
    return core(measure.value_and_gradients, wide, wrt)


def smooth_pair(rng, shape=(2, 7, 9, 12)):
    """Return two images of structures as wide as a few voxels, with some noise, in [0, 1]."""
    grid = np.indices(shape[1:])
    waves = np.sin(np.tensordot(rng.uniform(-0.6, 0.6, (6, 3)), grid, 1) + rng.uniform(0, 6, (6, 1, 1, 1)))
    a, b = (np.tensordot(rng.random(6), waves, 1) + 0.1 * rng.standard_normal(shape) for _ in range(2))
    return tuple((x - x.min()) / (x.max() - x.min()) for x in (a, 0.7 * a + 0.3 * b))


def ct(rng):
    t, p = (np.round(-1000 + 1500 * x) for x in smooth_pair(rng))
    for image in (t, p):
        image[:, :3] = image[:, :, :4] = -1024.0
    return t, p


def raised(rng):
    """Return images with an offset of 1000, of which one is flat in places."""
    t, p = (1000 + x for x in smooth_pair(rng))
    p[:, 2:6] = 1000.417
    return t, p


def nearly_flat(rng):
    t, p = smooth_pair(rng)
    for image in (t, p):
        image[:, :4] = 0.5 + 1e-4 * image[:, :4]
    return t, p


DATA = {"ct with flat air": ct, "raised and flat": raised, "nearly flat": nearly_flat}


def made(data, rng):
    """Return images, and a mask with large holes, in which windows are empty."""
    arrays = tuple(image.astype(np.float32) for image in data(rng))
    mask = rng.random(arrays[0].shape) > 0.4
    mask[:, :4, :6] = False
    return arrays, mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", MEASURES)
def test_as_many_digits_as_the_core(name, data, masked, rng):
    measure, (arrays, mask), card = MEASURES[name], made(DATA[data], rng), EmulatedCard()
    if masked:
        arrays = (*arrays, mask)
    value, gradients = measure.value_and_gradients(card, arrays, (0, 1))
    assert card.launched.names.count("correlation_gradient") == 2
    expected, wanted = in_float64(measure, arrays)
    plain, others = core(measure.value_and_gradients, arrays, (0, 1))
    assert np.abs(value - expected).max() <= max(2e-7, 2 * np.abs(plain - expected).max())
    for found, other, right in zip(gradients, others, wanted, strict=True):
        error, usual = (np.abs(x - right).max() / np.abs(right).max() for x in (found, other))
        assert error <= max(5e-6, 3 * usual)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 3), (1, 5, 1), (1, 17, 33), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("name", ["truncated", "ants", "exact", "exact, signed, even", "triangular"])
@pytest.mark.filterwarnings("ignore::agnoreg.InputWarning")
def test_images_smaller_than_a_window_and_single_planes(name, sizes, rng):
    measure, card = MEASURES[name], EmulatedCard()
    # Voxels that are near each other differ by 1/11 or more: two that are nearly alike, alone in a window, have a
    # gradient that is nothing but roundings.
    levels = (1 + np.tensordot((1, 2, 3), np.indices(sizes), 1) % 5) / 5.5
    arrays = tuple((levels + image / 11.0).astype(np.float32) for image in rng.random((2, 2, *sizes)))
    for more in ((), (rng.random((2, *sizes)) < 0.9,)):
        value, gradients = measure.value_and_gradients(card, (*arrays, *more), (0, 1))
        expected, wanted = in_float64(measure, (*arrays, *more))
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
        for found, right in zip(gradients, wanted, strict=True):
            assert np.abs(found - right).max() <= 5e-5 * np.abs(right).max(initial=1.0 / found.size)
    assert card.launched.names


@pytest.mark.parametrize("name", ["truncated", "monai", "exact"])
def test_several_blocks_and_slabs_of_planes_make_one_image(name, rng):
    measure, arrays = MEASURES[name], tuple(rng.random((2, 2, 13, 19, 70)).astype(np.float32))
    arrays = (*arrays, (rng.random((2, 13, 1, 70)) > 0.3).astype(np.float32) * 0.75)
    expected, wanted = in_float64(measure, arrays)
    for multiprocessors in (1, 200):
        value, gradients = measure.value_and_gradients(EmulatedCard(multiprocessors), arrays, (0, 1))
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-7)
        for found, right in zip(gradients, wanted, strict=True):
            assert np.abs(found - right).max() <= 2e-6 * np.abs(right).max()


@pytest.mark.parametrize("name", ["truncated", "monai", "ants", "exact", "exact, signed, even"])
def test_masked_voxels_may_be_anything_and_a_mask_may_be_empty(name, rng):
    measure, (arrays, mask) = MEASURES[name], made(ct, rng)
    mask[1] = False
    expected, wanted = in_float64(measure, (*arrays, mask))
    for image, anything in zip(arrays, (np.nan, 1e30), strict=True):
        image[~mask] = anything
    value, gradients = measure.value_and_gradients(EmulatedCard(), (*arrays, mask), (0, 1))
    assert np.isnan(value[1])
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
    for found, right in zip(gradients, wanted, strict=True):
        assert np.abs(found - right).max() <= 2e-5 * np.abs(right).max()
        np.testing.assert_array_equal(found[~mask], 0)


@pytest.mark.parametrize("name", ["ants", "exact", "triangular"])
def test_the_order_in_which_threads_run_changes_nothing(name, rng):
    arrays, mask = made(ct, rng)
    results = [MEASURES[name].value_and_gradients(EmulatedCard(order=o), (*arrays, mask), (0, 1)) for o in ORDERS]
    for value, gradients in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        np.testing.assert_array_equal(gradients, results[0][1])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["truncated", "exact", "monai"])
def test_a_gradient_that_is_asked_for_later_or_alone_is_the_same(name, masked, rng):
    measure, (arrays, mask), card = MEASURES[name], made(ct, rng), EmulatedCard()
    arrays = (*arrays, mask) if masked else arrays
    cotangent = np.asarray([2.0, -0.5], np.float32)
    value, (by_t, by_p) = measure.value_and_gradients(card, arrays, (0, 1))
    found, saved = measure.forward(card, arrays, (0, 1))
    np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(measure.value(card, arrays), value)
    for wrt, expected in (((1,), (by_p,)), ((0, 1), (by_t, by_p))):
        np.testing.assert_array_equal(measure.value_and_gradients(card, arrays, wrt)[1], expected)
        card.launched.names.clear()
        gradients = measure.backward(card, arrays, wrt, (0, 1), saved, cotangent)
        for gradient, right in zip(gradients, expected, strict=True):
            # The cotangents are powers of two, which are exact.
            np.testing.assert_array_equal(gradient, right * cotangent[:, None, None, None])
        # Windows that do not count are known after the values only: then the images are read once more.
        assert bool(card.launched.names) == measure.counts
    # What the kernels saved the core can go on with, and the other way round.
    if measure.counts:
        for found in (
            core(measure.backward, arrays, (1,), (0, 1), saved, cotangent),
            measure.backward(card, arrays, (1,), (0, 1), core(measure.forward, arrays, (0, 1))[1], cotangent),
        ):
            right = by_p * cotangent[:, None, None, None]
            assert np.abs(found[0] - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_the_exact_formula_knows_no_unit(unit, rng):
    measure, arrays = MEASURES["exact"], tuple(x.astype(np.float32) for x in smooth_pair(rng))
    value, gradients = measure.value_and_gradients(EmulatedCard(), arrays, (0, 1))
    scaled = tuple(x * np.float32(unit) for x in arrays)
    found, others = measure.value_and_gradients(EmulatedCard(), scaled, (0, 1))
    np.testing.assert_allclose(found, value, rtol=1e-6)
    for other, gradient in zip(others, gradients, strict=True):
        assert np.abs(other * np.float32(unit) - gradient).max() <= 1e-5 * np.abs(gradient).max()


@pytest.fixture
def card(monkeypatch):
    """Let NumPy's arrays be on an emulated card."""
    found = EmulatedCard()
    monkeypatch.setitem(lookup._loaded, "numpy", found)
    monkeypatch.setattr(lookup, "_by_type", {})
    return found


def test_public_paths_lead_to_the_kernels(card, rng):
    t, p = (x.astype(np.float32) for x in smooth_pair(rng))
    mask = rng.random(t.shape) > 0.3
    # The losses, and the measures and arrays that they mean.
    paths = {
        "MONAI's class": (
            lambda: monai.LocalNormalizedCrossCorrelationLoss()(p[:, None], t[:, None]), MEASURES["monai"], (t, p)
        ),
        "MONAI's class, triangular": (
            lambda: monai.LocalNormalizedCrossCorrelationLoss(kernel_size=7, kernel_type="triangular")(
                p[:, None], t[:, None]
            ),
            LocalCorrelation(7, "triangular", convention="monai"), (t, p),
        ),
        "the function with masks": (
            lambda: -agnoreg.functional.lncc(t, p, kernel_size=3, padding="truncate", fixed_mask=mask).mean(),
            MEASURES["truncated"], (t, p, mask),
        ),
        "the class": (
            lambda: agnoreg.loss.LocalNormalizedCrossCorrelationLoss(kernel_size=3, convention="ants")(t, p),
            MEASURES["ants"], (t, p),
        ),
        "slices with channels": (
            lambda: agnoreg.LNCC(kernel_size=3, spatial_dims=2, data_format="channels_first")(t, p),
            LocalCorrelation(3, spatial_dims=2, data_format="channels_first"), (t, p),
        ),
    }  # fmt: skip
    for name, (loss, measure, arrays) in paths.items():
        card.launched.names.clear()
        value = loss()
        assert card.launched.names.count("correlate") == 1, name
        np.testing.assert_allclose(value, -np.mean(in_float64(measure, arrays)[0]), rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("convention", ["monai", "exact"])
def test_chunks_of_dasks_are_blocks_of_one_image(convention, masked, card, rng, monkeypatch):
    da, dask = pytest.importorskip("dask.array"), pytest.importorskip("dask")
    monkeypatch.setattr("agnoreg_dask.neighbourhoods.NUMBERS", 1)
    measure = LocalCorrelation(3, convention=convention)
    arrays, mask = rng.random((2, 2, 12, 9, 11)).astype(np.float32), rng.random((2, 12, 9, 11)) > 0.2
    arrays[:, :, :4, :5] = 0.5  # flat
    arrays = (*arrays, mask) if masked else tuple(arrays)
    expected, (wanted,) = in_float64(measure, arrays, (1,))
    t, p, *more = (da.from_array(x, chunks=(2, (5, 7), (9,), (6, 5))) for x in arrays)
    loss = agnoreg.LNCC(kernel_size=3, convention=convention)
    with dask.config.set(scheduler="synchronous"):
        value, gradient = dask.compute(*agnoreg.value_and_grad(loss, t, p, **({"mask": more[0]} if masked else {})))
    assert card.launched.names.count("correlation_gradient") == 4
    # The loss is minus the mean of two samples' values.
    assert abs(value + expected.mean()) <= 2e-7
    assert np.abs(gradient + wanted / 2).max() <= 5e-6 * np.abs(wanted).max()


#: What no kernel on a card serves, and why.
NOT_SERVED = {
    "float64": "cards compute float64 at a fraction of their speed, and windows take twice the room",
    "wide windows": "a block has no room for them in shared memory, or a thread in its registers",
}


def served(measure, dtype=np.float32, masked=False, sizes=(4, 5, 6)):
    image = np.broadcast_to(np.zeros((), dtype), (1, *sizes[: measure.spatial_dims]))
    arrays = (image, image, np.broadcast_to(True, image.shape))[: 2 + masked]
    return EmulatedCard().emulated(measure, arrays) is not measure


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("convention", LOCAL_CONVENTIONS)
def test_every_convention_is_served(convention, masked):
    for kernel_type in KERNELS:
        for squared in (True, False):
            for dims in (1, 2, 3):
                for flat_value in (None, 0.5):
                    options = {"squared": squared, "spatial_dims": dims, "flat_value": flat_value}
                    try:
                        measure = LocalCorrelation(9, kernel_type, convention=convention, **options)
                    except ValueError:
                        continue  # The convention has one formula, or one kind of windows.
                    assert served(measure, masked=masked), measure
    measure = LocalCorrelation(3, convention=convention)
    assert not served(measure, np.float64), NOT_SERVED["float64"]
    widest = next(n for n in range(99, 0, -2) if CudaLocalCorrelation(n, convention=convention)._fits(masked))
    assert widest >= 23
    assert not served(LocalCorrelation(widest + 10, convention=convention), masked=masked), NOT_SERVED["wide windows"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["monai", "ants", "exact"])
def test_the_map_is_of_the_kernels_too(name, masked, card, rng):
    measure, (arrays, mask) = MEASURES[name], made(ct, rng)
    masks = {"mask": mask} if masked else {}
    found = agnoreg.functional.lncc_map(*arrays, kernel_size=3, convention=name, **masks)
    assert card.launched.names.count("correlate") == 1
    expected = core(lambda _, *images: measure.map(*images, masks), *(x.astype(np.float64) for x in arrays))
    assert found.shape == (*arrays[0].shape, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # NaN where the other is
