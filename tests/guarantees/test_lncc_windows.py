"""LNCC in flat regions, under changed intensities, and with windows of any size and kind."""

import numpy as np
import pytest

import agnoreg
from agnoreg.loss.image import LocalNormalizedCrossCorrelation


def ball(n, radius=0.6):
    """Return a mask of a ball in the middle."""
    axis = np.linspace(-1, 1, n)
    return np.sqrt(sum(x**2 for x in np.meshgrid(axis, axis, axis, indexing="ij"))) < radius


def flat_images(rng, n=20):
    """Return the images that break E[x^2] - E[x]^2 in float32."""
    a, b, mask = rng.random((n, n, n)), rng.random((n, n, n)), ball(n)
    half = np.where(np.arange(n)[:, None, None] < n // 2, 0.3, a)
    return {
        "constant": (np.full_like(a, 7.3), b),
        "two constants": (np.full_like(a, 7.3), np.full_like(a, 1000.1)),
        "half constant": (half, b),
        "offset 1000": (a + 1000, b + 1000),
        "CT": (np.where(mask, 50 + 10 * a, -1000), np.where(mask, 50 + 10 * b, -1000 + b)),
        "bimodal": (np.where(mask, 1000 + a, -1000), np.where(mask, 1000 + b, -1000)),
    }


@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("kernel_size", [3, 9, 11])
@pytest.mark.parametrize("case", ["constant", "two constants", "half constant", "offset 1000", "CT", "bimodal"])
def test_lncc_is_right_in_flat_regions(rng, case, kernel_size, kernel_type):
    metric = LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
    t, p = (x[None].astype(np.float32) for x in flat_images(rng)[case])
    value, gradient = agnoreg.value_and_grad(metric, t, p)
    exact = metric(t.astype(np.float64), p.astype(np.float64))
    assert value.dtype == np.float32
    assert 0 <= value <= 1
    assert abs(value - exact) <= 1e-3 * max(abs(exact), 1e-2)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("constants", [(1e-5, 1e-5), (1e-3, 1e-2)])
def test_flat_windows_contribute_one_constant(constants):
    metric = LocalNormalizedCrossCorrelation(kernel_size=3, smooth_nr=constants[0], smooth_dr=constants[1])
    image = np.full((1, 9, 9, 9), 4.7, dtype=np.float32)
    interior = metric.calc_ncc(image, image + 1)[0, 1:-1, 1:-1, 1:-1, 0]
    np.testing.assert_allclose(interior, constants[0] / constants[1], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0, 10])
def test_lncc_is_invariant_to_affine_intensity_away_from_the_border(rng, scale, offset):
    # The small constants are part of the formula: with the default ones an image of contrast 1e-3 is nearly flat.
    metric = LocalNormalizedCrossCorrelation(kernel_size=5, smooth_nr=1e-12, smooth_dr=1e-12)
    t, p = (x.astype(np.float32) for x in rng.random((2, 1, 14, 14, 14)))
    changed = (t * np.float32(scale) + np.float32(offset * scale)).astype(np.float32)
    inner = (slice(None), *[slice(2, -2)] * 3)
    a, b = metric.calc_ncc(t, p)[inner], metric.calc_ncc(changed, p)[inner]
    assert abs(a.mean() - b.mean()) < 1e-3


@pytest.mark.parametrize("kernel_size", [3, 4, 5, 7, 9, 15, 21, 31])
@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
def test_equal_images_score_the_optimum_for_every_window(rng, kernel_size, kernel_type):
    if kernel_type == "triangular" and kernel_size % 2 == 0:
        with pytest.raises(ValueError, match="odd"):
            LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
        return
    metric = LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
    x, y = rng.random((2, 1, 12, 13, 14)).astype(np.float32)
    assert metric(x, x) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(metric.kernel, metric.kernel[::-1])
    assert metric.kernel_vol == pytest.approx(metric.kernel.sum() ** 3)
    np.testing.assert_allclose(metric(x, y), metric(y, x), rtol=1e-6)
