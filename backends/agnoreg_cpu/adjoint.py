"""Running sums of the factors that make a gradient.

Sums of float32 numbers are added up in float64, where they are exact if the numbers are of similar size. Sums of
float64 numbers are two numbers: the sum, and what rounding took from it. The second ones follow after all first ones.

Arrays of lines are as in `running`.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import INLINE, ROUNDING, kernel
from agnoreg_cpu.running import AHEAD

Array = Any


@kernel(fastmath=ROUNDING, inner=True)
def _plus(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the sum of two numbers, and what rounding took from it (Knuth)."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def collect(new: Array, ring: Array, slot: int, sums: Array, line: int) -> None:
    """Add factors to the sums along axis 1, subtract those whose place they take, and remember them."""
    for m in range(new.shape[1]):
        for x in range(new.shape[2]):
            sums[line, m, x] += np.float64(new[0, m, x]) - np.float64(ring[slot, m, x])
            ring[slot, m, x] = new[0, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def collect_twice(new: Array, ring: Array, slot: int, middle: int, slopes: Array, sums: Array, line: int) -> None:
    """Do the same for triangles, half of which the ``middle`` ones leave."""
    for m in range(new.shape[1]):
        for x in range(new.shape[2]):
            between = np.float64(ring[middle, m, x])
            slope = np.float64(new[0, m, x]) - between - (between - np.float64(ring[slot, m, x]))
            slopes[line, m, x] += slope
            sums[line, m, x] += slopes[line, m, x]
            ring[slot, m, x] = new[0, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def collect_in_two(new: Array, ring: Array, slot: int, sums: Array, line: int) -> None:
    """Do what `collect` does, and add up what is lost."""
    kinds = new.shape[1]
    for m in range(kinds):
        for x in range(new.shape[2]):
            there, a = _plus(sums[line, m, x], new[0, m, x])
            there, b = _plus(there, -ring[slot, m, x])
            sums[line, m, x] = there
            sums[line, kinds + m, x] += a + b
            ring[slot, m, x] = new[0, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def collect_twice_in_two(
    new: Array, ring: Array, slot: int, middle: int, slopes: Array, sums: Array, line: int
) -> None:
    """Do what `collect_twice` does, and add up what is lost."""
    kinds = new.shape[1]
    for m in range(kinds):
        for x in range(new.shape[2]):
            slope, a = _plus(slopes[line, m, x], new[0, m, x])
            slope, b = _plus(slope, -ring[middle, m, x] - ring[middle, m, x])
            slope, c = _plus(slope, ring[slot, m, x])
            slopes[line, m, x] = slope
            slopes[line, kinds + m, x] += a + b + c
            there, d = _plus(sums[line, m, x], slope)
            sums[line, m, x] = there
            sums[line, kinds + m, x] += slopes[line, kinds + m, x] + d
            ring[slot, m, x] = new[0, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def move_in_two(lines: Array, new: int, old: int, lead: Any, sums: Array, row: int) -> None:
    """Do what `running.move` does, and add up what is lost."""
    lead, count, kinds = np.uintp(lead), np.uintp(lines.shape[2]), lines.shape[1] // 2
    for m in range(kinds):
        for x in range(count):
            there, a = _plus(sums[row, m, lead + x], lines[new, m, x] + lines[new, kinds + m, x])
            there, b = _plus(there, -(lines[old, m, x] + lines[old, kinds + m, x]))
            sums[row, m, lead + x] = there
            sums[row, kinds + m, lead + x] += a + b


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def add_in_two(lines: Array, line: int, sums: Array, row: int) -> None:
    """Do what `running.add` does, and add up what is lost."""
    kinds = lines.shape[1] // 2
    for m in range(kinds):
        for x in range(lines.shape[2]):
            there, lost = _plus(sums[row, m, x], lines[line, m, x])
            sums[row, m, x] = there
            sums[row, kinds + m, x] += lines[line, kinds + m, x] + lost


@kernel(fastmath=ROUNDING, inner=True)
def cumulate_in_two(sums: Array, row: int, first: Any, count: Any) -> None:
    """Do what `running.cumulate` does, and add up what is lost."""
    first, count, one, kinds = np.uintp(first), np.uintp(count), np.uintp(1), sums.shape[1] // 2
    for m in range(kinds):
        there, lost = 0.0, 0.0
        for x in range(count):
            there, more = _plus(there, sums[row, m, first + x])
            lost += sums[row, kinds + m, first + x] + more
            sums[AHEAD, m, x + one] = there
            sums[AHEAD, kinds + m, x + one] = lost


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def combine(
    sums: Array, width: Any, first: int, fine: Any, own: Array, other: Array, z: int, y: int,
    centre: Any, of_other: Any, scale: Any, scale_of_other: Any, factor: Any, out: Array,
) -> None:  # fmt: skip
    """Write a line of one image's gradient; if it is ``fine`` sums are of two numbers."""
    kind, width, factor = out.dtype.type, np.uintp(width), factor * scale
    for x in range(np.uintp(out.shape[2])):
        by_cross = sums[AHEAD, 0, width + x] - sums[AHEAD, 0, x]
        by_variance = sums[AHEAD, first, width + x] - sums[AHEAD, first, x]
        by_means = sums[AHEAD, first + 1, width + x] - sums[AHEAD, first + 1, x]
        if fine is not None:
            kinds = sums.shape[1] // 2
            second, third = kinds + first, kinds + first + 1
            by_cross += sums[AHEAD, kinds, width + x] - sums[AHEAD, kinds, x]
            by_variance += sums[AHEAD, second, width + x] - sums[AHEAD, second, x]
            by_means += sums[AHEAD, third, width + x] - sums[AHEAD, third, x]
        gradient = (other[z, y, x] - of_other) * scale_of_other * kind(by_cross)
        out[z, y, x] = (gradient - (own[z, y, x] - centre) * scale * kind(by_variance) - kind(by_means)) * factor
