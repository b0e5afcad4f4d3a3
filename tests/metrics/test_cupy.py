"""Metrics of CuPy's arrays where there is no card: in a process in which CuPy is a stand-in."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_metrics_on_the_stand_in_are_those_on_the_host():
    path = os.pathsep.join([str(HERE.parent / "cupy_stand_in"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "on_a_card.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, cwd=HERE.parents[1], check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 passed" in done.stdout
