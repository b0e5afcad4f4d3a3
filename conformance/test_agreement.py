"""The backends of a run against each other, on the same inputs."""

import itertools

import pytest

import agnoreg

from .cases import CASES, MASKED, SHAPES
from .tolerances import FLOAT32, FLOAT64, gradient_error, value_error


@pytest.mark.parametrize(("dtype", "limits"), [("float64", FLOAT64), ("float32", FLOAT32)], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES + MASKED, ids=str)
def test_all_backends_agree(case, dtype, limits, backends, arrays, record):
    if len(backends) < 2:
        pytest.skip("one backend has no other to agree with")
    inputs = case.arrays(SHAPES["odd"], seed=1)
    loss = case.build(reduction="none")
    results = []
    for backend in backends:
        maker, wrt = arrays(backend), tuple(range(len(inputs)))
        masks = maker.masks(case.masks(*inputs), dtype)
        value, gradients = agnoreg.value_and_grad(loss, *maker.all(inputs, dtype), argnums=wrt, **masks)
        results.append((backend, maker.numpy(value), [maker.numpy(gradient) for gradient in gradients]))
    wrong = []
    for (one, value, gradients), (other, expected, others) in itertools.permutations(results, 2):
        by_value = value_error(value, expected)
        by_gradient = max(gradient_error(a, b) for a, b in zip(gradients, others, strict=True))
        if dtype == "float64":
            record(case.family, "agreement", by_value, by_gradient, backend=one)
        if by_value > limits.value or by_gradient > limits.gradient:
            wrong.append(f"{one.name} and {other.name}: value {by_value:.1e}, gradient {by_gradient:.1e}")
    assert not wrong, "; ".join(wrong)
