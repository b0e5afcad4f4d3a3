"""Compiling and launching by CuPy, which keeps what it compiled on disk."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agnoreg_cuda.launch import Program


@lru_cache(maxsize=1)
def usable() -> bool:
    """Return whether CuPy can be imported, finds an NVIDIA card, and finds NVRTC."""
    try:
        import cupy

        if not cupy.cuda.is_available() or cupy.cuda.runtime.is_hip:
            return False
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, AttributeError, RuntimeError, OSError):
        return False
    return True


@lru_cache(maxsize=256)
def _module(program: Program) -> Any:
    import cupy

    # One module serves every card: CuPy compiles and loads it for each.
    return cupy.RawModule(code=program.code, options=program.options)


@lru_cache(maxsize=64)
def _multiprocessors(device: int) -> int:
    import cupy

    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


@dataclass(frozen=True)
class CuPyQueue:
    """A stream by CuPy; ``stream`` is its address, None CuPy's current one."""

    device: int
    stream: int | None = None

    @property
    def multiprocessors(self) -> int:
        """How many multiprocessors the card has."""
        return _multiprocessors(self.device)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Return a context in which this is CuPy's current card and stream."""
        import cupy

        with ExitStack() as stack:
            stack.enter_context(cupy.cuda.Device(self.device))
            if self.stream is not None:
                stack.enter_context(cupy.cuda.ExternalStream(self.stream, self.device))
            yield

    def launch(
        self, program: Program, name: str, grid: tuple[int, int, int], block: int, arguments: tuple[Any, ...]
    ) -> None:
        """Launch one kernel, while the queue is active."""
        _module(program).get_function(name)(grid, (block, 1, 1), arguments)
