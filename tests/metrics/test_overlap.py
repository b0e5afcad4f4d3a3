"""Overlap of label maps: against a loop over labels, and what must never happen to absent labels."""

import math
import tracemalloc

import array_api_strict
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agnoreg.metrics import overlap
from agnoreg.metrics.overlap import MEASURES

SHAPE = (2, 5, 6, 7)


def maps(seed=0, ids=(0, 2, 41, 1035), shape=SHAPE, dtype=np.int32):
    rng = np.random.default_rng(seed)
    true = rng.choice(np.asarray(ids), size=shape)
    pred = np.where(rng.random(shape) < 0.6, true, rng.choice(np.asarray(ids), size=shape))
    return true.astype(dtype), pred.astype(dtype)


def by_hand(true, pred, label, voxel=1.0):
    """Return the measures of one label of one sample."""
    a, b = true == label, pred == label
    both, either, na, nb = (a & b).sum(), (a | b).sum(), a.sum(), b.sum()
    if not either:
        return dict.fromkeys(MEASURES, math.nan)
    return {
        "dice": 2 * both / (na + nb),
        "jaccard": both / either,
        "sensitivity": both / na if na else 0.0,
        "precision": both / nb if nb else 0.0,
        "volume_similarity": 1 - abs(int(na) - int(nb)) / (na + nb),
        "absolute_volume_difference": abs(int(na) - int(nb)) * voxel,
    }


def assert_by_hand(found, true, pred, labels, voxel=1.0):
    for measure in MEASURES:
        expected = [[by_hand(t, p, label, voxel)[measure] for label in labels] for t, p in zip(true, pred, strict=True)]
        np.testing.assert_allclose(getattr(found, measure), expected, rtol=1e-14, err_msg=measure)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"])
def test_every_measure_is_that_of_a_loop_over_labels(dtype):
    ids = (0, 2, 41, 100) if dtype.endswith("int8") else (0, 2, 41, 1035)
    true, pred = maps(ids=ids, dtype=dtype)
    found = overlap(true, pred, spacing=(1.0, 2.0, 0.5))
    assert found.labels == ids[1:]
    assert found.dice.dtype == np.float64
    assert_by_hand(found, true, pred, ids[1:])


@pytest.mark.parametrize(
    "labels",
    [(1035, 2), (41, 2, 7), range(1, 3), (-5, 2), (0, 2), (10**12, 2), [2]],
    ids=["another order", "one absent", "a range", "negative", "background", "far apart", "a list"],
)
@pytest.mark.parametrize("ids", [(0, 2, 41, 100), (0, 2, 41, 1035), (0, -5, 2, 10**12)], ids=["few", "sparse", "wide"])
def test_labels_are_those_asked_for_in_their_order(labels, ids):
    true, pred = maps(ids=ids, dtype=np.int64)
    found = overlap(true, pred, labels=labels)
    assert found.labels == tuple(labels)
    assert_by_hand(found, true, pred, labels)


def test_a_single_label_and_bool_masks_have_no_axis_of_labels():
    true, pred = maps()
    assert overlap(true, pred, labels=2).dice.shape == (2,)
    found = overlap(true == 2, pred == 2)
    assert found.labels == (1,)
    assert np.array_equal(found.dice, overlap(true, pred, labels=2).dice)


def test_more_labels_than_a_joint_histogram_holds():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3000, size=(1, 40, 40, 40))
    pred = np.where(rng.random(true.shape) < 0.7, true, 0)
    found = overlap(true, pred, labels=range(1, 3000))
    some = [1, 1500, 2999]
    for label in some:
        assert found.dice[0, label - 1] == by_hand(true[0], pred[0], label)["dice"]


def test_voxels_outside_the_mask_do_not_count():
    true, pred = maps()
    mask = np.random.default_rng(3).random(SHAPE) < 0.5
    changed = np.where(mask, pred, 2)
    found = overlap(true, pred, mask=mask, labels=(2, 41))
    for b in range(2):
        expected = by_hand(true[b][mask[b]], pred[b][mask[b]], 41)["dice"]
        assert found.dice[b, 1] == expected
    assert np.array_equal(found.dice, overlap(true, changed, mask=mask, labels=(2, 41)).dice)
    of_one = overlap(true, pred, mask=mask[0].astype(np.uint8), labels=(2,)).dice
    assert np.array_equal(of_one, overlap(true, pred, mask=np.stack([mask[0]] * 2), labels=(2,)).dice)


@pytest.mark.parametrize("ids", [(0, 2, 41, 100), (0, 2, 41, 1035)], ids=["few", "sparse"])
def test_runs_of_equal_voxels_count_as_the_voxels_do(ids):
    # Long runs, then noise, and slabs that end within a run.
    true, pred = (np.repeat(x, 100, axis=-1) for x in maps(ids=ids))
    noise = maps(seed=1, ids=ids, shape=true.shape)
    true, pred = (np.concatenate(pair, axis=1) for pair in zip((true, pred), noise, strict=True))
    mask = np.repeat(np.random.default_rng(2).random((*true.shape[:-1], 70)) < 0.5, 10, axis=-1)
    for dtype in ("int32", "float32"):
        found = overlap(true.astype(dtype), pred.astype(dtype), labels=ids, mask=mask)
        for b in range(2):
            for k, label in enumerate(ids):
                expected = by_hand(true[b][mask[b]], pred[b][mask[b]], label)
                assert {name: getattr(found, name)[b, k] for name in MEASURES} == pytest.approx(expected, rel=1e-14)


# --- what users complain of elsewhere ---------------------------------------------------------------------------------


def test_sparse_integer_labels_and_floats_that_are_none():
    true, pred = maps()
    assert overlap(true.astype(np.float32), pred.astype(np.float32)).labels == (2, 41, 1035)
    soft = true.astype(np.float64)
    soft[0, 0, 0, :3] = 0.25, 40.7, math.nan
    with pytest.raises(ValueError, match=r"must hold integers, got 0\.25, 40\.7, nan: pass the map as it was"):
        overlap(soft, true.astype(np.float64), labels=(2,))
    with pytest.raises(ValueError, match=r"got 0\.25, 40\.7, nan"):
        overlap(true.astype(np.float64), soft)


def test_one_hot_channels_are_refused_with_both_shapes():
    true, pred = maps()
    hot = np.stack([true == 2, true == 41], axis=-1)
    with pytest.raises(ValueError, match=r"got shape \(2, 5, 6, 7, 2\).*argmax"):
        overlap(hot, hot)
    with pytest.raises(ValueError, match=r"y_true \(2, 5, 6, 7\) and y_pred \(2, 5, 6, 6\)"):
        overlap(true, pred[..., :-1])


def test_a_hundred_labels_take_less_than_three_volumes():
    true = np.random.default_rng(0).integers(0, 101, size=(1, 80, 96, 112)).astype(np.int16)
    pred = np.roll(true, 1, axis=1)
    for labels in (range(1, 101), None, (*range(1, 100), 4000)):
        overlap(true, pred, labels=labels)
        tracemalloc.start()
        overlap(true, pred, labels=labels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * true.nbytes


def test_the_mean_is_the_same_with_a_label_that_neither_map_has():
    true, pred = maps()
    few, more = (overlap(true, pred, labels=labels) for labels in ((2, 41), (2, 41, 77)))
    assert np.isnan(more.dice[:, 2]).all()
    for measure in MEASURES:
        (mean, count), (mean_of_more, count_of_more) = few.mean(measure), more.mean(measure)
        assert np.array_equal(mean, mean_of_more)
        assert count.tolist() == count_of_more.tolist() == [2, 2]


def test_a_label_of_one_map_alone_is_0_and_counts():
    true, pred = maps()
    missed = overlap(true, np.where(pred == 41, 0, pred), labels=(2, 41))
    false_alarm = overlap(np.where(true == 41, 0, true), pred, labels=(2, 41))
    for found in (missed, false_alarm):
        for measure in MEASURES[:5]:
            assert (getattr(found, measure)[:, 1] == 0).all(), measure
        assert found.mean("dice")[1].tolist() == [2, 2]


def test_background_counts_only_where_it_is_asked_for_and_that_is_said():
    true, pred = maps()
    assert 0 not in overlap(true, pred).labels
    assert "without background" in str(overlap(true, pred))
    assert "with background" in str(overlap(true, pred, labels=(0, 2)))


def test_counts_beyond_float32_are_exact():
    true = np.ones((1, 1, 1, 2**24 + 3), dtype=bool)
    found = overlap(true, true)
    assert found.volume_true[0] == 2**24 + 3


# --- properties -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (2, 1, 3, 4, 2), elements=st.integers(0, 3)))
def test_dice_and_jaccard_determine_each_other_and_exchange_swaps_sensitivity_and_precision(pair):
    labels = (1, 2, 3)
    found, swapped = overlap(pair[0], pair[1], labels=labels), overlap(pair[1], pair[0], labels=labels)
    np.testing.assert_allclose(found.dice, 2 * found.jaccard / (1 + found.jaccard), rtol=1e-14)
    np.testing.assert_array_equal(found.sensitivity, swapped.precision)
    np.testing.assert_array_equal(found.volume_similarity, swapped.volume_similarity)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_volumes_are_in_mm_to_the_power_of_the_axes(dims):
    true = np.zeros((1, *(4,) * dims), dtype=bool)
    pred = true.copy()
    true[(0, *(slice(0, 2),) * dims)] = True
    spacing = (0.5, 2.0, 3.0)[:dims]
    found = overlap(true, pred, spacing=spacing, spatial_dims=dims)
    assert found.absolute_volume_difference[0] == pytest.approx(2**dims * math.prod(spacing))
    assert found.volume_true[0] == pytest.approx(2**dims * math.prod(spacing))


# --- array libraries --------------------------------------------------------------------------------------------------


def test_on_the_strict_namespace():
    true, pred = maps()
    found = overlap(array_api_strict.asarray(true), array_api_strict.asarray(pred))
    assert type(found.dice).__module__.startswith("array_api_strict")
    assert np.array_equal(np.asarray(found.dice), overlap(true, pred).dice)


@pytest.mark.parametrize("labels", [None, (2, 41, 7)])
@pytest.mark.parametrize("chunks", [(1, 2, 3, 7), (2, 5, 6, 7)])
def test_dask_is_lazy_with_labels_and_equal_to_the_whole(labels, chunks):
    true, pred = maps()
    mask = np.random.default_rng(3).random(SHAPE[1:]) < 0.5
    lazy = [da.from_array(x, chunks=chunks) for x in (true, pred)]
    found = overlap(*lazy, labels=labels, mask=da.from_array(mask, chunks=3))
    assert isinstance(found.dice, da.Array)
    whole = overlap(true, pred, labels=labels, mask=mask)
    for measure in MEASURES:
        np.testing.assert_array_equal(getattr(found, measure).compute(), getattr(whole, measure))
    np.testing.assert_array_equal(found.mean()[0].compute(), whole.mean()[0])


def test_torch_keeps_its_device_and_refuses_a_gradient():
    torch = pytest.importorskip("torch")
    true, pred = (torch.as_tensor(x) for x in maps())
    found = overlap(true, pred)
    assert found.dice.dtype == torch.float64
    assert np.array_equal(found.dice.numpy(), overlap(true.numpy(), pred.numpy()).dice)
    soft = pred.to(torch.float32).requires_grad_()
    with pytest.raises(TypeError, match=r"overlap has no gradient.*DiceLoss"):
        overlap(true.to(torch.float32), soft)
    with torch.no_grad():
        assert torch.equal(overlap(true.to(torch.float32), soft).dice, found.dice)


def test_jax_eager_and_no_gradient():
    jax = pytest.importorskip("jax")
    true, pred = maps()
    found = overlap(jax.numpy.asarray(true), jax.numpy.asarray(pred))
    np.testing.assert_allclose(np.asarray(found.dice), overlap(true, pred).dice, rtol=1e-6)
    with pytest.raises(TypeError, match=r"overlap has no gradient.*DiceLoss"):
        jax.grad(lambda x: overlap(x, x).dice.sum())(jax.numpy.ones(SHAPE))


@pytest.mark.slow
def test_tensorflow_eager_and_no_gradient():
    tf = pytest.importorskip("tensorflow")
    true, pred = maps()
    found = overlap(tf.constant(true), tf.constant(pred))
    assert np.array_equal(found.dice.numpy(), overlap(true, pred).dice)
    x = tf.ones(SHAPE)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with pytest.raises(TypeError, match=r"overlap has no gradient.*DiceLoss"):
            overlap(x, x)
    with pytest.raises(TypeError, match=r"outside tf\.function"):
        tf.function(lambda y: overlap(y, y).dice)(tf.constant(true))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": (1, 1)}, "labels must differ from each other, got 1 twice"),
        ({"labels": (1.5,)}, r"labels must be an integer, or a sequence of them, got \(1\.5,\)"),
        ({"labels": ()}, "labels must be an integer"),
        ({"labels": "hippocampus"}, "labels must be an integer"),
        ({"spacing": (1.0, 2.0)}, "spacing must be a positive number, or one for each of 3 axes"),
        ({"spacing": (1.0, 2.0, 0.0)}, "spacing must be a positive number"),
        ({"spacing": (1.0, 2.0, -1.0)}, "spacing must be a positive number"),
        ({"spatial_dims": 2}, r"must be \(batch, d1, d2\) for spatial_dims=2"),
        ({"mask": np.ones((3, 5, 6, 7))}, "mask must have the maps' shape"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        overlap(*maps(), **options)


def test_a_map_without_a_batch_is_refused_rather_than_read_slice_by_slice():
    true, pred = maps()
    with pytest.raises(ValueError, match=r"add the axis of the batch \(array\[None\]\)"):
        overlap(true[0], pred[0])


def test_complex_maps_are_refused():
    with pytest.raises(TypeError, match="must hold integers or bools, got dtype complex128"):
        overlap(np.ones(SHAPE, dtype=complex), np.ones(SHAPE, dtype=complex))
