"""Correlations without small constants: what they are, by other means, whatever the images' unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

import agnoreg
from agnoreg import functional
from agnoreg.loss.image import (
    GlobalNormalizedCrossCorrelation,
    GlobalNormalizedCrossCorrelationLoss,
    LocalNormalizedCrossCorrelation,
)

DTYPES = {np.float64: 1e-12, np.float32: 1e-5}
SHAPE = (14, 13, 15)


def gncc(t, p, **options):
    """Return the correlation of two images without a batch."""
    return functional.gncc(t[None], p[None], convention="exact", **options)[0]


def lncc(t, p, **options):
    """Return the local one."""
    return functional.lncc(t[None], p[None], convention="exact", **options)[0]


def pearson(t, p):
    """Return NumPy's r, of float64 numbers."""
    return np.corrcoef(t.ravel().astype(np.float64), p.ravel().astype(np.float64))[0, 1]


def unrelated(rng, dtype=np.float64):
    """Return noise in [0, 0.1], with a bright spot in each of two images."""
    t, p = 0.1 * rng.random((2, *SHAPE))
    t[3, 4, 5], p[9, 8, 7] = 1.0, 1.0
    return t.astype(dtype), p.astype(dtype)


def window_by_window(t, p, size, squared=True, weights=None):
    """Return the mean over windows that are cut out one by one; those in which an image is constant are left out."""
    weights = np.ones(t.shape) if weights is None else weights
    around = [((size - 1) // 2, size // 2)] * t.ndim
    t, p, w = (np.pad(x.astype(np.float64), around) for x in (t, p, weights))
    values, counts = [], []
    for place in np.ndindex(weights.shape):
        window = tuple(slice(i, i + size) for i in place)
        share = w[window].ravel()
        a, b, share = t[window].ravel()[share > 0], p[window].ravel()[share > 0], share[share > 0]
        if not weights[place] or np.ptp(a) == 0 or np.ptp(b) == 0:
            continue
        a, b = a - np.average(a, weights=share), b - np.average(b, weights=share)
        r = np.sum(share * a * b) / np.sqrt(np.sum(share * a * a) * np.sum(share * b * b))
        values.append(r**2 if squared else r)
        counts.append(weights[place])
    return np.average(values, weights=counts) if values else 0.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_gncc_of_unrelated_images_of_little_contrast_is_pearsons_r(rng, dtype):
    for t, p in (unrelated(rng, dtype), (0.1 * rng.random((2, *SHAPE))).astype(dtype)):
        # The loss's own constants make unrelated images look alike.
        assert functional.gncc(t[None], p[None])[0] > 0.8
        r = pearson(t, p)
        assert abs(r) < 0.05
        assert gncc(t, p, squared=False) == pytest.approx(r, abs=0.1 * DTYPES[dtype])
        assert gncc(t, p) == pytest.approx(r**2, abs=0.1 * DTYPES[dtype])


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lncc_is_the_mean_of_windows_in_which_no_image_is_flat(rng, dtype, size, squared):
    t, p = (x[:8, :7, :9].astype(dtype) for x in unrelated(rng))
    t[:5, :6, :6], p[6:] = 0.3, 0.7
    weights = rng.random(t.shape) * (rng.random(t.shape) > 0.3)
    options = {"kernel_size": size, "squared": squared}
    assert lncc(t, p, **options) == pytest.approx(window_by_window(t, p, size, squared), abs=DTYPES[dtype])
    masked = window_by_window(t, p, size, squared, weights)
    assert lncc(t, p, mask=weights[None].astype(dtype), **options) == pytest.approx(masked, abs=DTYPES[dtype])
    values = functional.lncc_map(t[None], p[None], convention="exact", **options)
    flat = np.isnan(values)
    assert 0.2 < flat.mean() < 0.8
    assert np.nanmean(values) == pytest.approx(lncc(t, p, **options), abs=DTYPES[dtype])
    # Counted by a filter of another library: an image is constant where a window of it is.
    lone = functional.lncc_map(t[None], t[None], convention="exact", kernel_size=3)
    varies = uniform_filter((t != 0.3).astype(np.float64), 3, mode="constant") > 1e-6
    assert np.array_equal(np.isnan(lone[0, ..., 0]), ~varies)


@pytest.mark.parametrize("of", [gncc, lncc])
@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_value_of_constant_images_is_0_and_so_is_their_gradient(rng, dtype, of, squared):
    kind = {gncc: GlobalNormalizedCrossCorrelation, lncc: LocalNormalizedCrossCorrelation}[of]
    varied = rng.random((1, *SHAPE)).astype(dtype)
    for level in (0.0, 0.3, 1e-30, 1e6 / 3):
        constant = np.full_like(varied, level)
        for pair in ((constant, varied), (varied, constant), (constant, constant)):
            loss = kind(squared=squared, convention="exact")
            value, gradients = agnoreg.value_and_grad(loss, *pair, argnums=(0, 1))
            assert value == 0.0
            assert not any(np.any(gradient) for gradient in gradients)


def test_a_flat_window_counts_as_what_flat_value_says(rng):
    t, p = rng.random((2, *SHAPE))
    flat = np.full(SHAPE, 0.3)
    assert lncc(flat, p, flat_value=0.25) == 0.25
    t[:7] = 0.3
    windows = functional.lncc_map(t[None], p[None], kernel_size=3, convention="exact")
    share = np.isnan(windows).mean()
    expected = (1 - share) * lncc(t, p, kernel_size=3) - 0.5 * share
    assert lncc(t, p, kernel_size=3, flat_value=-0.5) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("of", [gncc, lncc])
@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_images_score_1_and_inverted_ones_minus_1(rng, dtype, of):
    t, _ = unrelated(rng, dtype)
    for squared in (True, False):
        assert of(t, t, squared=squared) == pytest.approx(1.0, abs=1e-6)
        assert of(t, t, squared=squared) <= 1.0
    assert of(t, -t, squared=False) == pytest.approx(-1.0, abs=1e-6)
    assert of(t, 1 - t, squared=False) == pytest.approx(-1.0, abs=1e-5)
    assert of(t, -t) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    powers=st.tuples(*[st.integers(-18, 18)] * 2),
    offsets=st.tuples(*[st.floats(-100.0, 100.0)] * 2),
    squared=st.booleans(),
)
@pytest.mark.parametrize("of", [gncc, lncc])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_unit_and_no_offset_changes_the_value(dtype, of, powers, offsets, squared):
    t, p = unrelated(np.random.default_rng(0))
    p += t
    options = {"squared": squared} | ({"kernel_size": 5} if of is lncc else {})
    expected = of(t, p, **options)
    units = [10.0**power for power in powers]
    raised = [((x + offset) * unit).astype(dtype) for x, offset, unit in zip((t, p), offsets, units, strict=True)]
    # An offset takes as many digits from the contrast as it is larger.
    lost = 2e3 * float(np.finfo(dtype).eps) * (1 + max(map(abs, offsets)))
    assert of(*raised, **options) == pytest.approx(expected, abs=lost)


@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e18])
@pytest.mark.parametrize(
    "loss",
    [
        GlobalNormalizedCrossCorrelation(convention="exact", squared=False),
        GlobalNormalizedCrossCorrelationLoss(convention="exact"),
        LocalNormalizedCrossCorrelation(kernel_size=5, convention="exact"),
    ],
    ids=lambda loss: loss.name,
)
def test_the_gradient_has_one_over_the_unit_of_the_image(rng, loss, unit):
    t, p = unrelated(rng)
    _, expected = agnoreg.value_and_grad(loss, t[None], p[None], argnums=(0, 1))
    arrays = (x[None].astype(np.float32) * np.float32(factor) for x, factor in ((t, unit), (p, 1 / unit)))
    _, found = agnoreg.value_and_grad(loss, *arrays, argnums=(0, 1))
    for gradient, wanted, factor in zip(found, expected, (unit, 1 / unit), strict=True):
        assert np.max(np.abs(gradient.astype(np.float64) * factor - wanted)) <= 1e-4 * np.max(np.abs(wanted))


def test_a_background_that_is_constant_but_for_roundings_is_flat(rng):
    t, p = rng.random((2, *SHAPE)).astype(np.float32)
    # As interpolation leaves a constant.
    t[:7] = np.float32(0.3) * (1 + np.float32(6e-8) * rng.integers(-1, 2, (7, *SHAPE[1:])).astype(np.float32))
    assert np.ptp(t[:7]) > 0
    assert np.all(np.isnan(functional.lncc_map(t[None], p[None], kernel_size=3, convention="exact")[0, :6]))


def test_a_map_of_masked_images_has_no_number_where_the_mask_has_nothing(rng):
    t, p = rng.random((2, 1, 8, 7, 9))
    weights = rng.random(t.shape) * (rng.random(t.shape) > 0.3)
    for convention in ("deepreg", "exact", "ants", "monai"):
        loss = LocalNormalizedCrossCorrelation(kernel_size=3, convention=convention)
        values = loss.calc_ncc(t, p, fixed_mask=weights > 0)[..., 0]
        assert np.array_equal(np.isnan(values), weights == 0)
        assert np.nanmean(values) == pytest.approx(float(loss(t, p, mask=weights > 0)), abs=1e-12)
    with pytest.raises(TypeError, match="calc_ncc takes the masks mask, fixed_mask, moving_mask, got masks"):
        loss.calc_ncc(t, p, masks=weights)


@pytest.mark.parametrize("kind", [GlobalNormalizedCrossCorrelation, LocalNormalizedCrossCorrelation])
def test_the_exact_convention_takes_no_constants(kind):
    assert (kind(convention="exact").smooth_nr, kind(convention="exact").smooth_dr) == (0.0, 0.0)
    for name in ("smooth_nr", "smooth_dr"):
        with pytest.raises(ValueError, match=f"convention 'exact' supports only {name}=0.0, got 1e-05"):
            kind(convention="exact", **{name: 1e-5})


def test_gncc_without_a_constant_below_names_the_convention_that_has_none():
    with pytest.raises(ValueError, match=r"smooth_dr must be positive, got 0. Use convention='exact'"):
        GlobalNormalizedCrossCorrelation(smooth_dr=0)


@pytest.mark.parametrize("squared", [True, False])
def test_the_constants_of_gncc_can_be_chosen(rng, squared):
    t, p = rng.random((2, 1, *SHAPE))
    cov, vt, vp = np.cov(t.ravel(), p.ravel(), bias=True).ravel()[[1, 0, 3]]
    nr, dr = 1e-3, 1e-2
    expected = (cov**2 + nr) / (vt * vp + dr) if squared else (cov + nr) / np.sqrt(vt * vp + dr)
    found = functional.gncc(t, p, smooth_nr=nr, smooth_dr=dr, squared=squared)
    assert found[0] == pytest.approx(expected, abs=1e-12)
