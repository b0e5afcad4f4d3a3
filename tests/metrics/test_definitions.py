"""Each convention against the tool that it is named after, on pairs of masks in two and three dimensions.

A tool that is not installed is skipped, and the reason printed. MetricsReloaded and Learn2Reg's evaluation are in no
registry: theirs are written down here from the definitions.
"""

import math
import warnings

import numpy as np
import pytest
from mask_pairs import SPACINGS, pairs

from agnoreg.metrics import assd, hausdorff, masd, nsd, surface_distances
from agnoreg.metrics.conventions import CONVENTIONS

NAMES = tuple(pairs(3))
CASES = [pytest.param(dims, name, id=f"{dims}-D, {name}") for dims in (2, 3) for name in NAMES]
RTOL = 1e-6
TOLERANCES = (0.3, 1.0, 2.05)

every_pair = pytest.mark.parametrize(("dims", "name"), CASES)


def measured(measure, true, pred, convention, **options):
    dims = true.ndim
    found = measure(
        true[None], pred[None], convention=convention, spatial_dims=dims, **{"spacing": SPACINGS[dims]} | options
    )
    return float(found[0])


def empties(dims):
    """Return pairs of which neither, the prediction, the truth is empty."""
    box = np.zeros((6,) * dims, dtype=bool)
    box[(slice(1, 4),) * dims] = True
    return np.zeros_like(box), box


def assert_same(found, expected, rtol=RTOL):
    np.testing.assert_allclose(found, float(expected), rtol=rtol, atol=1e-12)


# --- DeepMind ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def deepmind(monkeypatch):
    """Return DeepMind's package, with the names that NumPy 2 no longer has."""
    module = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    monkeypatch.setattr(np, "NaN", np.nan, raising=False)
    return module


@every_pair
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_deepmind(dims, name, deepmind):
    true, pred = pairs(dims)[name]
    distances = deepmind.compute_surface_distances(true, pred, SPACINGS[dims])
    for percent in (0, 50, 95, 99, 100):
        expected = deepmind.compute_robust_hausdorff(distances, percent)
        for convention in ("deepmind", None):
            assert_same(measured(hausdorff, true, pred, convention, percentile=percent), expected)
    forth, back = deepmind.compute_average_surface_distance(distances)
    assert_same(measured(masd, true, pred, "deepmind", directed="true_to_pred"), forth)
    assert_same(measured(masd, true, pred, "deepmind", directed="pred_to_true"), back)
    assert_same(measured(masd, true, pred, "deepmind"), (forth + back) / 2)
    for t in TOLERANCES:
        expected = deepmind.compute_surface_dice_at_tolerance(distances, t)
        assert_same(measured(nsd, true, pred, "deepmind", tolerance=t), expected)


@pytest.mark.parametrize("which", [(0, 0), (1, 0), (0, 1)], ids=["neither", "missed", "false alarm"])
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_deepmind_of_empty_masks(dims, which, deepmind):
    true, pred = (empties(dims)[k] for k in which)
    distances = deepmind.compute_surface_distances(true, pred, SPACINGS[dims])
    for percent in (95, 100):
        expected = deepmind.compute_robust_hausdorff(distances, percent)
        assert_same(measured(hausdorff, true, pred, "deepmind", percentile=percent), expected)
    with np.errstate(invalid="ignore"):
        mean = np.mean(deepmind.compute_average_surface_distance(distances))
        share = deepmind.compute_surface_dice_at_tolerance(distances, 1.0)
    assert_same(measured(masd, true, pred, "deepmind"), mean)
    assert_same(measured(nsd, true, pred, "deepmind", tolerance=1.0), share)


@every_pair
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_learn2reg_is_deepmind_s_in_voxels(dims, name, deepmind):
    true, pred = pairs(dims)[name]
    distances = deepmind.compute_surface_distances(true, pred, np.ones(dims))
    expected = deepmind.compute_robust_hausdorff(distances, 95)
    assert_same(measured(hausdorff, true, pred, "learn2reg", percentile=95), expected)


def test_learn2reg_leaves_a_label_out_that_the_fixed_map_lacks_and_not_one_that_the_warp_lost(dims):
    empty, box = empties(dims)
    assert measured(hausdorff, box, empty, "learn2reg", percentile=95) == math.inf
    assert math.isnan(measured(hausdorff, empty, box, "learn2reg", percentile=95))
    assert math.isnan(measured(hausdorff, empty, empty, "learn2reg", percentile=95))


# --- MONAI ------------------------------------------------------------------------------------------------------------


def monai_of(function, true, pred, **options):
    import torch

    metrics = pytest.importorskip("monai.metrics", reason="monai is not installed")
    pair = {"y_pred": torch.as_tensor(pred)[None, None], "y": torch.as_tensor(true)[None, None]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = getattr(metrics, function)(
            **pair, include_background=True, spacing=list(SPACINGS[true.ndim]), **options
        )
    return float(value[0, 0])


def assert_as_monai(true, pred):
    for percentile in (50, 95):
        expected = monai_of("compute_hausdorff_distance", true, pred, percentile=percentile)
        assert_same(measured(hausdorff, true, pred, "monai", percentile=percentile), expected)
    assert_same(measured(hausdorff, true, pred, "monai"), monai_of("compute_hausdorff_distance", true, pred))
    expected = monai_of("compute_average_surface_distance", true, pred, symmetric=True)
    assert_same(measured(assd, true, pred, "monai"), expected)
    for t in TOLERANCES:
        expected = monai_of("compute_surface_dice", true, pred, class_thresholds=[t])
        assert_same(measured(nsd, true, pred, "monai", tolerance=t), expected)


@every_pair
def test_monai(dims, name):
    true, pred = pairs(dims)[name]
    assert_as_monai(true, pred)
    forth = monai_of("compute_hausdorff_distance", true, pred, directed=True)
    assert_same(measured(hausdorff, true, pred, "monai", directed="pred_to_true"), forth)
    forth = monai_of("compute_average_surface_distance", true, pred)
    assert_same(measured(assd, true, pred, "monai", directed="pred_to_true"), forth)
    for t in TOLERANCES:
        expected = monai_of("compute_surface_dice", true, pred, class_thresholds=[t], use_subvoxels=True)
        assert_same(measured(nsd, true, pred, "monai", surface="surfels", tolerance=t), expected)


@pytest.mark.parametrize("which", [(0, 0), (1, 0), (0, 1)], ids=["neither", "missed", "false alarm"])
def test_monai_of_empty_masks(dims, which):
    assert_as_monai(*(empties(dims)[k] for k in which))


# --- MedPy ------------------------------------------------------------------------------------------------------------


@every_pair
def test_medpy(dims, name):
    binary = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    true, pred = pairs(dims)[name]
    spacing = SPACINGS[dims]
    for convention in ("medpy", "medpy-0.4"):
        assert_same(measured(hausdorff, true, pred, convention), binary.hd(pred, true, spacing))
        assert_same(measured(hausdorff, true, pred, convention, percentile=95), binary.hd95(pred, true, spacing))
    assert_same(measured(assd, true, pred, "medpy"), binary.assd(pred, true, spacing))
    forth, back = binary.asd(pred, true, spacing), binary.asd(true, pred, spacing)
    assert_same(measured(assd, true, pred, "medpy", directed="pred_to_true"), forth)
    assert_same(measured(assd, true, pred, "medpy-0.4"), (forth + back) / 2)


@pytest.mark.parametrize("which", [(0, 0), (1, 0), (0, 1)], ids=["neither", "missed", "false alarm"])
def test_medpy_refuses_empty_masks(dims, which):
    binary = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    true, pred = (empties(dims)[k] for k in which)
    for function, measure in ((binary.hd, hausdorff), (binary.assd, assd)):
        with pytest.raises(RuntimeError):
            function(pred, true)
        with pytest.raises(ValueError, match="has no surface in"):
            measured(measure, true, pred, "medpy")


# --- MetricsReloaded, from its definitions ----------------------------------------------------------------------------


@every_pair
def test_metricsreloaded(dims, name):
    from scipy import ndimage

    true, pred = pairs(dims)[name]
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (true, pred)]
    transforms = [ndimage.distance_transform_edt(~edge, sampling=SPACINGS[dims]) for edge in edges]
    forth, back = transforms[1][edges[0]], transforms[0][edges[1]]
    expected = max(np.percentile(forth, 95), np.percentile(back, 95))
    assert_same(measured(hausdorff, true, pred, "metricsreloaded", percentile=95), expected)
    assert_same(measured(hausdorff, true, pred, "metricsreloaded"), max(forth.max(), back.max()))
    assert_same(measured(masd, true, pred, "metricsreloaded"), (forth.mean() + back.mean()) / 2)
    both = np.concatenate([forth, back])
    assert_same(measured(assd, true, pred, "metricsreloaded"), both.mean())
    assert_same(measured(nsd, true, pred, "metricsreloaded", tolerance=1.0), (both <= 1.0).mean())


def test_metricsreloaded_of_empty_masks(dims):
    empty, box = empties(dims)
    assert measured(hausdorff, empty, empty, "metricsreloaded") == 0
    assert measured(nsd, empty, empty, "metricsreloaded", tolerance=1.0) == 1
    assert math.isnan(measured(assd, box, empty, "metricsreloaded"))


# --- MeshMetrics ------------------------------------------------------------------------------------------------------


@every_pair
def test_meshmetrics(dims, name):
    metrics = pytest.importorskip("meshmetrics", reason="pymeshmetrics is not installed").DistanceMetrics(verbose=False)
    true, pred = pairs(dims)[name]
    metrics.set_input(true, pred, SPACINGS[dims])
    found = surface_distances(
        true[None], pred[None], spacing=SPACINGS[dims], convention="meshmetrics", spatial_dims=dims
    )
    assert_same(found.hausdorff()[0], metrics.hd(), rtol=1e-4)
    assert_same(found.hausdorff(95)[0], metrics.hd(95), rtol=1e-4)
    assert_same(found.masd()[0], metrics.masd(), rtol=1e-4)
    assert_same(found.assd()[0], metrics.assd(), rtol=1e-4)
    for t in TOLERANCES:
        assert_same(found.nsd(t)[0], metrics.nsd(t), rtol=1e-4)


@pytest.mark.parametrize("which", [(0, 0), (1, 0), (0, 1)], ids=["neither", "missed", "false alarm"])
def test_meshmetrics_of_empty_masks(dims, which):
    metrics = pytest.importorskip("meshmetrics", reason="pymeshmetrics is not installed").DistanceMetrics(verbose=False)
    true, pred = (empties(dims)[k] for k in which)
    metrics.set_input(true, pred, SPACINGS[dims])
    assert_same(measured(hausdorff, true, pred, "meshmetrics", percentile=95), metrics.hd(95))
    assert_same(measured(masd, true, pred, "meshmetrics"), metrics.masd())
    assert_same(measured(nsd, true, pred, "meshmetrics", tolerance=1.0), metrics.nsd(1.0))


def test_a_mesh_takes_no_mask_and_more_than_one_axis():
    box = np.ones((1, 4, 4, 4), dtype=bool)
    with pytest.raises(ValueError, match="surface='mesh' takes no mask"):
        hausdorff(box, box, spacing=1.0, surface="mesh", mask=box)
    with pytest.raises(ValueError, match="two or three spatial axes"):
        hausdorff(box[:, :, 0, 0], box[:, :, 0, 0], spacing=1.0, surface="mesh", spatial_dims=1)


# --- panoptica --------------------------------------------------------------------------------------------------------


@every_pair
def test_panoptica(dims, name):
    pytest.importorskip("panoptica", reason="panoptica is not installed (it asks for NumPy below 2.3)")
    from panoptica.metrics import assd as theirs
    from panoptica.metrics import hausdorff_distance, normalized_surface_dice

    true, pred = pairs(dims)[name]
    given = {"reference": true, "prediction": pred, "voxelspacing": SPACINGS[dims]}
    assert_same(measured(hausdorff, true, pred, "panoptica"), hausdorff_distance._compute_hausdorff_distance(**given))
    expected = hausdorff_distance._compute_hausdorff_distance95(**given)
    assert_same(measured(hausdorff, true, pred, "panoptica", percentile=95), expected)
    assert_same(measured(assd, true, pred, "panoptica"), theirs._average_symmetric_surface_distance(**given))
    for t in TOLERANCES:
        expected = normalized_surface_dice._compute_normalized_surface_dice(**given, threshold=t)
        assert_same(measured(nsd, true, pred, "panoptica", tolerance=t), expected)


# --- ITK and scikit-image ---------------------------------------------------------------------------------------------


@every_pair
def test_itk(dims, name):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    true, pred = pairs(dims)[name]
    images = []
    for mask in (true, pred):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(SPACINGS[dims][::-1])
        images.append(image)
    itk = sitk.HausdorffDistanceImageFilter()
    itk.Execute(*images)
    assert_same(measured(hausdorff, true, pred, "itk"), itk.GetHausdorffDistance())
    assert_same(measured(masd, true, pred, "itk"), itk.GetAverageHausdorffDistance())


@every_pair
def test_scikit_image(dims, name):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    true, pred = pairs(dims)[name]
    assert_same(measured(hausdorff, true, pred, "scikit-image"), metrics.hausdorff_distance(true, pred))
    expected = metrics.hausdorff_distance(true, pred, method="modified")
    assert_same(measured(masd, true, pred, "scikit-image"), expected)


@pytest.mark.parametrize("which", [(0, 0), (1, 0), (0, 1)], ids=["neither", "missed", "false alarm"])
def test_scikit_image_of_empty_masks(dims, which):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    true, pred = (empties(dims)[k] for k in which)
    assert_same(measured(hausdorff, true, pred, "scikit-image"), metrics.hausdorff_distance(true, pred))


# --- exacta, which has the definitions as options ---------------------------------------------------------------------


@every_pair
def test_exacta_s_default_is_deepmind_s_and_its_voxels_monai_s(dims, name):
    functional = pytest.importorskip("exacta.functional", reason="exacta is not installed")
    import torch

    true, pred = pairs(dims)[name]
    pair = [torch.as_tensor(mask.astype(np.int64))[None] for mask in (pred, true)]
    for surface in ("surfels", "voxels"):
        convention = "deepmind" if surface == "surfels" else "monai"
        options = {"spacing": SPACINGS[dims], "surface": surface, "num_classes": 2, "include_background": False}
        expected = functional.hd95(*pair, **options)
        found = measured(hausdorff, true, pred, convention, percentile=95)
        assert_same(found, expected.reshape(-1)[0])


# --- all of them ------------------------------------------------------------------------------------------------------


def test_the_same_pair_by_every_convention_is_not_the_same_number():
    grid = np.indices((30, 30, 30)) - 14.5
    true = np.sqrt((grid**2).sum(axis=0)) < 10
    grid[0] -= 3
    pred = np.sqrt((grid**2).sum(axis=0)) < 11
    found = {
        name: measured(hausdorff, true, pred, name, percentile=95, spacing=(1.0, 1.0, 3.0))
        for name in CONVENTIONS
        if name != "meshmetrics"
    }
    assert found["deepmind"] != found["monai"] != found["medpy"]
    assert found["learn2reg"] == measured(hausdorff, true, pred, None, percentile=95, spacing=1.0)


def test_two_spheres_have_the_numbers_that_the_tools_have_been_seen_to_give():
    grid = np.indices((40, 40, 40)) - 20
    true = np.sqrt((grid**2).sum(axis=0)) <= 10
    grid[2] -= 3
    pred = np.sqrt((grid**2).sum(axis=0)) <= 11

    def hd(convention, percentile, spacing):
        return round(measured(hausdorff, true, pred, convention, percentile=percentile, spacing=spacing), 3)

    assert (hd("learn2reg", 95, 1.0), hd("monai", 95, 1.0), hd("itk", 100, 1.0)) == (3.317, 3.742, 4.123)
    assert (hd("deepmind", 95, (1.0, 1.0, 3.0)), hd("monai", 95, (1.0, 1.0, 3.0))) == (7.483, 9.220)


def test_an_argument_overrides_the_convention():
    true, pred = pairs(3)["random 0"]
    assert measured(hausdorff, true, pred, "monai", surface="surfels") == measured(hausdorff, true, pred, "deepmind")
    assert measured(masd, true, pred, "medpy", combine="pooled") == measured(assd, true, pred, "medpy")
    empty, box = empties(3)
    assert measured(hausdorff, box, empty, "medpy", empty="worst") == math.inf
