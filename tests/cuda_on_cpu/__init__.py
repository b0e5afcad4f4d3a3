"""The kernels of agnoreg_cuda as plain C++, and a backend of NumPy arrays that runs them in place of a card."""

import atexit
import ctypes
import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from agnoreg_cuda import fused
from agnoreg_numpy import NumPyBackend
from array_api_compat import numpy as xp

COMPILER = shutil.which("g++") or shutil.which("clang++")
#: Each library has static variables of its own, and products are not fused with sums.
FLAGS = ("-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off")
#: The orders in which a block's threads take turns: forwards, backwards, and shuffled.
ORDERS = (0, 1, 2)


@cache
def folder():
    """Return a folder for compiled kernels, which goes with the process."""
    kept = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(kept.cleanup)
    return Path(kept.name)


@cache
def library(options):
    """Compile the kernels with these options of NVRTC's for this machine."""
    path = folder() / ("kernels" + "".join(options).replace("=", "").replace("+", "") + ".so")
    source = files("agnoreg_cuda").joinpath("kernels.cu")
    here = Path(__file__).with_name("emulator.cpp")
    command = [COMPILER, *FLAGS, *options, f'-DKERNELS="{source}"', str(here), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return ctypes.CDLL(str(path))


class Launched:
    """A stand-in for a stream: a kernel has run when its launch returns."""

    def __init__(self, multiprocessors, order):
        self.multiprocessors, self.order = multiprocessors, order
        self.names = []

    def active(self):
        return nullcontext()

    def launch(self, options, name, grid, block, arguments):
        """Launch as CuPy does: an integer is an address, NumPy's scalars go by value."""
        values = [np.int64(value) if isinstance(value, int) else value for value in arguments]
        assert all(isinstance(value, np.generic) for value in values)
        kept = [np.asarray([value]) for value in values]
        addresses = (ctypes.c_void_p * len(kept))(*(array.ctypes.data for array in kept))
        failed = library(options).launch(name.encode(), (ctypes.c_int * 3)(*grid), block, self.order, addresses)
        assert failed == 0, {1: "no such kernel", 2: "threads parted at a barrier"}[failed]
        self.names.append(name)


class EmulatedCard(NumPyBackend):
    """NumPy arrays whose measures are computed by the kernels, on the CPU."""

    def __init__(self, multiprocessors=3, order=0):
        super().__init__("numpy", xp)
        self.launched = Launched(multiprocessors, order)

    def override(self, measure, arrays):
        return fused(measure, self, arrays)

    def contiguous(self, array):
        return np.ascontiguousarray(array)

    def address(self, array):
        return array.ctypes.data

    def queue(self, array):
        return self.launched
