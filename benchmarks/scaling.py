"""Time and memory of losses of zarr arrays on dask.distributed, against the volume and the number of workers.

python -m benchmarks.scaling --report docs/scaling.md
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

import agnoreg
from benchmarks.results import machine
from benchmarks.tables import Table
from benchmarks.worker import Host

#: Two images are read and their difference is written: what Dask, zarr and the disk take by themselves.
FLOOR = "t − p"
LOSSES = (FLOOR, "lncc", "gmi", "dice", "bending")
SIZES = ((128, 160, 192), (192, 256, 288), (320, 352, 384))
CHUNK = 96
MARKS = ("<!-- measured -->", "<!-- end of what was measured -->")


def peak():
    """Return the most memory that this process has held, in MiB."""
    return Host().peak() / 2**20


def stored(folder, size):
    """Write two images and a field of this size to zarr, a slab at a time, and return the group."""
    rng, group = np.random.default_rng(0), zarr.open_group(folder, mode="w")
    for name, tail in (("fixed", ()), ("moving", ()), ("ddf", (3,))):
        shape, chunks = (1, *size, *tail), (1, *(min(CHUNK, n) for n in size), *tail)
        array = group.create_array(name, shape=shape, chunks=chunks, dtype="float32", compressors=None)
        for start in range(0, size[0], CHUNK):
            planes = min(CHUNK, size[0] - start)
            array[:, start : start + planes] = rng.random((1, planes, *shape[2:]), dtype=np.float32)
    return group


def evaluate(client, folder, group, name):
    """Return the seconds of value and gradient, which is written to zarr; of the difference, if that is the name."""
    loss = None if name == FLOOR else agnoreg.build_loss(name)
    components = ("ddf",) if loss and loss.inputs == 1 else ("fixed", "moving")
    arrays = [da.from_zarr(folder, component=one) for one in components]
    start = time.perf_counter()
    if loss is None:
        values, gradient = [], da.subtract(*arrays)
    else:
        value, gradient = agnoreg.value_and_grad(loss, *arrays)
        values = [value]
    chunks = tuple(sizes[0] for sizes in gradient.chunks)
    options = {"shape": gradient.shape, "chunks": chunks, "dtype": "float32", "compressors": None}
    target = group.create_array("gradient", overwrite=True, **options)
    client.gather(client.compute([*values, da.store(gradient, target, lock=False, compute=False)]))
    return time.perf_counter() - start


def run(workers, size, limit, losses, repeats):
    """Return the median seconds of each loss, and the most memory of a worker at each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        group = stored(folder, size)
        for name in losses:
            options = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": limit, "dashboard_address": ":0"}
            with (
                LocalCluster(local_directory=Path(folder) / "scratch", **options) as cluster,
                Client(cluster) as client,
            ):
                # The first call imports what workers need.
                evaluate(client, folder, group, name)
                seconds = statistics.median(evaluate(client, folder, group, name) for _ in range(repeats))
                rows.append((workers, size, name, seconds, max(client.run(peak).values())))
                print(rows[-1], flush=True)
    return rows


def table(rows):
    """Return the rows as Markdown: one table, a line for each volume and number of workers, a column for each loss."""
    losses = list(dict.fromkeys(name for _, _, name, _, _ in rows))
    lines = ["| volume | pair | workers | " + " | ".join(losses) + " |", "|---|---|---|" + "---|" * len(losses)]
    for workers, size in dict.fromkeys((workers, size) for workers, size, *_ in rows):
        found = {name: (seconds, memory) for w, s, name, seconds, memory in rows if (w, s) == (workers, size)}
        cells = [f"{found[name][0]:.1f} s, {found[name][1]:.0f} MiB" for name in losses]
        pair = 2 * 4 * int(np.prod(size)) / 2**20
        lines.append(f"| {'×'.join(map(str, size))} | {pair:.0f} MiB | {workers} | " + " | ".join(cells) + " |")
    return lines


def measured():
    """Return the table of the largest volume, with as many workers as there are cores."""
    workers = len(os.sched_getaffinity(0))
    rows = run(workers, SIZES[-1], "1GiB", LOSSES, 1)
    return Table(
        f"Dask: {workers} workers of one thread, {'×'.join(map(str, SIZES[-1]))}",
        f"Value and gradient of arrays in zarr; the gradient is written to zarr. `{FLOOR}` reads two images and writes "
        "their difference. Memory is the most that a worker held, of which some 260 MiB are Python's, the libraries' "
        "and the compiled kernels'. [Large images](scaling.md) has more volumes.",
        ["", "value+gradient s", "memory of a worker MiB"],
        [[name, f"{seconds:.1f}", f"{memory:.0f}"] for _, _, name, seconds, memory in rows],
    )


def main():
    """Measure, print the table, and put it in the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", help="the page in which the table is replaced")
    parser.add_argument("--loss", nargs="+", default=LOSSES, choices=(FLOOR, *agnoreg.registered_losses()))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="the most workers")
    parser.add_argument("--limit", default="1GiB", help="the memory of a worker")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for size in SIZES:
        rows += run(options.workers, size, options.limit, options.loss, options.repeats)
    for workers in range(1, options.workers):
        rows += run(workers, SIZES[1], options.limit, options.loss, options.repeats)
    here = machine()
    text = "\n".join(
        [
            f"{here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB; dask {dask.__version__}; median of "
            f"{options.repeats}; workers of one thread and {options.limit} each. A cell is the time of value and "
            f"gradient, written to zarr, and the most memory that a worker held. `{FLOOR}` reads two images and writes "
            "their difference: what Dask, zarr and the disk take by themselves. Python, the libraries and the compiled "
            "kernels take some 260 MiB of a worker's memory.",
            "",
            *table(rows),
        ]
    )
    print(text)
    if options.report:
        page = Path(options.report)
        before, rest = page.read_text().split(MARKS[0])
        _, after = rest.split(MARKS[1])
        page.write_text(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
