"""From NIfTI files to records: what is read, scaled, refused and computed."""

import itertools
import json
import math
import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import agnoreg
from agnoreg.evaluate import evaluation
from agnoreg.evaluate.evaluation import InputError, evaluate_pair, parse_loss, to_csv, to_json
from agnoreg.evaluate.nifti import Intensities, grid_difference, open_volume, read_field, read_image, read_labels
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelation,
)
from agnoreg.loss.label import CrossEntropy, DiceScore, JaccardIndex, SumSquaredDifference, compute_centroid_distance

AFFINE = np.array([[1.5, 0.1, 0, -20], [-0.1, 2, 0.2, 7], [0, -0.2, 3, 11], [0, 0, 0, 1]])
SHAPE = (11, 12, 13)
NAMES = ["gmi", "lncc", "gncc", "ssd", "dice", "jaccard", "cross-entropy", "gradient", "bending"]


@pytest.fixture
def save(tmp_path):
    """Write an array as NIfTI and return its path."""

    def save(name, stored, affine=AFFINE, slope=1, inter=0, dtype=None):
        image = nib.Nifti1Image(stored, affine, dtype=dtype)
        if (slope, inter) != (1, 0):
            image.header.set_slope_inter(slope, inter)  # The array is then written as it is.
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def pair(save, rng):
    """Two correlated images as files, and scaled as arrays."""
    fixed = rng.random(SHAPE).astype(np.float32) * 90 - 20
    moved = (0.5 * fixed + 20 * rng.random(SHAPE)).astype(np.float32)
    return (save("fixed.nii.gz", fixed), save("moved.nii", moved)), (scaled(fixed), scaled(moved))


@pytest.fixture
def labels(save):
    """Two label maps as files and as arrays; labels are sparse, and one is absent from the moved map."""
    fixed = np.zeros(SHAPE, np.int16)
    fixed[1:5, 2:8, 3:9] = 2
    fixed[6:9, 5:10, 5:12] = 1035
    moved = np.roll(fixed, (1, 0, 2), (0, 1, 2))
    fixed[0, 0, :4] = 41
    return (save("fixed_label.nii.gz", fixed), save("moved_label.nii.gz", moved)), (fixed, moved)


@pytest.fixture
def ddf(save, rng):
    """A displacement field as a file and as an array."""
    field = rng.standard_normal((*SHAPE, 3)).astype(np.float32)
    return save("ddf.nii.gz", field), field


def scaled(x):
    x = x.astype(np.float64)
    return ((x - x.min()) / (x.max() - x.min())).astype(np.float32)


def values(result):
    return {(record.metric, record.measured, record.label): record.value for record in result.records}


def close(value, expected, rel=1e-6):
    assert value == pytest.approx(float(np.asarray(expected).reshape(-1)[0]), rel=rel, abs=1e-12)


# --- values -----------------------------------------------------------------------------------------------------------


def test_every_image_metric_is_what_the_api_gives(pair):
    paths, arrays = pair
    result = evaluate_pair(*paths)
    metrics = (
        SumSquaredDifference(),
        GlobalNormalizedCrossCorrelation(convention="exact", squared=False),
        LocalNormalizedCrossCorrelation(convention="exact"),
        GlobalMutualInformation(),
    )
    assert [record.metric for record in result.records] == [type(metric).__name__ for metric in metrics]
    for record, metric in zip(result.records, metrics, strict=True):
        close(record.value, metric(*(array[None] for array in arrays)))
        assert (record.value_range, record.direction, record.identity_value) == (
            metric.value_range,
            metric.direction,
            metric.identity_value,
        )
        assert record.seconds > 0
        assert record.backend == "numpy"


def test_every_label_metric_is_what_the_api_gives(pair, labels):
    paths, (fixed, moved) = labels
    result = evaluate_pair(*pair[0], fixed_label=paths[0], moved_label=paths[1])
    found = values(result)
    sizes = np.linalg.norm(AFFINE[:3, :3], axis=0)
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, sizes, strict=True)), indexing="ij"), -1)[
        None
    ]
    for which in (2, 41, 1035):
        masks = ((fixed == which)[None], (moved == which)[None])
        close(found["DiceScore", "labels", which], DiceScore(binary=True)(*masks))
        close(found["JaccardIndex", "labels", which], JaccardIndex(binary=True)(*masks))
        if which != 41:
            distance = compute_centroid_distance(*(mask.astype(np.float64) for mask in masks), grid)
            close(found["compute_centroid_distance", "labels", which], distance, rel=1e-5)
    for metric in ("DiceScore", "JaccardIndex"):
        mean = sum(found[metric, "labels", which] for which in (2, 41, 1035)) / 3
        assert found[metric, "labels", "mean"] == pytest.approx(mean)
    assert not [key for key in found if key[2] == 0]
    assert "background label 0 left out." in result.notes


def test_a_label_absent_from_one_map_scores_0_and_has_no_centroid_distance(pair, labels):
    paths, _ = labels
    result = evaluate_pair(*pair[0], fixed_label=paths[0], moved_label=paths[1])
    found = values(result)
    assert found["DiceScore", "labels", 41] < 1e-5
    assert found["JaccardIndex", "labels", 41] < 1e-5
    assert math.isnan(found["compute_centroid_distance", "labels", 41])
    both = [found["compute_centroid_distance", "labels", which] for which in (2, 1035)]
    assert found["compute_centroid_distance", "labels", "mean"] == pytest.approx(sum(both) / 2)
    assert any("absent from the moved label map: 41" in warning for warning in result.warnings)


@pytest.mark.parametrize("layout", ["4-D", "5-D"])
@pytest.mark.parametrize("units", ["voxel", "mm"])
def test_a_field_is_read_in_both_layouts_and_units(save, pair, ddf, layout, units):
    stored = ddf[1] * (np.linalg.norm(AFFINE[:3, :3], axis=0) if units == "mm" else 1)
    path = save("field.nii.gz", stored.astype(np.float32).reshape((*SHAPE, 3) if layout == "4-D" else (*SHAPE, 1, 3)))
    found = values(evaluate_pair(*pair[0], ddf=path, ddf_units=units))
    sizes = np.linalg.norm(AFFINE[:3, :3], axis=0)
    in_mm = (ddf[1] * sizes).astype(np.float32)[None]
    close(found["GradientNorm", "field", None], GradientNorm(spacing=sizes)(in_mm))
    close(found["BendingEnergy", "field", None], BendingEnergy(spacing=sizes)(in_mm))
    found = values(evaluate_pair(*pair[0], ddf=path, ddf_units=units, regulariser_units="voxel"))
    close(found["GradientNorm", "field", None], GradientNorm()(ddf[1][None]))
    close(found["BendingEnergy", "field", None], BendingEnergy()(ddf[1][None]))


def test_the_cli_equals_the_api_on_an_anisotropic_volume(save, rng):
    """A 4 x 5 x 6 volume of voxels of 1 x 2 x 3 mm: axis i, component i and spacing i belong together."""
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    fixed, moved = (rng.random((4, 5, 6)).astype(np.float32) for _ in range(2))
    field = rng.standard_normal((4, 5, 6, 3)).astype(np.float32)
    label = np.zeros((4, 5, 6), np.uint8)
    label[0, 0, 0] = 1
    shifted = np.zeros((4, 5, 6), np.uint8)
    shifted[1, 2, 2] = 1
    files = {
        name: save(f"{name}.nii.gz", array, affine)
        for name, array in (("fixed", fixed), ("moved", moved), ("label", label), ("shifted", shifted))
    }
    result = evaluate_pair(
        files["fixed"],
        files["moved"],
        fixed_label=files["label"],
        moved_label=files["shifted"],
        ddf=save("ddf.nii.gz", field * np.float32([1, 2, 3]), affine),
        ddf_units="mm",
    )
    found = values(result)
    images = (scaled(fixed)[None], scaled(moved)[None])
    exact = LocalNormalizedCrossCorrelation(convention="exact")
    close(found["LocalNormalizedCrossCorrelation", "images", None], exact(*images))
    in_mm = field[None] * np.float32([1, 2, 3])
    close(found["GradientNorm", "field", None], GradientNorm(spacing=(1, 2, 3))(in_mm))
    # One voxel, two voxels of 2 mm, two voxels of 3 mm; the API's own small constant moves the centroids by 1e-5.
    assert found["compute_centroid_distance", "labels", 1] == pytest.approx(math.sqrt(1 + 16 + 36), rel=1e-4)
    assert any("BendingEnergy left out" in note and "5 voxels" in note for note in result.notes)
    with pytest.raises(InputError, match="5 voxels"):
        evaluate_pair(files["fixed"], files["moved"], ddf=save("d.nii.gz", field, affine), losses=["bending"])


def test_every_metric_differs_from_all_others(pair, labels, ddf):
    """Whatever name is asked for, no other metric would print the same number."""
    paths, _ = labels
    sources = {"fixed_label": paths[0], "moved_label": paths[1], "ddf": ddf[0]}
    result = evaluate_pair(*pair[0], **sources, losses=NAMES)
    found = [value for key, value in values(result).items() if key[2] in (None, 2)]
    assert len(found) == 10
    for a, b in itertools.combinations(found, 2):
        assert abs(a - b) > 1e-4


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("gmi", GlobalMutualInformation),
        ("lncc", LocalNormalizedCrossCorrelation),
        ("gncc", GlobalNormalizedCrossCorrelation),
        ("ssd", SumSquaredDifference),
        ("dice", DiceScore),
        ("jaccard", JaccardIndex),
        ("cross-entropy", CrossEntropy),
        ("gradient", GradientNorm),
        ("bending", BendingEnergy),
    ],
)
def test_a_name_gives_the_metric_in_its_natural_sign(pair, labels, ddf, name, metric):
    (fixed_label, moved_label), _ = labels
    result = evaluate_pair(*pair[0], fixed_label=fixed_label, moved_label=moved_label, ddf=ddf[0], losses=[name])
    assert {record.metric for record in result.records} == {metric.__name__}
    for record in result.records:
        assert record.value >= 0
        assert record.direction == metric().direction
        low, high = record.value_range
        assert low <= record.value <= high


def test_the_names_are_registered():
    assert set(NAMES) < set(agnoreg.registered_losses())


def test_a_class_name_is_used_as_it_is(pair):
    loss, metric = evaluate_pair(*pair[0], losses=["LocalNormalizedCrossCorrelationLoss", "lncc"]).records
    assert loss.metric == "LocalNormalizedCrossCorrelationLoss"
    assert loss.value == -metric.value
    assert (loss.direction, metric.direction) == ("lower", "higher")


def test_arguments_and_loss_objects(pair):
    paths, arrays = pair
    result = evaluate_pair(
        *paths,
        losses=[
            "lncc:kernel_size=5,kernel_type=gaussian",
            LocalNormalizedCrossCorrelation(kernel_size=3),
            "gmi:num_bins=7",
        ],
    )
    batch = [array[None] for array in arrays]
    five, three, bins = result.records
    close(five.value, LocalNormalizedCrossCorrelation(kernel_size=5, kernel_type="gaussian")(*batch))
    close(three.value, LocalNormalizedCrossCorrelation(kernel_size=3)(*batch))
    close(bins.value, GlobalMutualInformation(num_bins=7)(*batch))
    assert five.arguments == {"kernel_size": 5, "kernel_type": "gaussian"}
    assert three.arguments == {"kernel_size": 3}


def test_ssd_is_computed_on_images_and_on_labels(pair, labels):
    paths, (fixed, moved) = labels
    found = values(evaluate_pair(*pair[0], fixed_label=paths[0], moved_label=paths[1], losses=["ssd"]))
    close(found["SumSquaredDifference", "images", None], SumSquaredDifference()(*(x[None] for x in pair[1])))
    close(found["SumSquaredDifference", "labels", 2], np.mean((fixed == 2) != (moved == 2)))
    assert len(found) == 5


@pytest.mark.parametrize("name", ["torch", "tensorflow", "array_api_strict"])
def test_every_backend_gives_the_same_numbers(pair, labels, ddf, name):
    paths, _ = labels
    sources = {"fixed_label": paths[0], "moved_label": paths[1], "ddf": ddf[0]}
    expected = evaluate_pair(*pair[0], **sources)
    found = evaluate_pair(*pair[0], **sources, backend=name)
    assert found.backend == name
    assert "cpu" in found.device.lower()
    for a, b in zip(expected.records, found.records, strict=True):
        assert (a.metric, a.label, b.backend) == (b.metric, b.label, name)
        assert b.value == pytest.approx(a.value, rel=1e-6, abs=1e-12, nan_ok=True)


def test_images_that_nibabel_holds_in_memory(pair):
    images = [nib.load(path) for path in pair[0]]
    held = [nib.Nifti1Image(np.asarray(image.dataobj), image.affine) for image in images]
    expected = values(evaluate_pair(*pair[0]))
    assert values(evaluate_pair(*images)) == expected
    result = evaluate_pair(*held)
    assert values(result) == expected
    assert result.inputs[0].path == "<in memory>"
    with pytest.raises(InputError, match="MGHImage is not a NIfTI image"):
        evaluate_pair(nib.MGHImage(np.zeros(SHAPE, np.float32), AFFINE), images[1])


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_scaling_is_said_with_the_range(save):
    fixed = np.linspace(-1000, 3000, math.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
    moved = np.full(SHAPE, 7, np.uint8)
    result = evaluate_pair(save("a.nii", fixed), save("b.nii.gz", moved), losses=["ssd"])
    assert result.notes[:2] == (
        "fixed image scaled from [-1000, 3000] to [0, 1].",
        "moved image constant, 7: set to 0.",
    )
    close(result.records[0].value, np.mean(scaled(fixed).astype(np.float64) ** 2))


def test_no_scale_takes_the_values_as_they_are(save):
    fixed, moved = np.full(SHAPE, 5, np.uint8), np.full(SHAPE, 2, np.uint8)
    result = evaluate_pair(save("a.nii", fixed), save("b.nii", moved), scale=False)
    assert values(result)["SumSquaredDifference", "images", None] == 9
    assert result.notes[:2] == (
        "fixed image not scaled; its range is [5, 5].",
        "moved image not scaled; its range is [2, 2].",
    )
    result = evaluate_pair(save("a.nii", fixed), save("b.nii", moved), scale=False, losses=["gmi"])
    assert any("GlobalMutualInformation clips" in warning for warning in result.warnings)


def test_scl_slope_is_applied_to_an_image(save, rng):
    stored = rng.integers(0, 1000, SHAPE).astype(np.int16)
    path = save("a.nii.gz", stored, slope=0.25, inter=3)
    image, found = read_image(open_volume(path, "fixed image"), scale=False)
    np.testing.assert_allclose(image, stored * 0.25 + 3, rtol=1e-6)
    assert found == Intensities(
        pytest.approx(stored.min() * 0.25 + 3), pytest.approx(stored.max() * 0.25 + 3), False, 0
    )


def test_a_large_offset_keeps_its_digits(save, rng):
    """Scaled in float64, then rounded: float32 alone would see 8 levels here."""
    x = 1e8 + rng.random(SHAPE) * 64
    image, _ = read_image(open_volume(save("a.nii", x), "fixed image"))
    np.testing.assert_allclose(image, (x - x.min()) / (x.max() - x.min()), atol=1e-7)


def test_big_endian_files_are_read(tmp_path, rng):
    x = rng.integers(-50, 50, SHAPE).astype(">i2")
    nib.save(nib.Nifti1Image(x, AFFINE, header=nib.Nifti1Header(endianness=">")), tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii", "fixed image")
    np.testing.assert_array_equal(read_image(volume, scale=False)[0], x)
    found, occurring, _ = read_labels(volume)
    np.testing.assert_array_equal(found, x)
    assert found.dtype.isnative
    assert occurring == tuple(np.unique(x))


def test_nan_in_an_image_gives_nan(save, rng):
    fixed, moved = (rng.random(SHAPE).astype(np.float32) for _ in range(2))
    fixed[3, 4, 5] = np.nan
    result = evaluate_pair(save("a.nii.gz", fixed), save("b.nii.gz", moved))
    assert all(math.isnan(record.value) for record in result.records)
    assert any("1 voxels that are NaN" in warning for warning in result.warnings)
    image, found = read_image(open_volume(save("c.nii", fixed), "fixed image"))
    assert np.isnan(image).sum() == 1
    assert np.nanmin(image) == 0
    assert np.nanmax(image) == 1
    assert found.minimum == np.nanmin(fixed)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_a_finite_voxel_stays_so(save, value):
    path = save("a.nii", np.full(SHAPE, value, np.float32))
    image, found = read_image(open_volume(path, "fixed image"))
    assert not np.isfinite(image).any()
    assert math.isnan(found.minimum)
    assert not found.scaled


def test_infinite_voxels_do_not_set_the_range(save, rng):
    x = rng.random(SHAPE).astype(np.float32)
    x[0, 0, :2] = np.inf, -np.inf
    image, found = read_image(open_volume(save("a.nii", x), "fixed image"))
    assert np.isinf(image).sum() == 2
    assert image[np.isfinite(image)].max() == 1
    assert found.not_finite == 2


def test_slabs_read_what_one_piece_reads(save, rng, monkeypatch):
    image, field = rng.random(SHAPE), rng.standard_normal((*SHAPE, 1, 3))
    label = rng.integers(0, 4, SHAPE).astype(np.float32)
    volumes = [
        open_volume(save(f"{i}.nii.gz", x), "x", components=3 if x.ndim == 5 else 0)
        for i, x in enumerate((image, field, label))
    ]
    reads = (lambda v: read_image(v)[0], lambda v: read_field(v, in_mm=True), lambda v: read_labels(v)[0])
    whole = [read(volume) for read, volume in zip(reads, volumes, strict=True)]
    monkeypatch.setattr("agnoreg.evaluate.nifti.SLAB", 100)
    for read, volume, expected in zip(reads, volumes, whole, strict=True):
        np.testing.assert_array_equal(read(volume), expected)


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_the_stored_integers(save, labels):
    for path, array in zip(*labels, strict=True):
        found, occurring, warning = read_labels(open_volume(path, "fixed label"))
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, array)
        assert occurring == tuple(np.unique(array))
        assert not warning


def test_labels_scaled_to_almost_integers_are_rounded_with_a_warning(save, pair):
    stored = np.zeros(SHAPE, np.int16)
    stored[2:5] = 255
    stored[5:8] = 510
    # The file holds the float32 next to 1/255, so 510 stands for 2 and 5e-8.
    path = save("label.nii.gz", stored, slope=1 / 255)
    found, occurring, warning = read_labels(open_volume(path, "fixed label"))
    assert occurring == (0, 1, 2)
    assert found.dtype.kind == "i"
    np.testing.assert_array_equal(found, stored // 255)
    assert "scl_slope 0.0039215" in warning
    assert "rounded" in warning
    result = evaluate_pair(*pair[0], fixed_label=path, moved_label=path)
    assert values(result)["DiceScore", "labels", 2] == 1
    assert len([text for text in result.warnings if "rounded" in text]) == 2


def test_labels_scaled_elsewhere_are_refused_with_the_values(save):
    stored = np.zeros(SHAPE, np.int16)
    stored[2:5] = 3
    path = save("label.nii.gz", stored, slope=0.5)
    with pytest.raises(InputError, match=r"fixed label .*label\.nii\.gz is no label map.*\(1\.5\)"):
        read_labels(open_volume(path, "fixed label"))


def test_probabilities_are_refused_with_the_values(save, pair, labels):
    probability = np.zeros(SHAPE, np.float32)
    probability[1, 1, :7] = 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875
    path = save("probability.nii.gz", probability)
    with pytest.raises(InputError, match=r"moved label .*0\.125, 0\.25, 0\.375, 0\.5, 0\.625 and 2 more"):
        evaluate_pair(*pair[0], fixed_label=labels[0][0], moved_label=path)


def test_nearly_integral_floats_are_labels(save, labels):
    """A mask of 0.9999 (spinalcordtoolbox issue 428) is the label 1, not the label 0."""
    mask = np.where(labels[1][0] == 2, 0.9999, 0).astype(np.float32)
    found, occurring, warning = read_labels(open_volume(save("mask.nii.gz", mask), "fixed label"))
    assert occurring == (0, 1)
    assert found.sum() == (labels[1][0] == 2).sum()
    assert "at most 0.0001 away" in warning
    _, occurring, warning = read_labels(
        open_volume(save("float.nii.gz", labels[1][0].astype(np.float64)), "fixed label")
    )
    assert (occurring, warning) == ((0, 2, 41, 1035), "")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_values_that_no_label_has_are_refused(save, value):
    x = np.zeros(SHAPE, np.float32)
    x[0, 0, 0] = value
    with pytest.raises(InputError, match=r"is no label map.*\((nan|inf|1e\+12)\)"):
        read_labels(open_volume(save("a.nii", x), "fixed label"))


def test_an_image_taken_for_labels_is_warned_of(save, pair):
    """A probability map is often stored as 0..255: these are integers, and hardly labels."""
    path = save("probability.nii.gz", (np.arange(math.prod(SHAPE)) % 256).astype(np.uint8).reshape(SHAPE))
    result = evaluate_pair(*pair[0], fixed_label=path, moved_label=path, losses=["dice"])
    assert len([warning for warning in result.warnings if "holds 256 values" in warning]) == 2


def test_two_empty_label_maps_are_refused(save, pair):
    path = save("empty.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="nothing but the background"):
        evaluate_pair(*pair[0], fixed_label=path, moved_label=path)


def test_negative_and_large_labels(save, pair):
    x = np.zeros(SHAPE, np.int64)
    x[1], x[2] = -3, 2**40
    path = save("label.nii.gz", x, dtype=np.int64)
    found = values(evaluate_pair(*pair[0], fixed_label=path, moved_label=path))
    assert found["DiceScore", "labels", -3] == found["DiceScore", "labels", 2**40] == 1


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype", "slope"),
    [
        ("a.nii.gz", np.uint8, 1),
        ("a.nii.gz", np.float64, 1),
        ("a.nii", np.float64, 1),
        ("a.nii.gz", np.int16, 0.5),
    ],
)
def test_a_pair_takes_at_most_three_times_its_float32_size(save, name, dtype, slope):
    shape = (160, 150, 140)
    array = (np.arange(math.prod(shape)) % 100).reshape(shape).astype(dtype)
    path = save(name, array, slope=slope)
    del array
    tracemalloc.start()
    read = [read_image(open_volume(path, role))[0] for role in ("fixed image", "moved image")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 3 * sum(image.nbytes for image in read)
    assert {image.dtype for image in read} == {np.dtype(np.float32)}


def test_many_labels_take_no_one_hot(save):
    """Thirty labels: at most three copies of the volume in float32, beside the two images and the two maps."""
    shape = (160, 150, 140)
    array = (np.arange(math.prod(shape)) // (math.prod(shape) // 30)).astype(np.int16).reshape(shape)
    image = save("image.nii.gz", array.astype(np.float32))
    path = save("label.nii.gz", array)
    tracemalloc.start()
    result = evaluate_pair(image, image, fixed_label=path, moved_label=path, losses=["dice"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.records) == 29 + 1
    float32 = math.prod(shape) * 4
    assert peak < 2 * array.nbytes + 2 * float32 + 3 * float32 < 2 * 30 * math.prod(shape)


# --- grids ------------------------------------------------------------------------------------------------------------


def test_rounding_in_a_header_passes_silently(save, pair):
    _, (fixed, moved) = pair
    affine = AFFINE.copy()
    affine[:3, 3] += 1e-5
    affine[:3, :3] *= 1 + 1e-6
    result = evaluate_pair(save("a.nii.gz", fixed), save("b.nii.gz", moved, affine))
    assert not result.warnings
    assert 0 < result.inputs[1].grid_difference.voxels < 1e-3


@pytest.mark.parametrize(
    ("change", "field", "numbers"),
    [
        ("origin", "origin", ("-20", "-19.25")),
        ("size", "voxel size", ("1.5", "1.8")),
        ("turn", "direction", ("0.995", "0.99")),
    ],
)
def test_different_grids_are_refused_by_field_with_both_values(save, pair, change, field, numbers):
    _, (fixed, moved) = pair
    affine = AFFINE.copy()
    if change == "origin":
        affine[0, 3] += 0.75
    elif change == "size":
        affine[:3, 0] *= 1.2
    else:
        c, s = math.cos(0.05), math.sin(0.05)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
        affine[:3, 3] = AFFINE[:3, 3]
    paths = save("a.nii.gz", fixed), save("b.nii.gz", moved, affine)
    with pytest.raises(
        InputError, match=rf"fixed image .*a\.nii\.gz and moved image .*b\.nii\.gz.*grids: {field}"
    ) as caught:
        evaluate_pair(*paths)
    message = str(caught.value)
    for number in numbers:
        assert number in message
    for other in {"origin", "voxel size", "direction"} - {field}:
        assert other not in message
    corners = np.array([[i, j, k, 1] for i in (-0.5, 10.5) for j in (-0.5, 11.5) for k in (-0.5, 12.5)])
    shift = corners @ (affine - AFFINE).T[:, :3]
    mm = np.linalg.norm(shift, axis=1).max()
    voxels = np.abs(shift @ np.linalg.inv(AFFINE[:3, :3]).T).max()
    assert f"up to {mm:.4g} mm, {voxels:.4g} voxels apart" in message
    assert "--affine-tol" in message
    tolerant = evaluate_pair(*paths, affine_tol=voxels * 1.01)
    assert not tolerant.warnings
    ignoring = evaluate_pair(*paths, ignore_affine=True)
    assert any("ignored" in warning and field in warning for warning in ignoring.warnings)
    assert ignoring.affine_tolerance is None
    assert values(tolerant) == values(ignoring)


def test_the_grids_of_labels_and_fields_are_compared_too(save, pair, labels, ddf):
    affine = AFFINE.copy()
    affine[2, 3] += 5
    (fixed, _), (array, _) = labels
    with pytest.raises(InputError, match=r"moved label .*different grids: origin"):
        evaluate_pair(*pair[0], fixed_label=fixed, moved_label=save("x.nii", array, affine))
    with pytest.raises(InputError, match=r"ddf .*different grids: origin"):
        evaluate_pair(*pair[0], ddf=save("y.nii", ddf[1], affine))


def test_shapes_are_compared_before_grids_and_never_broadcast(save, pair, labels, ddf):
    smaller = save("small.nii.gz", np.zeros((11, 12, 1), np.float32))
    with pytest.raises(InputError, match=r"\(11, 12, 13\) and \(11, 12, 1\)"):
        evaluate_pair(pair[0][0], smaller, ignore_affine=True)
    with pytest.raises(InputError, match=r"fixed label .*\(11, 12, 13\) and \(11, 12, 1\)"):
        evaluate_pair(*pair[0], fixed_label=smaller, moved_label=labels[0][1])
    with pytest.raises(InputError, match=r"ddf .*\(11, 12, 13\) and \(4, 4, 4\)"):
        evaluate_pair(*pair[0], ddf=save("d.nii", np.zeros((4, 4, 4, 3), np.float32)))


def test_one_voxel_has_a_grid_too(save):
    volumes = [
        open_volume(save(f"{size}.nii", np.zeros((1, 1, 1), np.float32), np.diag([size, 1, 1, 1])), "x")
        for size in (1, 2)
    ]
    difference = grid_difference(*volumes)
    assert difference.voxels == difference.mm == 0.5
    assert difference.fields == "voxel size (1, 1, 1) and (2, 1, 1)"


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(11, 12, 13, 2), (11, 12, 13, 1, 3), (11, 12, 13, 3)])
def test_only_3_d_images(save, pair, shape):
    path = save("other.nii.gz", np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=rf"moved image .*has shape .*, {len(shape)}-D, where a 3-D volume"):
        evaluate_pair(pair[0][0], path)


def test_further_axes_of_size_1_are_dropped(save, pair):
    paths, (fixed, _) = pair
    for shape in ((*SHAPE, 1), (*SHAPE, 1, 1)):
        again = save("again.nii.gz", fixed.reshape(shape))
        assert values(evaluate_pair(again, paths[1])) == pytest.approx(values(evaluate_pair(*paths)), rel=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 2), (3, *SHAPE), (*SHAPE, 3, 1), (*SHAPE, 2, 3), (*SHAPE, 1, 1, 3)])
def test_only_fields_of_three_components(save, pair, shape):
    path = save("ddf.nii.gz", np.zeros(shape, np.float32))
    with pytest.raises(InputError, match=r"ddf .*has shape .* where \(X, Y, Z, 3\) or \(X, Y, Z, 1, 3\) belongs"):
        evaluate_pair(*pair[0], ddf=path)


def test_colours_and_complex_numbers_are_refused(save, pair):
    colours = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    for name, array in (("rgb.nii.gz", colours), ("complex.nii.gz", np.zeros(SHAPE, np.complex64))):
        with pytest.raises(InputError, match="where real numbers belong"):
            evaluate_pair(save(name, array), pair[0][1])


def test_an_affine_that_has_no_inverse_is_refused(save, pair):
    image = nib.Nifti1Image(pair[1][0], None)
    image.header.set_sform(np.diag([0.0, 1, 1, 1]), code=1)
    path = pair[0][0].with_name("flat.nii")
    nib.save(image, path)
    with pytest.raises(InputError, match="cannot be inverted"):
        evaluate_pair(path, pair[0][1])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ddf_units": "cm"}, "'voxel' or 'mm'"),
        ({"affine_tol": -1.0}, "0 or more"),
        ({"affine_tol": math.nan}, "0 or more"),
        ({"losses": ["lnc"]}, "Unknown loss 'lnc'. Did you mean 'lncc'"),
        ({"losses": ["lncc:kernel_siz=3"]}, "has no argument 'kernel_siz'. Did you mean 'kernel_size'"),
        ({"losses": ["lncc:kernel_size=0"]}, "kernel_size must be"),
        ({"losses": ["lncc:kernel_size=abc"]}, "kernel_size must be a number"),
        ({"losses": ["lncc:kernel_size=[9,true,3]"]}, "kernel_size must be a number"),
        ({"losses": ["lncc:kernel_size=[9,3]"]}, "an integer, or one for each of 3 axes"),
        ({"losses": ["lncc:kernel_size=" + "[" * 9999]}, "kernel_size must be a number"),
        ({"losses": ["lncc:smooth_nr=[1,2]"]}, "smooth_nr must be"),
        ({"losses": ["bending:spacing=[1,1]"]}, "spacing"),
        ({"losses": ["ssd:rescale=1"]}, "rescale must be true or false"),
        ({"losses": ["centroid_distance:spacing=1"]}, "takes no arguments"),
        ({"losses": ["centroid_distance"]}, "compute_centroid_distance needs --fixed-label"),
        ({"losses": ["gncc"], "convention": "monai"}, "no convention 'monai'"),
        ({"convention": "nobody"}, "--convention must be one of exact, deepreg, monai, voxelmorph, ants"),
        ({"regulariser_units": "cm"}, "--regulariser-units must be 'voxel' or 'mm'"),
        ({"losses": ["lncc:kernel_size"]}, "expected NAME:key=value"),
        ({"losses": ["lncc:kernel_size=3,kernel_size=5"]}, "occurs twice"),
        ({"losses": ["lncc:weight=3"]}, "no place"),
        ({"losses": ["gradient:l1=maybe"]}, "l1 must be true or false"),
        ({"losses": ["WeightedLoss"]}, "combines losses"),
        ({"losses": ["dice"]}, "DiceScore needs --fixed-label and --moved-label"),
        ({"losses": ["bending"]}, "BendingEnergy needs --ddf"),
        ({"backend": "nonesuch"}, "Unknown backend 'nonesuch'"),
        ({"device": "nonesuch"}, "The backend numpy cannot use the device 'nonesuch'"),
    ],
)
def test_arguments_that_do_not_fit(pair, keywords, message):
    with pytest.raises(InputError, match=message):
        evaluate_pair(*pair[0], **keywords)


@pytest.mark.parametrize("role", ["fixed", "moved"])
def test_a_label_map_needs_its_partner(pair, labels, role):
    with pytest.raises(InputError, match=f"A {role} label map was given without"):
        evaluate_pair(*pair[0], **{f"{role}_label": labels[0][0]})


def test_an_unexpected_failure_names_the_metric(pair):
    class Broken(agnoreg.Loss):
        def call(self, y_true, y_pred):
            raise MemoryError("no room")

    with pytest.raises(InputError, match="Broken failed on numpy: MemoryError: no room"):
        evaluate_pair(*pair[0], losses=[Broken()])


# --- what is parsed and written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lncc", ("lncc", {})),
        ("lncc:", ("lncc", {})),
        ("lncc:kernel_size=7", ("lncc", {"kernel_size": 7})),
        ("a:x=1.5,y=true,z=False,w=null,v=None,u=text", ("a", dict(x=1.5, y=True, z=False, w=None, v=None, u="text"))),
        ("DiceLoss:scales=[0,1,2],kernel=cauchy", ("DiceLoss", {"scales": [0, 1, 2], "kernel": "cauchy"})),
        ("lncc: kernel_size = 7, smooth_nr=1e-3", ("lncc", {"kernel_size": 7, "smooth_nr": 1e-3})),
    ],
)
def test_parse_loss(text, expected):
    assert parse_loss(text) == expected


def test_json_is_valid_where_numbers_are_not(pair, labels):
    (fixed, moved), _ = labels
    result = evaluate_pair(*pair[0], fixed_label=fixed, moved_label=moved)

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(to_json(result), parse_constant=refuse)
    assert [entry["metric"] for entry in content["metrics"]] == [record.metric for record in result.records]
    for entry, record in zip(content["metrics"], result.records, strict=True):
        assert entry["value"] == (record.value if math.isfinite(record.value) else None)
        assert entry["infinite"] == (["value"] if math.isinf(record.value) else [])
    absent = [entry for entry in content["metrics"] if entry["label"] == 41 and entry["unit"] == "mm"]
    assert [(entry["value"], entry["infinite"]) for entry in absent] == [(None, []), *[(None, ["value"])] * 3]
    assert absent[0]["value_range"] == [0.0, None]
    assert content["backend"] == "numpy"
    assert set(content["versions"]) == {"python", "agnoreg", "numpy", "nibabel"}
    first = content["inputs"][0]
    assert first["role"] == "fixed image"
    assert first["shape"] == list(SHAPE)
    assert first["intensities"]["scaled"] is True
    assert content["inputs"][2]["labels"] == [0, 2, 41, 1035]
    assert content["inputs"][1]["grid_difference"] == {"voxels": 0.0, "mm": 0.0, "fields": ""}


def test_csv_holds_every_digit(pair):
    result = evaluate_pair(*pair[0], losses=["lncc:kernel_size=5", "ssd"])
    header, *rows = [line.split(",") for line in to_csv(result).splitlines()]
    assert header[:4] == ["metric", "arguments", "measured", "label"]
    at = header.index("value")
    lncc = to_csv(replace(result, records=result.records[:1])).splitlines()[1]
    assert repr(result.records[0].value) in lncc
    assert float(rows[1][at]) == result.records[1].value


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    first, second = tmp_path / "a.json", tmp_path / "b.csv"
    first.write_text("before")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(InputError, match="disk full"):
            evaluation.write_files({first: "x", second: "y"})
    assert first.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    evaluation.write_files({first: "x", second: "y"})
    assert (first.read_text(), second.read_text()) == ("x", "y")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.csv"]


def test_a_link_to_an_output_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_text("before")
    (tmp_path / "link.json").symlink_to("real.json")
    evaluation.write_files({tmp_path / "link.json": "after"})
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "after"


def test_arguments_follow_a_colon():
    with pytest.raises(InputError, match="arguments follow a colon"):
        parse_loss("lncc,kernel_size=5")
