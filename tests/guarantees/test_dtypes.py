"""Integers do not wrap, dtypes mix, half precision is computed in float32, and parameters change no dtype."""

import numpy as np
import pytest
from every import LOSSES, METRICS, arrays_for

import agnoreg
from agnoreg import functional

INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64")


def test_uint8_differences_do_not_wrap(backend):
    one, two = (backend.from_numpy(np.full((1, 2, 2, 2), v, dtype=np.uint8)) for v in (1, 2))
    assert float(functional.ssd(one, two)[0]) == 1


@pytest.mark.parametrize("other", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_integers_give_the_value_of_the_same_numbers_as_float64(backend, rng, dtype, other):
    t = (rng.random((2, 6, 7, 8)) < 0.5).astype(dtype)
    p = (rng.random((2, 6, 7, 8)) < 0.5).astype(other)
    for name in ("dice", "jaccard", "ssd", "gncc", "lncc"):
        loss = agnoreg.build_loss(name)
        exact = loss.call(t.astype(np.float64), p.astype(np.float64))
        value = backend.to_numpy(loss.call(backend.from_numpy(t), backend.from_numpy(p)))
        np.testing.assert_allclose(value, exact, rtol=1e-5 if value.dtype == np.float32 else 1e-12, atol=1e-7)


def test_uint8_dice_does_not_overflow(backend):
    label = np.full((1, 16, 16, 16), 1, dtype=np.uint8)
    value = functional.dice(backend.from_numpy(label), backend.from_numpy(label))
    assert float(value[0]) == pytest.approx(1)


def test_counts_above_two_to_the_24_are_exact():
    # One voxel of 2^24 + 2^20 differs, which no single float32 sum could see.
    label = np.ones((1, 1088, 128, 128), dtype=bool)
    other = label.copy()
    other[0, 0, 0, 0] = False
    n = label.size
    value = agnoreg.loss.label.DiceScore(binary=True, smooth_nr=0, smooth_dr=0).measure()
    backend = agnoreg.get_backend("numpy")
    from agnoreg.engine.evaluator import Evaluator

    product, both = Evaluator(value, backend, (label, other)).sums()
    # As integers: a float32 is compared with a number that is rounded to float32 first.
    assert int(product[0]) == n - 1
    assert int(both[0]) == 2 * n - 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(rng, name, dtype):
    import torch

    loss = LOSSES[name]()
    halves = [torch.tensor(x).to(getattr(torch, dtype)) for x in arrays_for(loss, rng)]
    value, gradient = agnoreg.value_and_grad(loss, *halves)
    wide, _ = agnoreg.value_and_grad(loss, *[x.float() for x in halves])
    assert value.dtype == torch.float32
    assert gradient.dtype == halves[0].dtype
    torch.testing.assert_close(value, wide, rtol=1e-6, atol=0)


def test_a_sum_beyond_the_largest_half_is_right():
    ones = np.ones((1, 128, 128, 128), np.float16)
    assert agnoreg.build_loss({"name": "dice"})(ones, ones) == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays_for(loss, rng)]
    value = loss(*arrays)
    expected = torch.autograd.grad(value, arrays)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(*arrays)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, value)
    for found, wanted in zip(torch.autograd.grad(inside, arrays), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", METRICS)
def test_parameters_do_not_change_the_dtype(backend, rng, name, dtype):
    loss = METRICS[name]()
    arrays = [backend.from_numpy(x) for x in arrays_for(METRICS[name], rng, (2, 7, 8, 9), dtype)]
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    for result in (value, loss.call(*arrays), gradient):
        assert str(backend.to_numpy(result).dtype) == dtype
        assert agnoreg.backend_of(result) is backend
    assert tuple(value.shape) == ()
