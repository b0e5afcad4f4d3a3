"""Execution: how and where a framework processes the slabs of its arrays."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from agnoreg.backend.gathered import Gathered
from agnoreg.backend.shifts import cut, pad
from agnoreg.messages import warn_of_input

if TYPE_CHECKING:
    from agnoreg.backend.accelerators import Memory
    from agnoreg.backend.base import Backend

Array = Any
#: Sums over all tiles, and images.
Results = tuple[tuple[Array, ...], tuple[Array, ...]]
#: Result of one tile: the state for the next one, sums, and pieces of images.
Step = tuple[Any, tuple[Array, ...], tuple[Array, ...]]

#: Elements of one slab for streaming, for windows, for histograms (all bins together) and for voxelwise work:
#: cache-sized on a CPU, large enough to fill a GPU.
CPU_SLABS: dict[str, int] = {"streaming": 1 << 16, "windows": 1 << 20, "bins": 3 << 18, "voxels": 1 << 17}


GPU_SLABS: dict[str, int] = {"streaming": 1 << 24, "windows": 1 << 24, "bins": 3 << 24, "voxels": 1 << 24}


class Execution:
    """Eager execution, tile by tile; a part of a `Backend` whose methods an adapter may override."""

    #: Elements of one slab for each kind of work.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.xp = backend.xp
        #: The kinds of memory that `memory` may return, keyed by name.
        self.memories: dict[str, Memory] = {}

    def unusable(self) -> str:
        """Return why this backend cannot run here, such as a missing device, or ``""``."""
        return ""

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """Return a context in which the framework works on the device of ``array``.

        Public entry points enter it, so code that a loss calls need not.
        """
        return nullcontext()

    def warn(self, text: str) -> None:
        """Issue a warning about inputs, also during tracing."""
        warn_of_input(text)

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the framework's own implementation of a measure, such as a compiled graph; by default the measure.

        The result has the measure's ``compute...`` methods.
        """
        return measure

    def memory(self, arrays: tuple[Array, ...]) -> "Memory | None":
        """Return the access to the memory of these arrays for kernels, or None if kernels cannot use it."""
        return None

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return the maximum number of elements of a slab of ``array``; ``kind`` is a key of `CPU_SLABS`."""
        return self.slab_sizes[kind]

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return planes ``start`` to ``start + count`` along axis 1; if ``beyond``, zeros follow the last one."""
        if not beyond:
            return array[:, start : start + count, ...]
        there = max(0, min(array.shape[1] - start, count))
        planes = cut(array, 1, start, start + there) if there else self.xp.zeros_like(cut(array, 1, 0, 1))
        return pad(self.xp, planes, 1, 0, count - max(there, 1))

    def scan(
        self, tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, kept: slice = slice(None)
    ) -> Results:
        """Run ``body(tile, state)`` over ``tiles`` in order.

        It returns the state for the next tile, arrays that are added over tiles, and pieces that are concatenated along
        axis 1. Of the concatenated planes, ``kept`` are returned.
        """
        planes = sum(tile.count for tile in tiles)
        kept = slice(kept.start or 0, planes if kept.stop is None else kept.stop)
        gathered = Gathered(self.backend, kept, len(tiles) == 1)
        for tile in tiles:
            state, sums, piece = body(tile, state)
            gathered.add(sums, piece)
        return gathered.result()

    def loop(self, tiles: Sequence[Any], body: Callable[[Any], Results], parallel: bool = False) -> Results:
        """Run ``body`` over ``tiles``: add its first results, concatenate its second ones along axis 1.

        ``parallel`` means that a tile is much work for little memory, worth a thread if the backend has several.
        """
        return self.scan(tiles, lambda tile, state: (state, *body(tile)), ())

    def room(self, piece: Array, planes: int) -> Array | None:
        """Return an uninitialised array for ``planes`` planes like ``piece``; None if arrays are immutable."""
        return None
