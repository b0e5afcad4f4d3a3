"""Compiled kernels: their lookup, and their access to the memory of a framework's arrays.

An accelerator is an entry point of the group ``agnoreg.accelerators``; its name is the kind of memory that its kernels
work in. An adapter returns the memory of a call's arrays from `Execution.memory`; it imports no kernels.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any

GROUP = "agnoreg.accelerators"
#: Alignment of gradients in bytes, with which any framework can use the memory without a copy.
ALIGNED = 64


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Memory:
    """Access of kernels to the memory of one framework's arrays."""

    #: Name of the entry points of accelerators that work in this memory.
    kind: ClassVar[str]

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    @property
    def inner(self) -> "Backend":
        """The backend of the arrays that `take` returns."""
        return self.backend

    def take(self, array: Array) -> Array | None:
        """Return an array as kernels read it, in the same memory; None if it has no memory of its own."""
        return array

    def give(self, array: Array) -> Array:
        """Return a result of kernels as an array of the framework."""
        return array

    def present(self) -> bool:
        """Return whether this machine has such memory."""
        return True


class HostMemory(Memory):
    """The host's memory: `take` returns NumPy arrays and `give` accepts them, both without a copy."""

    kind = "host"

    @cached_property
    def inner(self) -> "Backend":
        """The backend of NumPy arrays."""
        from agnoreg.backend.lookup import get_backend

        return get_backend("numpy")

    def threads(self) -> int:
        """Return the number of threads that kernels may use."""
        return cores()


class CudaMemory(Memory):
    """An NVIDIA card's memory, accessed by address; the framework allocates arrays and provides the stream."""

    kind = "cuda"

    def contiguous(self, array: Array) -> Array:
        """Return the array, or a copy whose last axis is contiguous."""
        raise NotImplementedError

    def address(self, array: Array) -> int:
        """Return the address of the array's first element."""
        raise NotImplementedError

    def stream(self, array: Array) -> tuple[int, int | None]:
        """Return the number of the array's card and the address of the framework's current stream there.

        The address is None if it is the current stream of the library that launches kernels.
        """
        raise NotImplementedError

    def current(self, array: Array) -> AbstractContextManager[Any]:
        """Return a context in which the array's card is the current one."""
        return nullcontext()


class Accelerator(Protocol):
    """Kernels for one kind of memory.

    One that compiles kernels as they are needed may have a method ``compile_all(dtypes)`` too, which compiles them
    all for images of these dtypes.
    """

    def evaluation(
        self, measure: Any, backend: "Backend", memory: Any, arrays: tuple[Array, ...], otherwise: Any
    ) -> Any:
        """Return an `agnoreg.engine.accelerated.Evaluation` of these arrays, or None if no kernel supports them.

        ``otherwise`` is the fallback without kernels.
        """

    def missing(self) -> str:
        """Return what is missing on this machine and what it would bring, or ``""``."""


@lru_cache(maxsize=8)
def accelerators(kind: str) -> tuple[Accelerator, ...]:
    """Return the accelerators for a kind of memory."""
    return tuple(point.load() for point in entry_points(group=GROUP, name=kind))


def missing(kinds: Mapping[str, Memory]) -> str:
    """Return what the accelerators of these kinds of memory miss on this machine, or ``""``."""
    there = [kind for kind, memory in kinds.items() if memory.present()]
    return "; ".join(text for kind in there for one in accelerators(kind) if (text := one.missing()))


def compile_all(dtypes: Sequence[str]) -> tuple[str, ...]:
    """Compile the kernels of all accelerators that can do so ahead; return the kinds of memory that these serve."""
    done = []
    for point in entry_points(group=GROUP):
        compiles = getattr(point.load(), "compile_all", None)
        if compiles is not None:
            compiles(dtypes)
            done.append(point.name)
    return tuple(done)
