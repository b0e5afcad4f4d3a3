"""Lengths are mm, whatever unit of length a header has."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.nifti import grid_difference, open_volume, read_field

SHAPE = (6, 7, 8)
#: A grid in mm, oblique, of voxels of 50 x 100 x 150 microns.
AFFINE = np.array([[0.05, 0.004, 0, -2], [-0.002, 0.1, 0.012, 3], [0, -0.008, 0.15, 1], [0, 0, 0, 1]])
PER_MM = {"meter": 1e-3, "mm": 1.0, "micron": 1e3, "unknown": 1.0}
UNKNOWN = "no unit of length in the header of"


def image(array, unit, time="unknown", form="sform"):
    """Return an image of the grid above, whose header has it in a unit."""
    affine = AFFINE.copy()
    affine[:3] *= PER_MM[unit]
    made = nib.Nifti1Image(array, affine)
    made.header.set_xyzt_units(unit, time)
    if form == "qform":
        made.set_sform(None, 0)
        made.set_qform(made.affine, 1)
    return made


@pytest.fixture(params=["file", "packed file", "in memory", "opened by nibabel"])
def put(request, tmp_path):
    """Return an image as what `evaluate_pair` takes."""

    def put(name, image):
        if request.param == "in memory":
            return image
        path = tmp_path / f"{name}.nii{'.gz' if request.param.startswith('packed') else ''}"
        nib.save(image, path)
        return nib.load(path) if request.param.startswith("opened") else path

    return put


@pytest.fixture
def arrays(rng):
    return rng.random((2, *SHAPE)).astype(np.float32)


@pytest.fixture
def masks():
    """Return two labels of one voxel each, 1, 2 and 3 voxels apart, and their distances in mm.

    That of their centroids is the greatest of their corners, too, of which each has eight; the nearest one of the other
    voxel is a voxel less far along any axis from four of them.
    """
    masks = np.zeros((2, *SHAPE), np.uint8)
    masks[0, 1, 1, 1] = masks[1, 2, 3, 4] = 1
    corners = np.array(list(itertools.product((0, 1), (1, 2), (2, 3)))) * np.linalg.norm(AFFINE[:3, :3], axis=0)
    apart = np.linalg.norm(corners, axis=1)
    centroid, mean = float(apart.max()), float(apart.mean())
    return masks, {"compute_centroid_distance": centroid, "hd95": centroid, "masd": mean, "assd": mean}


@pytest.mark.parametrize("time", ["unknown", "sec", "msec", "usec", "hz"])
@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
def test_voxel_sizes_and_distances_are_mm_in_every_unit(put, arrays, masks, unit, time):
    (fixed_label, moved_label), distances = masks
    files = [put(name, image(array, unit, time)) for name, array in zip("fm", arrays, strict=True)]
    labels = [put(name, image(label, unit, time)) for name, label in zip("gn", (fixed_label, moved_label), strict=True)]
    result = evaluate_pair(*files, fixed_label=labels[0], moved_label=labels[1])
    assert result.inputs[0].voxel_size == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0), rel=1e-5)
    found = {record.metric: record.value for record in result.records if record.unit == "mm" and record.label == 1}
    # The library's own small constant moves a centroid by 1e-5 of its distance from 1.
    assert found == pytest.approx(distances, rel=1e-3)
    assert not [note for note in result.notes if note.startswith(UNKNOWN)]


@pytest.mark.parametrize("form", ["sform", "qform"])
@pytest.mark.parametrize("units", [("mm", "micron"), ("micron", "meter"), ("meter", "unknown")])
def test_one_grid_in_two_units_is_one_grid(put, arrays, units, form):
    volumes = [put(unit, image(array, unit, form=form)) for array, unit in zip(arrays, units, strict=True)]
    difference = evaluate_pair(*volumes, losses=["ssd"]).inputs[1].grid_difference
    assert difference.voxels < 1e-3
    assert difference.mm < 1e-4


@pytest.mark.parametrize("units", [("mm", "micron"), ("micron", "mm"), ("unknown", "meter")])
def test_grids_of_equal_numbers_in_other_units_are_refused(put, arrays, units):
    """A thousand times as large as the other, and the numbers in the two headers are the same."""
    volumes = []
    for array, unit in zip(arrays, units, strict=True):
        made = nib.Nifti1Image(array, AFFINE)
        made.header.set_xyzt_units(unit)
        volumes.append(put(unit, made))
    with pytest.raises(InputError, match=r"lie on different grids: origin .*, voxel size"):
        evaluate_pair(*volumes)


def test_an_unknown_unit_is_mm_and_said_once(put, arrays, masks):
    (fixed_label, moved_label), distances = masks
    files = [put(name, image(array, "unknown", "sec")) for name, array in zip("fm", arrays, strict=True)]
    labels = [put("g", image(fixed_label, "mm")), put("n", image(moved_label, "unknown"))]
    result = evaluate_pair(*files, fixed_label=labels[0], moved_label=labels[1])
    assert [note for note in result.notes if note.startswith(UNKNOWN)] == [
        f"{UNKNOWN} fixed image, moved image, moved label: taken as mm."
    ]
    found = {record.metric: record.value for record in result.records if record.unit == "mm" and record.label == 1}
    assert found == pytest.approx(distances, rel=1e-3)


@pytest.mark.parametrize("unit", list(PER_MM))
def test_a_field_in_mm_is_in_mm_whatever_the_unit_of_its_header(put, rng, unit):
    voxels = rng.standard_normal((*SHAPE, 3)).astype(np.float32)
    in_mm = (voxels * np.linalg.norm(AFFINE[:3, :3], axis=0)).astype(np.float32)
    volume = open_volume(put("ddf", image(in_mm, unit)), "ddf", components=3)
    assert np.allclose(read_field(volume, in_mm=True), voxels, rtol=1e-5)
    assert np.allclose(read_field(volume, in_mm=False), in_mm, rtol=1e-6)


def test_forms_that_differ_are_noted_and_those_that_do_not_are_not(tmp_path, arrays):
    """Which of the two is meant decides every distance in mm."""
    made = [nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1])) for array in arrays]
    for image_ in made:
        image_.header.set_xyzt_units("mm")
        image_.set_qform(image_.affine, 1)
    files = [tmp_path / "a.nii", tmp_path / "b.nii"]
    nib.save(made[0], files[0])
    nib.save(made[1], files[1])
    assert not [note for note in evaluate_pair(*files).notes if "differ" in note]
    made[0].set_qform(np.diag([1.0, 1, 1, 1]), 1)
    nib.save(made[0], files[0])
    made[1].set_qform(None, 0)
    made[1].header["pixdim"][1:4] = 1
    nib.save(made[1], files[1])
    result = evaluate_pair(*files)
    assert "sform and qform differ in fixed image: the sform counts." in result.notes
    assert "sform and pixdim differ in moved image: the sform counts." in result.notes
    assert result.inputs[0].voxel_size == (2, 2, 2)


def test_an_image_in_memory_without_an_affine_has_the_one_of_its_header(arrays):
    header = nib.Nifti1Header()
    header.set_xyzt_units("micron")
    made = nib.Nifti1Image(arrays[0], None, header)
    volumes = [open_volume(made, "x"), open_volume(nib.Nifti1Image(arrays[1], None), "y")]
    assert volumes[0].voxel_size == pytest.approx((1e-3, 1e-3, 1e-3))
    assert volumes[1].voxel_size == (1, 1, 1)
    assert grid_difference(*volumes).voxels > 1
