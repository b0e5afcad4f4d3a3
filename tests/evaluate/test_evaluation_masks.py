"""Which voxels count in an evaluation: masks, and images that are NaN outside the brain."""

import math

import nibabel as nib
import numpy as np
import pytest

from agnoreg.evaluate import batch as pairs
from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.quantities import DEFAULT
from agnoreg.metrics import folding, surface_distances

SHAPE = (16, 15, 14)
BOX = (slice(2, 13), slice(3, 14), slice(1, 12))
SIZES = (1.5, 2.0, 3.0)
AFFINE = np.diag([*SIZES, 1.0])


def nifti(array, affine=AFFINE):
    return nib.Nifti1Image(array, affine)


@pytest.fixture
def arrays(rng):
    """Images, labels and a field."""
    fixed = rng.random(SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.int16)
    label[4:9, 5:11, 2:8] = 3
    label[10:, 9:, 6:11] = 5
    return {
        "fixed": fixed,
        "moved": (fixed + rng.random(SHAPE)).astype(np.float32),
        "fixed_label": label,
        "moved_label": np.roll(label, 1, 0),
        "ddf": rng.standard_normal((*SHAPE, 3)).astype(np.float32),
    }


def evaluated(arrays, **options):
    held = {name: nifti(array) if isinstance(array, np.ndarray) else array for name, array in arrays.items()}
    return evaluate_pair(**held, **options)


#: Distances lead to the whole surface of the other map, wherever a mask leaves its elements out; a determinant reads
#: its voxel's neighbours, whether they count or not.
NEIGHBOURS = ("hd95", "masd", "assd", *DEFAULT["field"])


def values(result, without=()):
    return {
        (record.metric, record.measured, record.label): record.value
        for record in result.records
        if record.metric not in without
    }


def box():
    mask = np.zeros(SHAPE, np.uint8)
    mask[BOX] = 7
    return mask


def test_a_box_as_mask_is_cropping_in_images_labels_and_field(arrays):
    cropped = evaluated({name: array[BOX] for name, array in arrays.items()})
    masked = evaluated(arrays, mask=nifti(box()))
    assert values(masked, NEIGHBOURS) == pytest.approx(values(cropped, NEIGHBOURS), rel=1e-5)
    assert {record.counted for record in masked.records} == {11**3, None}
    assert masked.notes[0] == f"images, labels, field: {11**3} of {math.prod(SHAPE)} voxels count (mask <in memory>)."


@pytest.mark.parametrize("scale", [True, False])
def test_what_a_mask_leaves_out_changes_nothing(arrays, scale):
    outside = box() == 0
    expected = evaluated(arrays, mask=nifti(box()), scale=scale)
    for wrong in (np.nan, -np.inf, 1e9):
        other = {name: array.copy() for name, array in arrays.items()}
        for name in ("fixed", "moved", "ddf"):
            other[name][outside] = wrong
        for name in ("fixed_label", "moved_label"):
            other[name][outside] = 9
        found = evaluated(other, mask=nifti(box()), scale=scale)
        assert values(found, NEIGHBOURS) == values(expected, NEIGHBOURS)
        assert found.warnings == expected.warnings
        # Two are of determinants.
        notes = [[note for note in one.notes if "det" not in note] for one in (found, expected)]
        assert notes[0] == notes[1]


def test_distances_of_surfaces_are_those_of_elements_that_count_to_whole_surfaces(arrays):
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :, 4:] = 0
    found = values(evaluated(arrays, mask=nifti(mask)))
    distances = surface_distances(
        arrays["fixed_label"][None], arrays["moved_label"][None], spacing=SIZES, labels=[3], mask=mask[None]
    )
    assert found["hd95", "labels", 3] == distances.hausdorff(95)[0, 0]
    assert found["masd", "labels", 3] == distances.masd()[0, 0]
    # Label 5 lies beyond: no element of its counts.
    assert ("hd95", "labels", 5) not in found


def test_a_mask_of_nan_and_numbers_counts_where_it_is_neither_0_nor_nan(arrays):
    mask = np.where(box(), np.float32(0.25), np.float32(np.nan))
    mask[0, 0, 0] = 0
    expected = evaluated(arrays, mask=nifti(box()))
    assert values(evaluated(arrays, mask=nifti(mask))) == values(expected)


def test_masks_of_either_image_count_together_in_images_and_labels(arrays):
    fixed, moving = box(), np.roll(box(), 2, 1)
    both = ((fixed != 0) & (moving != 0)).astype(np.uint8)
    found = values(evaluated(arrays, fixed_mask=nifti(fixed), moving_mask=nifti(moving)))
    expected, whole = values(evaluated(arrays, mask=nifti(both))), values(evaluated(arrays))
    for key, value in found.items():
        assert value == (whole if key[1] == "field" else expected)[key]


def test_nan_outside_the_brain_does_not_count_where_it_is_masked(arrays):
    """As SPM writes images, and as a resampled one is beyond the other's field of view."""
    arrays["fixed"][:2] = np.nan
    arrays["moved"][:, 13:] = np.inf
    brain = (np.isfinite(arrays["fixed"]) & np.isfinite(arrays["moved"])).astype(np.uint8)
    found = evaluated(arrays, nan_is_masked=True)
    images = {"fixed": arrays["fixed"], "moved": arrays["moved"]}
    expected = values(evaluated(images, mask=nifti(brain)))
    assert {key: value for key, value in values(found).items() if key[1] == "images"} == expected
    assert all(math.isfinite(value) for value in expected.values())
    assert not [warning for warning in found.warnings if "NaN" in warning]
    assert found.notes[0] == (
        f"images: {brain.sum()} of {math.prod(SHAPE)} voxels count ({2 * 15 * 14} of fixed image <in memory> are NaN "
        f"or infinite, {16 * 2 * 14} of moved image <in memory> are NaN or infinite)."
    )
    counted = {
        record.measured: record.counted
        for record in found.records
        if record.label != "mean" and record.metric not in DEFAULT["field"]
    }
    assert counted == {"images": brain.sum(), "labels": math.prod(SHAPE), "field": math.prod(SHAPE)}


def test_nan_in_a_field_does_not_count_where_it_is_masked(arrays):
    arrays["ddf"][:3, ..., 1] = np.nan
    pair = {name: arrays[name] for name in ("fixed", "moved", "ddf")}
    inside = np.ones(SHAPE, np.uint8)
    inside[:3] = 0
    found, expected = evaluated(pair, nan_is_masked=True), evaluated(pair, mask=nifti(inside))
    for metric in ("GradientNorm", "BendingEnergy"):
        value = values(found)[metric, "field", None]
        assert value == values(expected)[metric, "field", None]
        assert math.isfinite(value)
    # A determinant next to them is none: a plane more.
    cropped = np.nan_to_num(arrays["ddf"])
    inside[3] = 0
    folds = folding(cropped[None], mask=inside[None])
    for result in (found, expected):
        assert values(result)["jacobian_minimum", "field", None] == folds.minimum[0]
        assert f"field: {15 * 14} voxels lie next to NaN or infinity, and have no determinant." in result.notes
    without = evaluated(pair)
    assert math.isnan(values(without)["GradientNorm", "field", None])
    assert math.isnan(values(without)["sdlogj", "field", None])
    assert any("ddf <in memory> has 630 voxels that are NaN" in warning for warning in without.warnings)


def test_nan_without_a_mask_warns_and_names_the_options(arrays):
    arrays["fixed"][0, 0, 0] = np.nan
    (warning,) = evaluated({name: arrays[name] for name in ("fixed", "moved")}).warnings
    for option in ("--nan-is-masked", "--mask FILE", "--fixed-mask FILE", "--moving-mask FILE"):
        assert option in warning


def test_nan_is_masked_changes_nothing_where_all_is_finite(arrays):
    found, expected = evaluated(arrays, nan_is_masked=True), evaluated(arrays)
    assert values(found) == values(expected)
    assert found.notes[0] == "images: all voxels count: none is NaN or infinite."


def test_labels_outside_the_mask_are_left_out(arrays):
    mask = np.ones(SHAPE, np.uint8)
    mask[0] = mask[9:] = 0
    result = evaluated(arrays, mask=nifti(mask), losses=["dice", "centroid_distance"])
    assert {record.label for record in result.records} == {3, "mean"}
    mask[:] = 0
    mask[1] = 1
    with pytest.raises(InputError, match="nothing but the background, 0 where voxels count"):
        evaluated(arrays, mask=nifti(mask), losses=["dice"])


def test_the_centroid_is_that_of_the_voxels_that_count(arrays):
    mask = np.ones(SHAPE, np.uint8)
    mask[7:, :, :] = 0
    records = evaluated(arrays, mask=nifti(mask), losses=["centroid_distance"]).records
    # Of the first label x is 4 to 6 in one map and 5 to 6 in the other; the rest is left out.
    assert records[0].value == pytest.approx(0.5 * 1.5, rel=1e-4)


def test_masks_that_leave_nothing_are_refused(arrays):
    nothing, left, right = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    left[:8], right[8:] = 1, 1
    with pytest.raises(InputError, match="moving mask <in memory> leaves no voxel"):
        evaluated(arrays, moving_mask=nifti(nothing))
    with pytest.raises(InputError, match=r"No voxel counts in the images: fixed mask .*, moving mask"):
        evaluated(arrays, fixed_mask=nifti(left), moving_mask=nifti(right))
    arrays["fixed"][:] = np.nan
    with pytest.raises(InputError, match=r"No voxel counts in the images: 3360 of fixed image"):
        evaluated(arrays, nan_is_masked=True)


def test_a_mask_lies_on_the_images_grid(arrays):
    with pytest.raises(InputError, match=r"mask .*different shapes"):
        evaluated(arrays, mask=nifti(box()[1:]))
    moved = AFFINE.copy()
    moved[0, 3] = 9
    with pytest.raises(InputError, match=r"mask .*different grids: origin"):
        evaluated(arrays, mask=nifti(box(), moved))


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_masks_on_every_backend(arrays, backend):
    arrays["moved"][0] = np.nan
    options = {"mask": nifti(box()), "nan_is_masked": True}
    found, expected = evaluated(arrays, backend=backend, **options), evaluated(arrays, **options)
    assert values(found) == pytest.approx(values(expected), rel=1e-5)


def test_many_pairs_have_masks_in_columns(arrays, tmp_path):
    for name, array in {**arrays, "mask": box(), "moving_mask": np.roll(box(), 1, 0)}.items():
        nib.save(nifti(array), tmp_path / f"{name}.nii")
    (tmp_path / "pairs.csv").write_text("fixed,moved,mask,moving_mask\nfixed.nii,moved.nii,mask.nii,moving_mask.nii\n")
    columns, (pair,) = pairs.read_pairs(tmp_path / "pairs.csv")
    assert columns == ("fixed", "moved", "mask", "moving_mask")
    result = evaluate_pair(**pair.paths)
    names = ("fixed", "moved", "mask", "moving_mask")
    assert values(result) == values(evaluate_pair(**{name: tmp_path / f"{name}.nii" for name in names}))
    assert values(result) != values(evaluate_pair(tmp_path / "fixed.nii", tmp_path / "moved.nii"))
