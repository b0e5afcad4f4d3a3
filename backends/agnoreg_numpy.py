"""The NumPy adapter."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
from array_api_compat import numpy as xp

from agnoreg.backend import Backend, Gathered

Array = Any

#: A tuple, which compilers that trace Python can read where they cannot read ``|``.
KINDS = (np.ndarray, np.generic)


#: Slabs that take less than so many seconds are faster one after the other: threads wait for Python's lock.
WORTH_A_THREAD = 1e-3


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NumPyBackend(Backend):
    """NumPy arrays: no autodiff, so gradients come from `agnoreg.value_and_grad` alone.

    Attributes
    ----------
    threads
        How many threads share the slabs of a large image; None (the default): as many as this process may use cores.
        Only mutual information is worth more than one: slabs of LNCC and of the regularisers follow one another, and
        those of other losses are done in less time than threads take to agree.
    """

    threads: int | None = None

    def owns(self, array: Array) -> bool:
        """Say whether this is a NumPy array, subclasses and memory maps included."""
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

    def loop(
        self, tiles: Sequence[Any], body: Callable[[Any], tuple[tuple[Array, ...], tuple[Array, ...]]]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Run ``body`` over ``tiles``, by several threads where that pays; sums are added up in the tiles' order."""
        threads = min(self.threads or _cores(), len(tiles) - 1)
        if threads < 2:
            return super().loop(tiles, body)
        gathered = Gathered(self, slice(0, sum(tile.count for tile in tiles)), single=False)
        start = time.perf_counter()
        gathered.add(*body(tiles[0]))
        if time.perf_counter() - start < WORTH_A_THREAD:
            for tile in tiles[1:]:
                gathered.add(*body(tile))
            return gathered.result()

        def run(tile: Any) -> tuple[Array, ...]:
            sums, piece = body(tile)
            gathered.put(tile.start - tiles[0].start, piece)
            return sums

        # NumPy's error state belongs to the caller's context.
        contexts = [copy_context() for _ in tiles[1:]]
        with ThreadPoolExecutor(threads) as pool:
            for sums in pool.map(lambda context, tile: context.run(run, tile), contexts, tiles[1:]):
                gathered.add(sums, ())
        return gathered.result()

    def room(self, piece: Array, planes: int) -> Array:
        """Return memory for so many planes."""
        return np.empty((piece.shape[0], planes, *piece.shape[2:]), dtype=piece.dtype)

    def dot(self, x: Array, y: Array) -> Array:
        """Return the sums of the products along the last axis, without the products in memory."""
        return np.vecdot(x, y)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index, in their own dtype."""
        return np.bincount(index, weights=weights, minlength=size).astype(weights.dtype)


backend = NumPyBackend("numpy", xp)
