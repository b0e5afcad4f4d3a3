"""What a mask leaves out has no part in a loss, whatever stands there; and what is left where it leaves nothing."""

import warnings

import numpy as np
import pytest

import agnoreg

from .cases import MASKED_CLASSES, MASKED_KINDS
from .tolerances import FLOAT64, gradient_error, value_error

SHAPE = (2, 8, 7, 10)


def _results(case, inputs, masks, dtype, maker):
    """Return the value ``(B,)`` and the gradients of its sum, as NumPy arrays."""
    arrays, wrt = maker.all(inputs, dtype), tuple(range(len(inputs)))
    loss, masks = case.build(reduction="none"), maker.masks(masks, dtype)
    value, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=wrt, **masks)
    return maker.numpy(value), [maker.numpy(gradient) for gradient in gradients]


def _there(case, inputs, masks):
    """Return which entries of the inputs have a weight."""
    shape, place = inputs[0].shape, 1 if dict(case.options).get("data_format") == "channels_first" else -1
    fit = [np.expand_dims(mask, place) if mask.ndim < len(shape) else mask for mask in masks.values()]
    counts = np.ones(shape, dtype=bool)
    for mask in fit:
        counts &= mask > 0
    return counts


@pytest.mark.parametrize("case", MASKED_KINDS, ids=str)
def test_what_has_no_weight_may_be_anything(case, maker):
    inputs = case.arrays(SHAPE)
    masks = case.masks(*inputs)
    there = _there(case, inputs, masks)
    assert 0.1 < 1 - there.mean() < 0.6
    value, gradients = _results(case, inputs, masks, "float32", maker)
    assert np.all(np.isfinite(value))
    for anything in (0.0, np.nan):
        spoiled = tuple(np.where(there, x, anything) for x in inputs)
        found, others = _results(case, spoiled, masks, "float32", maker)
        assert np.array_equal(found, value)
        for gradient, other in zip(gradients, others, strict=True):
            assert np.array_equal(other, gradient)
            assert not np.any(other[~there])


@pytest.mark.parametrize("case", [case for case in MASKED_KINDS if "batch of 1" not in case.masked], ids=str)
def test_a_sample_of_which_a_mask_leaves_nothing_is_no_number_and_the_others_are(case, maker):
    inputs = case.arrays(SHAPE)
    masks = case.masks(*inputs)
    expected, exact = case.expected(*inputs, **masks)
    for mask in masks.values():
        mask[1] = 0
    with warnings.catch_warnings():
        # Where it can be seen without waiting for a device there is a warning.
        warnings.simplefilter("ignore", agnoreg.EmptyMaskWarning)
        value, gradients = _results(case, inputs, masks, "float64", maker)
    assert value_error(value[:1], expected[:1]) <= FLOAT64.value
    assert np.isnan(value[1])
    for gradient, one in zip(gradients, exact, strict=True):
        assert gradient_error(gradient[:1], one[:1]) <= FLOAT64.gradient
        assert not np.any(gradient[1])


#: Masks as they are stored: 0 and 255, labels of either sign, the numbers of a structure and its borders.
STORED = {"uint8": (255,), "int16": (-3, 1, 2), "int64": (1, 1 << 40), "uint16": (1, 1 << 15)}


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "no kernels"])
@pytest.mark.parametrize("case", MASKED_CLASSES, ids=str)
def test_integers_count_where_they_are_not_0(case, maker, monkeypatch, kernels):
    monkeypatch.setattr(type(maker.backend), "kernels", kernels)
    inputs = case.arrays(SHAPE)
    there = {name: mask > 0 for name, mask in case.masks(*inputs).items()}
    arrays, wrt, loss = maker.all(inputs, "float32"), tuple(range(len(inputs))), case.build(reduction="none")
    value, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=wrt, **maker.masks(there))
    for dtype, numbers in STORED.items():
        if "64" in dtype and maker.widest != "float64":
            continue
        stored = {name: np.where(mask, np.resize(numbers, mask.shape), 0) for name, mask in there.items()}
        masks = {name: maker(mask, dtype) for name, mask in stored.items()}
        found, others = agnoreg.value_and_grad(loss, *arrays, argnums=wrt, **masks)
        assert np.array_equal(maker.numpy(found), maker.numpy(value))
        for gradient, other in zip(gradients, others, strict=True):
            assert np.array_equal(maker.numpy(other), maker.numpy(gradient))
