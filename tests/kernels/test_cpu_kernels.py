"""Compiled kernels on the host agree with the core's path, which is their oracle, and are taken where they can be."""

import gc
import itertools
import math
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import torch
from agnoreg_cpu import pointwise, scores, tapped
from agnoreg_cpu.kinds import KINDS, compile_kernels
from agnoreg_cpu.lncc import CpuLocalCorrelation
from agnoreg_cpu.measures import HostEvaluation
from agnoreg_cpu.parzen import ParzenTables, parzen_tables
from agnoreg_cpu.plans import shares, zeros
from agnoreg_cpu.threads import parts, run
from core_path import NUMPY, core
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg.engine.chosen import evaluator_of
from agnoreg.measures.cross_entropy import BinaryCrossEntropy
from agnoreg.measures.dice import DiceOverlap
from agnoreg.measures.gncc import GlobalCorrelation
from agnoreg.measures.jaccard import JaccardOverlap
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg.measures.ssd import SquaredDifference

WRT = ((0,), (1,), (0, 1), (1, 0))
MEASURES = {
    "lncc": LocalCorrelation(),
    "lncc of even width": LocalCorrelation(kernel_size=4),
    "lncc of three widths": LocalCorrelation(kernel_size=(1, 7, 2)),
    "lncc of lines": LocalCorrelation(kernel_size=31, spatial_dims=1),
    "lncc of planes": LocalCorrelation(kernel_size=(3, 6), spatial_dims=2),
    "lncc of triangles": LocalCorrelation(kernel_size=(7, 3, 5), kernel_type="triangular"),
    "lncc of gaussians": LocalCorrelation(kernel_size=(4, 7, 1), kernel_type="gaussian"),
    "lncc, cut off at the border": LocalCorrelation(kernel_size=5, padding="truncate"),
    "lncc, voxelmorph's": LocalCorrelation(convention="voxelmorph"),
    "lncc, monai's": LocalCorrelation(convention="monai"),
    "lncc, ants's": LocalCorrelation(convention="ants", kernel_size=5),
    "lncc, exact": LocalCorrelation(convention="exact", kernel_size=(5, 3, 7)),
    "lncc, exact and signed": LocalCorrelation(convention="exact", squared=False, flat_value=0.5),
    "lncc, signed": LocalCorrelation(squared=False, flat_value=0.0),
    "lncc of channels": LocalCorrelation(kernel_size=3, data_format="channels_first"),
    "lncc of channels that go last": LocalCorrelation(kernel_size=3, data_format="channels_last"),
    "gncc": GlobalCorrelation(),
    "gncc, signed": GlobalCorrelation(smooth_nr=1e-3, smooth_dr=1e-2, squared=False),
    "dice": DiceOverlap(),
    "dice with a background": DiceOverlap(background_weight=0.3),
    "dice of squares": DiceOverlap(squared=True, background_weight=0.1),
    "dice of channels": DiceOverlap(convention="voxelmorph", data_format="channels_first"),
    "jaccard": JaccardOverlap(),
    "jaccard with a background": JaccardOverlap(background_weight=0.6),
    "ssd": SquaredDifference(),
    "cross-entropy": BinaryCrossEntropy(),
    "cross-entropy with a background": BinaryCrossEntropy(background_weight=0.4, smooth=1e-3),
    "information": ParzenInformation(),
    "information of many bins": ParzenInformation(num_bins=64, sigma_ratio=0.52),
    "information of two bins": ParzenInformation(num_bins=2, convention="monai"),
    "information of narrow windows": ParzenInformation(num_bins=9, sigma_ratio=0.1),
    "information of many narrow windows": ParzenInformation(num_bins=64, sigma_ratio=0.11),
    "information of channels that go last": ParzenInformation(spatial_dims=2, data_format="channels_last"),
}
#: What has kernels in float32 only.
NARROW = BinaryCrossEntropy, ParzenInformation


def digits_of(measure):
    """Return by how much more a gradient may round."""
    return 10.0 if isinstance(measure, ParzenInformation) else 1.0


def shapes_of(measure):
    """Return shapes that a measure takes: of a few voxels, of some samples, and of enough voxels for threads."""
    dims = measure.spatial_dims
    first = (3,) if measure.data_format == "channels_first" else ()
    last = (3,) if measure.data_format == "channels_last" else ()
    large = (90_000,) if dims == 1 else (45, 50, 37)
    return [(2, *first, *size[:dims], *last) for size in ((3, 2, 5), (11, 9, 13), large)]


def pair(rng, shape, dtype):
    return tuple(rng.random(shape).astype(dtype) for _ in range(2))


def assert_close(found, expected, dtype, digits=1.0):
    """Assert that arrays are equal but for roundings, beside the largest of their entries.

    Gradients by correlations and histograms are small differences of large sums, which costs float32 a digit.
    """
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    tolerance = digits * (1e-5 if dtype == np.float32 else 1e-12)
    # Of intensities that differ by less than 1, where a gradient may be nothing but roundings.
    least = found.shape[0] / found.size
    largest = np.abs(expected[~np.isnan(expected)]).max(initial=least)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest)


# --- they agree -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MEASURES)
def test_kernels_and_core_agree(name, dtype, rng):
    measure = MEASURES[name]
    digits = digits_of(measure)
    for shape, wrt in itertools.product(shapes_of(measure), WRT):
        arrays = pair(rng, shape, dtype)
        cotangent = rng.standard_normal(shape[:1]).astype(dtype)
        if dtype == np.float64 and isinstance(measure, NARROW):
            assert evaluator_of(measure, NUMPY, arrays) is measure
            continue
        assert isinstance(evaluator_of(measure, NUMPY, arrays), HostEvaluation)
        value, gradients = core(measure.value_and_gradients, arrays, wrt, 0.7)
        assert_close(measure.value(NUMPY, arrays), value, dtype)
        found, made = measure.value_and_gradients(NUMPY, arrays, wrt, 0.7)
        assert_close(found, value, dtype)
        for a, b in zip(made, gradients, strict=True):
            assert_close(a, b, dtype, digits)
        found, saved = measure.forward(NUMPY, arrays, wrt)
        assert_close(found, value, dtype)
        made = measure.backward(NUMPY, arrays, wrt, wrt, saved, cotangent)
        # What is saved means the same: either path goes on with it.
        expected = core(measure.backward, arrays, wrt, wrt, saved, cotangent)
        for a, b in zip(made, expected, strict=True):
            assert_close(a, b, dtype, digits)
        _, saved = core(measure.forward, arrays, wrt)
        for a, b in zip(measure.backward(NUMPY, arrays, wrt, wrt, saved, cotangent), made, strict=True):
            assert_close(a, b, dtype, digits)


@pytest.mark.parametrize("name", [name for name in MEASURES if name.startswith("information")])
def test_a_histogram_by_kernels_is_as_exact_as_the_cores(name, rng):
    measure = MEASURES[name]
    arrays = pair(rng, shapes_of(measure)[2], np.float32)
    arrays[1][...] = 0.3 * arrays[1] + 0.7 * arrays[0]
    arrays[0].flat[:6] = arrays[1].flat[3:9] = [-0.5, 0.0, 1.0, 1.0 + 1e-6, 2.0, -0.0]
    exact, wanted = core(measure.value_and_gradients, tuple(x.astype(np.float64) for x in arrays), (0, 1))
    _, others = core(measure.value_and_gradients, arrays, (0, 1))
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    for found, other, gradient, image in zip(gradients, others, wanted, arrays, strict=True):
        error, usual = (np.abs(x - gradient).max() / np.abs(gradient).max() for x in (found, other))
        assert error <= 2 * usual + 1e-6
        np.testing.assert_array_equal(found[(image < 0) | (image > 1)], 0)


def test_garbage_is_collected_again_after_compiling_ahead():
    before = gc.isenabled()
    try:
        for on in (True, False):
            gc.enable() if on else gc.disable()
            with pytest.raises(TypeError, match="float31"):
                compile_kernels(["float31"])
            assert gc.isenabled() is on
    finally:
        gc.enable() if before else gc.disable()


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5, 0.502, 0.51, 0.52])
@pytest.mark.parametrize("bins", [2, 5, 6, 9, 23])
def test_tables_are_gaussian_windows(bins, sigma, rng):
    x = np.sort(np.append(rng.random(2000), [0.0, 0.5, 1.0])).astype(np.float32)
    place = x.astype(np.float64) * (bins - 1)
    square = (place[:, None] - np.arange(bins)) ** 2
    weights = np.exp(-0.5 * (square - square.min(axis=1, keepdims=True)) / sigma**2)
    weights /= weights.sum(axis=1, keepdims=True)
    slopes = weights * (np.arange(bins) - weights @ np.arange(bins)[:, None])
    wide, (taps, cells, *tables) = ParzenTables(bins, sigma), parzen_tables(bins, sigma)
    below = taps // 2 - 1
    bin = np.minimum(place.astype(int), bins - 2)
    cell = np.minimum(((place - bin) * cells).astype(int), cells - 1)
    kind = np.minimum(bin, below) + np.maximum(bin - max(bins - 2 - below, below), 0)
    rest = (place - bin) * cells - cell
    for table, exact in zip(tables, (weights, slopes), strict=True):
        rows = table.reshape(-1, wide.step, cells, 4, 8)
        for shift in range(wide.step):
            found = np.einsum("vk,vkj->vj", np.vander(rest, 4, increasing=True), rows[kind, shift, cell])
            expected = np.zeros((x.size, bins + 16))
            expected[:, below : below + bins] = exact
            expected = np.take_along_axis(expected, bin[:, None] + np.arange(taps), axis=1)
            np.testing.assert_allclose(found[:, shift : shift + taps], expected, rtol=0, atol=1e-7)
            np.testing.assert_array_equal(np.delete(found, range(shift, shift + taps), axis=1), 0)


@pytest.mark.parametrize("kind", ["bool", "weights", "of all samples", "nothing"])
def test_masked_histograms_agree(kind, rng):
    measure = MEASURES["information"]
    arrays = pair(rng, (2, 31, 24, 29), np.float32)
    mask = rng.random(arrays[0].shape) > 0.4
    if kind == "weights":
        mask = (mask * rng.random(mask.shape)).astype(np.float32)
    elif kind == "of all samples":
        mask = mask[:1, :, :1]
    elif kind == "nothing":
        mask[1] = False
    left_out = np.broadcast_to(mask == 0, arrays[0].shape)
    for image in arrays:
        image[left_out] = np.nan
    assert isinstance(evaluator_of(measure, NUMPY, (*arrays, mask)), HostEvaluation)
    cotangent = np.asarray([2.0, -3.0], np.float32)
    expected, wanted = core(measure.value_and_gradients, (*arrays, mask), (0, 1))
    value, gradients = measure.value_and_gradients(NUMPY, (*arrays, mask), (0, 1))
    _, saved = measure.forward(NUMPY, (*arrays, mask), (0, 1))
    later = measure.backward(NUMPY, (*arrays, mask), (0, 1), (0, 1), saved, cotangent)
    np.testing.assert_array_equal(np.isnan(value), [False, kind == "nothing"])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for found, other, gradient in zip(gradients, later, wanted, strict=True):
        assert_close(found[:1], gradient[:1], np.float32, 10.0)
        np.testing.assert_array_equal(found[left_out], 0)
        assert_close(other[:1], 2 * found[:1], np.float32)
        if kind != "nothing":
            assert_close(other[1:], -3 * found[1:], np.float32)


@pytest.mark.parametrize("padding", ["zero", "truncate"])
@pytest.mark.parametrize("kind", ["bool", "weights", "of all samples", "nothing"])
@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular"])
def test_masked_windows_agree(kernel_type, kind, padding, rng):
    measure = LocalCorrelation(kernel_size=5, kernel_type=kernel_type, padding=padding)
    for dtype in (np.float32, np.float64):
        arrays = pair(rng, (2, 11, 14, 9), dtype)
        mask = rng.random((2, 11, 14, 9)) > 0.4
        if kind == "weights":
            mask = (mask * rng.random(mask.shape)).astype(dtype)
        elif kind == "of all samples":
            mask = mask[:1, :, :1]
        elif kind == "nothing":
            mask[1] = False
        for image in arrays:
            image[np.broadcast_to(mask == 0, image.shape)] = np.nan
        assert isinstance(evaluator_of(measure, NUMPY, (*arrays, mask)), HostEvaluation)
        value, gradients = core(measure.value_and_gradients, (*arrays, mask), (0, 1), 0.7)
        found, made = measure.value_and_gradients(NUMPY, (*arrays, mask), (0, 1), 0.7)
        np.testing.assert_array_equal(np.isnan(found), [False, kind == "nothing"])
        np.testing.assert_allclose(found, value, rtol=1e-6 if dtype == np.float32 else 1e-13)
        for a, b in zip(made, gradients, strict=True):
            assert_close(a, b, dtype)
            assert (a[np.broadcast_to(mask == 0, a.shape)] == 0).all()


@given(
    sizes=st.tuples(*(st.integers(1, 9),) * 3),
    widths=st.tuples(*(st.integers(1, 12),) * 3).filter(lambda widths: max(widths) > 1),
    kernel_type=st.sampled_from(("rectangular", "triangular", "gaussian")),
    masked=st.booleans(),
    wrt=st.sampled_from((*WRT, ())),
    seed=st.integers(0, 99),
)
@example(sizes=(1, 1, 1), widths=(2, 2, 2), kernel_type="rectangular", masked=False, wrt=(1,), seed=0)
@example(sizes=(9, 9, 9), widths=(7, 8, 11), kernel_type="rectangular", masked=False, wrt=(0, 1), seed=0)
@example(sizes=(40, 3, 3), widths=(3, 1, 5), kernel_type="triangular", masked=True, wrt=(0, 1), seed=0)
@settings(deadline=None, max_examples=120)
def test_windows_of_any_size_agree(sizes, widths, kernel_type, masked, wrt, seed):
    rng = np.random.default_rng(seed)
    # Voxels that are near each other differ by 1/11 or more: two that are nearly alike, alone in a window, have a
    # gradient that is nothing but roundings, as large as they are alike.
    levels = (1 + np.tensordot((1, 2, 3), np.indices(sizes), 1) % 5) / 5.5
    arrays = tuple(levels + image / 11.0 for image in pair(rng, (2, *sizes), np.float64))
    if kernel_type == "triangular":
        widths = tuple(max(3, width // 2 * 2 + 1) for width in widths)
    if masked and kernel_type != "gaussian":
        arrays = (*arrays, rng.random((2, *sizes)) > 0.3)
    measure = LocalCorrelation(kernel_size=widths, kernel_type=kernel_type)
    assert isinstance(evaluator_of(measure, NUMPY, arrays), HostEvaluation)
    value, gradients = measure.value_and_gradients(NUMPY, arrays, wrt)
    expected, wanted = core(measure.value_and_gradients, arrays, wrt)
    assert_close(value, expected, np.float64)
    for a, b in zip(gradients, wanted, strict=True):
        assert_close(a, b, np.float64)


@pytest.mark.parametrize("size", [(9, 9, 9), (2, 5, 4), (3, 1, 5)])
def test_tapped_parts_of_an_image_make_the_whole(size, rng):
    t, p = pair(rng, (23, 17, 19), np.float32)
    border = np.zeros((1, 1, 19), np.float32)
    for image in (t, p, border):
        image.flags.writeable = False
    measure = CpuLocalCorrelation(kernel_size=size, kernel_type="gaussian")
    taps = tuple(np.asarray(each, np.float32) for each in measure.taps)
    numbers = tuple(map(np.float32, (1e-5, 1e-5, 0.0, -1.0, 0.0, 1e-7)))
    given = (t, p), border, (np.float32(0.5), np.float32(0.4)), taps, scores.SQUARED, numbers

    def sum_of(planes, lines, columns, out):
        work = zeros(tapped.workspace(t.shape, size, lines[1] - lines[0], 2, t.dtype))
        return tapped.correlate(*given, (planes, lines, columns), np.float32(2), out, work)

    whole = np.empty_like(t), np.empty_like(p)
    total = sum_of((0, 23), (0, 17), (0, 19), whole)
    made = np.full_like(t, np.nan), np.full_like(p, np.nan)
    sums = [
        sum_of(planes, lines, columns, made)
        for planes in ((0, 1), (1, 20), (20, 23))
        for lines in ((0, 4), (4, 5), (5, 17))
        for columns in ((0, 8), (8, 19))
    ]
    assert math.fsum(sums) == pytest.approx(total, rel=1e-13)
    for a, b in zip(made, whole, strict=True):
        np.testing.assert_array_equal(a, b)


@given(
    samples=st.integers(1, 5),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    around=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    threads=st.integers(1, 40),
)
@settings(deadline=None)
def test_tiles_cover_an_image_once(samples, sizes, around, threads):
    for ranges, size in zip(shares(samples, sizes, around, threads), sizes, strict=True):
        assert [i for start, stop in ranges for i in range(start, stop)] == list(range(size))
        assert len(ranges) <= threads


@given(size=st.integers(1, 1000), count=st.integers(1, 70), grain=st.sampled_from((1, 7, 256)))
def test_parts_are_as_good_as_alike(size, count, grain):
    found = parts(size, count, grain)
    assert [i for start, stop in found for i in range(start, stop)] == list(range(size))
    assert len(found) == min(count, -(-size // grain))
    assert all(start % grain == 0 for start, _ in found)
    sizes = [stop - start for start, stop in found[:-1]]
    assert not sizes or max(sizes) - min(sizes) <= grain


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_logarithm_is_within_two_units_in_the_last_place(rng):
    exponents = rng.uniform(-103, 88, 20_000)
    x = np.concatenate([np.exp(exponents), rng.uniform(0.6, 1.5, 20_000), 1 + rng.uniform(-1e-5, 1e-5, 2_000)])
    x = x.astype(np.float32)
    exact = np.log(x.astype(np.float64))
    found = np.asarray([pointwise.logarithm(one) for one in x], np.float32)
    assert (np.abs(found - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float32))).all()


@pytest.mark.parametrize("x", [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, -1.0, 2.0**-126, 2.0**-149])
def test_the_logarithm_of_numbers_that_are_special(x):
    with np.errstate(all="ignore"):
        expected = np.log(np.float32(x))
    np.testing.assert_allclose(pointwise.logarithm(np.float32(x)), expected, rtol=2e-7)


@pytest.mark.parametrize("name", ["lncc", "lncc of even width", "gncc", "dice", "ssd", "cross-entropy", "information"])
def test_what_is_no_number_spoils_what_it_spoils_in_the_core(name, rng):
    measure = MEASURES[name]
    for bad in (np.nan, np.inf, -np.inf):
        arrays = pair(rng, (2, 17, 12, 14), np.float32)
        arrays[1][0, 5, 6, 7] = bad
        with np.errstate(all="ignore"):
            value, gradients = core(measure.value_and_gradients, arrays, (0, 1))
        found, made = measure.value_and_gradients(NUMPY, arrays, (0, 1))
        np.testing.assert_allclose(found, value, rtol=1e-5)
        for a, b in zip(made, gradients, strict=True):
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_the_cross_entropy_of_labels_that_are_certain(weight):
    # 1 + s has fewer digits of s than 1 - p + s.
    t = np.asarray([[0, 0, 1, 1]], np.float32).repeat(300, axis=1)
    p = np.asarray([[0, 1, 0, 1]], np.float32).repeat(300, axis=1)
    measure = BinaryCrossEntropy(background_weight=weight)
    exact, slopes = measure.value_and_gradients(NUMPY, (t.astype(float), p.astype(float)), (1,))
    for wrt in ((), (1,)):
        value, gradients = measure.value_and_gradients(NUMPY, (t, p), wrt)
        np.testing.assert_allclose(value, exact, rtol=1e-6)
        for gradient, slope in zip(gradients, slopes, strict=False):
            np.testing.assert_allclose(gradient, slope, rtol=1e-5)


def test_a_sum_beyond_all_numbers_is_infinite_however_many_threads_there_are(monkeypatch):
    t = np.zeros((1, 1 << 18))
    for threads in (1, 4):
        monkeypatch.setattr(NUMPY, "_threads", threads)
        assert agnoreg.functional.ssd(t, t + 4.5e151) == np.inf


@pytest.mark.filterwarnings("ignore:Dice:agnoreg.InputWarning")
def test_what_is_no_number_is_no_error_of_numpys():
    t, p = torch.full((1, 5, 5, 5), torch.inf), torch.full((1, 5, 5, 5), -torch.inf)
    with np.errstate(all="raise"):
        for name in ("dice", "gncc", "lncc", "ssd"):
            assert agnoreg.build_loss(name)(t, p.requires_grad_()).isnan() or name == "ssd"


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0, -1024.0])
@pytest.mark.parametrize("name", ["lncc", "gncc"])
def test_an_offset_costs_no_digits(name, offset, rng):
    measure, wide = MEASURES[name], pair(rng, (1, 20, 22, 24), np.float64)
    for image in wide:
        image[:, 5:18, 4:16, 6:20] = image[:, :1, :1, :1]  # flat, like air around a patient
        image += offset
    narrow = tuple(image.astype(np.float32) for image in wide)
    exact = tuple(image.astype(np.float64) for image in narrow)
    value, (gradient,) = measure.value_and_gradients(NUMPY, narrow, (1,))
    expected, (wanted,) = core(measure.value_and_gradients, exact, (1,))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_a_flat_window_scores_as_if_it_were_computed_exactly():
    # Far from the centre of intensities, where sums of squares would round.
    t = np.full((1, 24, 24, 24), -1000.37, np.float32)
    p = np.full((1, 24, 24, 24), 3000.73, np.float32)
    t[:, 20:] = p[:, :, 20:] = 17.0
    measure, arrays = LocalCorrelation(kernel_size=3), (t, p)
    exact = core(measure.value_and_gradients, tuple(x.astype(np.float64) for x in arrays), (0, 1))
    rounded = core(measure.value_and_gradients, arrays, (0, 1))
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    np.testing.assert_allclose(value, exact[0], rtol=1e-6)
    for found, other, wanted in zip(gradients, rounded[1], exact[1], strict=True):
        assert np.abs(found - wanted).max() <= 2 * np.abs(other - wanted).max()


# --- they are taken where they can be, and nowhere else ---------------------------------------------------------------


def kinds_of(backend, rng, shape=(1, 6, 7, 8)):
    return tuple(backend.from_numpy(x) for x in pair(rng, shape, np.float32))


@pytest.mark.parametrize("name", ["numpy", "torch", "tensorflow"])
@pytest.mark.parametrize("measure", [kind() for kind in KINDS if kind.inputs == 2])
def test_frameworks_on_the_host_take_kernels(name, measure, rng):
    backend = agnoreg.get_backend(name)
    arrays = kinds_of(backend, rng)
    assert isinstance(evaluator_of(measure, backend, arrays), HostEvaluation)
    value, gradients = measure.value_and_gradients(backend, arrays, (0, 1))
    expected, wanted = core(measure.value_and_gradients, tuple(map(backend.to_numpy, arrays)), (0, 1))
    assert_close(backend.to_numpy(value), expected, np.float32)
    for a, b in zip(gradients, wanted, strict=True):
        assert type(a) is type(arrays[0])
        assert_close(backend.to_numpy(a), b, np.float32)


@pytest.mark.parametrize("name", ["torch", "tensorflow"])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_frameworks_without_kernels_find_the_same(name, measure, rng, no_kernels):
    backend = agnoreg.get_backend(name)
    arrays = pair(rng, shapes_of(measure)[1], np.float32)
    expected, wanted = core(measure.value_and_gradients, arrays, (0, 1))
    value, gradients = measure.value_and_gradients(backend, tuple(map(backend.from_numpy, arrays)), (0, 1))
    assert_close(backend.to_numpy(value), expected, np.float32)
    for a, b in zip(gradients, wanted, strict=True):
        assert_close(backend.to_numpy(a), b, np.float32, digits_of(measure))


@pytest.mark.parametrize("name", ["numpy", "torch", "tensorflow"])
def test_the_core_does_what_kernels_do_not_know(name, rng):
    backend = agnoreg.get_backend(name)
    arrays = kinds_of(backend, rng)

    def core_takes(measure, *arrays):
        return not isinstance(evaluator_of(measure, backend, arrays), HostEvaluation)

    for measure in (
        LocalCorrelation(kernel_size=1),
        LocalCorrelation(kernel_type="gaussian", padding="truncate"),
        LocalCorrelation(kernel_type="gaussian", convention="exact", padding="zero"),
        GlobalCorrelation(convention="exact"),
        DiceOverlap(binary=True),
        JaccardOverlap(binary=True),
        BinaryCrossEntropy(binary=True),
        ParzenInformation(num_bins=65),
        ParzenInformation(sigma_ratio=0.09),
        ParzenInformation(sigma_ratio=0.53),
    ):
        assert core_takes(measure, *arrays)
    t, p = arrays
    assert core_takes(DiceOverlap(), t, p, t)  # with a mask
    assert core_takes(LocalCorrelation(kernel_type="gaussian"), t, p, t)
    wide, half, whole = (backend.xp.astype(p, getattr(backend.xp, kind)) for kind in ("float64", "float16", "int32"))
    for other in (wide, half, whole):
        assert core_takes(DiceOverlap(), t, other)
        assert core_takes(DiceOverlap(), other, t)
    assert core_takes(DiceOverlap(), half, half)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_core_takes_images_that_do_not_lie_in_one_piece(name, rng):
    backend = agnoreg.get_backend(name)
    t, p = kinds_of(backend, rng, (1, 6, 7, 8, 2))
    one = t[..., 0], p[..., 0]
    assert not isinstance(evaluator_of(DiceOverlap(), backend, one), HostEvaluation)
    assert isinstance(evaluator_of(DiceOverlap(), backend, (t, p)), HostEvaluation)
    last = DiceOverlap(convention="voxelmorph", data_format="channels_last")
    assert not isinstance(evaluator_of(last, backend, (t, p)), HostEvaluation)


def test_kernels_can_be_switched_off(no_kernels, rng):
    for name in ("numpy", "torch", "tensorflow"):
        backend = agnoreg.get_backend(name)
        assert not isinstance(evaluator_of(DiceOverlap(), backend, kinds_of(backend, rng)), HostEvaluation)


def test_memory_that_kernels_cannot_read_as_it_is_is_read_by_the_core(rng):
    t, p = pair(rng, (1, 6, 7, 8), np.float32)
    expected = agnoreg.functional.dice(t, p)
    shifted = np.empty(t.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(t.shape)
    shifted[...] = p
    assert not isinstance(evaluator_of(DiceOverlap(), NUMPY, (t, shifted)), HostEvaluation)
    np.testing.assert_allclose(agnoreg.functional.dice(t, shifted), expected, rtol=1e-6)
    big = p.astype(">f4")
    np.testing.assert_allclose(agnoreg.functional.dice(t, big), expected, rtol=1e-6)


def test_images_that_lie_otherwise_are_copied_for_windows_alone(rng):
    t, p = (np.asfortranarray(x) for x in pair(rng, (2, 6, 7, 8), np.float32))
    measure = LocalCorrelation(kernel_size=3)
    assert isinstance(evaluator_of(measure, NUMPY, (t, p)), HostEvaluation)
    value, (gradient,) = measure.value_and_gradients(NUMPY, (t, p), (1,))
    expected, (wanted,) = core(measure.value_and_gradients, (t, p), (1,))
    assert_close(value, expected, np.float32)
    assert_close(gradient, wanted, np.float32)
    assert not isinstance(evaluator_of(DiceOverlap(), NUMPY, (t, p)), HostEvaluation)
    channels = pair(rng, (2, 6, 7, 8, 3), np.float32)
    assert not isinstance(
        evaluator_of(DiceOverlap(convention="monai", data_format="channels_last"), NUMPY, channels), HostEvaluation
    )


@pytest.mark.parametrize("name", ["gncc", "dice", "ssd", "cross-entropy"])
def test_samples_of_one_or_no_axis(name, rng):
    numbers = pair(rng, (3,), np.float32)
    assert_close(MEASURES[name].value(NUMPY, numbers), core(MEASURES[name].value, numbers), np.float32)
    for shape in ((3, 5), (2, 3, 4), (2, 3, 4, 2, 5, 3)):
        arrays = pair(rng, shape, np.float32)
        value, gradients = MEASURES[name].value_and_gradients(NUMPY, arrays, (0, 1))
        expected, wanted = core(MEASURES[name].value_and_gradients, arrays, (0, 1))
        assert_close(value, expected, np.float32)
        for a, b in zip(gradients, wanted, strict=True):
            assert_close(a, b, np.float32)


def test_gradients_by_the_same_image_are_two_arrays(rng):
    for name in ("lncc", "gncc", "ssd"):
        _, (a, b) = MEASURES[name].value_and_gradients(NUMPY, pair(rng, (1, 6, 7, 8), np.float32), (1, 1))
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, b)


def test_images_that_may_not_be_written_into_are_read(rng, tmp_path):
    t, p = pair(rng, (1, 6, 7, 8), np.float32)
    np.save(tmp_path / "p.npy", p)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    t.flags.writeable = False
    value, gradient = agnoreg.value_and_grad(agnoreg.build_loss("lncc"), t, mapped)
    expected, wanted = agnoreg.value_and_grad(agnoreg.build_loss("lncc"), t.copy(), p)
    assert value == expected
    np.testing.assert_array_equal(gradient, wanted)
    assert gradient.flags.writeable


def test_pytorch_differentiates_through_kernels():
    generator = torch.Generator().manual_seed(3)
    t, p = torch.rand((2, 2, 5, 6, 7), generator=generator, dtype=torch.float64)
    for name in ("lncc", "gncc", "dice", "jaccard", "ssd"):
        loss = agnoreg.build_loss({"name": name, "reduction": "none"})
        leaves = t.clone().requires_grad_(), p.clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, leaves)
        value = loss(*leaves).sum()
        first = torch.autograd.grad(value, leaves, retain_graph=True)
        for a, b in zip(first, torch.autograd.grad(value, leaves), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_checkpoint_of_pytorchs_computes_a_loss_again():
    t, p = torch.rand(2, 1, 6, 7, 8)
    for name in ("dice", "lncc"):
        loss = agnoreg.build_loss({"name": name, "reduction": "sum"})
        leaves = [p.clone().requires_grad_() for _ in range(2)]
        loss(t, leaves[0]).backward()
        torch.utils.checkpoint.checkpoint(lambda x, loss=loss: loss(t, x), leaves[1], use_reentrant=False).backward()
        torch.testing.assert_close(leaves[1].grad, leaves[0].grad, rtol=0, atol=0)


@pytest.mark.slow
def test_pytorchs_transforms_and_compilers_take_the_core(rng):
    t, p = torch.rand(2, 2, 1, 6, 7, 8)
    backend, seen = agnoreg.get_backend("torch"), []

    def note(t, p):
        seen.append(isinstance(evaluator_of(DiceOverlap(), backend, (t, p)), HostEvaluation))
        return t.sum()

    torch.func.vmap(note)(t, p)
    torch.func.grad(note)(t[0], p[0])
    note(t[0].requires_grad_(), p[0])
    with torch.no_grad():
        note(t[0].requires_grad_(), p[0])
    assert seen == [False, False, False, True]


def test_a_traced_function_of_tensorflow_takes_the_core():
    backend, seen = agnoreg.get_backend("tensorflow"), []

    @tf.function
    def traced(t, p):
        seen.append(isinstance(evaluator_of(DiceOverlap(), backend, (t, p)), HostEvaluation))
        return t

    traced(tf.zeros((1, 4, 4, 4)), tf.zeros((1, 4, 4, 4)))
    assert seen == [False]


def test_what_tensorflow_gets_is_a_tensor_like_any_other(rng):
    t, p = map(tf.constant, pair(rng, (2, 9, 10, 11), np.float32))
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = agnoreg.build_loss("lncc")(t, p)
    gradient = tape.gradient(value, p)
    assert np.asarray(memoryview(gradient)).ctypes.data % 64 == 0
    doubled = tf.function(lambda x: x + x)(gradient)
    np.testing.assert_array_equal(doubled.numpy(), 2 * gradient.numpy())


# --- threads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lncc", "gncc", "ssd", "dice of squares", "information"])
def test_the_number_of_threads_changes_nothing(name, rng, monkeypatch):
    measure = MEASURES[name]
    arrays = pair(rng, (3, 40, 44, 50), np.float32)
    results = []
    for threads in (1, 2, 5, 16):
        monkeypatch.setattr(NUMPY, "_threads", threads)
        results.append(measure.value_and_gradients(NUMPY, arrays, (0, 1)))
        again = measure.value_and_gradients(NUMPY, arrays, (0, 1))
        np.testing.assert_array_equal(results[-1][0], again[0])
    for value, gradients in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        for a, b in zip(gradients, results[0][1], strict=True):
            np.testing.assert_array_equal(a, b)


def test_calls_at_the_same_time_do_not_disturb_each_other(rng):
    measure = MEASURES["lncc"]
    pairs = [pair(rng, (1, 40, 44, 40), np.float32) for _ in range(6)]
    expected = [measure.value_and_gradients(NUMPY, arrays, (1,)) for arrays in pairs]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda arrays: measure.value_and_gradients(NUMPY, arrays, (1,)), pairs))
    for (value, (gradient,)), (wanted, (other,)) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)
        np.testing.assert_array_equal(gradient, other)


def test_an_error_in_a_thread_is_raised_and_the_thread_serves_again():
    def body(number, kind):
        if kind is not None:
            raise kind(f"number {number}")
        return number

    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="number 0"):
            run(body, [(0, ZeroDivisionError), (1, None), (2, None)], 3)
        with pytest.raises(KeyboardInterrupt, match="number 2"):
            run(body, [(0, None), (1, None), (2, KeyboardInterrupt)], 3)
        assert run(body, [(i, None) for i in range(7)], 3) == list(range(7))


def run_python(code):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_thread_that_goes_on_while_python_shuts_down_is_served():
    out = run_python(
        """
        import threading, time
        import numpy as np
        import agnoreg
        agnoreg.get_backend("numpy").threads = 2
        t, p = np.random.default_rng(0).random((2, 1, 64, 64, 64), dtype=np.float32)
        agnoreg.functional.dice(t, p)
        def late():
            threading.main_thread().join()
            time.sleep(0.2)
            print(agnoreg.functional.dice(t, p).shape)
        threading.Thread(target=late).start()
        """
    )
    assert out == "(1,)\n"


def test_where_numba_is_told_not_to_compile_the_core_computes():
    out = run_python(
        """
        import os
        os.environ["NUMBA_DISABLE_JIT"] = "1"
        import numpy as np
        import agnoreg
        from agnoreg.engine.chosen import evaluator_of
        t, p = np.random.default_rng(0).random((2, 1, 8, 8, 8))
        measure = agnoreg.functional.dice.measure()
        print(evaluator_of(measure, agnoreg.get_backend("numpy"), (t, p)) is measure)
        """
    )
    assert out == "True\n"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system forks no processes")
def test_a_forked_process_has_threads_of_its_own():
    out = run_python(
        """
        import os
        import numpy as np
        import agnoreg
        agnoreg.get_backend("numpy").threads = 4
        t, p = np.random.default_rng(0).random((2, 1, 64, 64, 64), dtype=np.float32)
        before = agnoreg.functional.dice(t, p)
        child = os.fork()
        if not child:
            os._exit(0 if agnoreg.functional.dice(t, p) == before else 3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert out == "0\n"


def test_without_numba_everything_is_computed_by_the_core():
    out = run_python(
        """
        import sys
        sys.modules["numba"] = None
        import numpy as np
        import agnoreg
        t, p = np.random.default_rng(0).random((2, 1, 8, 8, 8))
        print(agnoreg.functional.dice(t, p).shape, agnoreg.functional.lncc(t, p).shape)
        """
    )
    assert out == "(1,) (1,)\n"
