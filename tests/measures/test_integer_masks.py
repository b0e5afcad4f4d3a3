"""Masks of integers, as they are stored, say which voxels count; how much, floating-point ones alone."""

import dask.array as da
import jax
import numpy as np
import pytest
import tensorflow as tf
import torch

import agnoreg
from conformance.settings import set_for

SHAPE = (2, 8, 7, 10)
#: One of each kind of work.
KINDS = [{"name": "lncc", "kernel_size": 3}, "gmi", {"name": "dice", "scales": [0, 1]}, "cross-entropy", "bending"]
#: Of those that soon are traced.
TRACED = KINDS[2:]


def given(name, rng):
    """Return a loss, its arrays, and where a mask of them holds."""
    loss = agnoreg.build_loss(name)
    arrays = tuple(rng.random((*SHAPE, 3) if loss.inputs == 1 else SHAPE) for _ in range(loss.inputs))
    return loss, arrays, np.arange(SHAPE[3]) + rng.random(SHAPE) > 3.0


def same(found, expected):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("name", KINDS, ids=str)
def test_in_blocks_0_and_255_are_false_and_true(rng, name):
    loss, arrays, there = given(name, rng)

    def evaluated(mask):
        blocks = [da.from_array(x, chunks=(1, 4, 4, 5, *x.shape[4:])) for x in (*arrays, mask)]
        return agnoreg.value_and_grad(loss, *blocks[:-1], mask=blocks[-1])

    same(evaluated(there.astype("uint8") * 255), evaluated(there))


@pytest.mark.parametrize("name", TRACED, ids=str)
def test_traced_by_jax_0_and_255_are_false_and_true(rng, name):
    with set_for("float64"):
        loss, arrays, there = given(name, rng)
        step = jax.jit(lambda *x: jax.value_and_grad(lambda moving: loss(*x[:-2], moving, mask=x[-1]))(x[-2]))
        same(step(*arrays, there.astype("uint8") * np.uint8(255)), step(*arrays, there))


@pytest.mark.parametrize("name", TRACED, ids=str)
def test_traced_by_tensorflow_0_and_255_are_false_and_true(rng, name):
    loss, arrays, there = given(name, rng)

    @tf.function(reduce_retracing=True)
    def step(*x):
        return agnoreg.value_and_grad(loss, *x[:-1], mask=x[-1])

    same(step(*arrays, there.astype("uint8") * np.uint8(255)), step(*arrays, there))


@pytest.mark.parametrize("name", TRACED, ids=str)
def test_in_a_graph_and_mapped_by_pytorch_0_and_255_are_false_and_true(rng, name):
    loss, arrays, there = given(name, rng)
    arrays, there = [torch.tensor(x) for x in arrays], torch.tensor(there)
    torch.compiler.reset()
    compiled = torch.compile(lambda *x: loss(*x[:-1], mask=x[-1]), backend="eager", fullgraph=True)
    mapped = torch.func.vmap(torch.func.grad_and_value(lambda *x: loss(*x[:-1], mask=x[-1])))
    stored = there.to(torch.uint8) * 255
    same([compiled(*arrays, stored)], [compiled(*arrays, there)])
    same(mapped(*(x[None] for x in arrays), stored[None]), mapped(*(x[None] for x in arrays), there[None]))


def test_each_mask_of_a_call_counts_where_it_is_not_0(rng):
    loss, arrays, there = given("ssd", rng)
    other = rng.random(SHAPE) > 0.3
    weights = rng.random(SHAPE)
    expected = agnoreg.value_and_grad(loss, *arrays, mask=there & other)
    same(agnoreg.value_and_grad(loss, *arrays, fixed_mask=there * -7, moving_mask=other * 3), expected)
    same(agnoreg.value_and_grad(loss, *arrays, fixed_mask=there, moving_mask=other * 255), expected)
    expected = agnoreg.value_and_grad(loss, *arrays, mask=weights, fixed_mask=there)
    same(agnoreg.value_and_grad(loss, *arrays, mask=weights, fixed_mask=there * 255), expected)


def test_floating_point_numbers_are_weights(rng):
    loss, (t, p), there = given("ssd", rng)
    expected = np.average((t - p) ** 2, weights=np.where(there, 255.0, 1.0))
    assert loss(t, p, mask=np.where(there, 255.0, 1.0)) == pytest.approx(expected, rel=1e-12)
    assert loss(t, p, mask=np.where(there, 255, 1)) == pytest.approx(np.mean((t - p) ** 2), rel=1e-12)


def test_sums_registrations_and_losses_of_ones_own_see_bools(rng):
    _, (t, p), there = given("ssd", rng)
    ddf = rng.random((*SHAPE, 3))
    whole = agnoreg.build_loss({"image": [{"name": "gncc"}, {"name": "ssd"}], "regularization": {"name": "gradient"}})
    stored = there.astype("uint8") * 255
    sections = {"image": (t, p), "regularization": ddf}
    same(
        agnoreg.value_and_grad(whole, **sections, argnums="regularization", mask=stored),
        agnoreg.value_and_grad(whole, **sections, argnums="regularization", mask=there),
    )

    class Kept(agnoreg.Loss):
        def call(self, y_true, y_pred, mask=None):
            assert mask.dtype == bool
            return np.mean((y_true - y_pred) ** 2 * mask, axis=(1, 2, 3))

    assert Kept()(t, p, mask=stored) == Kept()(t, p, mask=there)
