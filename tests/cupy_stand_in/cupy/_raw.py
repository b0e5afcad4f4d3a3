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
        self.code, self.options = code, options

    def get_function(self, name):
        return RawKernel(name, self)


class RawKernel:
    """A kernel, which has run when its launch returns."""

    def __init__(self, name, module):
        self.name, self.module = name, module

    def __call__(self, grid, block, args):
        if str(TESTS) not in sys.path:
            sys.path.append(str(TESTS))
        from cuda_on_cpu import Launched, library

        for argument in args:
            if not isinstance(argument, int | np.generic):
                raise TypeError(f"Unsupported type {type(argument)}")
        launched = Launched(multiprocessors=3, order=0)
        launched.launch_of(library(self.module.code, self.module.options), self.name, grid, block[0], args)
        LAUNCHED.append((self.name, _card.thread.device))


TESTS = Path(__file__).parents[2]
