"""The first call of a compiled loss, beside MONAI's: CPU time until the first gradient is there.

    python -m benchmarks.compiling

Each is measured in a process of its own whose caches are empty, the compiler's own processes included. "A second size"
is a call of another shape after the first one, for which PyTorch compiles again, or once for all sizes from then on.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

from benchmarks.tables import Table

#: The shape of the images, what torch.compile is told, and whether a second shape follows.
CASES = {
    "static, 32^3, aot_eager": ((32, 32, 32), {"backend": "aot_eager", "fullgraph": True}, False),
    "dynamic, 10x12x9, aot_eager": ((10, 12, 9), {"backend": "aot_eager", "dynamic": True}, False),
    "a second size, 10x12x9, aot_eager": ((10, 12, 9), {"backend": "aot_eager"}, True),
    "static, 32^3, inductor": ((32, 32, 32), {"backend": "inductor", "fullgraph": True}, False),
}


def loss_of(subject):
    """Return LNCC of ``(fixed, moving)``, and the axes before the spatial ones."""
    if subject == "monai":
        from monai.losses import LocalNormalizedCrossCorrelationLoss

        theirs = LocalNormalizedCrossCorrelationLoss(kernel_size=9)
        return lambda fixed, moving: theirs(moving, fixed), (1, 1)
    import agnoreg

    ours = agnoreg.LNCC()
    return lambda fixed, moving: ours(fixed, moving), (1,)


def cpu_seconds():
    """Return the CPU time of this process and of those that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def first_call(subject, case):
    """Compile in this process; return the CPU time in seconds."""
    import torch

    size, options, again = CASES[case]
    function, before = loss_of(subject)
    start = cpu_seconds()
    compiled = torch.compile(function, **options)
    for more in (0, 1) if again else (0,):
        fixed, moving = torch.rand(2, *before, *(n + more for n in size))
        compiled(fixed, moving.requires_grad_()).backward()
    return cpu_seconds() - start


def in_a_process(subject, case):
    """Return the CPU time of a fresh process with empty caches; NaN where it fails, with the reason printed."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"TORCHINDUCTOR_CACHE_DIR": folder, "TRITON_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.compiling", "--one", subject, case],
            env=os.environ | caches,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        print(done.stderr[-500:])
        return float("nan")
    return float(done.stdout.splitlines()[-1])


def measured():
    """Return the table; print each row when it is there."""
    rows = []
    for case in CASES:
        ours, theirs = (in_a_process(subject, case) for subject in ("agnoreg", "monai"))
        rows.append([case.replace("^3", "³").replace("x", "×"), f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"])
        print(*rows[-1], flush=True)
    return Table(
        "torch.compile: CPU time of LNCC's first call and its backward, with empty caches",
        "The kernels were compiled before. The aim is at most 1.5.",
        ["", "agnoreg s", "MONAI s", "ours beside MONAI's"],
        rows,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("SUBJECT", "CASE"), help="measure one in this process")
    chosen = parser.parse_args().one
    if chosen:
        print(first_call(*chosen))
    else:
        measured()
