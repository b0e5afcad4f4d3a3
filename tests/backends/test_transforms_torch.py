"""One loss object inside PyTorch's transforms: a step of optimisation is what the NumPy adapter's gradient makes it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from every import LOSSES

import agnoreg

SHAPE = (12, 13, 14)
RATE = 0.5

COMPILED = {
    "lncc": agnoreg.build_loss({"name": "lncc", "kernel_size": 3}),
    "dice": agnoreg.build_loss({"name": "dice", "scales": [0, 1]}),
    "bending": agnoreg.build_loss("bending"),
}

# PyTorch's own compiler instantiates autograd.Function, and warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def images(loss, rng, shape=SHAPE, batch=2):
    """Return the arrays of a loss, in float64."""
    size = (batch, *shape, 3) if loss.inputs == 1 else (batch, *shape)
    return [rng.random(size) for _ in range(loss.inputs)]


class Shifted(torch.nn.Module):
    """Add an image of parameters, whose gradient is the sum of the samples' gradients by the predicted images."""

    def __init__(self, like):
        super().__init__()
        self.image = torch.nn.Parameter(torch.zeros_like(like[0]))

    def forward(self, x):
        return x + self.image


def step_by_numpy(loss, *arrays):
    """Return the loss, and what a step of gradient descent adds to the parameters."""
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    return float(value), -RATE * gradient.sum(axis=0)


def assert_close(found, expected, rtol=1e-9):
    for one, wanted in zip(found, expected, strict=True):
        one = one.detach().numpy() if torch.is_tensor(one) else one
        np.testing.assert_allclose(one, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


def step(loss, arrays, compiled, autocast=False):
    """Return the loss and what a step of SGD adds to the parameters of a model."""
    *fixed, moving = map(torch.as_tensor, arrays)
    model = Shifted(moving)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def forward(*given):
        return loss(*given[:-1], model(given[-1]))

    value = (compiled(forward) if compiled else forward)(*fixed, moving)
    value.backward()
    optimizer.step()
    return value, model.image


# --- torch.compile ----------------------------------------------------------------------------------------------------


def fullgraph(backend):
    torch._dynamo.reset()
    return lambda function: torch.compile(function, fullgraph=True, backend=backend)


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.slow
def test_a_compiled_step_is_numpys(rng, name):
    arrays = images(COMPILED[name], rng)
    assert_close(step(COMPILED[name], arrays, fullgraph("aot_eager")), step_by_numpy(COMPILED[name], *arrays))


# Inductor's own modules use what PyTorch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler, g++ or clang++")
@pytest.mark.parametrize("name", ["dice", "bending"])
@pytest.mark.slow
@pytest.mark.needs_compiler
def test_a_step_that_inductor_compiled_is_numpys(rng, name):
    arrays = images(COMPILED[name], rng)
    assert_close(step(COMPILED[name], arrays, fullgraph("inductor")), step_by_numpy(COMPILED[name], *arrays))


@pytest.mark.slow
def test_losses_of_one_kind_are_compiled_each_with_its_own_numbers(rng):
    compiled = fullgraph("aot_eager")(lambda loss, *arrays: loss(*arrays))
    for smooth_nr in (1e-3, 1e-2, 1e-1):
        loss = agnoreg.build_loss({"name": "dice", "smooth_nr": smooth_nr})
        arrays = images(loss, rng, (4, 5, 6))
        np.testing.assert_allclose(compiled(loss, *map(torch.tensor, arrays)), loss(*arrays), rtol=1e-12)


ONCE = """
import torch
import agnoreg

loss, compilations = agnoreg.build_loss(LOSS), []

def counting(graph, inputs):
    compilations.append(graph)
    return graph.forward

compiled = torch.compile(lambda *arrays: loss(*arrays), fullgraph=True, backend=counting)
for _ in range(3):
    compiled(*torch.rand(loss.inputs, 2, 6, 6, 6, 3)).item()
print(len(compilations))
"""


@pytest.mark.parametrize("config", [{"name": "dice", "data_format": "channels_last"}, {"name": "bending"}], ids=str)
@pytest.mark.slow
def test_the_first_call_of_a_process_is_compiled_for_all(config):
    # What a first call notes for the next ones would be something new to them, for which they are compiled once more.
    code = ONCE.replace("LOSS", repr(config))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_reads_a_number_of_an_array(rng, name):
    from torch._subclasses.fake_tensor import FakeTensorMode

    loss = LOSSES[name]()
    arrays = images(loss, rng)
    with FakeTensorMode() as mode:
        # A fake tensor has a device and no data: bool(), float() and .item() of it raise.
        *fixed, moving = (mode.from_tensor(torch.tensor(x)) for x in arrays)
        with pytest.raises(torch._subclasses.fake_tensor.DataDependentOutputException):
            float(moving.sum())
        mask = torch.ones(SHAPE)[None]
        for masks in ({}, {"mask": mask}, {"mask": mask > 0}):
            leaf = moving.clone().requires_grad_()
            value = loss(*fixed, leaf, **masks)
            value.backward()
            assert value.shape == ()
            assert leaf.grad.shape == leaf.shape
            with agnoreg.native_autodiff():
                loss(*fixed, moving, **masks)


# --- torch.func -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_of_an_ensemble_by_functions_is_numpys(rng, name):
    loss = LOSSES[name]()
    *fixed, moving = arrays = images(loss, rng)
    model = Shifted(torch.tensor(moving))
    # Two models of different parameters, and the same images.
    parameters = {"image": torch.stack([model.image.detach(), 0.1 * torch.tensor(rng.random(moving.shape[1:]))])}

    def objective(own, x):
        return loss(*map(torch.tensor, fixed), torch.func.functional_call(model, own, (x,)))

    gradients, values = torch.func.vmap(torch.func.grad_and_value(objective), in_dims=({"image": 0}, None))(
        parameters, torch.tensor(moving)
    )
    for i, image in enumerate(parameters["image"].numpy()):
        value, added = step_by_numpy(loss, *fixed, moving + image)
        assert_close((values[i], -RATE * gradients["image"][i]), (value, added))
    assert arrays[-1] is moving


# --- autocast ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_under_autocast_is_numpys(rng, name):
    loss = LOSSES[name]()
    *fixed, moving = (torch.tensor(x, dtype=torch.float32) for x in images(loss, rng))
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 0.7)
    optimizer = torch.optim.SGD(layer.parameters(), lr=RATE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = layer(moving[..., None])[..., 0]
        predicted.retain_grad()
        value = loss(*fixed, predicted)
    value.backward()
    optimizer.step()
    assert predicted.dtype == predicted.grad.dtype == torch.bfloat16
    assert value.dtype == layer.weight.dtype == torch.float32
    # What the loss gets has 8 bits; what it makes of it has those of float32, and its gradient goes back with 8.
    given = [x.numpy().astype("float64") for x in (*fixed, predicted.detach().float())]
    expected, gradient = agnoreg.value_and_grad(loss, *given)
    np.testing.assert_allclose(value.item(), expected, rtol=2e-5)
    assert_close([predicted.grad.float()], [gradient], rtol=2**-8)
    change = -RATE * np.sum(predicted.grad.float().numpy() * moving.bfloat16().float().numpy(), dtype="float64")
    size = RATE * np.sum(np.abs(gradient))
    assert layer.weight.item() - 0.7 == pytest.approx(change, rel=2**-7, abs=2**-9 * size)


# --- processes of their own -------------------------------------------------------------------------------------------


def run(*arguments):
    script = Path(__file__).with_name("torch_process.py")
    # The script imports what it shares with this file.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_step_of_two_processes_is_numpys(rng, tmp_path):
    # Half of the batch is each one's, and the reduction is the mean.
    found = run("distributed", str(tmp_path))
    for name, loss in COMPILED.items():
        arrays = images(loss, np.random.default_rng(5), batch=4)
        loss = dataclasses.replace(loss, reduction="none")
        _, gradient = agnoreg.value_and_grad(loss, *arrays)
        for rank in range(2):
            assert_close([np.asarray(found[name][rank])], [-RATE * gradient.mean(axis=0)])


@pytest.mark.slow
def test_a_compiled_step_of_a_large_image_takes_bounded_memory():
    found = run("large")
    for name, (megabytes, value_error, gradient_error) in found.items():
        print(f"torch.compile, a step of {name} of 96^3: {megabytes:.0f} MB")
        assert value_error < 1e-6
        assert gradient_error < 1e-5
        # An image takes 3.4 MB. The compiler unrolls slabs, so that there is one.
        assert megabytes < {"lncc": 120, "dice": 120}[name]
