"""The first call of a fresh environment: CPU time, the compiler's own processes included, with nothing compiled before.

    python -m benchmarks.first_call

The second process finds on disk what the first one compiled.
"""

import os
import resource
import subprocess
import sys
import tempfile

from benchmarks.tables import Table

IMAGES = "import numpy as np, agnoreg; t, p = np.random.rand(2, 1, 32, 32, 32).astype('float32'); "
CASES = {
    "`import agnoreg`, NumPy, two images": IMAGES,
    **{
        f"{name}, value and gradient": IMAGES + f"agnoreg.value_and_grad(agnoreg.build_loss('{name}'), t, p)"
        for name in ("lncc", "gmi", "dice")
    },
    "bending, value and gradient": IMAGES
    + "agnoreg.value_and_grad(agnoreg.build_loss('bending'), np.stack([t, p, p], -1))",
    "`agnoreg compile`: all kernels for float32": "from agnoreg.evaluate.cli import main; main(['compile'])",
}


def cpu_seconds(code, cache):
    """Return the CPU time of a process that runs this code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"AGNOREG_CACHE": cache}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured():
    """Return the table; print each row when it is there."""
    rows = []
    for case, code in CASES.items():
        with tempfile.TemporaryDirectory() as cache:
            rows.append([case, *(f"{cpu_seconds(code, cache):.1f}" for _ in range(2))])
        print(*rows[-1], flush=True)
    return Table(
        "The first call of a fresh environment",
        "CPU time of a process in seconds, with nothing compiled before. The second process finds on disk what the "
        "first one compiled. The first row is part of every other.",
        ["", "the first process s", "the second s"],
        rows,
    )


if __name__ == "__main__":
    measured()
