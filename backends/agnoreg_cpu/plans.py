"""How the work on images is divided among threads, and the memory that each part of it needs."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from agnoreg.backend.accelerators import ALIGNED
from agnoreg_cpu.measures import Array, room
from agnoreg_cpu.threads import Part, parts

#: Bytes of running sums, or of merged windows, that a thread keeps in its core's cache.
CACHE = 1 << 20


@lru_cache(maxsize=256)
def shares(
    samples: int, sizes: tuple[int, int], around: tuple[int, int], threads: int
) -> tuple[list[Part], list[Part]]:
    """Return parts of the planes and of the lines of images, so that each thread has the least possible work.

    Beside its own a part takes the planes and lines ``around`` it.
    """

    def cost(divided: tuple[int, int]) -> int:
        turns = -(-samples * math.prod(divided) // threads)
        return turns * math.prod(-(-n // d) + more for n, d, more in zip(sizes, divided, around, strict=True))

    most = [min(size, threads) for size in sizes]
    # As many parts as there are threads, of one sample or of all.
    pairs = {(a, b) for a in range(1, most[0] + 1) for b in (threads // a, threads // (a * samples))}
    divided = min(sorted((a, min(max(b, 1), most[1])) for a, b in pairs), key=cost)
    planes, lines = map(parts, sizes, divided)
    return planes, lines


@lru_cache(maxsize=256)
def jobs(
    samples: int, planes: Part, lines: Part, around: tuple[int, int], line: int, threads: int
) -> list[tuple[int, Part, Part]]:
    """Return samples, and parts of these planes and lines, each of which takes the planes and lines ``around`` it.

    ``line`` is how many bytes are kept of a line; lines are so few at once that these stay in cache.
    """
    (top, bottom), (left, right) = planes, lines
    some, rows = shares(samples, (bottom - top, right - left), around, threads)
    most = max(8, 4 * around[1], CACHE // line - around[1])
    return [
        (i, (top + a, top + b), (left + c + d, left + c + e))
        for i in range(samples)
        for a, b in some
        for c, stop in rows
        for d, e in parts(stop - c, -(-(stop - c) // most))
    ]


class Layout(NamedTuple):
    """Where arrays lie in one piece of memory."""

    #: Shape, dtype and first byte of each.
    arrays: tuple[tuple[tuple[int, ...], Any, int], ...]
    size: int


def layout(*arrays: tuple[tuple[int, ...], Any]) -> Layout:
    """Return where arrays of these shapes and dtypes lie."""
    places, size = [], 0
    for shape, kind in arrays:
        dtype = np.dtype(kind)
        places.append((shape, dtype, size))
        size += -(-math.prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED
    return Layout(tuple(places), size)


def zeros(there: Layout) -> tuple[Array, ...]:
    """Return arrays of zeros. They are one piece of memory: of small images that is what takes time."""
    memory = room((there.size,), np.dtype(np.uint8))
    memory.fill(0)
    return tuple(np.ndarray(shape, dtype, memory, place) for shape, dtype, place in there.arrays)
