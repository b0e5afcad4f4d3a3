"""What is compiled and launched: the kernels' sources with their constants, and streams of a card."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

#: The language of the sources.
STANDARD = "c++17"


@lru_cache(maxsize=16)
def source(names: tuple[str, ...]) -> str:
    """Return the source of the kernels in several files, after what all of them share."""
    folder = files(__package__)
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("common.cuh", *names))


@dataclass(frozen=True)
class Program:
    """The kernels of one file, and the constants that they are compiled for: whatever differs is another program."""

    #: The file's name, without its ending.
    name: str
    #: The compiler's options that define the constants, ``-DNAME=VALUE`` each.
    constants: tuple[str, ...] = ()
    #: Files of which it needs what they say.
    shared: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The source."""
        return source((*self.shared, f"{self.name}.cu"))

    @property
    def options(self) -> tuple[str, ...]:
        """The compiler's options."""
        return (f"-std={STANDARD}", *self.constants)

    @property
    def macros(self) -> Iterator[str]:
        """The constants, ``NAME=VALUE`` each."""
        return (constant.removeprefix("-D") for constant in self.constants)


class Queue(Protocol):
    """A stream of a card: what is launched on it runs in order."""

    @property
    def multiprocessors(self) -> int:
        """How many multiprocessors the card has."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which kernels can be launched; the framework's card is the current one."""

    def launch(
        self, program: Program, name: str, grid: tuple[int, int, int], block: int, arguments: tuple[Any, ...]
    ) -> None:
        """Launch one kernel. Arrays are passed by their addresses, as integers; NumPy's scalars go by value."""
