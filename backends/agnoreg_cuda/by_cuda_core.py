"""Compiling and launching by NVIDIA's cuda.core, on the stream of any framework.

It works in the context that is current, which is that of the framework's current card. What it compiled it keeps on
disk, by the source, the options, the card's architecture and NVRTC's version.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from agnoreg_cuda.launch import STANDARD, Program


def installed() -> bool:
    """Return whether cuda.core can be imported, with the bindings that it needs."""
    try:
        from cuda.core import utils

        return hasattr(utils, "FileStreamProgramCache")
    except Exception:  # What is broken raises what it likes.
        return False


@lru_cache(maxsize=64)
def usable(device: int) -> bool:
    """Return whether cuda.core finds NVRTC, and NVRTC knows the card: the least kernel is compiled for it."""
    if not installed():
        return False
    from cuda import core

    try:
        options = core.ProgramOptions(arch=architecture(device))
        core.Program('extern "C" __global__ void nothing() {}', "c++", options).compile("cubin")
    except Exception:  # NVRTC may be absent, older than the card, or of another version than the bindings.
        return False
    return True


def architecture(device: int) -> str:
    """Return a card's architecture as NVRTC calls it."""
    from cuda import core

    return f"sm_{core.Device(device).arch}"


def compiled(program: Program, arch: str) -> Any:
    """Return a program's code for an architecture, from disk if it was compiled before; no card is needed."""
    from cuda import core
    from cuda.core.utils import FileStreamProgramCache

    # Subnormal numbers are taken for zeros, as CuPy has it.
    options = core.ProgramOptions(
        name=f"{program.name}.cu", arch=arch, std=STANDARD, ftz=True, define_macro=list(program.macros)
    )
    made = core.Program(program.code, "c++", options)
    try:
        with FileStreamProgramCache() as kept:
            return made.compile("cubin", cache=kept)
    except OSError:  # Nowhere to write.
        return made.compile("cubin")


@lru_cache(maxsize=256)
def _code(program: Program, device: int) -> Any:
    return compiled(program, architecture(device))


@lru_cache(maxsize=1024)
def _kernel(program: Program, device: int, name: str) -> Any:
    return _code(program, device).get_kernel(name)


@lru_cache(maxsize=64)
def _multiprocessors(device: int) -> int:
    from cuda import core

    return int(core.Device(device).properties.multiprocessor_count)


@dataclass(frozen=True)
class CoreQueue:
    """A stream by its address."""

    device: int
    address: int

    @property
    def multiprocessors(self) -> int:
        """How many multiprocessors the card has."""
        return _multiprocessors(self.device)

    @cached_property
    def _stream(self) -> Any:
        from cuda import core

        return core.Stream.from_handle(self.address) if self.address else core.LEGACY_DEFAULT_STREAM

    def active(self) -> AbstractContextManager[Any]:
        """Return a context that does nothing: the framework's card is the current one."""
        return nullcontext()

    def launch(
        self, program: Program, name: str, grid: tuple[int, int, int], block: int, arguments: tuple[Any, ...]
    ) -> None:
        """Launch one kernel: cuda.core takes an integer for an address, and NumPy's scalars by value."""
        from cuda import core

        config = core.LaunchConfig(grid=grid, block=(block, 1, 1))
        core.launch(self._stream, config, _kernel(program, self.device, name), *arguments)
