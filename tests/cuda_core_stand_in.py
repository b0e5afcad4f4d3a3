"""A stand-in for `cuda.core` where there is no card: what is launched is run by the emulator.

It has what agnoreg_cuda uses of it, with the same parameters; a test compares them with the installed cuda.core's.
"""

import sys
from types import ModuleType, SimpleNamespace

from cuda_on_cpu import Launched, library

#: What was launched: the kernel's name, the address of the stream, and the card's architecture.
LAUNCHED = []
#: How many programs were compiled, not found on disk.
COMPILED = []

ARCHITECTURE = "90"


class ProgramOptions:
    def __init__(self, name="default_program", arch=None, ftz=None, define_macro=None, std=None):
        self.name, self.arch, self.ftz, self.define_macro, self.std = name, arch, ftz, define_macro, std


class Program:
    def __init__(self, code, code_type, options=None):
        assert code_type == "c++"
        self.code, self.options = code, options

    def compile(self, target_type, name_expressions=(), logs=None, *, cache=None):
        assert target_type == "cubin"
        COMPILED.append(self.options.name)
        return ObjectCode(self.code, self.options)


class ObjectCode:
    def __init__(self, code, options):
        self.code, self.options = code, options

    def get_kernel(self, name):
        return Kernel(name, self)


class Kernel:
    def __init__(self, name, module):
        self.name, self.module = name, module


class Device:
    def __init__(self, device_id=None):
        self.arch, self.properties = ARCHITECTURE, SimpleNamespace(multiprocessor_count=3)


class Stream:
    def __init__(self, handle):
        self.handle = handle

    @staticmethod
    def from_handle(handle):
        assert handle, "0 is the legacy stream, which has a name of its own"
        return Stream(handle)


LEGACY_DEFAULT_STREAM = Stream(1)


class LaunchConfig:
    def __init__(self, grid=None, cluster=None, block=None):
        self.grid, self.block = grid, block


def launch(stream, config, kernel, *kernel_args):
    options = kernel.module.options
    assert options.ftz
    assert config.block[1:] == (1, 1)
    flags = (f"-std={options.std}", *(f"-D{macro}" for macro in options.define_macro))
    emulated = Launched(multiprocessors=3, order=0)
    emulated.launch_of(library(kernel.module.code, flags), kernel.name, config.grid, config.block[0], kernel_args)
    LAUNCHED.append((kernel.name, stream.handle, options.arch))


class _Kept:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


utils = ModuleType("cuda.core.utils")
utils.FileStreamProgramCache = _Kept


def modules():
    """Return the stand-in as the modules that are imported in its place."""
    cuda = ModuleType("cuda")
    cuda.core = sys.modules[__name__]
    return {"cuda": cuda, "cuda.core": cuda.core, "cuda.core.utils": utils}
