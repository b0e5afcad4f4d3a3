"""Losses inside PyTorch: compiled, mapped, deterministic, and without convolutions."""

import subprocess
import sys

import pytest
from every import LOSSES, arrays_for

import agnoreg


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_convolves_on_pytorch(rng, name):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    called = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(str(function))
            return function(*args, **(kwargs or {}))

    loss = LOSSES[name]()
    with Names():
        agnoreg.value_and_grad(loss, *[torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng)])
    assert called
    # TF32 and reduced precision reach convolutions, and on a card they are slow for a window's size.
    assert not [function for function in called if "conv" in function.replace("_to_copy", "")]


# PyTorch's own compiler instantiates autograd.Function, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.slow
def test_every_loss_compiles_as_one_graph(rng, name, no_kernels):
    # Without kernels, which round otherwise: the same operations give the same digits.
    import torch

    loss = LOSSES[name]()
    *fixed, moving = (torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng))
    torch._dynamo.reset()
    compiled = torch.compile(lambda *arrays: loss(*arrays), fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, loss):
        leaf = moving.clone().requires_grad_()
        value = function(*fixed, leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)


FIRST = """
import torch
import agnoreg

loss = agnoreg.build_loss("lncc")
t, p = torch.rand(2, 1, 6, 6, 6)
print(torch.compile(lambda *arrays: loss(*arrays), fullgraph=True, backend="aot_eager")(t, p).item())
"""


@pytest.mark.slow
def test_the_first_call_of_a_process_may_be_compiled():
    # No adapter has seen a tensor before: they are asked for their arrays while the call is traced.
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert -1.0 <= float(done.stdout) <= 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_mapped_and_differentiated_by_functions(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float64)[:, None] for x in arrays_for(loss, rng)]
    last = len(arrays) - 1
    mapped = torch.func.vmap(torch.func.grad(loss, argnums=last))(*arrays)
    for i in range(2):
        _, gradient = agnoreg.value_and_grad(loss, *[x[i] for x in arrays], argnums=last)
        torch.testing.assert_close(mapped[i], gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_runs_under_deterministic_algorithms_and_repeats_bit_by_bit(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng)]
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (agnoreg.value_and_grad(loss, *arrays) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
