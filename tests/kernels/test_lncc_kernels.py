"""LNCC's kernels are what the core computes in float64, and float64's what a wider type does, where digits are lost."""

import numpy as np
import pytest
from agnoreg_cpu import lncc, plans, running
from agnoreg_cpu.boxes import bits_for, windows_of
from agnoreg_cpu.lncc import CpuLocalCorrelation
from agnoreg_cpu.measures import HostEvaluation
from core_path import NUMPY, core
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

import agnoreg
from agnoreg.engine.chosen import evaluator_of
from agnoreg.measures.lncc import LocalCorrelation

FORMULAS = {
    "deepreg": LocalCorrelation(),
    "truncated": LocalCorrelation(padding="truncate"),
    "monai": LocalCorrelation(convention="monai"),
    "ants": LocalCorrelation(convention="ants"),
    "exact": LocalCorrelation(convention="exact"),
    "exact and signed": LocalCorrelation(convention="exact", squared=False, flat_value=0.5),
    "signed": LocalCorrelation(squared=False, flat_value=0.25),
    "triangular": LocalCorrelation(kernel_type="triangular"),
    "exact and triangular": LocalCorrelation(kernel_type="triangular", convention="exact"),
    "monai's triangles": LocalCorrelation(kernel_size=7, kernel_type="triangular", convention="monai"),
}
GAUSSIANS = {
    "deepreg": LocalCorrelation(kernel_type="gaussian"),
    "monai": LocalCorrelation(kernel_type="gaussian", convention="monai"),
    "signed": LocalCorrelation(kernel_type="gaussian", squared=False, flat_value=0.25),
}


def in_float64(measure, arrays, wrt):
    wide = tuple(x.astype(np.float64) if x.dtype == np.float32 else x for x in arrays)
    return core(measure.value_and_gradients, wide, wrt)


def smooth_pair(rng, shape=(1, 30, 34, 40)):
    """Return two images of structures as wide as a few voxels, with some noise, in [0, 1]."""
    grid = np.indices(shape[1:])
    waves = np.sin(np.tensordot(rng.uniform(-0.6, 0.6, (6, 3)), grid, 1) + rng.uniform(0, 6, (6, 1, 1, 1)))
    a, b = (np.tensordot(rng.random(6), waves, 1) + 0.1 * rng.standard_normal(shape[1:]) for _ in range(2))
    return tuple(((x - x.min()) / (x.max() - x.min()))[None] for x in (a, 0.7 * a + 0.3 * b))


def ct(rng):
    t, p = (np.round(-1000 + 1500 * x) for x in smooth_pair(rng))
    for image in (t, p):
        image[:, :12] = image[:, :, :9] = -1024.0
    return t, p


def one_flat(rng):
    t, p = (1000 * x for x in smooth_pair(rng))
    p[:, 8:22] = 417.0
    return t, p


def nearly_flat(rng):
    t, p = smooth_pair(rng)
    for image in (t, p):
        image[:, :15] = 0.5 + 1e-5 * image[:, :15]
    return t, p


def around_zero(rng):
    """Return images that are exactly 0, their centre, beside structures of hundreds."""
    t, p = (600 * (x - 0.5) for x in smooth_pair(rng))
    t[:, :, :17] = 0.0
    p[:, :, 5:20] = 0.0
    return t, p


def spiked(rng):
    """Return images with a few voxels that are many times brighter than all else, as metal is."""
    t, p = (1000 * x for x in smooth_pair(rng))
    t[0, 20, 20, 20] = p[0, 7, 30, 11] = 6000.0
    return t, p


def small(rng):
    """Return images that are 0 but for a cube, which a coarse grid nearly misses."""
    t, p = smooth_pair(rng)
    for image in (t, p):
        cube = image[:, 11:18, 12:19, 20:27] + 1.0
        image[...] = 0.0
        image[:, 11:18, 12:19, 20:27] = cube
    return t, p


DATA = {
    "smooth": smooth_pair,
    "an offset of 1000": lambda rng: tuple(x + 1000 for x in smooth_pair(rng)),
    "ct with flat air": ct,
    "one image flat": one_flat,
    "nearly flat": nearly_flat,
    "flat at the centre": around_zero,
    "spikes": spiked,
    "a small object": small,
    "noise": lambda rng: tuple(rng.random((2, 1, 21, 22, 23))),
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", FORMULAS)
def test_running_sums_lose_no_digits(name, data, rng, monkeypatch):
    measure = FORMULAS[name]
    arrays = tuple(image.astype(np.float32) for image in DATA[data](rng))
    monkeypatch.setattr(CpuLocalCorrelation, "_by_the_core", None)
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    np.testing.assert_array_equal(measure.value(NUMPY, arrays), value)
    expected, wanted = in_float64(measure, arrays, (0, 1))
    _, others = core(measure.value_and_gradients, arrays, (0, 1))
    np.testing.assert_allclose(value, expected, rtol=0, atol=2e-7)
    for found, other, gradient in zip(gradients, others, wanted, strict=True):
        error, usual = (np.abs(x - gradient).max() / np.abs(gradient).max() for x in (found, other))
        assert error <= max(2e-6, usual)


@pytest.mark.parametrize("convention", ["deepreg", "monai"])
def test_every_triangle_is_a_box_of_boxes(convention):
    for width in range(3, 64, 2):
        measure = LocalCorrelation(kernel_size=width, kernel_type="triangular", convention=convention, padding="zero")
        windows = windows_of(measure.taps)
        assert windows is not None, width
        box = np.ones(windows.boxes[0])
        inner = np.convolve(box, box) * windows.share ** (1 / 3)
        np.testing.assert_allclose([tap for tap in measure.taps[0] if tap], inner, rtol=1e-13)


@given(
    sizes=st.tuples(*(st.integers(1, 12),) * 3),
    widths=st.tuples(*(st.integers(1, 12),) * 3).filter(lambda widths: max(widths) > 2),
    name=st.sampled_from(sorted(FORMULAS)),
    masked=st.booleans(),
    wrt=st.sampled_from(((0,), (1,), (0, 1))),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_windows_of_any_size_agree(sizes, widths, name, masked, wrt, seed):
    rng = np.random.default_rng(seed)
    measure = FORMULAS[name]
    if measure.convention in ("monai", "ants"):
        widths = tuple(width // 2 * 2 + 1 for width in widths)
    if measure.kernel_type == "triangular":
        widths = tuple(max(width // 2 * 2 + 1, 3) for width in widths)
    # Voxels of a line differ by 1/28 or more: two that are nearly alike, alone in a window, have a gradient that is
    # nothing but roundings, as large as they are alike.
    levels = (1 + np.tensordot((1, 2, 3), np.indices(sizes), 1) % 13) / 14
    arrays = tuple((levels + image / 28.0).astype(np.float32) for image in rng.random((2, 2, *sizes)))
    if masked:
        arrays = (*arrays, rng.random((2, *sizes)) > 0.3)
    measure = LocalCorrelation(
        kernel_size=widths, convention=measure.convention, padding=measure.padding, squared=measure.squared,
        flat_value=measure.flat_value, kernel_type=measure.kernel_type,
    )  # fmt: skip
    if max(widths) > 1:
        assert isinstance(evaluator_of(measure, NUMPY, arrays), HostEvaluation)
    value, gradients = measure.value_and_gradients(NUMPY, arrays, wrt)
    expected, wanted = in_float64(measure, arrays, wrt)
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)
    for found, gradient in zip(gradients, wanted, strict=True):
        least = 2.0 / found.size
        assert np.abs(found - gradient).max(initial=0) <= 2e-4 * np.abs(gradient).max(initial=least)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_parts_of_an_image_make_the_whole(name, masked, rng, monkeypatch):
    measure = FORMULAS[name]
    arrays = tuple(image.astype(np.float32) for image in rng.random((2, 1, 23, 17, 29)))
    if masked:
        arrays = (*arrays, rng.random((1, 23, 17, 29)) > 0.3)

    def jobs(planes, lines):
        return lambda *_: [(0, some, rows) for some in planes for rows in lines]

    results = []
    for cut in (
        jobs([(0, 23)], [(0, 17)]),
        jobs([(0, 23)], [(0, 4), (4, 5), (5, 17)]),
        jobs([(0, 1), (1, 20), (20, 23)], [(0, 8), (8, 17)]),
    ):
        monkeypatch.setattr(CpuLocalCorrelation, "_jobs", cut)
        results.append(measure.value_and_gradients(NUMPY, arrays, (0, 1)))
    for value, gradients in results[1:]:
        np.testing.assert_allclose(value, results[0][0], rtol=1e-6)
        for found, wanted in zip(gradients, results[0][1], strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_lines_are_cut_so_that_sums_stay_in_cache(rng, monkeypatch):
    measure, seen = FORMULAS["deepreg"], []
    arrays = tuple(image.astype(np.float32) for image in rng.random((2, 1, 12, 150, 70)))
    whole = measure.value_and_gradients(NUMPY, arrays, (1,))
    run = lncc.run
    monkeypatch.setattr(NUMPY, "_threads", 1)
    monkeypatch.setattr(plans, "CACHE", 40 * 70 * 40)
    monkeypatch.setattr(lncc, "jobs", plans.jobs.__wrapped__)
    monkeypatch.setattr(lncc, "run", lambda body, jobs, threads: seen.extend(jobs) or run(body, jobs, threads))
    value, (gradient,) = measure.value_and_gradients(NUMPY, arrays, (1,))
    assert [lines for _, _, lines in seen] == [(0, 50), (50, 100), (100, 150)]
    np.testing.assert_array_equal(gradient, whole[1][0])
    np.testing.assert_allclose(value, whole[0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 20, 21), (1, 20, 1, 21), (2, 18, 1, 30), (2, 20, 21, 16)])
@pytest.mark.filterwarnings("ignore::agnoreg.InputWarning")
def test_volumes_of_a_single_voxel_along_an_axis(shape, rng):
    arrays = tuple(image.astype(np.float32) for image in rng.random((2, *shape)))
    for measure in FORMULAS.values():
        assert isinstance(evaluator_of(measure.fitted(shape), NUMPY, arrays), HostEvaluation)
        value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
        expected, wanted = in_float64(measure, arrays, (0, 1))
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
        for found, gradient in zip(gradients, wanted, strict=True):
            least = 1.0 / found.size
            assert np.abs(found - gradient).max() <= 1e-5 * np.abs(gradient).max(initial=least)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e5, 3e38])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_core_takes_what_integers_cannot_hold(name, bad, rng):
    measure = FORMULAS[name]
    arrays = tuple(image.astype(np.float32) for image in rng.random((2, 2, 17, 12, 14)))
    arrays[1][0, 5, 6, 7] = bad
    with np.errstate(all="ignore"):
        expected, wanted = core(measure.value_and_gradients, arrays, (0, 1))
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    np.testing.assert_array_equal(value, expected)
    for found, gradient in zip(gradients, wanted, strict=True):
        finite = gradient[np.isfinite(gradient)]
        np.testing.assert_allclose(found, gradient, rtol=1e-6, atol=1e-5 * np.abs(finite).max(initial=0.0))


@pytest.mark.parametrize("name", FORMULAS)
def test_masked_voxels_may_be_anything(name, rng):
    measure = FORMULAS[name]
    t, p = (image.astype(np.float32) for image in rng.random((2, 2, 17, 12, 14)))
    mask = rng.random(t.shape) > 0.3
    expected, wanted = in_float64(measure, (t, p, mask), (0, 1))
    t[~mask], p[~mask] = np.nan, 1e30
    value, gradients = measure.value_and_gradients(NUMPY, (t, p, mask), (0, 1))
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
    for found, gradient in zip(gradients, wanted, strict=True):
        assert np.abs(found - gradient).max() <= 1e-5 * np.abs(gradient).max()
        np.testing.assert_array_equal(found[~mask], 0)


@pytest.mark.parametrize("name", FORMULAS)
def test_what_surrounds_a_mask_is_left_out(name, rng, monkeypatch):
    measure = FORMULAS[name]
    arrays = tuple(image.astype(np.float32) for image in rng.random((2, 3, 24, 26, 40)))
    # A ball, a single voxel and nothing.
    places = np.indices((24, 26, 40))
    mask = np.zeros((3, 24, 26, 40), bool)
    mask[0] = np.square(places - np.reshape((9, 12, 20), (3, 1, 1, 1))).sum(axis=0) < 50
    mask[1, 15, 18, 31] = True
    monkeypatch.setattr(CpuLocalCorrelation, "_by_the_core", None)
    value, gradients = measure.value_and_gradients(NUMPY, (*arrays, mask), (0, 1))
    expected, wanted = in_float64(measure, (*arrays, mask), (0, 1))
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5)
    for found, gradient in zip(gradients, wanted, strict=True):
        np.testing.assert_array_equal(found[~mask], 0)
        assert np.abs(found - gradient).max() <= 2e-4 * np.abs(gradient).max()


@pytest.mark.parametrize("most", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_weights_between_0_and_1_and_others(name, most, rng, monkeypatch):
    measure = FORMULAS[name]
    if measure.kernel_type == "rectangular":
        monkeypatch.setattr(CpuLocalCorrelation, "_by_the_core", None)
    arrays = tuple(image.astype(np.float32) for image in rng.random((3, 1, 17, 12, 14)))
    arrays[2][...] *= most
    arrays[2][:, :3] = 0.0
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    expected, wanted = in_float64(measure, arrays, (0, 1))
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-6)
    for found, gradient in zip(gradients, wanted, strict=True):
        assert np.abs(found - gradient).max() <= 1e-5 * np.abs(gradient).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("squared", [True, False])
def test_without_constants_weights_may_be_of_any_size(squared, dtype, rng):
    """The value and the gradient depend on no unit of the weights: their sum may be 1, and the largest 1000."""
    measure = LocalCorrelation(kernel_size=3, convention="exact", squared=squared)
    images = [(rng.random((2, 9, 10, 11)) > 0.5).astype(dtype) for _ in range(2)]
    weights = rng.random(images[0].shape) * (rng.random(images[0].shape) > 0.2)
    tolerance = 1e-12 if dtype == np.float64 else 1e-6
    value, gradients = measure.value_and_gradients(NUMPY, (*images, weights.astype(dtype)), (0, 1))
    for factor in (1.0 / weights.sum(), 1e-12, 1000.0):
        scaled, others = measure.value_and_gradients(NUMPY, (*images, (weights * factor).astype(dtype)), (0, 1))
        np.testing.assert_allclose(scaled, value, rtol=tolerance)
        for one, other in zip(gradients, others, strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=tolerance * abs(one).max())


def test_weights_below_0_are_the_cores(rng):
    measure = FORMULAS["deepreg"]
    arrays = tuple(image.astype(np.float32) for image in rng.random((3, 1, 9, 10, 18)))
    arrays[2][0, 3, 4, 5] = -0.01
    value, (gradient,) = measure.value_and_gradients(NUMPY, arrays, (1,))
    expected, (wanted,) = core(measure.value_and_gradients, arrays, (1,))
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, wanted)


def wide(t, p, taps):
    """Return LNCC's value and its gradient by the second image, window by window, in the platform's widest type."""
    kind, reach = np.longdouble, len(taps) // 2
    taps = np.asarray(taps, kind)
    window = taps[:, None, None] * taps[:, None] * taps
    t, p = t.astype(kind), p.astype(kind)

    def around(image):
        return sliding_window_view(np.pad(image, reach), window.shape)

    def about_mean(image):
        views = around(image)
        means = (views * window).sum((3, 4, 5)) / window.sum()
        return means, views - means[..., None, None, None]

    (mean_t, dt), (mean_p, dp) = about_mean(t), about_mean(p)
    tt, pp, tp = ((a * b * window).sum((3, 4, 5)) for a, b in ((dt, dt), (dp, dp), (dt, dp)))
    denominator = tt * pp + kind(1e-5)
    value = (tp * tp + kind(1e-5)) / denominator
    by_cross, by_variance = around(tp / denominator), around(value * tt / denominator)
    t, p = (image[..., None, None, None] - around(means) for image, means in ((t, mean_t), (p, mean_p)))
    return value.mean(), 2 * ((by_cross * t - by_variance * p) * window).sum((3, 4, 5)) / value.size


FINE = DATA | {
    "an offset of 10000": lambda rng: tuple(x + 1e4 for x in smooth_pair(rng)),
    "noise of 0.001 on 10000": lambda rng: tuple(1e-3 * x + 1e4 for x in smooth_pair(rng)),
}


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="this platform has no type wider than float64")
@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("data", FINE)
def test_float64_keeps_its_digits(data, kernel_type, monkeypatch):
    monkeypatch.setattr(CpuLocalCorrelation, "_by_the_core", None)
    measure = LocalCorrelation(kernel_size=5, kernel_type=kernel_type)
    arrays = tuple(image[:, 8:, 10:25, 14:32] for image in FINE[data](np.random.default_rng(1)))
    value, (found,) = measure.value_and_gradients(NUMPY, arrays, (1,))
    _, (others,) = core(measure.value_and_gradients, arrays, (1,))
    expected, gradient = wide(*(image[0] for image in arrays), measure.own_taps[0])
    np.testing.assert_allclose(value, np.float64(expected), rtol=1e-14)
    error, usual = (np.abs(x[0] - gradient).max() / np.abs(gradient).max() for x in (found, others))
    assert error <= max(1e-12, 2 * usual)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_in_float64(name, masked, rng, monkeypatch):
    measure = FORMULAS[name]
    monkeypatch.setattr(CpuLocalCorrelation, "_by_the_core", None)
    arrays = tuple(rng.random((2, 2, 17, 14, 19)))
    if masked:
        arrays = (*arrays, rng.random((2, 17, 14, 19)) > 0.3)
    value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
    np.testing.assert_array_equal(measure.value(NUMPY, arrays), value)
    expected, wanted = core(measure.value_and_gradients, arrays, (0, 1))
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    for found, gradient in zip(gradients, wanted, strict=True):
        assert np.abs(found - gradient).max() <= 1e-12 * np.abs(gradient).max()


@pytest.mark.parametrize("size", [(9, 9, 9), (5, 4, 6), (1, 3, 11)])
@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.filterwarnings("ignore::agnoreg.EvenWindowWarning")
def test_gaussian_windows_tap_by_tap(name, size, rng):
    measure = GAUSSIANS[name]
    if measure.convention == "monai":
        size = tuple(width // 2 * 2 + 1 for width in size)
    measure = LocalCorrelation(
        kernel_size=size, kernel_type="gaussian", convention=measure.convention, squared=measure.squared,
        flat_value=measure.flat_value,
    )  # fmt: skip
    for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-14)):
        arrays = tuple(image.astype(dtype) for image in 1000 + rng.random((2, 2, 13, 12, 18)))
        assert isinstance(evaluator_of(measure, NUMPY, arrays), HostEvaluation)
        value, gradients = measure.value_and_gradients(NUMPY, arrays, (0, 1))
        np.testing.assert_array_equal(measure.value(NUMPY, arrays), value)
        expected, wanted = in_float64(measure, arrays, (0, 1))
        np.testing.assert_allclose(value, expected, rtol=tolerance)
        for found, gradient in zip(gradients, wanted, strict=True):
            assert np.abs(found - gradient).max() <= tolerance * np.abs(gradient).max()


def test_a_flat_image_has_no_gradient_whatever_its_intensity():
    t = np.full((1, 20, 20, 20), 1234.567, np.float32)
    p = np.linspace(0, 1, t.size, dtype=np.float32).reshape(t.shape)
    # Where windows are full, vt is 0 and so is the numerator: a window scores 1, and nothing moves it.
    value, gradients = agnoreg.functional.lncc(t, p, padding="truncate"), None
    assert value == 1.0
    value, gradients = FORMULAS["truncated"].value_and_gradients(NUMPY, (t, p), (0, 1))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


def test_bits_of_intensities_and_their_sums_fit_into_64():
    for volume in (2, 3**3, 9**3, 31**3, 2**16):
        for words, least in ((1, 23), (2, 22)):
            bits = bits_for(volume, words)
            assert bits >= least
            # Of two integers of each image there are two mixed products.
            assert words * volume * 4**bits < 2**63
            # Rounded means are made positive before they become integers of 32 bits.
            assert 2**bits < running.SHIFT
