"""The benchmarks run; what they measure is not asserted."""

import subprocess
import sys
from pathlib import Path

import agnoreg

ROOT = Path(agnoreg.__file__).parents[1]


def test_a_small_benchmark_prints_its_table():
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--loss",
        "ssd",
        "--loss",
        "bending",
        "--size",
        "8",
        "8",
        "8",
        "--runs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| agnoreg on numpy | 0.") == 2
    assert "not measured" not in done.stdout
