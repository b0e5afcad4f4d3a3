"""What a process of its own does in the tests of PyTorch's transforms: what it finds is printed as a line of JSON."""

import ctypes
import gc
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from test_transforms_torch import COMPILED, RATE, Shifted, images

import agnoreg


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def large():
    """Return the MB that a compiled step takes, and how far the loss and its gradient are from NumPy's, relatively."""
    results = {}
    for name in ("lncc", "dice"):
        loss = COMPILED[name]
        arrays = images(loss, np.random.default_rng(5), (96, 96, 96), 1)
        *fixed, moving = (torch.tensor(x, dtype=torch.float32) for x in arrays)
        model = Shifted(moving)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        torch._dynamo.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        # The first step compiles, the second one's memory counts.
        compiled(*fixed, model(moving)).backward()
        model.zero_grad()
        # What is free goes back to the system first, or it would be used again without being counted.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        value = compiled(*fixed, model(moving))
        value.backward()
        optimizer.step()
        megabytes = peak() - before
        expected, gradient = agnoreg.value_and_grad(loss, *arrays)
        added = -RATE * gradient.sum(axis=0)
        error = np.abs(model.image.detach().numpy() - added).max() / np.abs(added).max()
        results[name] = megabytes, abs(value.item() - expected) / abs(expected), float(error)
    return results


def one_of_two(rank, folder):
    """Take a step with half of the batch, and save what it added to the parameters."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    results = {}
    for name, loss in COMPILED.items():
        *fixed, moving = (
            torch.tensor(x[2 * rank : 2 * rank + 2]) for x in images(loss, np.random.default_rng(5), batch=4)
        )
        model = torch.nn.parallel.DistributedDataParallel(Shifted(moving))
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        loss(*fixed, model(moving)).backward()
        optimizer.step()
        results[name] = model.module.image.detach().numpy()
    np.savez(f"{folder}/{rank}.npz", **results)
    # The models go before the process group. A model that goes last ends Gloo's thread and holds Python's lock
    # meanwhile, for which that thread may be waiting.
    del model, optimizer
    gc.collect()
    torch.distributed.destroy_process_group()


def distributed(folder):
    """Return what two processes added to the parameters, by name."""
    torch.multiprocessing.spawn(one_of_two, (folder,), nprocs=2)
    found = [np.load(f"{folder}/{rank}.npz") for rank in range(2)]
    return {name: [one[name].tolist() for one in found] for name in COMPILED}


if __name__ == "__main__":
    # PyTorch's own compiler instantiates autograd.Function, and warns of it.
    warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)
    command, *folder = sys.argv[1:]
    print(json.dumps({"large": large, "distributed": distributed}[command](*folder)))
