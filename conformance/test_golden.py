"""Every golden vector on every backend, in float32; and the reference that the other tests trust."""

import importlib

import numpy as np
import pytest

import agnoreg
from agnoreg.loss import deform, kernel, label, util

from . import reference
from .cases import FAMILIES
from .golden import cases, kernels, vectors
from .tolerances import GOLDEN, gradient_error, value_error

CASES = cases()
IDS = [f"{case['id']}-{case['cls']}" for case in CASES]


def _inputs(case):
    return tuple(vectors()[f"{case['id']}/input{k}"] for k in range(case["n_inputs"]))


def _gradients(case):
    return [vectors()[f"{case['id']}/grad{k}"] for k in range(case["n_inputs"])]


def test_there_are_75_cases():
    assert len(CASES) == 75


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_reference_gives_the_golden_value_and_gradients(case):
    value, gradients = reference.evaluate(case["cls"], case["kwargs"], *_inputs(case))
    assert value_error(vectors()[f"{case['id']}/value"], value) <= GOLDEN.value
    for gradient, expected in zip(gradients, _gradients(case), strict=True):
        assert gradient_error(expected, gradient) <= GOLDEN.gradient


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_value_and_gradients(case, maker, record):
    arrays = maker.all(_inputs(case), "float32")
    cls = getattr(importlib.import_module(f"agnoreg.loss.{case['module']}"), case["cls"])
    loss = cls(**case["kwargs"], reduction="none")
    value, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=tuple(range(len(arrays))))
    error = value_error(maker.numpy(value), vectors()[f"{case['id']}/value"])
    errors = [
        gradient_error(maker.numpy(gradient), golden)
        for gradient, golden in zip(gradients, _gradients(case), strict=True)
    ]
    record(FAMILIES[case["cls"]][0], "golden", error, max(errors))
    assert error <= GOLDEN.value
    assert max(errors) <= GOLDEN.gradient


def _check(name, result, maker, record):
    expected = vectors()[f"fn/{name}"]
    error = value_error(maker.numpy(result), expected)
    record("functions", "golden", error)
    assert error <= GOLDEN.value


@pytest.mark.parametrize("name", ["gradient_dx", "gradient_dy", "gradient_dz"])
def test_gradient_of_a_component(name, maker, record):
    _check(name, getattr(deform, name)(maker(vectors()["fn/input/f"], "float32")), maker, record)


@pytest.mark.parametrize("name", ["gradient_dx", "gradient_dy", "gradient_dz"])
def test_gradient_of_a_field(name, maker, record):
    field = maker(vectors()["fn/input/ddf"], "float32")
    _check(f"gradient_dxyz/{name}", deform.gradient_dxyz(field, getattr(deform, name)), maker, record)


def test_centroid(maker, record):
    mask, grid = (maker(vectors()[f"fn/input/{name}"], "float32") for name in ("y_true", "grid"))
    _check("compute_centroid", label.compute_centroid(mask, grid), maker, record)


def test_centroid_distance(maker, record):
    t, p, grid = (maker(vectors()[f"fn/input/{name}"], "float32") for name in ("y_true", "y_pred", "grid"))
    _check("compute_centroid_distance", label.compute_centroid_distance(t, p, grid), maker, record)


def test_foreground_proportion(maker, record):
    y = maker(vectors()["fn/input/y_true"], "float32")
    _check("foreground_proportion", label.foreground_proportion(y), maker, record)


def test_separable_filter(maker, record):
    image = maker(vectors()["fn/input/f"][..., None], "float32")
    taps = maker(vectors()["fn/input/kernel"], "float32")
    _check("separable_filter", util.separable_filter(image, taps), maker, record)


@pytest.mark.parametrize(("name", "argument"), kernels())
def test_kernel(name, argument):
    # DeepReg's own names for the first two end in _kernel1d; a kernel is a plain sequence of numbers.
    function = getattr(kernel, name.removesuffix("_kernel1d") if name.startswith(("rect", "tri")) else name)
    expected = next(array for key, array in vectors().items() if key == f"kernel/{name}/{argument:g}")
    assert value_error(np.asarray(function(argument)), expected) <= GOLDEN.value
