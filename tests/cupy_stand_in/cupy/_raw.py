"""Kernels from source: agnoreg's own, by their emulator."""

import sys
from pathlib import Path

import numpy as np

from cupy import _card

#: The names of the kernels that were launched.
LAUNCHED = []


class RawModule:
    """A source and the compiler's options for it."""

    def __init__(self, *, code=None, path=None, options=()):
        from agnoreg_cuda.launch import source

        if code != source():
            raise NotImplementedError("No kernels but agnoreg's can be emulated.")
        self.options = options

    def get_function(self, name):
        return RawKernel(name, self.options)


class RawKernel:
    """A kernel, which has run when its launch returns."""

    def __init__(self, name, options=()):
        self.name, self.options = name, options

    def __call__(self, grid, block, args):
        if str(TESTS) not in sys.path:
            sys.path.append(str(TESTS))
        from cuda_on_cpu import Launched

        for argument in args:
            if not isinstance(argument, int | np.generic):
                raise TypeError(f"Unsupported type {type(argument)}")
        launched = Launched(multiprocessors=3, order=0)
        launched.launch(self.options, self.name, grid, block[0], args)
        LAUNCHED.append((self.name, _card.thread.device))


TESTS = Path(__file__).parents[2]
