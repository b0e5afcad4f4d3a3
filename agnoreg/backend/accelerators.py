"""Compiled kernels: how they are found, and how they reach the memory of a framework's arrays.

An accelerator is an entry point of the group ``agnoreg.accelerators`` whose name is the kind of memory that its kernels
work in. An adapter says, by `Execution.memory`, where the arrays of a call are; it imports no kernels.
"""

import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any

GROUP = "agnoreg.accelerators"
#: Gradients' memory begins at multiples of so many bytes, so that any framework takes it for its own.
ALIGNED = 64


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Memory:
    """How kernels reach the memory of one framework's arrays."""

    #: What an accelerator's entry point is called that works in such memory.
    kind: ClassVar[str]

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    @property
    def inner(self) -> "Backend":
        """The backend of what `take` returns."""
        return self.backend

    def take(self, array: Array) -> Array | None:
        """Return an array as kernels take it, in the same memory; None where it has none that is no one else's."""
        return array

    def give(self, array: Array) -> Array:
        """Return what kernels made as an array of the framework."""
        return array


class HostMemory(Memory):
    """The host's memory: `take` returns NumPy arrays, and `give` takes those for its own, in the same memory."""

    kind = "host"

    @property
    def inner(self) -> "Backend":
        """The backend of NumPy arrays."""
        from agnoreg.backend.lookup import get_backend

        return get_backend("numpy")

    def threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return cores()


class CudaMemory(Memory):
    """An NVIDIA card's memory, by addresses; the framework makes new arrays there, and its stream is used."""

    kind = "cuda"

    def contiguous(self, array: Array) -> Array:
        """Return the array, or a copy whose last axis is contiguous."""
        raise NotImplementedError

    def address(self, array: Array) -> int:
        """Return where the array's first element is."""
        raise NotImplementedError

    def stream(self, array: Array) -> tuple[int, int | None]:
        """Return the number of the array's card and the address of the framework's current stream there.

        The address is None where that is CuPy's current stream.
        """
        raise NotImplementedError


class Accelerator(Protocol):
    """Kernels for one kind of memory."""

    def evaluation(
        self, measure: Any, backend: "Backend", memory: Any, arrays: tuple[Array, ...], otherwise: Any
    ) -> Any:
        """Return an `agnoreg.engine.accelerated.Evaluation` of these arrays; None where no kernel serves them.

        ``otherwise`` is what computes the same, and more, without kernels.
        """

    def missing(self) -> str:
        """Return what it lacks on this machine, and what that would bring; or ``""``."""


@lru_cache(maxsize=8)
def accelerators(kind: str) -> tuple[Accelerator, ...]:
    """Return the accelerators for a kind of memory."""
    return tuple(point.load() for point in entry_points(group=GROUP, name=kind))


def missing(kinds: Mapping[str, Memory]) -> str:
    """Return what the accelerators of these kinds of memory lack on this machine, or ``""``."""
    return "; ".join(text for kind in kinds for one in accelerators(kind) if (text := one.missing()))
