"""Every loss has gradients by all its inputs, and they are finite where values are."""

import numpy as np
import pytest
from every import LOSSES, arrays_for

import agnoreg


def degenerate(cls, rng):
    """Return inputs at which square roots, quotients and norms have no derivative."""
    if cls.inputs == 1:
        shape = (1, 6, 6, 6, 3)
        return {"no displacement": (np.zeros(shape),), "translation": (np.ones(shape),)}
    x = rng.random((1, 6, 6, 6))
    zero, single = np.zeros_like(x), np.zeros_like(x)
    single[0, 3, 3, 3] = 1
    return {
        "equal": (x, x),
        "constant": (np.full_like(x, 0.5), np.full_like(x, 0.5)),
        "constant and not": (np.full_like(x, 0.5), x),
        "empty": (zero, zero),
        "empty and not": (zero, x),
        "one voxel": (single, single),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_where_values_are(backend, rng, name, dtype):
    loss = LOSSES[name]()
    for case, arrays in degenerate(LOSSES[name], rng).items():
        given = [backend.from_numpy(x.astype(dtype)) for x in arrays]
        value, gradients = agnoreg.value_and_grad(loss, *given, argnums=range(loss.inputs))
        assert np.isfinite(backend.to_numpy(value)), case
        for gradient in gradients:
            assert np.all(np.isfinite(backend.to_numpy(gradient))), case


def directional(loss, arrays, index, direction, step):
    """Return the central difference of the loss along a direction of one input."""
    ends = []
    for sign in (1, -1):
        moved = list(arrays)
        moved[index] = moved[index] + sign * step * direction
        ends.append(float(loss(*moved)))
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("name", LOSSES)
def test_every_input_of_every_loss_has_its_gradient(backend, rng, name):
    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng, (2, 8, 7, 9))
    given = [backend.from_numpy(x) for x in arrays]
    for index in range(loss.inputs):
        direction = rng.standard_normal(arrays[index].shape)
        _, gradient = agnoreg.value_and_grad(loss, *given, argnums=index)
        expected = directional(loss, arrays, index, direction, 1e-6)
        found = float((backend.to_numpy(gradient) * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_a_function_without_gradient_says_what_to_add(backend, rng):
    class MeanAbsoluteError(agnoreg.Loss):
        def call(self, y_true, y_pred):
            xp = agnoreg.backend_of(y_true).xp
            return xp.mean(xp.abs(y_true - y_pred), axis=(1, 2, 3))

    arrays = [backend.from_numpy(x) for x in rng.random((2, 2, 3, 4, 5))]
    if backend.name in ("torch", "tensorflow", "jax"):
        _, gradient = agnoreg.value_and_grad(MeanAbsoluteError(), *arrays)
        sign = np.sign(backend.to_numpy(arrays[1]) - backend.to_numpy(arrays[0]))
        np.testing.assert_allclose(backend.to_numpy(gradient), sign / (2 * 60))
    else:
        with pytest.raises(NotImplementedError, match=r"MeanAbsoluteError|call.*gradient\(self"):
            agnoreg.value_and_grad(MeanAbsoluteError(), *arrays)
