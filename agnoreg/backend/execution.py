"""How a framework goes over the slabs of its arrays, and where."""

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
#: Sums of all tiles, and images.
Results = tuple[tuple[Array, ...], tuple[Array, ...]]
#: What a tile gives: a state for the next one, sums, and pieces of images.
Step = tuple[Any, tuple[Array, ...], tuple[Array, ...]]

#: Elements of one slab for planes that pass by, work in windows, in bins (of all of them together) and voxel by voxel:
#: cache-sized on a CPU, card-filling on a GPU.
CPU_SLABS: dict[str, int] = {"streaming": 1 << 16, "windows": 1 << 20, "bins": 3 << 18, "voxels": 1 << 17}


GPU_SLABS: dict[str, int] = {"streaming": 1 << 24, "windows": 1 << 24, "bins": 3 << 24, "voxels": 1 << 24}


class Execution:
    """Eager execution, tile by tile; a part of a `Backend`, of which an adapter may replace any method."""

    #: Elements of one slab for each kind of work.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.xp = backend.xp
        #: The kinds of memory that `memory` may return, by their names.
        self.memories: dict[str, Memory] = {}

    def unusable(self) -> str:
        """Return why this backend cannot run here, or ``""``: the framework may lack its device."""
        return ""

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """Return a context in which the framework works where ``array`` is, if that is not of itself so.

        Nobody need enter it who is called by a loss: whatever a user calls enters it.
        """
        return nullcontext()

    def warn(self, text: str) -> None:
        """Warn of inputs, while a function is traced too."""
        warn_of_input(text)

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return what computes a measure of these arrays in the framework's own way, such as a compiled graph.

        As a rule that is the measure itself. What is returned has the measure's ``compute...`` methods.
        """
        return measure

    def memory(self, arrays: tuple[Array, ...]) -> "Memory | None":
        """Return how kernels may reach the memory of these arrays; None where they may not."""
        return None

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return how many elements one slab of ``array`` may hold for one of the kinds of work in `CPU_SLABS`."""
        return self.slab_sizes[kind]

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return ``count`` planes of ``array`` along axis 1, from ``start`` on; zeros ``beyond`` the last one."""
        if not beyond:
            return array[:, start : start + count, ...]
        there = max(0, min(array.shape[1] - start, count))
        planes = cut(array, 1, start, start + there) if there else self.xp.zeros_like(cut(array, 1, 0, 1))
        return pad(self.xp, planes, 1, 0, count - max(there, 1))

    def scan(
        self, tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, kept: slice = slice(None)
    ) -> Results:
        """Run ``body(tile, state)`` over ``tiles``, one after the other.

        It returns the state for the next tile, arrays that are added up, and pieces that are concatenated along axis 1,
        of which those planes are ``kept``.
        """
        planes = sum(tile.count for tile in tiles)
        kept = slice(kept.start or 0, planes if kept.stop is None else kept.stop)
        gathered = Gathered(self.backend, kept, len(tiles) == 1)
        for tile in tiles:
            state, sums, piece = body(tile, state)
            gathered.add(sums, piece)
        return gathered.result()

    def loop(self, tiles: Sequence[Any], body: Callable[[Any], Results], parallel: bool = False) -> Results:
        """Run ``body`` over ``tiles``: add up its first results, concatenate its second ones along axis 1.

        ``parallel`` says that a tile is much work for little memory, worth a thread where there are any.
        """
        return self.scan(tiles, lambda tile, state: (state, *body(tile)), ())

    def room(self, piece: Array, planes: int) -> Array | None:
        """Return memory for so many planes like ``piece``; None where arrays cannot be written."""
        return None
