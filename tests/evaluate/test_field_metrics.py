"""The metrics of a field in an evaluation, and the forms in which fields are read: NumPy's files, ITK's vectors."""

import io
import math
import struct
import tracemalloc
import zipfile

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.field_arrays import open_field_array
from agnoreg.evaluate.nifti import open_volume, read_field
from agnoreg.metrics import folding, nondiffeomorphic_volume, sdlogj

SHAPE = (14, 12, 10)
SIZES = (1.0, 1.5, 3.0)
AFFINE = np.diag([*SIZES, 1.0])


def nifti(array, affine=AFFINE):
    return nib.Nifti1Image(array, affine)


@pytest.fixture
def field(rng):
    """A smooth field that folds in some places."""
    noise = rng.standard_normal((*SHAPE, 3))
    return np.stack([ndimage.gaussian_filter(noise[..., i], 1.2) * 6 for i in range(3)], -1).astype(np.float32)


@pytest.fixture
def evaluated(rng):
    images = [nifti(x) for x in rng.random((2, *SHAPE)).astype(np.float32)]

    def evaluated(ddf, **options):
        return evaluate_pair(*images, ddf=ddf if isinstance(ddf, nib.Nifti1Image | str) else nifti(ddf), **options)

    return evaluated


def values(result):
    return {record.metric: record.value for record in result.records if record.measured == "field"}


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_every_number_is_the_one_of_the_library(evaluated, field, masked):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:9, 3:, :7] = 1
    result = evaluated(field, **({"mask": nifti(mask)} if masked else {}))
    found, given = values(result), {"spacing": SIZES, "mask": mask[None] if masked else None}
    folds, volume, spread = (f(field[None], **given) for f in (folding, nondiffeomorphic_volume, sdlogj))
    assert folds.count[0] > 0
    assert found["folding_count"] == folds.count[0]
    assert found["folding_percent"] == 100 * folds.share[0]
    assert found["digital_folding_percent"] == 100 * folds.digital_share[0]
    assert found["jacobian_minimum"] == folds.minimum[0]
    assert (found["ndv"], found["ndv_percent"]) == (volume.volume[0], volume.percent[0])
    assert found["sdlogj"] == spread.value[0]
    record = next(record for record in result.records if record.metric == "sdlogj")
    assert record.counted == spread.voxels[0]
    left_out = f"SDlogJ: {int(spread.left_out[0])} of {record.counted} voxels left out, where det(J) is at most 0."
    assert left_out in result.notes


def test_a_field_of_zero_displacement_folds_nowhere(evaluated):
    found = values(evaluated(np.zeros((*SHAPE, 3), np.float32)))
    best = dict.fromkeys(found, 0.0) | {"jacobian_minimum": 1.0}
    assert found == best


def test_a_slice_has_a_share_and_no_volume(rng):
    flat = rng.standard_normal((12, 11, 1, 3)).astype(np.float32)
    flat[..., 2] = 0
    images = [nifti(x) for x in rng.random((2, 12, 11, 1)).astype(np.float32)]
    result = evaluate_pair(*images, ddf=nifti(flat))
    found = values(result)
    expected = nondiffeomorphic_volume(flat[:, :, 0, :2][None], spacing=SIZES[:2])
    assert found["ndv_percent"] == expected.percent[0]
    assert "ndv" not in found
    assert "NDV, volume left out: a slice has no volume but an area, of which there is the share." in result.notes


def learn2reg_field(field, mask=None):
    """Return the folds and the SDlogJ of the Learn2Reg evaluator, which adds 3 to a determinant of x + u(x)."""
    gradients = [
        [
            ndimage.correlate1d(field[..., i].astype(np.float64), [-0.5, 0, 0.5], axis=axis, mode="constant")
            for axis in range(3)
        ]
        for i in range(3)
    ]
    jacobian = np.moveaxis(np.array(gradients), (0, 1), (-2, -1)) + np.eye(3)
    determinant = np.clip(np.linalg.det(jacobian)[2:-2, 2:-2, 2:-2] + 3, 1e-9, 1e9)
    logarithm = np.log(determinant)
    if mask is not None:
        logarithm, determinant = (x[mask[2:-2, 2:-2, 2:-2] == 1] for x in (logarithm, determinant))
    return np.count_nonzero(determinant <= 0), logarithm.std()


@pytest.mark.parametrize("masked", [False, True])
def test_learn2reg_reproduces_the_evaluators_folds_and_sdlogj(evaluated, field, masked):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:10, 3:, :7] = 1
    options = {"mask": nifti(mask)} if masked else {}
    found = values(result := evaluated(field, convention="learn2reg", **options))
    folds, spread = learn2reg_field(field, mask if masked else None)
    assert found["folding_count"] == folds == 0
    assert found["sdlogj"] == pytest.approx(spread, rel=1e-6)
    own = values(evaluated(field, **options))
    line = next(note for note in result.notes if note.startswith("learn2reg differs from agnoreg's own definitions"))
    assert f"folded voxels is {own['folding_count']:.4g}, not 0" in line
    assert f"SDlogJ is {own['sdlogj']:.4g}, not {found['sdlogj']:.4g}" in line


def test_field_metrics_can_be_asked_for_by_name(evaluated, field):
    found = values(evaluated(field, losses=["folding", "sdlogj", "jacobian_maximum:convention=voxelmorph"]))
    assert list(found)[:6] == [
        "folding_count",
        "folding_percent",
        "digital_folding_percent",
        "jacobian_minimum",
        "jacobian_percentile1",
        "jacobian_maximum",
    ]
    with pytest.raises(InputError, match="sdlogj needs --ddf"):
        evaluate_pair(nifti(field[..., 0]), nifti(field[..., 1]), losses=["sdlogj"])
    with pytest.raises(InputError, match=r"--loss ndv: convention must be one of lumir, got 'learn2reg'"):
        evaluated(field, losses=["ndv"], convention="learn2reg")


# --- NumPy's files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8"])
@pytest.mark.parametrize("last", [False, True])
def test_fields_in_numpys_files_are_those_in_nifti(evaluated, field, tmp_path, ending, dtype, last):
    stored = (field if last else np.moveaxis(field, -1, 0)).astype(dtype)
    path = tmp_path / f"disp.{ending}"
    np.save(path, np.asfortranarray(stored)) if ending == "npy" else np.savez_compressed(path, stored)
    result = evaluated(str(path))
    assert values(result) == values(evaluated(field.astype(dtype).astype(np.float32)))
    assert "ddf has no header: its grid is the fixed image's." in result.notes
    assert result.inputs[2].stored_as == str(np.dtype(dtype))


@pytest.mark.parametrize("shape", [SHAPE, (13, 12, 9)])
def test_half_resolution_is_read_linearly(rng, shape):
    images = nifti(np.zeros(shape, np.float32))
    half = rng.standard_normal((3, *((size + 1) // 2 for size in shape))).astype(np.float16)
    volume = open_field_array(half, "ddf", open_volume(images, "fixed image"), 10**9)
    found = read_field(volume)
    factors = [n / m for n, m in zip(shape, half.shape[1:], strict=True)]
    expected = [ndimage.zoom(x.astype(np.float64), factors, order=1) for x in half]
    np.testing.assert_allclose(found, np.stack(expected, -1), atol=2e-6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 14, 12), "has shape (3, 14, 12), where the fixed image has 14 x 12 x 10 voxels"),
        ((3, 7, 12, 10), "of the image's size or of half of it along every axis"),
        ((2, 14, 12, 10), "(3, X, Y, Z), component i along axis i"),
    ],
)
def test_other_shapes_are_refused(evaluated, tmp_path, shape, message):
    np.save(tmp_path / "d.npy", np.zeros(shape, np.float32))
    with pytest.raises(InputError) as error:
        evaluated(str(tmp_path / "d.npy"))
    assert message in str(error.value)


def test_pickles_are_not_loaded(evaluated, tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    array = np.empty((3, *SHAPE), object)
    array[:] = None
    array[0, 0, 0, 0] = Trap()
    np.save(tmp_path / "d.npy", array, allow_pickle=True)
    np.savez(tmp_path / "d.npz", array)
    for name in ("d.npy", "d.npz"):
        with pytest.raises(InputError, match=r"holds Python objects .* which are not loaded"):
            evaluated(str(tmp_path / name))


def claimed(shape, dtype="<f4"):
    """Return the header of an array that is not there."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": dtype, "fortran_order": False, "shape": shape})
    return text.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_claims_beyond_the_file_are_refused_unread(evaluated, tmp_path, packed):
    huge = (3, 20000, 20000, 20000)
    path = tmp_path / ("d.npz" if packed else "d.npy")
    _written(path, claimed(huge) + bytes(100))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"its header claims 96000000000\d+ bytes"):
        evaluated(str(path))
    grid = (3, *SHAPE)
    _written(path, claimed(grid) + bytes(100))
    with pytest.raises(
        InputError, match=r"cannot be read, it may be truncated or damaged: its header claims \d+ bytes"
    ):
        evaluated(str(path))
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_packed_file_that_claims_more_than_its_bytes_can_hold_is_refused_unread(evaluated, tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, np.zeros((3, *SHAPE), np.float32))
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].file_size
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", size), struct.pack("<L", 0xF0000000)))
    with pytest.raises(InputError, match=r"claims 4026531840 bytes, and \d+ compressed bytes cannot hold as many"):
        evaluated(str(path))


def _written(path, content):
    if path.suffix == ".npy":
        path.write_bytes(content)
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", content)


def test_what_is_no_field_of_numpys_is_refused_in_one_line(evaluated, tmp_path):
    two = tmp_path / "two.npz"
    np.savez(two, a=np.zeros((3, *SHAPE)), b=np.zeros(3))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "complex.npy", np.zeros((3, *SHAPE), complex))
    packed = tmp_path / "packed.npz"
    np.savez_compressed(packed, np.random.default_rng(0).random((3, *SHAPE)))
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 255
    packed.write_bytes(content)
    for name, message in {
        "two.npz": r"holds 2 arrays \(a.npy, b.npy\), where a single field belongs",
        "text.npy": r"cannot be read as NumPy's .npy",
        "text.npz": r"cannot be read as NumPy's .npz",
        "complex.npy": "holds values of type complex128, where real numbers belong",
        "packed.npz": "cannot be read",
        "none.npz": "does not exist",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            evaluated(str(tmp_path / name))
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="see --max-voxels"):
        evaluate_pair(
            nifti(np.zeros((2, 2, 2), np.float32)),
            nifti(np.ones((2, 2, 2), np.float32)),
            ddf=np.zeros((3, 2, 2, 2)),
            max_voxels=7,
        )


# --- ITK's vectors ----------------------------------------------------------------------------------------------------


def rotated(angles=(0.3, -0.5, 1.1)):
    """Return an oblique affine whose second axis points back."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    affine = np.eye(4)
    affine[:3, :3] = matrix * (1.2, -0.8, 2.5)
    affine[:3, 3] = (-20, 13, 7)
    return affine


def test_itks_vectors_lead_to_the_same_points_under_a_rotated_affine(field):
    """A vector in LPS mm, added to a voxel's place in LPS mm, is the place to which the field in voxels leads."""
    affine = rotated()
    to_lps = np.diag([-1, -1, 1]) @ affine[:3, :3]
    vectors = (field.astype(np.float64) @ to_lps.T)[:, :, :, None].astype(np.float32)
    volume = open_volume(nifti(vectors, affine), "ddf", components=3)
    np.testing.assert_allclose(read_field(volume, frame="itk"), field, atol=1e-5)
    assert not np.allclose(read_field(volume, in_mm=True), field, atol=0.1)


def test_a_field_is_read_as_simpleitk_means_it(tmp_path, rng):
    sitk = pytest.importorskip("SimpleITK")
    affine = rotated()
    vectors = rng.standard_normal((*SHAPE, 3))
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(vectors, (0, 1, 2), (2, 1, 0))), isVector=True)
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((affine[:3, 3] * (-1, -1, 1)).tolist())
    sitk.WriteImage(image, str(tmp_path / "warp.nii.gz"))
    found = read_field(open_volume(tmp_path / "warp.nii.gz", "ddf", components=3), frame="itk")
    index = (5, 4, 6)
    start = np.array(image.TransformIndexToPhysicalPoint(index))
    end = image.TransformPhysicalPointToContinuousIndex((start + vectors[index]).tolist())
    np.testing.assert_allclose(found[index], np.subtract(end, index), atol=1e-4)
    # It is marked as vectors, and whoever reads it as if it were the array's is warned.
    images = [nifti(x, affine) for x in rng.random((2, *SHAPE)).astype(np.float32)]
    for frame, warned in (("itk", 0), ("array", 1)):
        result = evaluate_pair(*images, ddf=tmp_path / "warp.nii.gz", ddf_frame=frame, losses=["sdlogj"])
        assert sum("pass --ddf-frame itk" in text for text in result.warnings) == warned


def test_the_frame_of_a_field_is_array_or_itk(evaluated, field):
    result = evaluated(field * np.float32(SIZES) * np.float32([-1, -1, 1]), ddf_frame="itk")
    assert values(result) == pytest.approx(values(evaluated(field)), rel=1e-4)
    assert "ddf read in mm along the patient's axes (LPS), turned into voxels by the affine." in result.notes
    with pytest.raises(InputError, match="--ddf-frame must be 'array' or 'itk', got 'lps'"):
        evaluated(field, ddf_frame="lps")
