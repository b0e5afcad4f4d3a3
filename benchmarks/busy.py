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


def table():
    """Print the medians and the longest runs, in milliseconds."""
    print("loss        size   cores  one thread, longest  two threads, longest  ratio")
    for name, size, runs in CASES:
        for busy in (False, True):
            with loops(busy):
                one, two = (times(name, size, runs, threads) for threads in (1, 2))
            numbers = [1e3 * number for x in (one, two) for number in (statistics.median(x), max(x))]
            row = "{:>12.1f}{:>9.1f}{:>13.1f}{:>9.1f}".format(*numbers)
            print(
                f"{name:<10}{size:>4}^3{'busy' if busy else 'quiet':>8}{row}{numbers[2] / numbers[0]:>7.2f}", flush=True
            )


if __name__ == "__main__":
    table()
