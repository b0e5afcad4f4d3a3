"""The memory that losses take."""

import subprocess
import sys

import pytest
from every import LOSSES

MEMORY = """
import sys
from pathlib import Path

import numpy as np
import agnoreg

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

loss = agnoreg.build_loss(eval(sys.argv[1]))
arrays = [np.random.default_rng(i).random((1, 96, 160, 160) + (3,) * (loss.inputs == 1), np.float32)
          for i in range(loss.inputs)]
small = [x[:, :12, :12, :12].copy() for x in arrays]
agnoreg.value_and_grad(loss, *small)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
agnoreg.value_and_grad(loss, *arrays)
print((peak() - before) / (arrays[0].nbytes / 2**20))
"""


@pytest.mark.parametrize("name", [*LOSSES, "gmi with 64 bins"])
@pytest.mark.slow
def test_no_loss_takes_many_times_its_input(name):
    config = {"name": "gmi", "num_bins": 64} if name == "gmi with 64 bins" else {"name": name}
    done = subprocess.run([sys.executable, "-c", MEMORY, repr(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The gradient itself is one input's size; peers take 30 to 160.
    assert float(done.stdout) < 9.0
