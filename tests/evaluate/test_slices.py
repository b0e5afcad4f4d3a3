"""A single slice, however it is stored, is evaluated in 2-D: no window meets zeros beyond the border."""

import nibabel as nib
import numpy as np
import pytest

from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.metric import Metric
from agnoreg.evaluate.nifti import open_volume, read_field, read_image, read_labels
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelation,
)
from agnoreg.loss.label import DiceLoss, DiceScore, JaccardIndex, SumSquaredDifference
from agnoreg.objects.loss import Loss

PLANE = (17, 14)
SIZES = (1.5, 2.0, 2.5)
NOTE = "one slice: evaluated as 2-D."
#: How a plane may be stored: the shape of the file, and the array axes along which the plane lies.
STORED = {
    "(X, Y)": (PLANE, (0, 1)),
    "(X, Y, 1)": ((*PLANE, 1), (0, 1)),
    "(X, 1, Z)": ((PLANE[0], 1, PLANE[1]), (0, 2)),
    "(1, Y, Z)": ((1, *PLANE), (1, 2)),
    "(X, Y, 1, 1)": ((*PLANE, 1, 1), (0, 1)),
}


@pytest.fixture(params=STORED)
def stored(request):
    return STORED[request.param]


@pytest.fixture
def save(tmp_path):
    def save(name, array):
        image = nib.Nifti1Image(array, np.diag([*SIZES, 1.0]))
        image.header.set_xyzt_units("mm")
        nib.save(image, tmp_path / f"{name}.nii.gz")
        return tmp_path / f"{name}.nii.gz"

    return save


@pytest.fixture
def planes(rng):
    """Two unrelated planes in [0, 1], which touch both ends."""
    planes = rng.random((2, *PLANE)).astype(np.float32)
    planes[:, 0, 0], planes[:, 0, 1] = 0, 1
    return planes


def values(result):
    return {(record.metric, record.label): record.value for record in result.records}


def test_a_slice_has_the_values_of_its_plane(save, stored, planes):
    shape, _ = stored
    result = evaluate_pair(*(save(name, plane.reshape(shape)) for name, plane in zip("fm", planes, strict=True)))
    found = values(result)
    for metric in (
        SumSquaredDifference(spatial_dims=2),
        GlobalNormalizedCrossCorrelation(convention="exact", squared=False, spatial_dims=2),
        LocalNormalizedCrossCorrelation(convention="exact", spatial_dims=2),
        GlobalMutualInformation(spatial_dims=2),
    ):
        expected = float(metric(*(plane[None] for plane in planes)))
        assert found[type(metric).__name__, None] == pytest.approx(expected, rel=1e-6)
    assert [note for note in result.notes if note == NOTE] == [NOTE]


@pytest.mark.filterwarnings("ignore:An axis of the image has one voxel")
def test_unrelated_slices_do_not_look_alike(save, planes):
    """As a volume of one plane, the zeros beyond it correlate: 0.85, where the planes have nothing in common."""
    paths = [save(name, plane[..., None]) for name, plane in zip("fm", planes, strict=True)]
    (record,) = evaluate_pair(*paths, losses=["lncc"]).records
    as_volume = float(LocalNormalizedCrossCorrelation()(*(plane[None, ..., None] for plane in planes)))
    assert record.value < 0.5 < as_volume


def test_a_volume_is_no_slice(save, rng):
    paths = [save(name, rng.random((5, 6, 2)).astype(np.float32)) for name in "fm"]
    assert NOTE not in evaluate_pair(*paths).notes


def test_labels_of_a_slice(save, stored, planes):
    shape, axes = stored
    masks = np.zeros((2, *PLANE), np.int16)
    masks[0, 3:9, 2:7], masks[1, 4:10, 4:9] = 7, 7
    images = [save(name, plane.reshape(shape)) for name, plane in zip("fm", planes, strict=True)]
    labels = [save(name, mask.reshape(shape)) for name, mask in zip("gn", masks, strict=True)]
    result = evaluate_pair(*images, fixed_label=labels[0], moved_label=labels[1])
    found = values(result)
    binary = [(mask == 7)[None] for mask in masks]
    for metric in (DiceScore, JaccardIndex):
        expected = float(metric(binary=True, spatial_dims=2)(*binary))
        assert found[metric.__name__, 7] == pytest.approx(expected, rel=1e-6)
    # A voxel along the first axis of the plane, two along its second.
    distance = np.hypot(SIZES[axes[0]], 2 * SIZES[axes[1]])
    assert found["compute_centroid_distance", 7] == pytest.approx(distance, rel=1e-4)
    scales = evaluate_pair(*images, fixed_label=labels[0], moved_label=labels[1], losses=["DiceLoss:scales=[0,1]"])
    assert values(scales)["DiceLoss", 7] == pytest.approx(
        float(DiceLoss(scales=[0, 1], spatial_dims=2)(*(mask.astype(np.float32) for mask in binary))), rel=1e-6
    )


@pytest.mark.parametrize("units", ["voxel", "mm"])
@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("layout", ["4-D", "5-D"])
def test_a_field_of_a_slice_has_its_two_components(save, stored, planes, rng, layout, components, units):
    shape, axes = stored
    shape = (*shape, 1)[:3]
    plane = rng.standard_normal((*PLANE, 2)).astype(np.float32)
    field = np.zeros((*PLANE, components), np.float32)
    field[..., list(axes) if components == 3 else [0, 1]] = plane * (
        [SIZES[axis] for axis in axes] if units == "mm" else [1, 1]
    )
    ddf = save("ddf", field.reshape((*shape, components) if layout == "4-D" else (*shape, 1, components)))
    images = [save(name, image.reshape(shape)) for name, image in zip("fm", planes, strict=True)]
    result = evaluate_pair(*images, ddf=ddf, ddf_units=units)
    in_voxels = values(evaluate_pair(*images, ddf=ddf, ddf_units=units, regulariser_units="voxel"))
    sizes = [SIZES[axis] for axis in axes]
    for metric in (GradientNorm, BendingEnergy):
        expected = float(metric(spatial_dims=2, spacing=sizes)((plane * sizes).astype(np.float32)[None]))
        assert values(result)[metric.__name__, None] == pytest.approx(expected, rel=1e-5)
        expected = float(metric(spatial_dims=2)(plane[None]))
        assert in_voxels[metric.__name__, None] == pytest.approx(expected, rel=1e-5)
    said = [note for note in result.notes if note.startswith("ddf: its components along the array axes")]
    assert bool(said) == (components == 3)


def test_a_field_that_leads_out_of_its_slice_is_refused(save, planes):
    images = [save(name, plane[..., None]) for name, plane in zip("fm", planes, strict=True)]
    field = np.zeros((*PLANE, 1, 3), np.float32)
    field[..., 2] = 1e-4  # As resampling leaves it.
    evaluate_pair(*images, ddf=save("good", field))
    field[3, 4, 0, 2] = -0.5
    with pytest.raises(InputError, match=r"ddf .* leads out of its slice, by 0.5 voxels") as caught:
        evaluate_pair(*images, ddf=save("bad", field))
    assert "\n" not in str(caught.value)
    field[3, 4, 0, 2] = np.nan
    with pytest.raises(InputError, match="leads out of its slice, by nan voxels"):
        evaluate_pair(*images, ddf=save("unknown", field))
    field[3, 4] = np.nan  # No displacement at all there, as outside a mask.
    evaluate_pair(*images, ddf=save("masked", field))


def test_a_field_of_a_volume_has_three_components(save, rng):
    images = [save(name, rng.random((5, 6, 2)).astype(np.float32)) for name in "fm"]
    with pytest.raises(InputError, match="has shape"):
        evaluate_pair(*images, ddf=save("ddf", np.zeros((5, 6, 2, 2), np.float32)))


def test_named_losses_become_2_d_and_keep_their_arguments(save, planes):
    paths = [save(name, plane[:, None]) for name, plane in zip("fm", planes, strict=True)]
    result = evaluate_pair(*paths, losses=["lncc:kernel_size=5", "lncc:spatial_dims=2"])
    batch = [plane[None] for plane in planes]
    for record, size in zip(result.records, (5, 9), strict=True):
        expected = float(LocalNormalizedCrossCorrelation(kernel_size=size, spatial_dims=2)(*batch))
        assert record.value == pytest.approx(expected, rel=1e-6)
    assert result.records[0].arguments == {"kernel_size": 5}


def test_a_loss_that_somebody_made_for_3_d_is_refused_and_one_for_2_d_is_used(save, planes):
    paths = [save(name, plane[..., None]) for name, plane in zip("fm", planes, strict=True)]
    message = (
        "LocalNormalizedCrossCorrelation has spatial_dims=3, and a slice is evaluated in 2-D: give it spatial_dims=2"
    )
    for loss in (LocalNormalizedCrossCorrelation(kernel_size=5), "lncc:spatial_dims=3"):
        with pytest.raises(InputError, match=message):
            evaluate_pair(*paths, losses=[loss])
    own = LocalNormalizedCrossCorrelation(kernel_size=5, spatial_dims=2)
    (record,) = evaluate_pair(*paths, losses=[own]).records
    assert record.value == pytest.approx(float(own(*(plane[None] for plane in planes))), rel=1e-6)


def test_an_own_loss_without_axes_gets_the_plane(save, planes):
    class Shape(Loss):
        def call(self, y_true, y_pred):
            return np.asarray([float("".join(map(str, y_true.shape)))])

    paths = [save(name, plane[..., None]) for name, plane in zip("fm", planes, strict=True)]
    assert evaluate_pair(*paths, losses=[Shape()]).records[0].value == 11714


def test_of_a_window_of_three_sizes_those_along_the_slice_count(save, planes):
    volume = open_volume(save("a", planes[0][:, None]), "fixed image")
    metric = Metric(LocalNormalizedCrossCorrelation(kernel_size=(3, 5, 7)), {}, ("images",))
    assert metric.of(volume).loss == LocalNormalizedCrossCorrelation(kernel_size=(3, 7), spatial_dims=2)


def test_a_line_is_1_d_and_a_voxel_stays_a_volume(save, rng):
    lines = rng.random((2, 30)).astype(np.float32)
    lines[:, 0], lines[:, 1] = 0, 1
    for shape in ((30,), (1, 30, 1), (1, 1, 30)):
        paths = [save(name, line.reshape(shape)) for name, line in zip("fm", lines, strict=True)]
        result = evaluate_pair(*paths, losses=["lncc"])
        expected = float(LocalNormalizedCrossCorrelation(spatial_dims=1)(*(line[None] for line in lines)))
        assert result.records[0].value == pytest.approx(expected, rel=1e-6)
        assert "one line: evaluated as 1-D." in result.notes
    voxel = save("v", np.ones((1, 1, 1), np.float32))
    assert evaluate_pair(voxel, voxel, losses=["ssd"]).records[0].value == 0


def test_what_is_read_of_a_slice_has_two_axes(save, stored, rng):
    shape, axes = stored
    plane = rng.integers(0, 9, PLANE).astype(np.int16)
    volume = open_volume(save("a", plane.reshape(shape)), "x")
    assert volume.axes == axes
    assert np.array_equal(read_image(volume, scale=False)[0], plane)
    assert np.array_equal(read_labels(volume)[0], plane)
    field = open_volume(save("d", np.zeros((*(*shape, 1)[:3], 3), np.float32)), "ddf", components=3)
    assert read_field(field).shape == (*PLANE, 2)


def test_a_plane_and_a_slice_of_it_are_one_grid(save, planes):
    first, second = save("a", planes[0]), save("b", planes[1][..., None])
    assert evaluate_pair(first, second, losses=["ssd"]).inputs[1].grid_difference.voxels == 0


@pytest.mark.parametrize("backend", ["torch", "array_api_strict"])
def test_a_slice_on_another_backend(save, planes, backend):
    paths = [save(name, plane[..., None]) for name, plane in zip("fm", planes, strict=True)]
    ddf = save("ddf", np.dstack([*planes, np.zeros(PLANE)])[:, :, None].astype(np.float32))
    here, there = (values(evaluate_pair(*paths, ddf=ddf, backend=name)) for name in ("numpy", backend))
    assert there == pytest.approx(here, rel=1e-5)


def test_a_mask_and_a_spacing_of_three_sizes_fit_a_slice(save, stored, planes, rng):
    shape, axes = stored
    shape = (*shape, 1)[:3]
    mask = np.ones(PLANE, np.uint8)
    mask[:3], mask[:, :2] = 0, 0
    field = np.zeros((*PLANE, 3), np.float32)
    field[..., list(axes)] = rng.standard_normal((*PLANE, 2))
    images = [save(name, image.reshape(shape)) for name, image in zip("fm", planes, strict=True)]
    asked = ["ssd:rescale=true", "bending", "bending:spacing=[1.5,2,2.5]"]
    options = {"mask": save("mask", mask.reshape(shape)), "ddf": save("ddf", field.reshape((*shape, 3)))}
    ssd, in_mm, spelt = (record.value for record in evaluate_pair(*images, **options, losses=asked).records)
    # Both are scaled by the range of what counts.
    a, b = ((x - x.min()) / (x.max() - x.min()) for x in (plane[3:, 2:].astype(np.float64) for plane in planes))
    assert ssd == pytest.approx(np.mean((a - b) ** 2), rel=1e-5)
    for value, sizes in ((in_mm, SIZES), (spelt, (1.5, 2, 2.5))):
        along = [sizes[axis] for axis in axes]
        measured = (field[..., list(axes)] * along).astype(np.float32)[None, 3:, 2:]
        assert value == pytest.approx(float(BendingEnergy(spatial_dims=2, spacing=along)(measured)), rel=1e-5)
