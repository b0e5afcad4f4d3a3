"""The target registration error and the inverse consistency error: closed forms, and SciPy's interpolation."""

import math

import dask.array as da
import numpy as np
import pytest
import torch
from fields import affine_field, random_field
from scipy.ndimage import map_coordinates

from agnoreg.metrics import inverse_consistency_error, target_registration_error

SPACING = (1.0, 2.0, 0.5)
SHAPE = (8, 7, 9)


def landmarks(seed=0, count=11, shape=SHAPE):
    return np.random.default_rng(seed).uniform(0, np.asarray(shape) - 1, (count, len(shape)))


def rotation(angle):
    """Return an affine of NIfTI: a rotated, anisotropic grid with an offset."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.asarray([[c, -s, 0], [s, c, 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(SPACING), (10.0, -20.0, 5.0)
    return affine


# --- target registration error ----------------------------------------------------------------------------------------


def test_landmarks_shifted_by_the_field_are_met_in_mm_and_were_as_far_away_before():
    fixed, shift = landmarks(), np.asarray([2.0, -1.0, 3.0])
    u = np.broadcast_to(shift, (1, *SHAPE, 3))
    found = target_registration_error(fixed, fixed + shift, u, spacing=SPACING)
    np.testing.assert_allclose(found.distances, 0, atol=1e-13)
    assert found.within_2_mm[0] == 1
    distance = math.hypot(2.0, 2.0, 1.5)
    for name in ("mean", "median", "p75", "maximum", "worst_30"):
        assert getattr(found.before, name)[0] == pytest.approx(distance, rel=1e-14)
    assert found.before.within_2_mm[0] == 0
    # The other direction is twice as wrong as nothing.
    assert target_registration_error(fixed, fixed - shift, u, spacing=SPACING).mean[0] == pytest.approx(2 * distance)


def test_every_figure_is_that_of_the_distances():
    fixed, moving = landmarks(1), landmarks(2)
    found = target_registration_error(fixed, moving, spacing=SPACING)
    distances = np.sqrt((((fixed - moving) * SPACING) ** 2).sum(axis=1))
    for one in (found, found.before):
        np.testing.assert_allclose(one.distances[0], distances, rtol=1e-14)
        expected = {
            "mean": distances.mean(),
            "median": np.median(distances),
            "p75": np.percentile(distances, 75),
            "maximum": distances.max(),
            "within_2_mm": (distances <= 2).mean(),
            "worst_30": np.sort(distances)[-4:].mean(),
        }
        for name, value in expected.items():
            assert getattr(one, name)[0] == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_field_is_read_linearly(dims):
    shape, spacing = SHAPE[:dims], SPACING[:dims]
    u = random_field(3, (2, *shape), 1.0)
    fixed, moving = (np.stack([landmarks(seed + b, shape=shape) for b in range(2)]) for seed in (4, 6))
    fixed[0, 0], fixed[0, 1] = 0, np.asarray(shape) - 1  # the first and the last voxel
    found = target_registration_error(fixed, moving, u, spacing=spacing)
    for b in range(2):
        moves = [map_coordinates(u[b, ..., i], fixed[b].T, order=1) for i in range(dims)]
        expected = np.linalg.norm((fixed[b] + np.stack(moves, axis=-1) - moving[b]) * spacing, axis=1)
        np.testing.assert_allclose(found.distances[b], expected, rtol=1e-12)


def test_learn2reg_reads_it_by_cubic_splines():
    u = random_field(5, (1, *SHAPE), 1.0)
    fixed, moving = landmarks(6), landmarks(7)
    fixed[0] = 7.4, 3.0, 3.0  # where its field is 0
    moves = np.stack([map_coordinates(u[0, ..., i], fixed.T) for i in range(3)], axis=-1)
    expected = np.linalg.norm((fixed + moves - moving) * SPACING, axis=1)
    found = target_registration_error(fixed, moving, u, spacing=SPACING, convention="learn2reg")
    np.testing.assert_allclose(found.distances[0], expected, rtol=1e-12)
    assert not np.any(moves[0])
    linear = target_registration_error(fixed, moving, u, spacing=SPACING)
    assert np.abs(linear.distances - found.distances).max() > 0.1


def test_affines_turn_voxels_into_mm_and_points_may_be_in_mm():
    u, fixed, moving = random_field(8, (1, *SHAPE), 1.0), landmarks(9), landmarks(10)
    expected = target_registration_error(fixed, moving, u, spacing=SPACING)
    affine = rotation(0.7)
    world = [points @ affine[:3, :3].T + affine[:3, 3] for points in (fixed, moving)]
    in_mm = u * SPACING
    others = [
        target_registration_error(fixed, moving, u, affine=affine),
        target_registration_error(*world, u, affine=affine, point_units="mm"),
        target_registration_error(*world, in_mm, affine=affine, point_units="mm", units="mm"),
        target_registration_error(fixed * SPACING, moving * SPACING, u, spacing=SPACING, point_units="mm"),
        target_registration_error(fixed, moving, in_mm, spacing=SPACING, units="mm"),
    ]
    for other in others:
        np.testing.assert_allclose(other.distances, expected.distances, rtol=1e-9)
        np.testing.assert_allclose(other.before.distances, expected.before.distances, rtol=1e-9)


def test_a_moving_image_on_another_grid_has_its_own_affine():
    fixed, affine, other = landmarks(11), rotation(0.7), rotation(-0.2)
    world = fixed @ affine[:3, :3].T + affine[:3, 3]
    moving = np.linalg.solve(other[:3, :3], (world - other[:3, 3]).T).T
    found = target_registration_error(fixed, moving, affine=affine, moving_affine=other)
    np.testing.assert_allclose(found.distances, 0, atol=1e-12)
    assert target_registration_error(fixed, moving, affine=affine).mean[0] > 1


def test_landmarks_outside_the_image_are_said_and_count():
    u = random_field(12, (1, *SHAPE), 1.0)
    fixed = np.asarray([[3.0, 3.0, 3.0], [-0.4, 3.0, 3.0], [-0.6, 3.0, 3.0], [3.0, 3.0, 20.0]])
    found = target_registration_error(fixed, fixed, u, spacing=1.0)
    assert found.outside[0].tolist() == [False, False, True, True]
    assert found.distances.shape == (1, 4)
    nearest = [u[0, 3, 3, 3], u[0, 0, 3, 3], u[0, 0, 3, 3], u[0, 3, 3, 8]]
    np.testing.assert_allclose(found.distances[0], np.linalg.norm(nearest, axis=1), rtol=1e-13)


def test_points_are_lists_or_arrays_of_any_library_and_results_are_where_the_field_is():
    u, fixed, moving = random_field(13, (1, *SHAPE), 1.0), landmarks(14), landmarks(15)
    expected = target_registration_error(fixed, moving, u, spacing=SPACING)
    tensor = torch.as_tensor(u)
    for points in ((fixed, moving), (fixed.tolist(), moving.tolist()), (torch.as_tensor(fixed), moving)):
        found = target_registration_error(*points, tensor, spacing=SPACING)
        assert isinstance(found.mean, torch.Tensor)
        assert found.mean.dtype == torch.float64
        np.testing.assert_array_equal(found.distances, expected.distances)
    assert isinstance(target_registration_error(torch.as_tensor(fixed), moving, spacing=1.0).mean, torch.Tensor)
    lazy = target_registration_error(fixed, moving, da.from_array(u, chunks=4), spacing=SPACING)
    np.testing.assert_array_equal(lazy.distances, expected.distances)


def test_what_is_wrong_with_landmarks_is_said():
    u, fixed = np.zeros((1, *SHAPE, 3)), landmarks()
    with pytest.raises(ValueError, match="the same landmarks in the same order, got 11 and 10 of them"):
        target_registration_error(fixed, fixed[:-1], u, spacing=1.0)
    for bad in (fixed[:0], fixed[0], np.zeros((3, 4))):
        with pytest.raises(ValueError, match="fixed_points must be one or more landmarks"):
            target_registration_error(bad, bad, u, spacing=1.0)
    with pytest.raises(ValueError, match=r"moving_points must be finite, got 1 landmark\(s\) that are not"):
        target_registration_error(fixed, np.where(fixed == fixed[3], math.nan, fixed), u, spacing=1.0)
    for options in ({}, {"spacing": 1.0, "affine": np.eye(4)}):
        with pytest.raises(ValueError, match="Either spacing or affine must be given"):
            target_registration_error(fixed, fixed, u, **options)
    with pytest.raises(ValueError, match="moving_affine is beside affine"):
        target_registration_error(fixed, fixed, spacing=1.0, moving_affine=np.eye(4))
    for affine in (np.eye(3), np.zeros((4, 4))):
        with pytest.raises(ValueError, match="affine must be an invertible matrix of 4 x 4"):
            target_registration_error(fixed, fixed, affine=affine)
    for points in (fixed[:, :2], np.stack([fixed] * 2)):
        with pytest.raises(ValueError, match="one sample for each set of landmarks and an axis for each coordinate"):
            target_registration_error(points, points, u, spacing=1.0)
    with pytest.raises(ValueError, match="point_units must be one of voxel, mm"):
        target_registration_error(fixed, fixed, spacing=1.0, point_units="voxels")


def test_no_gradient_of_landmarks_or_the_field():
    fixed = landmarks()
    tracked = torch.as_tensor(fixed).requires_grad_()
    for arguments in ((tracked, fixed), (fixed, fixed, torch.zeros((1, *SHAPE, 3), requires_grad=True))):
        with pytest.raises(TypeError, match=r"target_registration_error has no gradient.*agnoreg\.loss\.DiceLoss"):
            target_registration_error(*arguments, spacing=1.0)


# --- inverse consistency ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_affine_map_and_its_inverse_are_consistent(dims):
    rng = np.random.default_rng(dims)
    matrix, shape = np.eye(dims) + rng.uniform(-0.1, 0.1, (dims, dims)), (12, 11, 13)[:dims]
    inverse = np.linalg.inv(matrix)
    u, v = affine_field(matrix, shape, 0.3), affine_field(inverse, shape, -inverse @ np.full(dims, 0.3))
    found = inverse_consistency_error(u, v, spacing=2.0)
    assert found.maximum[0] < 1e-12
    p = u[0] + affine_field(np.zeros((dims, dims)), shape)[0] * -1
    outside = ((p < 0) | (p > np.asarray(shape) - 1)).any(axis=-1).sum()
    assert found.left_out[0] == outside
    assert found.voxels[0] == math.prod(shape)


def test_errors_are_those_of_linear_interpolation_in_mm():
    u, v = random_field(1, (2, *SHAPE), 0.8), random_field(2, (2, *SHAPE), 0.8)
    mask = np.random.default_rng(3).random(SHAPE) < 0.7
    found = inverse_consistency_error(u, v, mask=mask, spacing=SPACING)
    in_mm = inverse_consistency_error(u * SPACING, v * SPACING, mask=mask, spacing=SPACING, units="mm")
    for b in range(2):
        points = np.moveaxis(np.indices(SHAPE), 0, -1) + u[b]
        there = mask & ((points >= 0) & (points <= np.asarray(SHAPE) - 1)).all(axis=-1)
        back = np.stack([map_coordinates(v[b, ..., i], points[there].T, order=1) for i in range(3)], axis=-1)
        errors = np.linalg.norm((u[b][there] + back) * SPACING, axis=-1)
        assert found.left_out[b] == mask.sum() - there.sum() > 0
        for one in (found, in_mm):
            assert one.mean[b] == pytest.approx(errors.mean(), rel=1e-11)
            assert one.p95[b] == pytest.approx(np.percentile(errors, 95), rel=1e-11)
            assert one.maximum[b] == pytest.approx(errors.max(), rel=1e-11)
    lazy = inverse_consistency_error(da.from_array(u, chunks=4), da.from_array(v, chunks=5), spacing=SPACING)
    np.testing.assert_array_equal(lazy.p95, inverse_consistency_error(u, v, spacing=SPACING).p95)


def test_nothing_left_and_no_numbers_are_nan():
    u = np.zeros((3, 5, 5, 5, 3))
    u[1] = 9.0
    u[2, 0, 0, 0, 0] = math.nan
    found = inverse_consistency_error(u, np.zeros_like(u))
    assert found.mean[0] == 0
    assert np.isnan(found.mean[1:]).all()
    assert found.left_out[1] == 125
    v = np.zeros((1, 5, 5, 5, 3))
    v[0, 2, 2, 2] = math.inf
    assert math.isnan(inverse_consistency_error(np.zeros_like(v), v).maximum[0])


def test_two_fields_must_have_one_shape_and_no_gradient_is_asked_for():
    with pytest.raises(ValueError, match="The fields must have one shape, got"):
        inverse_consistency_error(np.zeros((1, 5, 5, 2)), np.zeros((1, 5, 6, 2)))
    u = torch.zeros((1, 4, 4, 2), requires_grad=True)
    with pytest.raises(TypeError, match=r"has no gradient.*agnoreg\.loss\.BendingEnergy"):
        inverse_consistency_error(u.detach(), u)
