"""One loss object inside TensorFlow's traced functions: a step of optimisation is what NumPy's gradient makes it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from every import LOSSES

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import agnoreg  # noqa: E402

SHAPE = (12, 13, 14)
RATE = 0.5


def images(loss, rng, shape=SHAPE, batch=2):
    """Return the arrays of a loss, in float64."""
    size = (batch, *shape, 3) if loss.inputs == 1 else (batch, *shape)
    return [rng.random(size) for _ in range(loss.inputs)]


def step_of(loss, like, jit_compile):
    """Return parameters that are added to the moving image, and a traced step of gradient descent for any batch."""
    parameters = tf.Variable(tf.zeros(like.shape[1:], like.dtype))
    signature = [tf.TensorSpec((None, *like.shape[1:]), like.dtype)] * loss.inputs

    @tf.function(input_signature=signature, jit_compile=jit_compile)
    def step(*arrays):
        with tf.GradientTape() as tape:
            value = loss(*arrays[:-1], arrays[-1] + parameters)
        parameters.assign_sub(RATE * tape.gradient(value, parameters))
        return value

    return parameters, step


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "XLA"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_traced_step_is_numpys(rng, name, jit_compile):
    loss = agnoreg.build_loss({"name": name, **({"kernel_size": 3} if name == "lncc" else {})})
    parameters, step = step_of(loss, images(loss, rng)[0], jit_compile)
    added = 0.0
    # A second step, of another batch, begins where the first one ended.
    for batch in (2, 3) if not jit_compile else (2,):
        *fixed, moving = images(loss, rng, batch=batch)
        value, gradient = agnoreg.value_and_grad(loss, *fixed, moving + added)
        np.testing.assert_allclose(step(*map(tf.constant, (*fixed, moving))), value, rtol=1e-9)
        added -= RATE * gradient.sum(axis=0)
        np.testing.assert_allclose(parameters.numpy(), added, rtol=1e-8, atol=1e-9 * np.abs(added).max())


def operations(function):
    """Return how many operations a traced function has, with those of the functions that it calls, such as loops."""
    definition = function.get_concrete_function().graph.as_graph_def()
    return len(definition.node) + sum(len(one.node_def) for one in definition.library.function)


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize("name", LOSSES)
def test_more_planes_are_no_more_operations(rng, name):
    loss = agnoreg.build_loss({"name": name, **({"kernel_size": 3} if name == "lncc" else {})})
    found = [
        operations(step_of(loss, images(loss, rng, (planes, 6, 5))[0], jit_compile=False)[1]) for planes in (40, 120)
    ]
    # The last slab may be another one, outside the loop.
    assert found[1] <= 1.1 * found[0]


LARGE = """
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from test_transforms_tensorflow import RATE, images, step_of

import agnoreg

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

# Graphs without kernels are what takes memory, or does not.
agnoreg.get_backend("tensorflow").kernels = False
loss, results = agnoreg.build_loss({"name": "lncc", "kernel_size": 7}), []
*fixed, moving = images(loss, np.random.default_rng(5), (96, 96, 96), 1)
value, gradient = agnoreg.value_and_grad(loss, *fixed, moving)
for jit_compile in (False, True):
    given = [tf.constant(x, "float32") for x in (*fixed, moving)]
    parameters, step = step_of(loss, given[0], jit_compile)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    found = step(*given).numpy()
    megabytes = peak() - before
    error = np.abs(parameters.numpy() + RATE * gradient[0]).max() / np.abs(RATE * gradient).max()
    results.append((megabytes, abs(found - value) / abs(value), error))
print(json.dumps(np.asarray(results).tolist()))
"""


def test_a_traced_step_of_a_large_image_takes_bounded_memory():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    for kind, (megabytes, value, gradient) in zip(
        ("graph", "XLA"), json.loads(done.stdout.splitlines()[-1]), strict=True
    ):
        print(f"tf.function, {kind}, a step of LNCC of 96^3: {megabytes:.0f} MB, the compilation among them")
        assert value < 1e-6
        assert gradient < 1e-5
        # An image takes 3.4 MB.
        assert megabytes < 300
