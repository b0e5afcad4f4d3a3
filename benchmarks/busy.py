"""PyTorch without kernels beside other work: with one thread and with two, beside a busy loop on each core.

    python -m benchmarks.busy

Run it where nothing else runs. Where threads wait for one another at every operation, two of them take many times as
long as one as soon as the cores are busy; the aim is at most twice as long.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time

from benchmarks.tables import Table

CASES = (("lncc", 64, 8), ("bending", 64, 8), ("gmi", 64, 4), ("dice", 128, 8))


@contextlib.contextmanager
def loops(busy):
    """Keep every core busy, if so."""
    cores = sorted(os.sched_getaffinity(0)) if busy else []
    endless = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(["taskset", "-c", str(core), *endless]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def times(name, size, runs, threads):
    """Return the seconds of each run of a loss with its gradient."""
    import torch

    import agnoreg

    agnoreg.get_backend("torch").kernels = False
    torch.set_num_threads(threads)
    loss = agnoreg.build_loss(name)
    *rest, last = torch.rand(loss.inputs, 1, size, size, size, *([3] if loss.inputs == 1 else []))
    found = []
    for _ in range(runs + 1):
        leaf = last.detach().requires_grad_()
        start = time.perf_counter()
        loss(*rest, leaf).backward()
        found.append(time.perf_counter() - start)
    return found[1:]


def measured():
    """Return the table, of medians; print each row when it is there."""
    rows = []
    for name, size, runs in CASES:
        for busy in (False, True):
            with loops(busy):
                one, two = (statistics.median(times(name, size, runs, threads)) for threads in (1, 2))
            cells = [f"{name}, {size}³", "busy" if busy else "quiet", f"{1e3 * one:.1f}", f"{1e3 * two:.1f}"]
            rows.append([*cells, f"{two / one:.2f}"])
            print(*rows[-1], flush=True)
    return Table(
        "Busy cores: PyTorch without kernels, one thread and two",
        "Value and gradient, beside nothing and beside an endless loop on every core. The aim is at most 2.",
        ["", "cores", "one thread ms", "two threads ms", "two beside one"],
        rows,
    )


if __name__ == "__main__":
    measured()
