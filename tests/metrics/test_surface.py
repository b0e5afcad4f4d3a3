"""Surface distances: against brute force, closed forms, and what must never happen to a missed structure."""

import itertools
import math

import array_api_strict
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_pairs import SPACINGS, blobs, pairs

from agnoreg.metrics import assd, hausdorff, masd, nsd, surface_distances, surface_maps
from agnoreg.metrics.surface_elements import surfel_areas

MEASURES = (hausdorff, masd, assd)


def batch(*masks):
    return tuple(mask[None] for mask in masks)


# --- the reference: every element against every other -----------------------------------------------------------------


def surfels(mask, spacing):
    """Return the corners between voxels of both kinds in mm, and their areas by a loop over corners."""
    padded = np.pad(mask, 1)
    places, areas = [], []
    table = surfel_areas(tuple(spacing))
    for corner in np.ndindex(*(size + 1 for size in mask.shape)):
        around = [padded[tuple(np.add(corner, step))] for step in itertools.product((0, 1), repeat=mask.ndim)]
        if any(around) and not all(around):
            places.append(np.multiply(corner, spacing))
            steps = itertools.product((0, 1), repeat=mask.ndim)
            code = sum(
                int(there) << sum(bit << axis for axis, bit in enumerate(step))
                for there, step in zip(around, steps, strict=True)
            )
            areas.append(table[code])
    return np.asarray(places), np.asarray(areas)


def voxels(mask, spacing):
    """Return the voxels with a face to the background in mm, and ones."""
    padded = np.pad(mask, 1)
    places = []
    for voxel in np.argwhere(mask):
        neighbours = [voxel + 1 + sign * np.eye(mask.ndim, dtype=int)[k] for k in range(mask.ndim) for sign in (-1, 1)]
        if not all(padded[tuple(place)] for place in neighbours):
            places.append(voxel * np.asarray(spacing))
    return np.asarray(places), np.ones(len(places))


def volume(mask, spacing):
    return np.argwhere(mask) * np.asarray(spacing), np.ones(mask.sum())


KINDS = {"surfels": surfels, "voxels": voxels, "volume": volume}


def brute(true, pred, spacing, kind):
    """Return the distances and areas of both directions."""
    (a, areas_a), (b, areas_b) = (KINDS[kind](x, spacing) for x in (true, pred))
    between = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=-1))
    return (between.min(axis=1), areas_a), (between.min(axis=0), areas_b)


def first_that_reaches(distances, areas, percent):
    """Return the smallest distance within which so much of the area lies."""
    for d in np.sort(distances):
        if areas[distances <= d].sum() >= percent / 100 * areas.sum() * (1 - 1e-12):
            return d
    raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_measure_is_that_of_all_elements_against_all(kind, seed, dims):
    true, pred = blobs(seed, dims)
    spacing = SPACINGS[dims]
    (d, wd), (e, we) = brute(true, pred, spacing, kind)
    found = surface_distances(*batch(true, pred), spacing=spacing, surface=kind, spatial_dims=dims)
    mean, other = (d * wd).sum() / wd.sum(), (e * we).sum() / we.sum()
    pooled = ((d * wd).sum() + (e * we).sum()) / (wd.sum() + we.sum())
    t = 1.0
    expected = {
        "hausdorff": (found.hausdorff(), max(d.max(), e.max())),
        "mean of both maxima": (found.hausdorff(combine="mean"), (d.max() + e.max()) / 2),
        "one direction": (found.hausdorff(directed="true_to_pred"), d.max()),
        "the other": (found.hausdorff(directed="pred_to_true"), e.max()),
        "hd95": (found.hausdorff(95), max(first_that_reaches(d, wd, 95), first_that_reaches(e, we, 95))),
        "median, pooled": (
            found.hausdorff(50, combine="pooled"),
            first_that_reaches(np.concatenate([d, e]), np.concatenate([wd, we]), 50),
        ),
        "masd": (found.masd(), (mean + other) / 2),
        "assd": (found.assd(), pooled),
        "directed mean": (found.masd(directed="pred_to_true"), other),
        "modified": (found.masd(combine="max"), max(mean, other)),
        "nsd": (found.nsd(t), (wd[d <= t].sum() + we[e <= t].sum()) / (wd.sum() + we.sum())),
        "nsd, mean": (found.nsd(t, combine="mean"), (wd[d <= t].sum() / wd.sum() + we[e <= t].sum() / we.sum()) / 2),
    }
    for name, (value, reference) in expected.items():
        np.testing.assert_allclose(value, [reference], rtol=1e-12, err_msg=name)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["surfels", "voxels"])
def test_two_boxes_apart(kind):
    true, pred = np.zeros((2, 1, 20, 12, 14), dtype=bool)
    true[0, 2:5, 3:9, 3:11] = True
    pred[0, 10:13, 3:9, 3:11] = True
    # Faces that look at each other are 5 voxels apart as surfaces, 6 from centre to centre; the far ones are 8 apart.
    found = surface_distances(true, pred, spacing=(0.5, 1.0, 2.0), surface=kind)
    assert found.hausdorff()[0] == 8 * 0.5
    gap = 5 if kind == "surfels" else 6
    assert found.nsd(gap * 0.5 - 1e-9)[0] == 0
    assert 0 < found.nsd(gap * 0.5)[0] < 1
    assert found.nsd(8 * 0.5)[0] == 1


def test_two_spheres_apart():
    grid = np.indices((48, 24, 24)) + 0.5
    spheres = [np.sqrt(((grid - np.array([x, 12, 12])[:, None, None, None]) ** 2).sum(axis=0)) < 8 for x in (12, 34)]
    found = surface_distances(*batch(*spheres), spacing=1.0)
    # The far pole is one diameter and a gap away: the distance of the centres, for equal spheres.
    assert found.hausdorff()[0] == pytest.approx(22, abs=1e-12)
    # Over a sphere of radius r at distance D the mean of |x - c| - r is D + r^2 / (3 D) - r; corners of voxels lie
    # within a voxel of it.
    assert found.masd()[0] == pytest.approx(22 + 64 / 66 - 8, abs=0.75)
    assert found.masd()[0] == pytest.approx(found.assd()[0], rel=1e-14)


def test_areas_of_surfels_are_those_of_a_box_whose_edges_are_cut():
    spacing, (a, b, c) = (0.5, 2.0, 3.0), (4, 5, 6)
    mask = np.zeros((1, 8, 8, 9), dtype=bool)
    mask[0, 1 : 1 + a, 1 : 1 + b, 1 : 1 + c] = True
    areas = surface_distances(mask, mask, spacing=spacing).pairs[0][0].areas_true
    table = surfel_areas(spacing)
    x, y, z = spacing
    faces = 2 * ((b - 1) * (c - 1) * y * z + (a - 1) * (c - 1) * x * z + (a - 1) * (b - 1) * x * y)
    edges = 4 * ((a - 1) * x * math.hypot(y, z) + (b - 1) * y * math.hypot(x, z) + (c - 1) * z * math.hypot(x, y)) / 2
    corners = 8 * math.sqrt((x * y) ** 2 + (y * z) ** 2 + (x * z) ** 2) / 8
    assert areas.sum() == pytest.approx(faces + edges + corners, rel=1e-12)
    assert table[1] == pytest.approx(corners / 8)


def test_area_of_a_sphere_is_nearly_that_of_a_sphere():
    grid = np.indices((40, 40, 40)) - 19.5
    sphere = np.sqrt((grid**2).sum(axis=0)) < 17
    areas = surface_distances(*batch(sphere, sphere), spacing=1.0).pairs[0][0].areas_true
    assert areas.sum() == pytest.approx(4 * math.pi * 17**2, rel=0.1)


def test_identical_masks_have_no_distance(dims, spacing):
    mask = blobs(0, dims)[0]
    found = surface_distances(*batch(mask, mask), spacing=spacing, spatial_dims=dims)
    assert [found.hausdorff()[0], found.masd()[0], found.assd()[0], found.nsd(0)[0]] == [0, 0, 0, 1]


# --- what users complain of elsewhere ---------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.permutations((0, 1, 2)), st.sets(st.sampled_from((0, 1, 2))))
def test_permuting_axes_and_spacing_together_changes_nothing(seed, order, flipped):
    true, pred = (np.random.default_rng(seed).random((2, 4, 5, 6)) < 0.4) | False
    spacing = (1.0, 2.0, 3.5)
    moved = [np.flip(x.transpose(order), tuple(flipped)) for x in (true, pred)]
    found = surface_distances(*batch(true, pred), spacing=spacing)
    other = surface_distances(*batch(*moved), spacing=tuple(spacing[axis] for axis in order))
    for measure in ("hausdorff", "masd", "assd"):
        np.testing.assert_allclose(getattr(found, measure)(), getattr(other, measure)(), rtol=1e-12)
    np.testing.assert_allclose(found.nsd(2.1), other.nsd(2.1), rtol=1e-12)


def test_spacing_belongs_to_the_array_axis_and_must_be_one_for_each():
    true, pred = np.zeros((2, 1, 4, 5, 6), dtype=bool)
    true[0, 0, 0, 0] = pred[0, 0, 0, 4] = True
    assert hausdorff(true, pred, spacing=(1.0, 2.0, 3.0), surface="voxels")[0] == 12.0
    with pytest.raises(ValueError, match="one for each of 3 axes"):
        hausdorff(true, pred, spacing=(1.0, 2.0))


def with_missing():
    """Return maps with label 1 in both, 2 missed, 3 a false alarm, and 4 in neither."""
    true, pred = np.zeros((2, 1, 8, 8, 8), dtype=np.int16)
    true[0, :2], pred[0, 1:3] = 1, 1
    true[0, 5, 5, 5], pred[0, 7, 7, 7] = 2, 3
    return true, pred


@pytest.mark.parametrize(
    ("empty", "distances", "shares"),
    [
        (None, (math.inf, math.inf, math.nan), (0, 0, math.nan)),
        ("default", (math.inf, math.inf, math.nan), (0, 0, math.nan)),
        ("worst", (math.inf, math.inf, 0), (0, 0, 1)),
        ("diagonal", (8 * math.sqrt(14), 8 * math.sqrt(14), math.nan), (0, 0, math.nan)),
        ("nan", (math.nan,) * 3, (math.nan,) * 3),
    ],
)
def test_a_missed_structure_is_what_empty_says(empty, distances, shares):
    true, pred = with_missing()
    options = {"spacing": (1.0, 2.0, 3.0), "labels": (1, 2, 3, 4), "empty": empty}
    for measure in MEASURES:
        found = measure(true, pred, **options)
        assert 0 < found[0, 0] < math.inf
        np.testing.assert_allclose(found[0, 1:], distances)
    assert np.isfinite(hausdorff(true, pred, percentile=95, **options)[0, 0])
    np.testing.assert_allclose(hausdorff(true, pred, percentile=95, **options)[0, 1:], distances)
    np.testing.assert_allclose(nsd(true, pred, tolerance=1.0, **options)[0, 1:], shares)


def test_empty_raise_names_the_label_and_the_map():
    true, pred = with_missing()
    with pytest.raises(ValueError, match="Label 2 of sample 0 has no surface in y_pred"):
        hausdorff(true, pred, spacing=1.0, empty="raise")


def test_missed_labels_and_false_alarms_are_told_apart():
    found = surface_distances(*with_missing(), spacing=1.0, labels=(1, 2, 3, 4))
    assert found.state("missed").tolist() == [[False, True, False, False]]
    assert found.state("false alarm").tolist() == [[False, False, True, False]]
    assert found.state("neither").tolist() == [[False, False, False, True]]


def test_memory_is_that_of_the_label_s_box():
    import tracemalloc

    true, pred = np.zeros((2, 1, 128, 128, 128), dtype=bool)
    true[0, 40:70, 40:70, 40:70] = pred[0, 42:72, 40:70, 40:70] = True
    hausdorff(true, pred, spacing=1.0)
    tracemalloc.start()
    hausdorff(true, pred, spacing=1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The two maps as bytes, and the box; the surfaces against each other would be 250 MB.
    assert peak < 2 * true.nbytes + 30 * 33**3 * 8


# --- label maps, masks, batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        ((2, 41, 100), "uint8"),
        ((2, 41, 100), "float32"),
        ((2, 41, 2035), "int16"),
        ((2, 41, 2035), "float32"),
        ((-3, 7, 10**6), "int64"),
        ((-3, 7, 10**9), "int64"),
    ],
)
def test_all_labels_in_one_call_are_each_by_itself(ids, dtype):
    rng = np.random.default_rng(0)
    true, pred = (np.zeros((2, 10, 11, 12), dtype=dtype) for _ in range(2))
    for label in ids:
        for x in (true, pred):
            for b in range(2):
                low = rng.integers(0, 6, size=3)
                x[(b, *(slice(a, a + 4) for a in low))] = label
    spacing = (1.0, 1.5, 2.0)
    found = surface_distances(true, pred, spacing=spacing)
    assert found.labels == ids
    for k, label in enumerate(ids):
        single = surface_distances(true == label, pred == label, spacing=spacing)
        assert single.hausdorff().shape == (2,)
        np.testing.assert_array_equal(found.hausdorff(95)[:, k], single.hausdorff(95))
        np.testing.assert_array_equal(found.assd()[:, k], single.assd())
    np.testing.assert_array_equal(
        found.nsd((1.0, 2.0, 3.0)), np.stack([found.nsd(t)[:, k] for k, t in enumerate((1.0, 2.0, 3.0))], axis=1)
    )
    background = surface_distances(true, pred, spacing=spacing, labels=0)
    np.testing.assert_array_equal(background.masd(), surface_distances(true == 0, pred == 0, spacing=spacing).masd())


def test_a_batch_is_its_samples():
    both = [blobs(seed) for seed in range(3)]
    true, pred = (np.stack(x) for x in zip(*both, strict=True))
    found = hausdorff(true, pred, spacing=(1.0, 2.0, 3.0))
    assert found.tolist() == [hausdorff(*batch(*pair), spacing=(1.0, 2.0, 3.0))[0] for pair in both]
    assert hausdorff(true[:0], pred[:0], spacing=1.0).shape == (0,)


@pytest.mark.parametrize("kind", ["surfels", "voxels"])
def test_only_elements_in_the_mask_count_and_their_distances_are_to_the_whole_surface(kind):
    true, pred = blobs(1)
    spacing = (1.0, 2.0, 3.0)
    inside = np.zeros(true.shape, dtype=bool)
    inside[:6] = True
    found = surface_distances(*batch(true, pred), spacing=spacing, surface=kind, mask=inside[None])
    sides = []
    for (distances, areas), mask in zip(brute(true, pred, spacing, kind), (true, pred), strict=True):
        places, _ = KINDS[kind](mask, spacing)
        kept = places[:, 0] <= (6 if kind == "surfels" else 5)
        sides.append((distances[kept], areas[kept]))
    assert found.hausdorff()[0] == pytest.approx(max(d.max() for d, _ in sides), rel=1e-12)
    assert found.masd()[0] == pytest.approx(sum((d * w).sum() / w.sum() for d, w in sides) / 2, rel=1e-12)


def test_a_structure_of_which_nothing_is_in_the_mask_is_neither_missed_nor_there():
    true, pred = with_missing()
    mask = np.zeros(true.shape, dtype=bool)
    mask[0, :4] = True
    found = surface_distances(true, pred, spacing=1.0, mask=mask, labels=(1, 2))
    assert found.state("neither").tolist() == [[False, True]]
    assert np.isnan(found.hausdorff()[0, 1])


def test_ties_with_the_tolerance_are_within_it_in_float64():
    true, pred = np.zeros((2, 1, 9), dtype=bool)
    true[0, 1:4] = pred[0, 2:5] = True
    spacing = (0.1,)
    within = nsd(true, pred, tolerance=0.1, spacing=spacing, spatial_dims=1)
    assert within[0] == 1
    assert nsd(true, pred, tolerance=np.nextafter(0.1, 0), spacing=spacing, spatial_dims=1)[0] == 0


# --- array libraries --------------------------------------------------------------------------------------------------


def test_on_the_strict_namespace():
    true, pred = batch(*blobs(0))
    found = hausdorff(array_api_strict.asarray(true), array_api_strict.asarray(pred), spacing=(1.0, 2.0, 3.0))
    assert type(found).__module__.startswith("array_api_strict")
    assert float(found[0]) == hausdorff(true, pred, spacing=(1.0, 2.0, 3.0))[0]


@pytest.mark.parametrize("chunks", [(1, 3, 5, 12), (1, 12, 12, 12)])
def test_dask_is_computed_by_label_box_and_equal(chunks, monkeypatch):
    masks = [blobs(seed)[k] for seed in range(2) for k in range(2)]
    true, pred = (masks[k] * 1 + masks[k + 2] * 1 for k in range(2))
    mask = np.zeros(true.shape, dtype=bool)
    mask[2:] = True
    lazy = [da.from_array(x[None], chunks=chunks) for x in (true, pred, mask)]
    options = {"spacing": (1.0, 2.0, 3.0)}
    for labels in (None, (1, 2, 5)):
        whole = surface_distances(true[None], pred[None], labels=labels, mask=mask[None], **options)
        found = surface_distances(*lazy[:2], labels=labels, mask=lazy[2], **options)
        assert found.labels == whole.labels
        np.testing.assert_array_equal(np.asarray(found.assd()), whole.assd())
        np.testing.assert_array_equal(np.asarray(found.hausdorff(95)), whole.hausdorff(95))
    monkeypatch.setattr(surface_maps, "LARGEST_BOX", 100)
    with pytest.raises(ValueError, match="of which at most 100 are computed at once"):
        surface_distances(*lazy[:2], labels=1, **options)


def test_torch_keeps_its_device_and_refuses_a_gradient():
    torch = pytest.importorskip("torch")
    true, pred = batch(*blobs(0))
    found = hausdorff(torch.as_tensor(true), torch.as_tensor(pred), spacing=(1.0, 2.0, 3.0))
    assert found.dtype == torch.float64
    assert float(found[0]) == hausdorff(true, pred, spacing=(1.0, 2.0, 3.0))[0]
    with pytest.raises(TypeError, match=r"has no gradient.*DiceLoss"):
        hausdorff(torch.ones(1, 4, 4, 4), torch.ones(1, 4, 4, 4, requires_grad=True), spacing=1.0)


def test_jax_eager():
    jax = pytest.importorskip("jax")
    true, pred = batch(*blobs(0))
    found = hausdorff(jax.numpy.asarray(true), jax.numpy.asarray(pred), spacing=(1.0, 2.0, 3.0))
    np.testing.assert_allclose(np.asarray(found), hausdorff(true, pred, spacing=(1.0, 2.0, 3.0)), rtol=1e-6)
    with pytest.raises(TypeError, match="has no gradient"):
        jax.jit(lambda x: hausdorff(x, x, spacing=1.0))(jax.numpy.asarray(true))


@pytest.mark.slow
def test_tensorflow_eager():
    tf = pytest.importorskip("tensorflow")
    true, pred = batch(*blobs(0))
    found = hausdorff(tf.constant(true), tf.constant(pred), spacing=(1.0, 2.0, 3.0))
    assert np.array_equal(found.numpy(), hausdorff(true, pred, spacing=(1.0, 2.0, 3.0)))


def test_distances_by_the_generic_transform_are_those_by_the_tree():
    from agnoreg.backend.counting import Counting, on_host

    host = on_host().counting
    for true, pred in pairs(3).values():
        found = Counting.distances(host, true, pred, (1.0, 2.0, 3.0))
        np.testing.assert_allclose(host.distances(true, pred, (1.0, 2.0, 3.0)), found, rtol=1e-15)
        assert np.isinf(host.distances(true, np.zeros_like(true), (1.0, 2.0, 3.0))).all()
        assert np.isinf(Counting.distances(host, true, np.zeros_like(true), (1.0, 2.0, 3.0))).all()


def test_boxes_by_counting_are_those_of_scipy():
    from agnoreg.backend.counting import Counting, on_host

    host, places = on_host().counting, np.zeros((6, 7, 8), dtype=np.int32)
    places[1:3, 2, 3:], places[5, 0, 0], places[0, 6, 7] = 1, 3, 4
    found = Counting.boxes(host, places, 5)
    assert found.tolist() == host.boxes(places, 5).tolist()
    assert found[0].tolist() == [[1, 3], [2, 3], [3, 8]]
    assert found[1].tolist() == [[0, 0]] * 3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (hausdorff, {"spacing": None}, "spacing must be given"),
        (hausdorff, {"spacing": (1.0, -1.0, 1.0)}, "spacing must be a positive number"),
        (hausdorff, {"percentile": 101}, "percentile must be a number from 0 to 100, got 101"),
        (hausdorff, {"percentile": "95"}, "percentile must be a number from 0 to 100"),
        (hausdorff, {"surface": "skin"}, "surface must be one of surfels, voxels, mesh, volume, got 'skin'"),
        (hausdorff, {"combine": "sum"}, "combine must be one of max, mean, pooled"),
        (hausdorff, {"directed": True}, "directed must be one of true_to_pred, pred_to_true"),
        (hausdorff, {"empty": 0}, "empty must be one of default, worst, diagonal, nan, raise"),
        (hausdorff, {"convention": "plastimatch"}, "convention must be one of deepmind, monai"),
        (nsd, {"tolerance": None}, "tolerance must be given, in mm"),
        (nsd, {"tolerance": -1.0}, "tolerance must be a number of mm of at least 0"),
        (nsd, {"tolerance": (1.0, 2.0)}, r"or one for each of 1 label\(s\), got \(1\.0, 2\.0\)"),
        (nsd, {"tolerance": b"1"}, "tolerance must be a number of mm of at least 0"),
        (masd, {"mask": np.ones((2, 3))}, "mask must have the maps' shape"),
        (assd, {"labels": (1, 1)}, "labels must differ"),
    ],
)
def test_bad_input_is_named(measure, options, message):
    with pytest.raises(ValueError, match=message):
        measure(*batch(*blobs(0)), **{"spacing": 1.0} | options)


def test_maps_of_floats_that_are_no_integers_are_refused():
    soft = np.full((1, 4, 4, 4), 0.5)
    with pytest.raises(ValueError, match=r"must hold integers, got 0\.5"):
        hausdorff(soft, soft, spacing=1.0)
