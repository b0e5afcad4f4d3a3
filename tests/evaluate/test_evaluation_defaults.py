"""What an evaluation computes unless told: measures that mean something for any image, and each of them by name."""

import json
import math

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from agnoreg.evaluate.evaluation import evaluate_pair, planned
from agnoreg.evaluate.quantities import QUANTITIES
from agnoreg.functional import lncc_map
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelation,
)
from agnoreg.loss.label import DiceScore, JaccardIndex, SumSquaredDifference

SHAPE = (14, 13, 12)
SIZES = (1.5, 2.0, 3.0)
GIVEN = ("images", "labels", "field")


def nifti(array):
    return nib.Nifti1Image(array, np.diag([*SIZES, 1.0]))


@pytest.fixture
def images(rng):
    """Two unrelated images of low contrast, each with one bright spot that spans the range."""
    fixed, moved = (0.1 * rng.random(SHAPE).astype(np.float32) for _ in range(2))
    fixed[3, 3, 3] = moved[9, 9, 9] = 1.0
    return fixed, moved


@pytest.fixture
def sources(images, rng):
    """The images with two label maps and a field."""
    label = np.zeros(SHAPE, np.uint8)
    label[2:7, 2:8, 3:9] = 3
    label[8:12, 8:12, 2:7] = 7
    return {
        "fixed": nifti(images[0]),
        "moved": nifti(images[1]),
        "fixed_label": nifti(label),
        "moved_label": nifti(np.roll(label, 1, 0)),
        "ddf": nifti(rng.standard_normal((*SHAPE, 3)).astype(np.float32)),
    }


def found(result):
    return {record.metric: record for record in result.records if record.label in (None, 3)}


@pytest.mark.parametrize("scale", [True, False])
def test_unrelated_images_of_low_contrast_correlate_little(images, scale):
    records = found(evaluate_pair(*map(nifti, images), scale=scale))
    r = np.corrcoef(*(x.astype(np.float64).reshape(-1) for x in images))[0, 1]
    assert records["GlobalNormalizedCrossCorrelation"].value == pytest.approx(r, abs=1e-6)
    assert abs(r) < 0.03
    # The mean of r squared over windows of some 400 voxels, whose expectation is one over that; 125 at corners.
    assert records["LocalNormalizedCrossCorrelation"].value < 0.02


def test_inverted_contrast_has_a_negative_r(images):
    record = found(evaluate_pair(nifti(images[0]), nifti(5 - 3 * images[0])))["GlobalNormalizedCrossCorrelation"]
    assert record.value == pytest.approx(-1, abs=1e-6)
    assert record.title == "Pearson's r"
    assert dict(record.arguments) == {"convention": "exact", "squared": False}
    assert (record.value_range, record.direction, record.identity_value) == ((-1, 1), "higher", 1)


@pytest.mark.parametrize("masked", [False, True])
def test_flat_windows_are_left_out_of_lncc_and_counted(images, masked):
    fixed, moved = (x.copy() for x in images)
    fixed[8:] = 0.05
    mask = np.ones(SHAPE, bool)
    mask[:, :, :2] = not masked
    result = evaluate_pair(nifti(fixed), nifti(moved), **({"mask": nifti(mask.astype(np.uint8))} if masked else {}))
    record = found(result)["LocalNormalizedCrossCorrelation"]

    def spread(x):
        x = x.astype(np.float64)
        high = ndimage.maximum_filter(np.where(mask, x, -np.inf), 9, mode="constant", cval=-np.inf)
        return high - ndimage.minimum_filter(np.where(mask, x, np.inf), 9, mode="constant", cval=np.inf)

    flat = mask & ((spread(fixed) == 0) | (spread(moved) == 0))
    assert 0 < flat.sum() < mask.sum() / 2
    assert record.counted == mask.sum() - flat.sum()
    assert f"LNCC: {flat.sum()} of {mask.sum()} windows are flat in an image and left out." in result.notes
    values = lncc_map(fixed[None], moved[None], convention="exact", mask=mask[None])
    assert record.value == pytest.approx(np.nanmean(values), rel=1e-5)


def test_no_window_is_left_out_where_none_is_flat(images):
    result = evaluate_pair(*map(nifti, images))
    assert not any("flat" in note for note in result.notes)
    assert {record.counted for record in result.records} == {math.prod(SHAPE)}


@pytest.mark.parametrize("factor", [1, 1e-4, 3000])
def test_mutual_information_is_of_the_datas_range_scaled_or_not(images, factor):
    scaled = found(evaluate_pair(*map(nifti, images)))["GlobalMutualInformation"].value
    own = [nifti(factor * (image - 5)) for image in images]
    result = evaluate_pair(*own, scale=False)
    assert found(result)["GlobalMutualInformation"].value == pytest.approx(scaled, rel=0.02)
    assert "GlobalMutualInformation: each image scaled from its range to [0, 1]." in result.notes
    assert not result.warnings
    asked, plain = evaluate_pair(*own, scale=False, losses=["gmi:rescale=true", "gmi"]).records
    assert asked.value == found(result)["GlobalMutualInformation"].value
    assert plain.value != asked.value


def test_every_number_can_be_asked_for_by_a_loss_of_its_name_and_arguments(sources):
    for options in ({}, {"scale": False}, {"convention": "deepreg"}, {"regulariser_units": "voxel"}):
        expected = evaluate_pair(**sources, **options)
        texts = {
            f"{record.metric}:" + ",".join(f"{key}={json.dumps(value)}" for key, value in record.arguments.items())
            for record in expected.records
        }
        # Dice and Jaccard by their registered names, which threshold.
        names = {"DiceScore": "dice", "JaccardIndex": "jaccard"}
        losses = [text.replace(text.split(":")[0], names.get(text.split(":")[0], text.split(":")[0])) for text in texts]
        again = evaluate_pair(**sources, losses=losses, scale=options.get("scale", True))
        keys = ("metric", "measured", "label", "unit", "value")
        values = {tuple(getattr(record, key) for key in keys) for record in again.records}
        assert {tuple(getattr(record, key) for key in keys) for record in expected.records} <= values


@pytest.mark.parametrize("name", ["centroid_distance", "compute_centroid_distance"])
def test_the_distance_of_centroids_can_be_asked_for(sources, name):
    fixed = np.asarray(sources["fixed_label"].dataobj)
    expected = {}
    for which in (3, 7):
        places = (np.argwhere(x == which).mean(axis=0) * SIZES for x in (fixed, np.roll(fixed, 1, 0)))
        expected[which] = np.linalg.norm(np.subtract(*places))
    records = evaluate_pair(**sources, losses=[name]).records
    values = {record.label: record.value for record in records}
    assert values == pytest.approx({**expected, "mean": sum(expected.values()) / 2}, rel=1e-5)
    assert {(record.metric, record.title, record.unit) for record in records} == {
        ("compute_centroid_distance", "centroid distance", "mm")
    }


def test_deepregs_convention_gives_deepregs_numbers(sources, images):
    records = found(evaluate_pair(**sources, convention="deepreg"))
    arrays = [((x - x.min()) / (x.max() - x.min()))[None] for x in images]
    masks = [(np.asarray(sources[f"{which}_label"].dataobj) == 3)[None] for which in ("fixed", "moved")]
    field = [np.asarray(sources["ddf"].dataobj)[None]]
    for metrics, inputs in (
        (
            (
                SumSquaredDifference(),
                GlobalNormalizedCrossCorrelation(),
                LocalNormalizedCrossCorrelation(),
                GlobalMutualInformation(),
            ),
            arrays,
        ),
        ((DiceScore(binary=True), JaccardIndex(binary=True)), masks),
        ((GradientNorm(), BendingEnergy()), field),
    ):
        for metric in metrics:
            assert records[type(metric).__name__].value == pytest.approx(float(metric(*inputs)), rel=1e-5)
    # Besides centroids, and what no library of losses defines.
    assert records.keys() - QUANTITIES.keys() == {
        "SumSquaredDifference",
        "GlobalNormalizedCrossCorrelation",
        "LocalNormalizedCrossCorrelation",
        "GlobalMutualInformation",
        "DiceScore",
        "JaccardIndex",
        "compute_centroid_distance",
        "GradientNorm",
        "BendingEnergy",
    }
    assert records["BendingEnergy"].unit == "1/voxel^2"


@pytest.mark.parametrize("convention", ["exact", "deepreg", "monai", "voxelmorph", "ants"])
def test_a_convention_holds_for_the_metrics_that_have_it(sources, convention):
    plain, by = (found(evaluate_pair(**sources, **options)) for options in ({}, {"convention": convention}))
    assert plain.keys() == by.keys()
    for name, record in by.items():
        if record.arguments.get("convention") == convention and convention != "exact":
            names = {"DiceScore": "dice", "JaccardIndex": "jaccard"}
            asked = found(evaluate_pair(**sources, losses=[names.get(name, name)], convention=convention))
            assert asked[name].value == record.value
        elif name not in ("GradientNorm", "BendingEnergy"):
            assert record.value == plain[name].value
    having = {name for name, record in by.items() if record.arguments.get("convention") == convention}
    assert "LocalNormalizedCrossCorrelation" in having
    assert "SumSquaredDifference" not in having


def test_a_field_is_measured_in_mm_by_the_header(images):
    """A stretch by 0.1 along the first axis, and a bend of 0.02 per mm along the third, in mm; written in voxels."""
    x, _, z = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SIZES, strict=True)), indexing="ij")
    field = np.zeros((*SHAPE, 3))
    field[..., 0] = 0.1 * x
    field[..., 2] = 0.01 * z**2
    in_voxels = nifti((field / SIZES).astype(np.float32))
    pair = [nifti(image) for image in images]
    gradient, bending = evaluate_pair(*pair, ddf=in_voxels, losses=["gradient", "bending"]).records
    inner = (np.arange(SHAPE[2]) * SIZES[2])[1:-1]
    assert gradient.value == pytest.approx((0.1**2 + np.mean((0.02 * inner) ** 2)) / 3, rel=1e-4)
    assert gradient.unit == ""
    assert bending.value == pytest.approx(0.02**2 / 3, rel=1e-3)
    assert bending.unit == "1/mm^2"
    assert dict(bending.arguments) == {"spacing": "header"}
    spelt = f"bending:spacing={list(SIZES)}"
    asked, voxels, other = evaluate_pair(
        *pair, ddf=in_voxels, losses=[spelt, "bending:spacing=1", "bending:spacing=2"]
    ).records
    assert asked.value == pytest.approx(bending.value, rel=1e-6)
    # The second derivative of the displacement in voxels by the index is 0.02 times the voxel's size along z.
    assert voxels.value == pytest.approx((0.02 * SIZES[2]) ** 2 / 3, rel=1e-3)
    assert other.value == pytest.approx(voxels.value / 4, rel=1e-6)
    assert (voxels.unit, other.unit) == ("1/voxel^2", "1/unit^2")
    (by_option,) = evaluate_pair(*pair, ddf=in_voxels, losses=["bending"], regulariser_units="voxel").records
    assert by_option.value == voxels.value
    (held,) = evaluate_pair(*pair, ddf=in_voxels, losses=[BendingEnergy()]).records
    assert held.value == voxels.value


def test_a_loss_takes_a_value_for_each_axis(images):
    arrays = [((x - x.min()) / (x.max() - x.min()))[None] for x in images]
    (record,) = evaluate_pair(*map(nifti, images), losses=["lncc:kernel_size=[5,7,3]"]).records
    metric = LocalNormalizedCrossCorrelation(kernel_size=(5, 7, 3))
    assert record.value == pytest.approx(float(metric(*arrays)), rel=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "lncc:padding=truncate,squared=false,flat_value=0.5",
        "lncc:flat_value=null,smooth_nr=null",
        "lncc:convention=ants,kernel_size=[3,5,7]",
        "gncc:smooth_nr=0,smooth_dr=1e-9,squared=false",
        "gmi:num_bins=8,sigma_ratio=0.4,convention=monai",
        "gradient:stencil=compact,l1=true,spacing=[1,1,2.5]",
        "bending:stencil=compact,spatial_dims=3",
        "DiceLoss:scales=[0,1],kernel=cauchy,squared=true,background_weight=0.1",
        "ssd:reduction=none,native=true",
    ],
)
def test_a_loss_takes_whatever_the_library_takes(sources, text):
    records = evaluate_pair(**sources, losses=[text]).records
    assert all(math.isfinite(record.value) for record in records)


def test_what_is_planned_is_what_is_computed(sources):
    for options in ({}, {"convention": "monai"}, {"losses": ["lncc", "centroid_distance", "bending"]}):
        result = evaluate_pair(**sources, **options)
        computed = [(record.metric, dict(record.arguments), record.measured, record.unit) for record in result.records]
        distinct = [entry for index, entry in enumerate(computed) if entry not in computed[:index]]
        rest = {key: value for key, value in options.items() if key != "losses"}
        series = planned(options.get("losses", []), GIVEN, **rest)
        assert [(one.metric, dict(one.arguments), one.measured, one.unit) for one in series] == distinct
