"""The kernels of agnoreg_cuda as plain C++, and a backend of NumPy arrays that runs them in place of a card."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import filelock
import numpy as np
from agnoreg_cuda.measures import evaluation
from agnoreg_numpy import NumPyBackend
from array_api_compat import numpy as xp

from agnoreg.backend.accelerators import CudaMemory

COMPILER = shutil.which("g++") or shutil.which("clang++")
#: Each library has static variables of its own, and products are not fused with sums.
FLAGS = ("-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off")
#: The orders in which a block's threads take turns: forwards, backwards, and shuffled.
ORDERS = (0, 1, 2)

EMULATOR = Path(__file__).with_name("emulator.cpp")
KERNEL = re.compile(r"__global__\s+void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\(")
#: Beside what pytest keeps between runs: `make clean` removes it.
KEPT = Path(__file__).parents[2] / ".pytest_cache" / "d" / "cuda_on_cpu"


@cache
def folder():
    """Return the folder of compiled kernels, which other processes find too, or else one of this process."""
    try:
        KEPT.mkdir(parents=True, exist_ok=True)
        if os.access(KEPT, os.W_OK):
            return KEPT
    except OSError:
        pass
    return Path(tempfile.mkdtemp())


@cache
def compiler_version():
    """Return what the compiler says of itself."""
    return subprocess.run([COMPILER, "--version"], check=True, capture_output=True).stdout


def compiled(code, options):
    """Return the path of the kernels compiled with these options, which is named by all that they are made of."""
    made_of = hashlib.sha256(compiler_version())
    for part in (code.encode(), EMULATOR.read_bytes(), repr((FLAGS, options)).encode()):
        made_of.update(hashlib.sha256(part).digest())
    return folder() / f"{made_of.hexdigest()[:32]}.so"


@cache
def library(code, options):
    """Load the kernels compiled for this machine with these options of NVRTC's; compile them if nobody has."""
    path = compiled(code, options)
    # Processes that need the same kernels at once compile them once, and see whole files alone.
    with filelock.FileLock(path.with_suffix(".lock")):
        if not path.exists():
            unfinished, kernels = path.with_suffix(f".{os.getpid()}"), path.with_suffix(".cu")
            kernels.write_text(code, encoding="utf-8")
            names = " ".join(f"KERNEL({name})" for name in KERNEL.findall(code))
            command = [COMPILER, *FLAGS, *options, f'-DSOURCE="{kernels}"', f"-DKERNELS={names}"]
            subprocess.run([*command, EMULATOR, "-o", unfinished], check=True, capture_output=True, text=True)
            unfinished.replace(path)
    return ctypes.CDLL(str(path))


class Launched:
    """A stand-in for a stream: a kernel has run when its launch returns."""

    def __init__(self, multiprocessors, order):
        self.multiprocessors, self.order = multiprocessors, order
        self.names = []

    def active(self):
        return nullcontext()

    def launch(self, program, name, grid, block, arguments):
        """Launch as CuPy does: an integer is an address, NumPy's scalars go by value."""
        self.launch_of(library(program.code, program.options), name, grid, block, arguments)

    def launch_of(self, kernels, name, grid, block, arguments):
        """Launch a kernel of a compiled source."""
        values = [np.int64(value) if isinstance(value, int) else value for value in arguments]
        assert all(isinstance(value, np.generic) for value in values)
        kept = [np.asarray([value]) for value in values]
        addresses = (ctypes.c_void_p * len(kept))(*(array.ctypes.data for array in kept))
        failed = kernels.launch(name.encode(), (ctypes.c_int * 3)(*grid), block, self.order, addresses)
        assert failed == 0, {1: "no such kernel", 2: "threads parted at a barrier"}[failed]
        self.names.append(name)


class EmulatedCard(NumPyBackend):
    """NumPy arrays whose measures are computed by the kernels, on the CPU."""

    def __init__(self, multiprocessors=3, order=0):
        super().__init__("numpy", xp)
        self.launched = Launched(multiprocessors, order)
        self.kernels = False
        self.execution.override = self.emulated

    def emulated(self, measure, arrays):
        """Return the measure's evaluation by emulated kernels, or the measure."""
        call = evaluation(measure, self, EmulatedMemory(self), arrays, measure, self.launched)
        return measure if call is None else call


class EmulatedMemory(CudaMemory):
    """NumPy's memory for a card's."""

    def contiguous(self, array):
        return np.ascontiguousarray(array)

    def address(self, array):
        return array.ctypes.data

    def stream(self, array):
        return 0, None
