"""Windows made of boxes, and how many bits the integers have that are summed in them."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from agnoreg.backend.windows import boxes
from agnoreg_cpu.measures import Array

#: Bits that must be left for an intensity.
LEAST_BITS: dict[Any, int] = {np.float32: 23, np.float64: 44}
#: Bits of the largest weight, where weights are not 0 and 1 alone.
WEIGHT_BITS = 25


class BoxWindows(NamedTuple):
    """Windows made of boxes of integers along each axis, as `sliding.correlate` takes them."""

    boxes: tuple[int, ...]
    #: Whether they are boxes of boxes: triangles.
    twice: bool
    #: By what integers are multiplied to be the windows' weights.
    share: float

    @property
    def widths(self) -> tuple[int, ...]:
        """How wide a window is along each axis."""
        return tuple(2 * box - 1 for box in self.boxes) if self.twice else self.boxes

    @property
    def volume(self) -> int:
        """The sum of a window's integers."""
        return math.prod(self.boxes) ** (1 + self.twice)


@lru_cache(maxsize=64)
def windows_of(taps: tuple[tuple[float, ...], ...]) -> BoxWindows | None:
    """Return windows with these weights along each axis, None if they are not made of boxes."""
    found = [boxes(each) for each in taps]
    if all(len(widths) == 1 for widths in found):
        return BoxWindows(tuple(width for (width,) in found), False, 1.0)
    sides, share = [], 1.0
    for each in taps:
        # A triangle of any height, with zeros beside it.
        inner = tuple(tap for tap in each if tap)
        side, height = (len(inner) + 1) // 2, inner[0] if inner else 0.0
        triangle = (max(0, min(i, len(each) - 1 - i) - len(each) // 2 + side) for i in range(len(each)))
        # Fractions of 7 and of the like are rounded, added up and multiplied.
        if not len(each) % 2 or not np.allclose(each, [number * height for number in triangle], rtol=1e-14, atol=0.0):
            return None
        sides.append(side)
        share *= height
    return BoxWindows(tuple(sides), True, share)


@lru_cache(maxsize=64)
def held(windows: BoxWindows, sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Return what windows about each entry hold along each axis, and at the end what a full one holds."""

    def along(size: int, box: int) -> Array:
        ones = np.ones(box, np.int64)
        taps = np.convolve(ones, ones) if windows.twice else ones
        there = np.convolve(np.ones(size, np.int64), taps)[len(taps) // 2 :][:size]
        return np.append(there, taps.sum())

    return tuple(map(along, sizes, windows.boxes))


def bits_for(volume: float, words: int) -> int:
    """Return how many bits an integer of a voxel may have: 29 at most, and sums of products in a window 63."""
    return min(29, int((62.9 - (words - 1) - math.log2(volume)) / 2))


@lru_cache(maxsize=64)
def words_and_bits(windows: BoxWindows, kind: Any, soft: bool) -> tuple[int, int]:
    """Return how many integers a voxel needs, and the bits of each; 0 integers where two do not suffice.

    ``soft`` says that voxels have weights other than 0 and 1.
    """
    for words in range(1 + soft, 3):
        bits = bits_for(windows.volume * 2 ** (WEIGHT_BITS * soft), words)
        if bits * words >= LEAST_BITS[kind]:
            return words, bits
    return 0, 0
