"""Every metric, on arrays of every backend, against a reference that looks at one voxel after the other."""

import numpy as np
import pytest

from agnoreg import metrics

from . import reference_metrics as reference
from .tolerances import FLOAT32, FLOAT64, value_error

SHAPE = (2, 6, 5, 7)
SPACING = (1.0, 2.0, 0.5)
LABELS = (2, 41, 1035)
TOLERANCE = 1.0


def _maps():
    """Return two label maps, one label missed in the first sample, and a mask."""
    rng = np.random.default_rng(0)
    true = np.repeat(rng.choice([0, *LABELS], size=(2, 3, 5, 7)), 2, axis=1)
    pred = np.where(rng.random(SHAPE) < 0.7, true, rng.choice([0, *LABELS], size=SHAPE))
    pred[0][pred[0] == 41] = 0
    return true.astype(np.int32), pred.astype(np.int32), rng.random(SHAPE) < 0.8


def _field(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(0, 0.6, (*shape, len(shape) - 1))


@pytest.fixture
def check(maker, record):
    """Return a function that compares what a metric found with the reference, and records the error."""
    limit = FLOAT64.value if maker.widest == "float64" else FLOAT32.value

    def compare(name, found, expected):
        found, expected = maker.numpy(found), np.asarray(expected, dtype=np.float64)
        assert found.shape == expected.shape
        numbers = np.isfinite(expected)
        assert np.array_equal(found[~numbers], expected[~numbers], equal_nan=True)
        error = value_error(found[numbers], expected[numbers]) if numbers.any() else 0.0
        record(name, "metrics", error)
        assert error <= limit

    return compare


@pytest.fixture
def dtype(maker):
    """The widest dtype of the run."""
    return maker.widest


def test_overlap(maker, check):
    true, pred, mask = _maps()
    found = metrics.overlap(maker(true, "int32"), maker(pred, "int32"), mask=maker(mask, "bool"), spacing=SPACING)
    assert found.labels == LABELS
    expected = [
        [reference.overlap((t == label)[m], (p == label)[m], np.prod(SPACING)) for label in LABELS]
        for t, p, m in zip(true, pred, mask, strict=True)
    ]
    for name in expected[0][0]:
        check("overlap", getattr(found, name), [[one[name] for one in row] for row in expected])
    summary = metrics.summarise(found.records())["dice"]
    values = [one["dice"] for row in expected for one in row]
    assert summary.mean == pytest.approx(np.nanmean(values), rel=1e-6)
    assert summary.missed == 1


def test_surfaces(maker, check):
    true, pred, _ = _maps()
    pair = maker(true, "int32"), maker(pred, "int32")
    found = metrics.surface_distances(*pair, spacing=SPACING, surface="voxels")
    expected = [
        [reference.surface_measures(t == label, p == label, SPACING, TOLERANCE) for label in LABELS]
        for t, p in zip(true, pred, strict=True)
    ]
    values = {
        "hausdorff": found.hausdorff(),
        "hausdorff 95": found.hausdorff(95),
        "masd": found.masd(),
        "assd": found.assd(),
        "nsd": found.nsd(TOLERANCE),
    }
    for name, value in values.items():
        check(name.split()[0], value, [[one[name] for one in row] for row in expected])


@pytest.mark.parametrize("dims", [2, 3])
def test_figures_of_a_field(dims, maker, check, dtype):
    shape, spacing = SHAPE[: dims + 1], SPACING[:dims]
    u, mask = _field(dims, shape), np.random.default_rng(3).random(shape) < 0.8
    array, there = maker(u, dtype), maker(mask, "bool")
    expected = [
        reference.field_measures(maker.numpy(maker(a, dtype)), m, np.prod(spacing))
        for a, m in zip(u, mask, strict=True)
    ]
    for name in expected[0]:
        found = getattr(metrics, name)(array, mask=there, spacing=spacing)
        for figure in expected[0][name]:
            check(name, getattr(found, figure), [one[name][figure] for one in expected])


@pytest.mark.parametrize("units", ["voxel", "mm"])
def test_determinants(units, maker, check, dtype):
    u = _field()
    given = u * SPACING if units == "mm" else u
    found = metrics.jacobian_determinant(maker(given, dtype), spacing=SPACING, units=units)
    check("jacobian_determinant", found, [reference.determinants(one) for one in u])


def test_inverse_consistency(maker, check, dtype):
    u, v = _field(1), _field(2)
    found = metrics.inverse_consistency_error(maker(u, dtype), maker(v, dtype), spacing=SPACING)
    expected = [reference.inverse_consistency(a, b, SPACING) for a, b in zip(u, v, strict=True)]
    for name in expected[0]:
        check("inverse_consistency_error", getattr(found, name), [one[name] for one in expected])


def test_landmarks(maker, check, dtype):
    rng, u = np.random.default_rng(4), _field(3)
    fixed, moving = rng.uniform(0, np.asarray(SHAPE[1:]) - 1, (2, 2, 9, 3))
    points = maker(fixed, dtype), maker(moving, dtype)
    found = metrics.target_registration_error(*points, maker(u, dtype), spacing=SPACING)
    expected = [reference.landmark_errors(f, m, a, SPACING) for f, m, a in zip(fixed, moving, u, strict=True)]
    check("target_registration_error", found.distances, expected)
    check("target_registration_error", found.mean, np.mean(expected, axis=1))
    check(
        "target_registration_error", found.before.mean, np.linalg.norm((fixed - moving) * SPACING, axis=-1).mean(axis=1)
    )
