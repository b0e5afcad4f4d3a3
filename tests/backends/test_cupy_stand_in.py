"""CuPy's adapter and all above it where there is no card: on a stand-in for CuPy, in processes of its own."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import agnoreg

ROOT = Path(agnoreg.__file__).parents[1]
STAND_IN = ROOT / "tests" / "cupy_stand_in"

emulated = pytest.mark.skipif(
    not any(os.access(Path(folder) / name, os.X_OK) for name in ("g++", "clang++") for folder in os.get_exec_path()),
    reason="no C++ compiler, g++ or clang++, to emulate the kernels with",
)


def run(*arguments, **environment):
    """Run Python where `cupy` is the stand-in and return what it prints."""
    path = os.pathsep.join([str(STAND_IN), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(*arguments, **environment):
    """Run tests there and return how many passed."""
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, **environment)
    return int(printed.strip().splitlines()[-1].partition(" passed")[0].rpartition(" ")[2])


def test_the_suite_passes_on_the_stand_in():
    # All of it but the comparison with other backends, which would take their time: CuPy alone takes half a minute.
    assert run_tests("conformance", "--backend", "cupy", "-x", "-k", "not agreement") > 2000


def test_the_suite_passes_on_another_card_than_the_current_one():
    # What a result is, where digits are lost and what masks do: each loss, each dtype and every adapter's member.
    chosen = "test_numerics or test_masks or test_adapter or test_golden"
    assert run_tests("conformance", "--backend", "cupy", "--device", "cuda:1", "-x", "-k", chosen) > 500


def test_no_loss_waits_for_the_card_copies_or_leaves_it():
    assert run_tests(STAND_IN / "checks.py", "-x") > 1000


@emulated
def test_kernels_are_launched_by_way_of_cupy():
    assert run_tests(STAND_IN / "checks.py", "-k", "kernels", CUPY_STAND_IN_KERNELS="1") == 21


def test_the_report_says_that_no_card_was_there(tmp_path):
    page = tmp_path / "page.md"
    run_tests("conformance", "--backend", "cupy", "-k", "test_golden and Jaccard", "--report", page)
    text = page.read_text()
    assert "cupy was on a stand-in" in text
    assert "| cupy, on a stand-in |" in text


NAMES = """
import inspect, json, cupy

def described(thing):
    if inspect.isfunction(thing):
        return list(inspect.signature(thing).parameters)

members = {"": cupy, "ndarray.": cupy.ndarray, "cuda.": cupy.cuda, "cuda.runtime.": cupy.cuda.runtime,
           "cuda.Device.": cupy.cuda.Device, "RawModule.": cupy.RawModule, "add.": cupy.add}
print(json.dumps({
    prefix + name: described(inspect.getattr_static(owner, name))
    for prefix, owner in members.items() for name in dir(owner) if not name.startswith("_")
}))
"""
#: What the stand-in's own objects are made of.
OWN = {"add.function"}


def test_the_stand_in_has_nothing_that_cupy_lacks():
    cupy = pytest.importorskip("cupy", reason="CuPy has no wheel for this platform")
    names = json.loads(run("-c", NAMES))
    assert len(names) > 200
    for name, parameters in names.items():
        if name in OWN:
            continue
        real = cupy
        for part in name.split("."):
            assert hasattr(real, part), f"CuPy has no {name}"
            real = getattr(real, part)
        if parameters is None:
            continue
        try:
            own = list(inspect.signature(real).parameters)
        except ValueError:  # compiled, without a signature
            continue
        # Those that come in order are the same ones in the same order.
        own = [parameter for parameter in own if parameter != "self"]
        parameters = [parameter for parameter in parameters if parameter != "self"]
        assert [parameter for parameter in own if parameter in parameters] == parameters, name
