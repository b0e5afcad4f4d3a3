"""Arrays of two frameworks or devices are refused, and TensorFlow's tensors and variables are taken."""

import numpy as np
import pytest
from every import LOSSES, arrays_for

import agnoreg
from agnoreg import functional


def test_arrays_of_two_frameworks_are_refused(backend, rng):
    x = rng.random((1, 4, 4, 4))
    other = agnoreg.get_backend("numpy" if backend.name != "numpy" else "torch")
    with pytest.raises(TypeError, match="two frameworks") as error:
        functional.ssd(backend.from_numpy(x), other.from_numpy(x))
    assert type(backend.from_numpy(x)).__name__ in str(error.value)
    assert type(other.from_numpy(x)).__name__ in str(error.value)
    assert "from_numpy" in str(error.value)


def test_tensors_on_two_devices_are_refused():
    import torch

    with pytest.raises(TypeError, match="two devices: cpu and meta"):
        functional.ssd(torch.zeros(1, 4), torch.zeros(1, 4, device="meta"))


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_leaves_its_device(name):
    import torch

    # A tensor on the device "meta" has no data: whoever reads a value, or copies to the host, fails.
    loss = LOSSES[name]()
    shape = (2, 8, 8, 8) if loss.inputs == 2 else (2, 8, 8, 8, 3)
    arrays = [torch.zeros(shape, device="meta") for _ in range(loss.inputs)]
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    assert value.device.type == gradient.device.type == "meta"
    assert loss(*[array.requires_grad_() for array in arrays]).device.type == "meta"


@pytest.mark.parametrize("name", LOSSES)
def test_tensorflow_tensors_and_variables_are_taken(rng, name):
    import tensorflow as tf

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng, (2, 7, 8, 9))
    expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays)
    for kind in (tf.constant, tf.Variable):
        value, gradient = agnoreg.value_and_grad(loss, *[kind(x) for x in arrays])
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-10)
        np.testing.assert_allclose(
            gradient.numpy(), expected_gradient, atol=1e-12 + 1e-9 * abs(expected_gradient).max()
        )
