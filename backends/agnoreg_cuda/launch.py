"""Compiling the kernels and putting them on a stream, through CuPy."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

#: Language of the sources; the architecture is CuPy's choice, that of the card.
LANGUAGE = ("-std=c++17",)


@lru_cache(maxsize=16)
def source(name: str) -> str:
    """Return the source of the kernels in one file, after what all of them share."""
    folder = files(__package__)
    return "\n".join(folder.joinpath(part).read_text(encoding="utf-8") for part in ("common.cuh", f"{name}.cu"))


@dataclass(frozen=True)
class Program:
    """The kernels of one file, and the constants that they are compiled for: whatever differs is another program."""

    #: The file's name, without its ending.
    name: str
    #: The compiler's options that define the constants.
    constants: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The source."""
        return source(self.name)

    @property
    def options(self) -> tuple[str, ...]:
        """The compiler's options."""
        return (*LANGUAGE, *self.constants)


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

    # One module serves every card: CuPy loads it for each.
    return cupy.RawModule(code=program.code, options=program.options)


@lru_cache(maxsize=64)
def _multiprocessors(device: int) -> int:
    import cupy

    return int(cupy.cuda.Device(device).attributes["MultiProcessorCount"])


@dataclass(frozen=True)
class Queue:
    """A stream of a card: what is launched on it runs in order. ``stream`` is its address, None CuPy's current one."""

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
        """Launch one kernel, while the queue is active. Arrays are passed by their addresses, as integers."""
        _module(program).get_function(name)(grid, (block, 1, 1), arguments)
