"""What users of other metrics complain of, each as a test of what happens here instead."""

import math

import nibabel as nib
import numpy as np
import pytest

from agnoreg import functional, metrics
from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.nifti import open_volume, read_labels

SHAPE, SPACING = (9, 8, 10), (1.0, 2.0, 3.0)


def label_maps(ids=(0, 2, 41, 1035)):
    rng = np.random.default_rng(0)
    true = rng.choice(np.asarray(ids), size=(1, *SHAPE))
    return true, np.where(rng.random(true.shape) < 0.7, true, rng.choice(np.asarray(ids), size=true.shape))


def box(low, high):
    mask = np.zeros((1, *SHAPE), dtype=bool)
    mask[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return mask


def field(scale=0.3):
    return np.random.default_rng(1).normal(0, scale, (1, *SHAPE, 3))


def dice_of(true, pred, label):
    a, b = true == label, pred == label
    return 2 * (a & b).sum() / (a.sum() + b.sum())


# --- what Dice takes, and what it is of labels that are absent --------------------------------------------------------


def test_dice_takes_label_maps_of_any_ids_or_probabilities_and_says_which():
    true, pred = label_maps()
    found = metrics.overlap(true, pred)
    assert found.labels == (2, 41, 1035)
    assert found.dice[0].tolist() == [dice_of(true, pred, label) for label in found.labels]
    soft = np.where(true == 2, 0.75, 0.0)
    with pytest.raises(ValueError, match=r"must hold integers, got 0\.75: .*agnoreg\.functional\.dice"):
        metrics.overlap(soft, soft)
    assert functional.dice(soft, soft).shape == (1,)
    one_hot = np.stack([true == 2, true == 41], axis=-1)
    with pytest.raises(ValueError, match=r"got shape \(1, 9, 8, 10, 2\).*argmax"):
        metrics.overlap(one_hot, one_hot)


def test_absent_labels_do_not_change_the_mean_and_missed_ones_count_with_0():
    true, pred = label_maps()
    pred[pred == 41] = 0
    found = metrics.overlap(true, pred)
    more = metrics.overlap(true, pred, labels=(*found.labels, 77))
    assert math.isnan(more.dice[0, 3])
    assert more.mean("dice")[0] == found.mean("dice")[0] == np.mean([dice_of(true, pred, x) for x in (2, 41, 1035)])
    assert more.mean("dice")[1] == 3
    assert found.dice[0, 1] == 0
    assert not found.background
    assert "without background" in str(found)
    assert metrics.overlap(true, pred, labels=(0, 2)).background


# --- grids and axes ---------------------------------------------------------------------------------------------------


def test_headers_that_differ_by_a_rounding_are_one_grid_and_shapes_never_broadcast(tmp_path):
    image = np.random.default_rng(2).random(SHAPE).astype(np.float32)
    affine = np.diag([*SPACING, 1.0])
    paths = [tmp_path / name for name in ("a.nii", "rounded.nii", "moved.nii")]
    for path, shift in zip(paths, (0.0, 1e-5, 0.5), strict=True):
        moved = affine.copy()
        moved[0, 3] += shift
        nib.save(nib.Nifti1Image(image, moved), path)
    assert not evaluate_pair(*paths[:2], losses=["ssd"]).warnings
    with pytest.raises(InputError, match=r"origin.*0\.5"):
        evaluate_pair(paths[0], paths[2], losses=["ssd"])
    true, _ = label_maps()
    for measure in (metrics.overlap, lambda a, b: metrics.hausdorff(a, b, spacing=1.0)):
        with pytest.raises(
            ValueError, match=r"must have one shape, got y_true \(1, 9, 8, 10\) and y_pred \(1, 9, 8, 1\)"
        ):
            measure(true, true[..., :1])
    with pytest.raises(ValueError, match="The fields must have one shape"):
        metrics.inverse_consistency_error(field(), field()[:, :-1])


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)], ids=["zyx", "yzx"])
def test_spacing_and_components_belong_to_the_axis_of_the_array(order):
    a, b, u = box((1, 2, 3), (5, 6, 7)), box((2, 2, 4), (7, 6, 8)), field()
    axes = (0, *(1 + axis for axis in order))
    steps = tuple(SPACING[axis] for axis in order)
    turned = u.transpose(*axes, 4)[..., order]
    points = np.random.default_rng(3).uniform(0, 7, (5, 3))
    for measure in (metrics.hausdorff, metrics.masd, metrics.assd):
        expected = measure(a, b, spacing=SPACING)
        assert measure(a.transpose(axes), b.transpose(axes), spacing=steps) == pytest.approx(expected, rel=1e-13)
    for measure, figure in (("folding", "minimum"), ("nondiffeomorphic_volume", "volume"), ("sdlogj", "value")):
        one, other = (
            getattr(getattr(metrics, measure)(x, spacing=h, units="mm"), figure)
            for x, h in ((u, SPACING), (turned, steps))
        )
        assert other == pytest.approx(one, rel=1e-11, abs=1e-12)
    one = metrics.target_registration_error(points, points, u, spacing=SPACING).mean
    other = metrics.target_registration_error(points[:, order], points[:, order], turned, spacing=steps).mean
    assert other == pytest.approx(one, rel=1e-13)
    for wrong in ((1.0, 2.0), (1.0, 2.0, 3.0, 4.0)):
        with pytest.raises(ValueError, match="spacing must be a positive number, or one for each of 3 axes"):
            metrics.hausdorff(a, b, spacing=wrong)
        with pytest.raises(ValueError, match="spacing must be a positive number, or one for each of 3 axes"):
            metrics.nondiffeomorphic_volume(u, spacing=wrong)


def test_an_array_of_simpleitk_s_has_the_spacing_of_its_header_in_reverse(tmp_path):
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    pair, found = (box((1, 2, 3), (4, 5, 7)), box((2, 2, 3), (6, 7, 8))), []
    for mask, name in zip(pair, ("a.nii", "b.nii"), strict=True):
        nib.save(nib.Nifti1Image(mask[0].astype(np.uint8), np.diag([*SPACING, 1.0])), tmp_path / name)
    images = [itk.ReadImage(str(tmp_path / name)) for name in ("a.nii", "b.nii")]
    arrays = [itk.GetArrayFromImage(image)[None] > 0 for image in images]
    for masks, spacing in ((pair, SPACING), (arrays, images[0].GetSpacing()[::-1])):
        found.append(float(metrics.assd(*masks, spacing=spacing)[0]))
    assert found[1] == pytest.approx(found[0], rel=1e-13)


# --- what a missed structure does to a mean ---------------------------------------------------------------------------


def test_a_missed_object_makes_no_surface_distance_better():
    a, b, nothing = box((1, 1, 1), (5, 5, 5)), box((2, 1, 1), (6, 5, 5)), np.zeros((1, *SHAPE), dtype=bool)
    for percentile in (95, 100):
        missed = metrics.hausdorff(a, nothing, spacing=SPACING, percentile=percentile)
        assert missed[0] == math.inf
        assert np.isnan(metrics.hausdorff(nothing, nothing, spacing=SPACING, percentile=percentile)[0])
        diagonal = metrics.hausdorff(a, nothing, spacing=SPACING, percentile=percentile, empty="diagonal")
        assert diagonal[0] == pytest.approx(math.hypot(9, 16, 30))
    records = []
    for case, pred in enumerate((b, nothing)):
        found = metrics.overlap(a, pred)
        records += found.records(cases=[case], hd95=metrics.hausdorff(a, pred, spacing=SPACING, percentile=95))
    summary = metrics.summarise(records)["hd95"]
    assert (summary.missed, summary.positives, summary.infinite, summary.mean) == (1, 2, 1, math.inf)
    with pytest.raises(ValueError, match="spacing must be given"):
        metrics.hausdorff(a, b)


# --- the Jacobian, and landmarks --------------------------------------------------------------------------------------


def test_the_jacobian_is_that_of_displacements_and_folds_are_not_lost():
    nothing, half = np.zeros((1, *SHAPE, 3)), np.zeros((1, *SHAPE, 3))
    half[..., 0] = -0.5 * np.arange(9.0)[:, None, None]
    assert np.all(metrics.jacobian_determinant(nothing) == 1)
    assert np.all(metrics.jacobian_determinant(half) == 0.5)
    # One physical map on two grids, and in two units.
    for spacing in (SPACING, (0.5, 0.5, 0.5)):
        in_mm = half * np.asarray(spacing)
        assert np.all(metrics.jacobian_determinant(in_mm, spacing=spacing, units="mm") == 0.5)
    u = field(0.8)
    inner = metrics.jacobian_determinant(u)
    found, spread = metrics.folding(u), metrics.sdlogj(u)
    assert found.count[0] == spread.left_out[0] == (inner <= 0).sum() > 0
    assert spread.value[0] == pytest.approx(np.log(inner[inner > 0]).std(), rel=1e-12)
    # Learn2Reg's formula on the same field, where 3 is added to what holds the identity already.
    raised = np.log((inner[:, 1:-1, 1:-1, 1:-1] + 3).clip(1e-9, 1e9))
    assert metrics.sdlogj(u, convention="learn2reg").value[0] == pytest.approx(raised.std(), rel=1e-12)
    assert metrics.folding(u, convention="learn2reg").count[0] == 0


def test_errors_of_landmarks_are_in_mm_in_the_direction_of_the_field_and_beside_those_before():
    fixed, shift = np.random.default_rng(4).uniform(2, 6, (7, 3)), np.asarray([1.0, -1.0, 2.0])
    u = np.broadcast_to(shift, (1, *SHAPE, 3))
    found = metrics.target_registration_error(fixed, fixed + shift, u, spacing=SPACING)
    assert found.maximum[0] < 1e-12
    assert found.before.mean[0] == pytest.approx(math.hypot(1, 2, 6), rel=1e-13)
    with pytest.raises(ValueError, match="Either spacing or affine must be given"):
        metrics.target_registration_error(fixed, fixed, u)


# --- files of labels --------------------------------------------------------------------------------------------------


def test_labels_in_files_are_the_integers_that_were_stored(tmp_path):
    true = label_maps()[0][0].astype(np.int16)
    plain, scaled, halved = (tmp_path / name for name in ("plain.nii", "scaled.nii", "halved.nii"))
    nib.save(nib.Nifti1Image(true, np.eye(4)), plain)
    for path, factor, slope in ((scaled, 3, 1 / 3), (halved, 1, 0.5)):
        image = nib.Nifti1Image((true * factor).astype(np.int16), np.eye(4))
        image.header.set_slope_inter(slope, 0)
        nib.save(image, path)
    found, _, warning = read_labels(open_volume(plain, "label"))
    assert found.dtype == np.int16
    assert not warning
    assert np.array_equal(found, true)
    # 1/3 in float32 is none: the scaled labels are almost integers.
    found, _, warning = read_labels(open_volume(scaled, "label"))
    assert found.dtype.kind == "i"
    assert "rounded" in warning
    assert np.all(metrics.overlap(true[None], found[None]).dice == 1)
    with pytest.raises(InputError, match=r"no label map.*20\.5"):
        read_labels(open_volume(halved, "label"))
