"""The reference's gradients against central differences of it, and gradients through each framework's own autodiff.

A closed form is right where it is the reference's (`test_reference`), and that one is right where it is the slope of
the reference itself: the differences of a case are taken once, not on every backend.
"""

import numpy as np
import pytest

import agnoreg
from agnoreg.loss.image import LocalNormalizedCrossCorrelation
from agnoreg.loss.label import SumSquaredDifference
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin

from .autodiff import gradients as autodiff
from .cases import CASES, FORMULAS, MASKED, Case
from .selection import kind_of_work, one_of_each
from .tolerances import DIFFERENCES, FLOAT32, FLOAT64, HALF, gradient_error, half_gradient_error, value_error

#: So large that every mask leaves something of both samples, a bending energy's too.
SHAPE = (2, 8, 7, 10)
STEP = 1e-5
#: Kinds of input that lie on a kink (a threshold, the end of [0, 1]) have no central difference. A class that only
#: turns a sign is left to the combined losses.
SMOOTH = [
    case
    for case in CASES + MASKED
    if case.kind not in ("background", "steps", "hard") and (case.options or not case.cls.endswith("Loss"))
]


class NegativeMultiScaleLNCC(NegativeLossMixin, MultiScaleMixin, LocalNormalizedCrossCorrelation):
    """The two mixins on a loss that has neither in the library."""


class NegativeSSD(NegativeLossMixin, SumSquaredDifference):
    """A loss that the library has without the mixin."""


COMBINED = {
    "negated": lambda: NegativeSSD(reduction="sum"),
    "negated and multi-scale": lambda: NegativeMultiScaleLNCC(scales=[0, 1], kernel_size=3, reduction="sum"),
    "weighted sum": lambda: agnoreg.build_loss(
        [
            {"name": "lncc", "kernel_size": 5, "weight": 2.0},
            {"name": "ssd", "weight": 0.1},
            {"name": "dice", "scales": [0, 1], "weight": 0.5},
        ]
    ),
    "weighted sum of fields": lambda: agnoreg.build_loss(
        [{"name": "bending", "weight": 1.0}, {"name": "gradient", "l1": True, "weight": 0.25}]
    ),
}


def _difference_error(function, inputs, gradients, seed):
    """Return the worst error along a random direction of each input and at one voxel of the last."""
    rng = np.random.default_rng(seed)

    def value(index, move):
        return float(function(*(x + move if k == index else x for k, x in enumerate(inputs))))

    worst = 0.0
    for index, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        directions = [(rng.normal(size=x.shape), np.linalg.norm(gradient))]
        if index == len(inputs) - 1:
            one = np.zeros(x.size)
            one[rng.integers(x.size)] = 1.0
            directions.append((one.reshape(x.shape), np.max(np.abs(gradient))))
        for direction, scale in directions:
            step = STEP * direction
            slope = (value(index, step) - value(index, -step)) / (2 * STEP)
            error = abs(slope - float(np.vdot(gradient, direction))) / (scale or 1.0)
            worst = max(worst, error if np.isfinite(error) else float("inf"))
    return worst


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_the_gradient_of_the_reference_is_its_slope(case):
    inputs = case.arrays(SHAPE)
    masks = case.masks(*inputs)
    _, gradients = case.expected(*inputs, **masks)
    error = _difference_error(lambda *x: case.expected(*x, **masks)[0].sum(), inputs, gradients, seed=7)
    assert error <= DIFFERENCES.gradient


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_the_gradient_follows_the_reduction(case, reduction, maker):
    arrays = maker.all(case.arrays(SHAPE))
    wrt = tuple(range(len(arrays)))
    value, gradients = agnoreg.value_and_grad(case.build(reduction=reduction), *arrays, argnums=wrt)
    summed, expected = agnoreg.value_and_grad(case.build(reduction="sum"), *arrays, argnums=wrt)
    share = SHAPE[0] if reduction == "mean" else 1
    values = maker.numpy(value) if reduction == "mean" else maker.numpy(value).sum()
    assert value_error(values, maker.numpy(summed) / share) <= FLOAT64.value
    for got, of_sum in zip(gradients, expected, strict=True):
        assert gradient_error(maker.numpy(got), maker.numpy(of_sum) / share) <= FLOAT64.gradient


@pytest.mark.parametrize("name", COMBINED)
def test_combined_losses(name, maker, record):
    loss = COMBINED[name]()
    inputs = Case("", "field" if "fields" in name else "soft").arrays(SHAPE)
    arrays = maker.all(inputs)
    total, found = agnoreg.value_and_grad(loss, *arrays, argnums=tuple(range(len(arrays))))
    assert value_error(maker.numpy(total), maker.numpy(loss(*arrays))) <= FLOAT64.value
    gradients = [maker.numpy(gradient) for gradient in found]
    error = _difference_error(lambda *x: maker.numpy(loss(*maker.all(x))), inputs, gradients, seed=7)
    record("weighted sum" if "weighted" in name else {"negated": "ssd"}.get(name, "lncc"), "differences", None, error)
    assert error <= DIFFERENCES.gradient


@pytest.mark.parametrize("case", [case for case in FORMULAS if case.inputs == 2], ids=str)
def test_argnums_choose_the_inputs(case, maker):
    arrays = maker.all(case.arrays(SHAPE))
    loss = case.build()
    _, (first, second) = agnoreg.value_and_grad(loss, *arrays, argnums=(0, 1))
    for argnums, expected in ((-1, second), (0, first), (1, second)):
        _, gradient = agnoreg.value_and_grad(loss, *arrays, argnums=argnums)
        assert gradient_error(maker.numpy(gradient), maker.numpy(expected)) <= FLOAT64.gradient


@pytest.mark.parametrize("case", one_of_each(CASES + MASKED, kind_of_work))
def test_autodiff_of_a_weighted_batch(case, backend, maker, record):
    # Each sample's gradient meets a factor of its own on the way back.
    inputs = case.arrays(SHAPE)
    weights, masks = np.array([0.5, -3.0]), case.masks(*inputs)
    loss, factor, given = case.build(reduction="none"), maker(weights), maker.masks(masks)
    found = autodiff(backend, lambda *arrays: backend.xp.sum(loss(*arrays, **given) * factor), maker.all(inputs))
    value, expected = case.expected(*inputs, **masks)
    assert np.all(np.isfinite(value))
    for got, one in zip(found, expected, strict=True):
        scaled = one * weights.reshape((-1,) + (1,) * (one.ndim - 1))
        error = gradient_error(maker.numpy(got), scaled)
        record(case.family, "float64", None, error)
        assert error <= FLOAT64.gradient


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_autodiff_in_lower_precision(case, dtype, backend, maker, record):
    # The factor is beyond float16, its product with the gradient is not: the two must meet in float32.
    arrays = maker.all(case.arrays(SHAPE), dtype)
    loss, factor = case.build(reduction="sum"), 1e5
    found = autodiff(backend, lambda *x: loss(*x) * factor, arrays)
    _, expected = case.expected(*(maker.numpy(array) for array in arrays))
    for got, one in zip(found, expected, strict=True):
        assert got.dtype == getattr(backend.xp, dtype)
        error = (
            half_gradient_error(maker.numpy(got), factor * one, dtype)
            if dtype in HALF
            else gradient_error(maker.numpy(got), factor * one)
        )
        record(case.family, dtype, None, error)
        assert error <= (HALF.get(dtype) or FLOAT32).gradient
