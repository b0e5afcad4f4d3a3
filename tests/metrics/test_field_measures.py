"""Measures of displacement fields: closed forms, the formulas voxel by voxel, and the identities between them."""

import math
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import torch
from fields import affine_field, random_field
from hypothesis import given, settings
from hypothesis import strategies as st

from agnoreg.backend import get_backend
from agnoreg.metrics import folding, jacobian_determinant, nondiffeomorphic_volume, sdlogj
from conformance.reference_metrics import determinants, digital_determinants

FIGURES = (folding, nondiffeomorphic_volume, sdlogj)
SHAPES = {1: (2, 40), 2: (2, 7, 6), 3: (2, 6, 5, 7)}
every_dims = pytest.mark.parametrize("dims", [1, 2, 3])


def spread(matrix):
    """Return a matrix far enough from a singular one."""
    return abs(np.linalg.det(matrix)) > 0.05


# --- closed forms -----------------------------------------------------------------------------------------------------


@every_dims
def test_nothing_folds_where_nothing_but_the_place_changes(dims):
    for u in (np.zeros((*SHAPES[dims], dims)), np.full((*SHAPES[dims], dims), 2.5)):
        assert np.all(jacobian_determinant(u) == 1)
        found = folding(u)
        assert np.all(found.count == 0)
        assert np.all(found.digital_count == 0)
        assert np.all(found.minimum == 1)
        assert np.all(found.first_percentile == 1)
        assert np.all(found.maximum == 1)
        assert np.all(sdlogj(u).value == 0)
        assert np.all(sdlogj(u).left_out == 0)
        if dims > 1:
            assert np.all(nondiffeomorphic_volume(u).volume == 0)


@pytest.mark.parametrize("scheme", ["central", "forward", "backward", "corners"])
@every_dims
def test_an_affine_map_has_the_determinant_of_its_matrix(dims, scheme):
    rng = np.random.default_rng(dims)
    for matrix in filter(spread, rng.normal(size=(6, dims, dims))):
        u = affine_field(matrix, (6, 7, 5)[:dims], shift=rng.normal(size=dims))
        np.testing.assert_allclose(jacobian_determinant(u, scheme=scheme), np.linalg.det(matrix), rtol=1e-10)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_map_that_turns_all_inside_out_has_the_volume_of_its_determinant(dims):
    rng = np.random.default_rng(10 + dims)
    for matrix in filter(spread, rng.normal(size=(6, dims, dims))):
        u = affine_field(matrix, (6, 7, 5)[:dims])
        found, negative = nondiffeomorphic_volume(u, spacing=2.0), max(0.0, -np.linalg.det(matrix))
        voxels = math.prod((4, 5, 3)[:dims])
        assert found.voxels[0] == voxels
        np.testing.assert_allclose(found.volume, negative * voxels * 2.0**dims, rtol=1e-10)
        np.testing.assert_allclose(found.percent, 100 * negative, rtol=1e-10)
        assert found.tetrahedra[0] == (negative > 0)


def test_minus_one_and_a_half_times_x_is_half_a_voxel_each():
    u = np.zeros((1, 8, 6, 5, 3))
    u[..., 0] = -1.5 * np.arange(8.0)[:, None, None]
    assert np.all(jacobian_determinant(u) == -0.5)
    assert nondiffeomorphic_volume(u).volume[0] == pytest.approx(0.5 * 6 * 4 * 3, rel=1e-14)
    assert folding(u).share[0] == 1


def test_a_quadratic_field_has_its_derivative_at_the_voxel():
    x = np.arange(11.0)
    u = np.zeros((1, 11, 5, 5, 3))
    u[..., 0] = -0.06 * x[:, None, None] ** 2
    expected = 1 - 0.12 * x[1:-1]
    np.testing.assert_allclose(jacobian_determinant(u)[0, :, 0, 0], expected, atol=1e-14)
    assert folding(u).count[0] == 9 * (expected <= 0).sum()
    kept = np.log(expected[expected > 0])
    assert sdlogj(u).value[0] == pytest.approx(kept.std(), rel=1e-12)
    assert sdlogj(u).left_out[0] == 9 * (expected <= 0).sum()


def test_a_checkerboard_is_seen_by_the_volume_and_not_by_central_differences():
    u = np.zeros((1, 8, 8, 8, 3))
    u[..., 0] = 0.8 * (-1.0) ** np.indices((8, 8, 8)).sum(axis=0)
    assert np.all(jacobian_determinant(u) == 1)
    found = folding(u)
    assert found.share[0] == 0
    assert found.minimum[0] == 1
    assert found.digital_share[0] == 1
    assert nondiffeomorphic_volume(u).percent[0] > 10


def test_the_volume_turned_inside_out_does_not_depend_on_what_happens_inside():
    # A mirror image, in which small moves away from the border change no volume: every cell's ten tetrahedra are twice
    # the cell, whose volumes add up to that of the whole.
    u = affine_field(np.diag([-1.0, 1.0, 1.0]), (9, 8, 9))
    expected = nondiffeomorphic_volume(u).volume
    u[0, 3:-3, 3:-3, 3:-3] += np.random.default_rng(0).normal(0, 0.03, (3, 2, 3, 3))
    assert np.all(jacobian_determinant(u, scheme="corners") < 0)
    np.testing.assert_allclose(nondiffeomorphic_volume(u).volume, expected, rtol=1e-13)


# --- the formulas -----------------------------------------------------------------------------------------------------


@every_dims
def test_every_figure_is_that_of_the_formulas_at_every_voxel(dims):
    u = random_field(dims, SHAPES[dims], scale={1: 1.5, 2: 0.9, 3: 0.6}[dims])
    rng = np.random.default_rng(0)
    for mask in (None, rng.random(SHAPES[dims]) < 0.6):
        found, spreads = folding(u, mask=mask), sdlogj(u, mask=mask)
        volume = nondiffeomorphic_volume(u, mask=mask, spacing=1.5) if dims > 1 else None
        for b in range(2):
            there = ... if mask is None else mask[b][(slice(1, -1),) * dims]
            central, digital = determinants(u[b])[there].ravel(), digital_determinants(u[b])[there]
            digital = digital.reshape(len(central), -1)
            assert found.voxels[b] == len(central)
            assert found.count[b] == (central <= 0).sum() > 0
            assert found.share[b] == (central <= 0).mean()
            assert found.digital_count[b] == (digital <= 0).any(axis=1).sum() > found.count[b]
            assert found.digital_share[b] == (digital <= 0).any(axis=1).mean()
            figures = [found.minimum[b], found.first_percentile[b], found.maximum[b]]
            expected = [central.min(), np.percentile(central, 1), central.max()]
            np.testing.assert_allclose(figures, expected, rtol=1e-11)
            assert spreads.left_out[b] == (central <= 0).sum()
            assert spreads.value[b] == pytest.approx(np.log(central[central > 0]).std(), rel=1e-11)
            if volume is not None:
                turned = 0.5 * np.maximum(0, -digital).sum() / math.factorial(dims)
                assert volume.volume[b] == pytest.approx(turned * 1.5**dims, rel=1e-11)
                assert volume.percent[b] == pytest.approx(100 * turned / len(central), rel=1e-11)
                assert volume.tetrahedra[b] == (digital <= 0).mean()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]), st.floats(0.01, 3))
def test_the_central_determinant_is_the_mean_of_all_corners(seed, dims, scale):
    u = random_field(seed, SHAPES[dims], scale)
    every = jacobian_determinant(u, scheme="corners")
    assert every.shape == (2, *(size - 2 for size in SHAPES[dims][1:]), 2**dims)
    np.testing.assert_allclose(every.mean(axis=-1), jacobian_determinant(u), atol=1e-12 * (1 + scale) ** 3)


@every_dims
def test_forward_and_backward_are_the_first_and_last_corner(dims):
    u = random_field(3, SHAPES[dims])
    every, inside = jacobian_determinant(u, scheme="corners"), (slice(None), *(slice(1, None),) * dims)
    behind, ahead = (jacobian_determinant(u, scheme=scheme) for scheme in ("backward", "forward"))
    assert behind.shape == ahead.shape == (2, *(size - 1 for size in SHAPES[dims][1:]))
    np.testing.assert_allclose(behind[(slice(None), *(slice(None, -1),) * dims)], every[..., 0], atol=1e-13)
    np.testing.assert_allclose(ahead[inside], every[..., -1], atol=1e-13)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations([0, 1, 2]))
def test_axes_may_change_places_together_with_components_and_spacing(seed, order):
    u, spacing = random_field(seed, (1, 5, 6, 7), 0.6), np.asarray([1.0, 2.0, 3.0])
    turned = u.transpose(0, *(1 + axis for axis in order), 4)[..., order]
    options = [{"spacing": steps, "units": "mm"} for steps in (tuple(spacing), tuple(spacing[list(order)]))]
    for measure in FIGURES:
        one, other = measure(u, **options[0]), measure(turned, **options[1])
        for name in vars(one):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-10, atol=1e-12)


def test_a_slab_of_any_size_gives_the_same(monkeypatch):
    u, mask = random_field(5, (2, 9, 4, 5), 0.5), np.random.default_rng(1).random((2, 9, 4, 5)) < 0.7
    whole = [measure(u, mask=mask) for measure in FIGURES]
    determinants = jacobian_determinant(u)
    monkeypatch.setattr(get_backend("numpy").execution, "slab_elements", lambda array, kind: 40)
    assert np.array_equal(jacobian_determinant(u), determinants)
    for measure, expected in zip(FIGURES, whole, strict=True):
        for name, values in vars(expected).items():
            np.testing.assert_allclose(getattr(measure(u, mask=mask), name), values, rtol=1e-13)


def test_the_percentile_of_many_voxels_needs_few_of_them(monkeypatch):
    u = random_field(6, (1, 40, 20, 20), 0.3)
    # From the greatest to the least, the order in which all must be kept for a while.
    u[..., 0] -= 0.01 * np.arange(40.0)[:, None, None] ** 2
    monkeypatch.setattr(get_backend("numpy").execution, "slab_elements", lambda array, kind: 400)
    expected = np.percentile(jacobian_determinant(u), 1)
    assert folding(u).first_percentile[0] == pytest.approx(expected, rel=1e-13)


# --- units, layouts, masks --------------------------------------------------------------------------------------------


def test_displacements_in_mm_are_those_in_voxels_times_the_spacing():
    u, spacing = random_field(7, (2, 6, 5, 7), 0.5), (0.5, 2.0, 3.0)
    in_mm = u * np.asarray(spacing)
    np.testing.assert_allclose(
        jacobian_determinant(in_mm, spacing=spacing, units="mm"), jacobian_determinant(u), rtol=1e-10
    )
    for measure in FIGURES:
        one, other = measure(u, spacing=spacing), measure(in_mm, spacing=spacing, units="mm")
        for name, values in vars(one).items():
            np.testing.assert_allclose(getattr(other, name), values, rtol=1e-10)


def test_the_determinant_of_voxels_does_not_depend_on_the_spacing():
    u = random_field(8)
    assert np.array_equal(jacobian_determinant(u), jacobian_determinant(u, spacing=(1.0, 2.0, 3.0)))
    in_voxels, in_mm = nondiffeomorphic_volume(u), nondiffeomorphic_volume(u, spacing=(1.0, 2.0, 3.0))
    assert np.array_equal(in_mm.percent, in_voxels.percent)
    np.testing.assert_allclose(in_mm.volume, 6 * in_voxels.volume, rtol=1e-15)


def test_components_may_follow_the_batch():
    u = random_field(9)
    first = np.moveaxis(u, -1, 1).copy()
    assert np.array_equal(jacobian_determinant(first, data_format="channels_first"), jacobian_determinant(u))
    assert np.array_equal(folding(first, data_format="channels_first").count, folding(u).count)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int64", "float32"])
def test_dtypes_give_the_determinant_of_the_same_numbers(dtype):
    u = np.round(random_field(10, scale=1.5)).astype(dtype)
    found = jacobian_determinant(u)
    assert found.dtype == (np.float64 if dtype == "int64" else np.float32)
    np.testing.assert_allclose(found, jacobian_determinant(u.astype(np.float64)), atol=1e-5)
    assert folding(u).count.dtype == np.float64
    border = jacobian_determinant(u, convention="voxelmorph")
    np.testing.assert_allclose(border, jacobian_determinant(u.astype(np.float64), convention="voxelmorph"), atol=1e-5)


def test_masks_of_any_form_count_where_they_are_not_0():
    u = random_field(11, (2, 6, 5, 7), 0.6)
    mask = np.random.default_rng(2).random((6, 5, 7)) < 0.5
    expected = folding(u, mask=np.stack([mask] * 2))
    for form in (mask, mask[None], mask.astype(np.uint8) * 255, mask.astype(np.float32)):
        found = folding(u, mask=form)
        for name, values in vars(expected).items():
            assert np.array_equal(getattr(found, name), values)
    ones = folding(u, mask=np.ones((1, 1, 1)))
    assert np.array_equal(ones.count, folding(u).count)


def test_what_no_counted_voxel_sees_may_be_anything():
    u = random_field(12, (1, 9, 6, 6), 0.6)
    mask = np.zeros((9, 6, 6), dtype=bool)
    mask[1:5] = True
    spoiled = u.copy()
    spoiled[:, 6:] = math.nan
    for measure in FIGURES:
        one, other = measure(u, mask=mask), measure(spoiled, mask=mask)
        for name, values in vars(one).items():
            assert np.array_equal(getattr(other, name), values)


@pytest.mark.parametrize("measure", FIGURES)
def test_nothing_counted_and_no_numbers_are_nan_and_no_perfect_score(measure):
    u = random_field(13, (3, 5, 5, 5), 0.2)
    mask = np.ones((3, 5, 5, 5), dtype=bool)
    mask[1] = False
    u[2, 2, 2, 2, 0] = math.nan
    found = vars(measure(u, mask=mask))
    voxels = found.pop("voxels")
    assert voxels.tolist() == [27, 0, 27]
    for values in found.values():
        assert np.isfinite(values[0])
        assert np.isnan(values[1:]).all()


def test_a_field_that_folds_everywhere_has_no_deviation():
    u = affine_field(np.diag([-0.5, 1.0, 1.0]))
    found = sdlogj(u)
    assert math.isnan(found.value[0])
    assert found.left_out[0] == found.voxels[0] == 60


# --- Dask -------------------------------------------------------------------------------------------------------------

CHUNKS = {
    "single voxels": (2, 1, 5, 1, 1),
    "ragged": ((2,), (1, 4, 2, 1), (3, 2), (5, 1, 1), (3,)),
    "whole": -1,
}


def never(*_, **__):
    raise AssertionError("something was computed before it was asked for")


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_give_what_the_whole_gives_and_nothing_is_computed_before(name):
    u = random_field(14, (2, 8, 5, 7), 0.6)
    mask = np.random.default_rng(3).random((2, 8, 5, 7)) < 0.6
    lazy, lazy_mask = da.from_array(u, chunks=CHUNKS[name]), da.from_array(mask, chunks=(1, 3, 5, 2))
    schemes = ("central", "forward", "backward", "corners")
    conventions = (None, "learn2reg", "voxelmorph", "icon")
    with dask.config.set(scheduler=never):
        maps = {scheme: jacobian_determinant(lazy, scheme=scheme) for scheme in schemes}
        figures = {measure: measure(lazy, mask=lazy_mask) for measure in FIGURES}
        others = {one: folding(lazy, convention=one) for one in conventions}
    with dask.config.set(scheduler="synchronous"):
        for scheme, found in maps.items():
            expected = jacobian_determinant(u, scheme=scheme)
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype
            assert np.array_equal(found.compute(), expected)
        for measure, found in figures.items():
            _same(found, measure(u, mask=mask))
        for one, found in others.items():
            _same(found, folding(u, convention=one))


def _same(lazy, expected):
    computed = dict(zip(vars(lazy), dask.compute(*vars(lazy).values()), strict=True))
    for name, values in vars(expected).items():
        assert computed[name].dtype == np.float64
        np.testing.assert_allclose(computed[name], values, rtol=1e-13)


# --- memory, errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", FIGURES)
def test_memory_does_not_grow_with_the_field(measure):
    peaks = []
    for planes in (12, 96):
        u = np.zeros((1, planes, 100, 100, 3), dtype=np.float32)
        u[..., 0] = 0.01 * np.arange(planes)[:, None, None] ** 1.1
        measure(u)
        tracemalloc.start()
        measure(u)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("measure", [jacobian_determinant, *FIGURES])
def test_a_gradient_is_refused_with_what_has_one(measure):
    u = torch.zeros((1, 4, 4, 4, 3), requires_grad=True)
    with pytest.raises(TypeError, match=r"has no gradient.*agnoreg\.loss\.BendingEnergy"):
        measure(u)


@pytest.mark.parametrize("measure", [jacobian_determinant, *FIGURES])
def test_what_is_wrong_with_the_input_is_said(measure):
    u = np.zeros((1, 4, 4, 4, 3))
    for bad in (u[0], u[..., :2], np.zeros((1, 3, 4, 4, 4))):
        with pytest.raises(ValueError, match=r"must have shape.*one component for each axis.*array\[None\]"):
            measure(bad)
    with pytest.raises(ValueError, match="must have at least 3 voxels along each axis, got \\(4, 2, 4\\)"):
        measure(u[:, :, :2])
    with pytest.raises(ValueError, match="spacing must be given with units='mm'"):
        measure(u, units="mm")
    with pytest.raises(ValueError, match="units must be one of voxel, mm, got 'cm'"):
        measure(u, units="cm")
    for spacing in ((1.0, 2.0), 0.0, (1.0, -1.0, 1.0)):
        with pytest.raises(ValueError, match="spacing must be a positive number, or one for each of 3 axes"):
            measure(u, spacing=spacing)
    with pytest.raises(ValueError, match=r"must be one of .*, got 'monai'"):
        measure(u, convention="monai")


def test_a_mask_that_does_not_fit_and_a_scheme_that_nobody_knows():
    u = np.zeros((1, 4, 4, 4, 3))
    with pytest.raises(ValueError, match="mask must have the maps' shape"):
        folding(u, mask=np.ones((4, 4, 3)))
    with pytest.raises(ValueError, match="scheme must be one of central, forward, backward, corners, got 'sobel'"):
        jacobian_determinant(u, scheme="sobel")
    with pytest.raises(ValueError, match="is of two or three axes"):
        nondiffeomorphic_volume(np.zeros((1, 5, 1)))
