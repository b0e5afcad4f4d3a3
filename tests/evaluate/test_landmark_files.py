"""Landmarks in an evaluation: read from CSV, their errors before and after."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from agnoreg.evaluate.evaluation import InputError, evaluate_pair, to_json
from agnoreg.evaluate.landmarks import read_landmarks

SHAPE = (14, 12, 10)
AFFINE = np.array([[1.1, 0.3, 0, -7], [-0.2, 1.4, 0.5, 3], [0.1, 0, 2.6, 11], [0, 0, 0, 1.0]])


def nifti(array, affine=AFFINE):
    return nib.Nifti1Image(array, affine)


@pytest.fixture
def pair(rng):
    """Two images, a smooth field, and 11 landmarks in both."""
    noise = rng.standard_normal((*SHAPE, 3))
    field = np.stack([ndimage.gaussian_filter(noise[..., i], 2) * 8 for i in range(3)], -1).astype(np.float32)
    images = [nifti(x) for x in rng.random((2, *SHAPE)).astype(np.float32)]
    fixed = rng.random((11, 3)) * (np.array(SHAPE) - 1)
    read = [ndimage.map_coordinates(field[..., i].astype(np.float64), fixed.T, order=1) for i in range(3)]
    moving = fixed + np.stack(read, -1) + rng.normal(0, 0.7, fixed.shape)
    return images, field, fixed, moving


def distances(fixed, moving, field=None, order=1):
    """Return the errors in mm, by the affine."""
    moved = fixed
    if field is not None:
        read = [ndimage.map_coordinates(x.astype(np.float64), fixed.T, order=order) for x in np.moveaxis(field, -1, 0)]
        moved = fixed + np.stack(read, -1)
    return np.linalg.norm((moved - moving) @ AFFINE[:3, :3].T, axis=1)


def values(result, which="value"):
    return {record.metric: getattr(record, which) for record in result.records if record.measured == "landmarks"}


def figures(errors):
    worst = np.sort(errors)[-int(np.ceil(0.3 * len(errors))) :]
    return {
        "tre_mean": errors.mean(),
        "tre_median": np.median(errors),
        "tre_p75": np.percentile(errors, 75),
        "tre_max": errors.max(),
        "tre_within_2_mm": np.mean(errors <= 2),
        "tre_worst_30": worst.mean(),
    }


def test_errors_are_in_mm_before_and_after(pair):
    images, field, fixed, moving = pair
    result = evaluate_pair(*images, ddf=nifti(field), fixed_landmarks=fixed, moving_landmarks=moving)
    after, before = distances(fixed, moving, field), distances(fixed, moving)
    assert values(result) == pytest.approx(figures(after), rel=1e-6)
    assert values(result, "before") == pytest.approx(figures(before), rel=1e-6)
    assert [one.distance for one in result.landmarks] == pytest.approx(after.tolist(), rel=1e-6)
    assert [one.before for one in result.landmarks] == pytest.approx(before.tolist(), rel=1e-6)
    entries = json.loads(to_json(result))["landmarks"]
    assert entries[3]["fixed"] == fixed[3].tolist()
    assert {record.counted for record in result.records if record.measured == "landmarks"} == {11}


@pytest.mark.parametrize("header", ["", "x,y,z\n", "# exported\nR, A, S\n"])
@pytest.mark.parametrize("units", ["voxel", "mm"])
def test_landmarks_are_read_in_voxels_or_mm_with_and_without_a_first_line(pair, tmp_path, header, units):
    images, field, fixed, moving = pair
    paths = []
    for name, points in (("f.csv", fixed), ("m.csv", moving)):
        points = points @ AFFINE[:3, :3].T + AFFINE[:3, 3] if units == "mm" else points
        separator = "," if name == "f.csv" else "\t"
        lines = [separator.join(map(repr, point)) for point in points.tolist()]
        paths.append(tmp_path / name)
        paths[-1].write_text(header + "\n".join(lines) + "\n\n", encoding="utf-8-sig")
    result = evaluate_pair(
        *images, ddf=nifti(field), fixed_landmarks=paths[0], moving_landmarks=paths[1], landmark_units=units
    )
    assert values(result) == pytest.approx(figures(distances(fixed, moving, field)), rel=1e-6)
    assert f"11 landmarks read in {'mm' if units == 'mm' else 'voxels, the first of which is 0'}." in result.notes


def test_learn2reg_reproduces_the_evaluators_error_and_says_where_ours_differs(pair):
    """Learn2Reg reads the field by cubic splines, 0 outside the image."""
    images, field, fixed, moving = pair
    result = evaluate_pair(
        *images, ddf=nifti(field), fixed_landmarks=fixed, moving_landmarks=moving, convention="learn2reg"
    )
    theirs, ours = (distances(fixed, moving, field, order) for order in (3, 1))
    assert values(result)["tre_mean"] == pytest.approx(theirs.mean(), rel=1e-6)
    line = next(note for note in result.notes if "TRE, mean is" in note)
    assert line.startswith("learn2reg differs from agnoreg's own definitions, by which ")
    assert f"TRE, mean is {ours.mean():.4g} mm, not {theirs.mean():.4g} mm" in line


def test_landmarks_without_a_field_are_compared_as_they_are(pair):
    images, _, fixed, moving = pair
    result = evaluate_pair(*images, fixed_landmarks=fixed, moving_landmarks=moving)
    assert values(result) == values(result, "before") == pytest.approx(figures(distances(fixed, moving)))
    assert "TRE: there is no field, so that landmarks are compared as they are." in result.notes


def test_landmarks_outside_the_image_are_reported_and_count(pair):
    images, field, fixed, moving = pair
    fixed = fixed.copy()
    fixed[[2, 7]] = (40, 1, 1), (-3, 2, 2)
    result = evaluate_pair(*images, ddf=nifti(field), fixed_landmarks=fixed, moving_landmarks=moving)
    assert any("2 of 11 fixed landmarks lie outside the image (number 3, 8)." in text for text in result.warnings)
    assert [place for place, one in enumerate(result.landmarks) if one.outside] == [2, 7]
    assert values(result)["tre_max"] > 30


def test_landmarks_of_a_slice(rng):
    images = [nifti(x, np.diag([2.0, 3, 1, 1])) for x in rng.random((2, 12, 11, 1)).astype(np.float32)]
    points = np.array([[2.0, 3, 0], [5, 6, 0]])
    for fixed in (points, points[:, :2]):
        moving = fixed + np.eye(fixed.shape[1])[:2]
        result = evaluate_pair(*images, fixed_landmarks=fixed, moving_landmarks=moving)
        assert values(result)["tre_mean"] == 2.5
    with pytest.raises(InputError, match="fixed landmarks lie up to 4 voxels beside the slice"):
        evaluate_pair(*images, fixed_landmarks=points + np.array([0, 0, 4]), moving_landmarks=points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,2,3\n4,five,6\n", "line 3: 'five' is no number"),
        ("1,2,3\n4,nan,6\n", "line 2: 'nan' is no number"),
        ("1,2,3\n\n4,5\n", "line 3: 2 numbers, where the lines above have 3"),
        ("1,2,3,4\n", "line 1: 4 numbers, where a landmark has 3"),
        ("x,y,z\n", "holds no landmark"),
        ("", "holds no landmark"),
        ("1,two,3\n", "line 1: 'two' is no number"),
    ],
)
def test_a_line_that_is_no_landmark_is_named(tmp_path, text, message):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_landmarks(path, "fixed landmarks")
    assert message in str(error.value)
    assert str(error.value).startswith(f"fixed landmarks {path}")


def test_what_does_not_fit_is_refused(pair, tmp_path):
    images, _, fixed, moving = pair
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe1,2")
    for options, message in (
        ({"fixed_landmarks": fixed}, "pass --fixed-landmarks and --moving-landmarks"),
        ({"fixed_landmarks": fixed, "moving_landmarks": moving[:4]}, "There are 11 fixed landmarks and 4 moving ones"),
        (
            {"fixed_landmarks": fixed, "moving_landmarks": moving, "landmark_units": "cm"},
            "--landmark-units must be 'voxel' or 'mm', got 'cm'",
        ),
        ({"fixed_landmarks": tmp_path / "none.csv", "moving_landmarks": moving}, "cannot be read"),
        ({"fixed_landmarks": tmp_path / "b.csv", "moving_landmarks": moving}, "it is not UTF-8 text"),
        ({"fixed_landmarks": fixed[:, :2], "moving_landmarks": moving[:, :2]}, "have 2 coordinates a line"),
        ({"losses": ["tre"]}, "tre_mean needs --fixed-landmarks and --moving-landmarks"),
    ):
        with pytest.raises(InputError) as error:
            evaluate_pair(*images, **options)
        assert message in str(error.value)
