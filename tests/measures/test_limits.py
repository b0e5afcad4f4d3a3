"""Up to which intensities float32 serves, as docs/dtypes.md says: within, numbers are right; beyond, there are none."""

import numpy as np
import pytest

import agnoreg

#: The range that noise from 0 on still may have, and the one that it may not have; the value is no number then.
LIMITS = {
    "lncc": (1e8, 1e9),
    "gncc": (1e18, 1e19),
    "ssd": (1e18, 1e20),
    "gradient": (1e18, 1e20),
    "bending": (1e17, 1e20),
}
EXACT = {"lncc": (1e-30, 1e33), "gncc": (1e-30, 1e33)}


def arrays_of(name, rng, unit):
    """Return what a loss takes, as float32."""
    if name in ("gradient", "bending"):
        return ((rng.random((1, 12, 12, 12, 3)) * unit).astype(np.float32),)
    t, p = rng.random((2, 1, 12, 12, 12))
    return (t * unit).astype(np.float32), ((t + p) / 2 * unit).astype(np.float32)


def errors(loss, arrays):
    """Return how far the value and the gradient are from those in float64, relative to these."""
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    expected, exact = agnoreg.value_and_grad(loss, *(x.astype(np.float64) for x in arrays))
    return abs(value - expected) / abs(expected), np.max(np.abs(gradient - exact)) / np.max(np.abs(exact))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "core"])
@pytest.mark.parametrize("name", LIMITS)
def test_float32_serves_up_to_the_stated_intensities_and_gives_no_number_beyond(rng, monkeypatch, name, kernels):
    monkeypatch.setattr(agnoreg.Backend, "kernels", kernels)
    loss, (within, beyond) = agnoreg.build_loss(name), LIMITS[name]
    value, gradient = errors(loss, arrays_of(name, rng, within))
    assert value <= 1e-5
    assert gradient <= 1e-4
    assert not np.isfinite(loss(*arrays_of(name, rng, beyond)))


@pytest.mark.parametrize("name", EXACT)
def test_without_constants_intensities_may_be_as_large_or_small_as_float32_goes(rng, name):
    loss = agnoreg.build_loss({"name": name, "convention": "exact"})
    for unit in EXACT[name]:
        value, gradient = errors(loss, arrays_of(name, rng, unit))
        assert value <= 1e-5
        assert gradient <= 1e-4


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "core"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constants", [(0.0, 0.0), (1e-9, 0.0)], ids=str)
def test_mutual_information_without_constants_is_that_of_the_histogram(rng, monkeypatch, constants, dtype, kernels):
    """Of images whose intensities are a few of the bins: empty bins add nothing, and make nothing NaN."""
    monkeypatch.setattr(agnoreg.Backend, "kernels", kernels)
    t = rng.integers(0, 4, (1, 8, 8, 8))
    p = np.where(rng.random(t.shape) < 0.5, t, 2)
    joint = np.histogram2d(t.ravel(), p.ravel(), bins=4)[0] / t.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    expected = np.sum(joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0]))
    assert (joint == 0).any()
    nr, dr = constants
    # Windows of half a bin overlap only in bins that no voxel is near.
    metric = agnoreg.loss.GlobalMutualInformation(num_bins=61, smooth_nr=nr, smooth_dr=dr)
    images = (np.asarray([0.0, 0.1, 0.9, 1.0], dtype)[x] for x in (t, p))
    value, gradients = agnoreg.value_and_grad(metric, *images, argnums=(0, 1))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert all(np.isfinite(x).all() for x in gradients)
