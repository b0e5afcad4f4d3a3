"""Metrics of CuPy's arrays, on the stand-in for CuPy: run by `test_cupy.py` in a process of its own."""

import cupy as cp
import numpy as np
import pytest
from fields import random_field
from mask_pairs import blobs

from agnoreg.metrics import (
    folding,
    inverse_consistency_error,
    jacobian_determinant,
    nondiffeomorphic_volume,
    overlap,
    sdlogj,
    surface_distances,
    target_registration_error,
)
from agnoreg.metrics.overlap import MEASURES


def maps(ids):
    rng = np.random.default_rng(0)
    true = rng.choice(np.asarray(ids), size=(2, 5, 6, 7))
    return true, np.where(rng.random(true.shape) < 0.6, true, ids[1]), rng.random(true.shape) < 0.5


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("ids", [(0, 2, 41, 100), (0, 2, 41, 1035)], ids=["few", "sparse"])
def test_overlap(ids, dtype):
    true, pred, mask = maps(ids)
    for labels in (None, (41, 2, 7)):
        whole = overlap(true, pred, mask=mask, labels=labels)
        found = overlap(
            cp.asarray(true.astype(dtype)), cp.asarray(pred.astype(dtype)), mask=cp.asarray(mask), labels=labels
        )
        assert isinstance(found.dice, cp.ndarray)
        for measure in MEASURES:
            np.testing.assert_array_equal(cp.asnumpy(getattr(found, measure)), getattr(whole, measure))
        assert [row["state"] for row in found.records()] == [row["state"] for row in whole.records()]


@pytest.mark.parametrize("surface", ["surfels", "voxels", "volume"])
def test_surface_distances_of_masks(surface):
    true, pred = (np.stack(x) for x in zip(*[blobs(seed) for seed in range(2)], strict=True))
    options = {"spacing": (1.0, 2.0, 3.0), "surface": surface}
    whole = surface_distances(true, pred, **options)
    found = surface_distances(cp.asarray(true), cp.asarray(pred), **options)
    for measure in ("hausdorff", "masd", "assd"):
        value = getattr(found, measure)()
        assert isinstance(value, cp.ndarray)
        np.testing.assert_allclose(cp.asnumpy(value), getattr(whole, measure)(), rtol=1e-14)


def test_surface_distances_of_label_maps_in_a_mask():
    true, pred, mask = maps((0, 2, 41, 1035))
    whole = surface_distances(true, pred, spacing=1.0, mask=mask)
    found = surface_distances(cp.asarray(true), cp.asarray(pred), spacing=1.0, mask=cp.asarray(mask))
    assert found.labels == whole.labels
    np.testing.assert_allclose(cp.asnumpy(found.nsd(1.0)), whole.nsd(1.0), rtol=1e-14)


def test_on_another_card_than_the_current_one():
    true, pred, _ = maps((0, 2, 41, 100))
    with cp.cuda.Device(1):
        pair = cp.asarray(true), cp.asarray(pred)
    assert overlap(*pair).dice.device.id == 1
    assert surface_distances(*pair, spacing=1.0).assd().device.id == 1


@pytest.mark.parametrize("measure", [folding, nondiffeomorphic_volume, sdlogj])
def test_measures_of_fields(measure):
    u, mask = random_field(0, (2, 6, 5, 7), 0.6), np.random.default_rng(1).random((2, 6, 5, 7)) < 0.6
    whole, found = measure(u, mask=mask), measure(cp.asarray(u), mask=cp.asarray(mask))
    for name, values in vars(whole).items():
        assert isinstance(getattr(found, name), cp.ndarray)
        np.testing.assert_allclose(cp.asnumpy(getattr(found, name)), values, rtol=1e-13)


@pytest.mark.parametrize("scheme", ["central", "corners"])
def test_determinants(scheme):
    u = random_field(0, (2, 6, 5, 7), 0.6)
    found = jacobian_determinant(cp.asarray(u), scheme=scheme)
    assert isinstance(found, cp.ndarray)
    np.testing.assert_allclose(cp.asnumpy(found), jacobian_determinant(u, scheme=scheme), rtol=1e-13)
    border = jacobian_determinant(cp.asarray(u), convention="voxelmorph")
    np.testing.assert_allclose(cp.asnumpy(border), jacobian_determinant(u, convention="voxelmorph"), rtol=1e-13)


def test_inverse_consistency_and_landmarks():
    u, v = random_field(0, (1, 6, 5, 7), 0.6), random_field(1, (1, 6, 5, 7), 0.6)
    whole, found = (inverse_consistency_error(*pair) for pair in ((u, v), (cp.asarray(u), cp.asarray(v))))
    np.testing.assert_allclose(cp.asnumpy(found.p95), whole.p95, rtol=1e-13)
    points = np.random.default_rng(2).uniform(0, 4, (2, 9, 3))
    for convention in (None, "learn2reg"):
        options = {"spacing": (1.0, 2.0, 3.0), "convention": convention}
        found = target_registration_error(*points, cp.asarray(u), **options)
        assert isinstance(found.mean, cp.ndarray)
        expected = target_registration_error(*points, u, **options).distances
        np.testing.assert_allclose(cp.asnumpy(found.distances), expected, rtol=1e-12)
