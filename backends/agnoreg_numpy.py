"""The NumPy adapter."""

import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
from array_api_compat import numpy as xp

from agnoreg.backend import Autodiff, Backend, Counting, Execution, Gathered, Operations
from agnoreg.backend.accelerators import HostMemory, cores
from agnoreg.backend.execution import Results
from agnoreg.engine.validate import check_integer

Array = Any

#: Runs are looked for where those among so many first entries are at least so long.
PROBED, SHORTEST_RUN = 1 << 12, 8
#: A tuple, which compilers that trace Python can read where they cannot read ``|``.
KINDS = (np.ndarray, np.generic)


class NumPyMemory(HostMemory):
    """The memory of NumPy's arrays, which are what kernels take."""

    backend: "NumPyBackend"

    @property
    def inner(self) -> Backend:
        """NumPy's own backend."""
        return self.backend

    def take(self, array: Array) -> Array:
        """Return the array."""
        return np.asarray(array)

    def threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return self.backend.threads or cores()


class NumPyExecution(Execution):
    """Eager execution; slabs may be shared among threads."""

    backend: "NumPyBackend"

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.host = NumPyMemory(backend)
        self.memories = {"host": self.host}

    def memory(self, arrays: tuple[Array, ...]) -> HostMemory:
        """Return the host's memory."""
        return self.host

    def loop(self, tiles: Sequence[Any], body: Callable[[Any], Results], parallel: bool = False) -> Results:
        """Run ``body`` over ``tiles``, in parallel by several threads; sums are added up in the tiles' order."""
        threads = min(self.host.threads(), len(tiles) - 1)
        if not parallel or threads < 2:
            return super().loop(tiles, body)
        gathered = Gathered(self.backend, slice(0, sum(tile.count for tile in tiles)), single=False)
        # The first tile tells what there is to make room for.
        gathered.add(*body(tiles[0]))

        def run(tile: Any) -> tuple[Array, ...]:
            sums, piece = body(tile)
            assert not piece or piece[0].shape[1] == tile.count
            gathered.put(tile.start, piece)
            return sums

        # NumPy's error state belongs to the caller's context.
        contexts = [copy_context() for _ in tiles[1:]]
        with ThreadPoolExecutor(threads) as pool:
            results = pool.map(lambda context, tile: context.run(run, tile), contexts, tiles[1:])
            for sums, tile in zip(results, tiles[1:], strict=True):
                gathered.add(sums, (), tile.count)
        return gathered.result()

    def room(self, piece: Array, planes: int) -> Array:
        """Return memory for so many planes."""
        return np.empty((piece.shape[0], planes, *piece.shape[2:]), dtype=piece.dtype)


class NumPyOperations(Operations):
    """What NumPy has as one function."""

    def dot(self, x: Array, y: Array) -> Array:
        """Return the sums of the products along the last axis, without the products in memory."""
        return np.vecdot(x, y)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index, in their own dtype."""
        return np.bincount(index, weights=weights, minlength=size).astype(weights.dtype)


class NumPyAutodiff(Autodiff):
    """None; all numbers are there as soon as they are asked for."""

    def known(self, condition: Callable[[], Array]) -> bool:
        """Return whether all entries are true."""
        return bool(np.all(condition()))

    def visible(self, array: Array) -> bool:
        """Return True."""
        return True


class NumPyCounting(Counting):
    """Counts by NumPy, distances by SciPy."""

    backend: "NumPyBackend"

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return the arrays as they are."""
        return self.backend, arrays

    def runs(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array | None]:
        """Return one entry of each run, where runs are long: neighbours are compared faster than counted."""
        beginnings = [x[:PROBED] for x in arrays]
        if np.count_nonzero(_changes(beginnings)) * SHORTEST_RUN > len(beginnings[0]):
            return arrays, None
        ends = np.append(np.flatnonzero(_changes(arrays)), len(arrays[0]) - 1)
        return tuple(x[ends] for x in arrays), np.diff(ends, prepend=-1)

    def bincount(self, index: Array, size: int, counts: Array | None = None) -> Array:
        """Return the counts, as integers where each entry counts once."""
        return np.bincount(index, counts, minlength=size)

    def bounds(self, array: Array) -> tuple[float, float]:
        """Return the least and the greatest number."""
        return float(array.min()), float(array.max())

    def distance_transform(self, mask: Array, spacing: tuple[float, ...]) -> Array:
        """Return SciPy's distances."""
        if not mask.any():
            return np.full(mask.shape, np.inf)
        return _scipy("ndimage").distance_transform_edt(~mask, sampling=spacing)

    def distances(self, at: Array, to: Array, spacing: tuple[float, ...]) -> Array:
        """Return the distances by a tree of the places, which a surface has few of.

        The tree says which place is nearest; how far it is comes from the indices, as in a distance transform.
        """
        places, nearest = np.argwhere(at), np.argwhere(to)
        if not len(places) or not len(nearest):
            return np.full(len(places), np.inf)
        steps = np.asarray(spacing)
        # A tree for one look-up: to balance it would take longer.
        tree = _scipy("spatial").cKDTree(nearest * steps, leafsize=32, balanced_tree=False, compact_nodes=False)
        _, found = tree.query(places * steps, workers=self.backend.threads or cores())
        between = (nearest[found] - places) * steps
        between *= between
        return np.sqrt(between.sum(axis=1))

    def cubic(self, array: Array, points: Array) -> Array:
        """Return SciPy's splines, in float64."""
        return _scipy("ndimage").map_coordinates(array.astype(np.float64), points.T, order=3)

    def boxes(self, places: Array, count: int) -> Array:
        """Return the boxes, found by SciPy in one pass."""
        found = np.zeros((count, places.ndim, 2), dtype=np.int64)
        for box, slices in zip(found, _scipy("ndimage").find_objects(places, count), strict=True):
            if slices is not None:
                box[:] = [(piece.start, piece.stop) for piece in slices]
        return found


def _changes(arrays: Sequence[Array]) -> Array:
    """Return after which entries of flat arrays, the last one aside, a run ends in one of them."""
    first, *others = arrays
    changes = first[1:] != first[:-1]
    for x in others:
        changes |= x[1:] != x[:-1]
    return changes


def _scipy(part: str) -> Any:
    """Return a part of SciPy, which nothing but distances needs."""
    try:
        return importlib.import_module(f"scipy.{part}")
    except ImportError as error:
        raise ImportError("Distances of surfaces, and splines, need SciPy: pip install agnoreg[metrics].") from error


class NumPyBackend(Backend):
    """NumPy arrays: no autodiff, so gradients come from `agnoreg.value_and_grad` alone.

    Attributes
    ----------
    threads
        How many threads share the slabs of mutual information, and the work of compiled kernels; None (the default): as
        many as this process may use cores. Without kernels, slabs of LNCC and of the regularisers follow one another,
        and those of other losses are done in less time than threads take to agree.
    kernels
        Whether compiled kernels are used where there are any; see `agnoreg_cpu`.
    """

    def __init__(self, name: str, xp: Any) -> None:
        super().__init__(
            name,
            xp,
            execution=NumPyExecution,
            operations=NumPyOperations,
            autodiff=NumPyAutodiff,
            counting=NumPyCounting,
        )
        self._threads: int | None = None

    @property
    def threads(self) -> int | None:
        """How many threads share the work; None: as many as this process may use cores."""
        return self._threads

    @threads.setter
    def threads(self, threads: int | None) -> None:
        self._threads = None if threads is None else check_integer("threads", threads, 1)

    def owns(self, array: Array) -> bool:
        """Return whether this is a NumPy array, subclasses and memory maps included."""
        return isinstance(array, KINDS)

    def prepare(self, array: Array) -> Array:
        """Return a plain ndarray in the machine's byte order, which shares the memory of the subclass it came as."""
        if np.ma.is_masked(array):
            raise TypeError(
                "The array has masked voxels, which a loss does not know: fill them, or pass the data alone."
            )
        array = np.asarray(array)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def device(self, array: Array) -> str:
        """Return ``"cpu"``."""
        return "cpu"


backend = NumPyBackend("numpy", xp)
