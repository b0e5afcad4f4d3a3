"""Local correlation in windows of symmetric taps, such as Gaussians, and its gradients.

Moments are merged along one axis after the other, tap by tap: of voxels to those of columns, of these to those of
planes, of these to those of windows. They are taken about the mean at the window's middle, so that no offset costs
digits and flat windows have moments of exactly 0. What a pair of taps adds is added at once.

Arrays of rows are ``(rows, facts, entries)``; functions take them whole, with the index of a row.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from agnoreg_cpu import scores
from agnoreg_cpu.compiling import ROUNDING, kernel
from agnoreg_cpu.plans import Layout, layout

Array = Any

# An index that may be negative, for all that Numba knows, is not vectorised: hence np.uintp below.

#: Two means and three centred second moments, as in `scores`.
MOMENTS = 5


@lru_cache(maxsize=256)
def workspace(shape: tuple[int, ...], widths: tuple[int, ...], lines: int, wrt: int, dtype: Any) -> Layout:
    """Return the memory that `correlate` needs for so many lines of an image, and gradients by ``wrt`` images."""
    (wz, wy, wx), kinds = widths, 1 + 2 * wrt
    rows = (wy, MOMENTS), (1, MOMENTS), (1, scores.FACTS), (1, kinds), (lines + wy - 1, kinds), (lines * wz, kinds)
    padded = shape[2] + wx - 1
    return layout(*(((*row, padded), dtype) for row in (*rows, (1, kinds))))


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _of_voxels(
    t: Array, p: Array, z: int, y: int, a: tuple[Array, Array, int, int], b: tuple[Array, Array, int, int], tap: Any,
    start: Any, out: Array, io: int,
) -> None:  # fmt: skip
    """Add what two lines of voxels, times a tap, are about the line in the middle."""
    (at, ap, az, ay), (bt, bp, bz, by), start = a, b, np.uintp(start)
    for x in range(np.uintp(t.shape[2])):
        dt, dp = at[az, ay, x] - t[z, y, x], ap[az, ay, x] - p[z, y, x]
        et, ep = bt[bz, by, x] - t[z, y, x], bp[bz, by, x] - p[z, y, x]
        out[io, 0, start + x] += tap * (dt + et)
        out[io, 1, start + x] += tap * (dp + ep)
        out[io, 2, start + x] += tap * (dt * dt + et * et)
        out[io, 3, start + x] += tap * (dp * dp + ep * ep)
        out[io, 4, start + x] += tap * (dt * dp + et * ep)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _settle_voxels(
    t: Array, p: Array, z: int, y: int, centres: Any, weight: Any, start: Any, out: Array, io: int
) -> None:
    """Make such sums moments about their own means."""
    (c, d), start, inverse = centres, np.uintp(start), t.dtype.type(1.0) / weight
    for x in range(np.uintp(t.shape[2])):
        dt, dp = out[io, 0, start + x], out[io, 1, start + x]
        out[io, 0, start + x] = t[z, y, x] - c + dt * inverse
        out[io, 1, start + x] = p[z, y, x] - d + dp * inverse
        out[io, 2, start + x] -= dt * dt * inverse
        out[io, 3, start + x] -= dp * dp * inverse
        out[io, 4, start + x] -= dt * dp * inverse


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _begin(rows: Array, middle: int, half: Any, tap: Any, out: Array, io: int, count: Any) -> None:
    """Begin with the moments in the middle, times their tap; there the means differ by nothing."""
    zero, half = out.dtype.type(0.0), np.uintp(half)
    for x in range(np.uintp(count)):
        out[io, 0, x] = zero
        out[io, 1, x] = zero
        out[io, 2, x] = tap * rows[middle, 2, half + x]
        out[io, 3, x] = tap * rows[middle, 3, half + x]
        out[io, 4, x] = tap * rows[middle, 4, half + x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _of_windows(
    rows: Array, a: int, i: Any, b: int, j: Any, middle: int, half: Any, tap: Any, factor: Any, out: Array, io: int,
    count: Any,
) -> None:  # fmt: skip
    """Add the moments in two rows, times a tap, about the means in the middle; ``factor`` is that of their squares."""
    i, j, half = np.uintp(i), np.uintp(j), np.uintp(half)
    for x in range(np.uintp(count)):
        t, p = rows[middle, 0, half + x], rows[middle, 1, half + x]
        dt, dp, et, ep = rows[a, 0, i + x] - t, rows[a, 1, i + x] - p, rows[b, 0, j + x] - t, rows[b, 1, j + x] - p
        out[io, 0, x] += tap * (dt + et)
        out[io, 1, x] += tap * (dp + ep)
        out[io, 2, x] += tap * (rows[a, 2, i + x] + rows[b, 2, j + x]) + factor * (dt * dt + et * et)
        out[io, 3, x] += tap * (rows[a, 3, i + x] + rows[b, 3, j + x]) + factor * (dp * dp + ep * ep)
        out[io, 4, x] += tap * (rows[a, 4, i + x] + rows[b, 4, j + x]) + factor * (dt * dp + et * ep)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _settle(rows: Array, middle: int, half: Any, unit: Any, weight: Any, out: Array, io: int, count: Any) -> None:
    """Make such sums moments about their own means."""
    half, inverse = np.uintp(half), out.dtype.type(1.0) / weight
    factor = unit * inverse
    for x in range(np.uintp(count)):
        dt, dp = out[io, 0, x], out[io, 1, x]
        out[io, 0, x] = rows[middle, 0, half + x] + dt * inverse
        out[io, 1, x] = rows[middle, 1, half + x] + dp * inverse
        out[io, 2, x] -= factor * dt * dt
        out[io, 3, x] -= factor * dp * dp
        out[io, 4, x] -= factor * dt * dp


@kernel(inner=True)
def _merge(rows: Array, last: int, taps: Array, along: bool, unit: Any, out: Array, io: int, count: int) -> None:
    """Merge the rows up to the last one, of a ring, or ``along`` a row what begins at each entry.

    What is merged weighs ``unit``.
    """
    width, ring, weight = taps.shape[0], rows.shape[0], taps.sum()
    place = 0 if along else (last - width + 1 + width // 2) % ring
    half = width // 2 if along else 0
    _begin(rows, place, half, taps[width // 2] * taps.dtype.type(width % 2), out, io, count)
    for i in range(width // 2):
        k = width - 1 - i
        a, b = (0, 0) if along else ((last - width + 1 + i) % ring, (last - i) % ring)
        _of_windows(
            rows, a, i if along else 0, b, k if along else 0, place, half, taps[i], taps[i] * unit, out, io, count
        )
    _settle(rows, place, half, unit, weight, out, io, count)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _add(rows: Array, row: int, ahead: Any, tap: Any, out: Array, io: int, count: Any) -> None:
    """Add a row of sums, times a tap."""
    ahead = np.uintp(ahead)
    for m in range(rows.shape[1]):
        for x in range(np.uintp(count)):
            out[io, m, x] += tap * rows[row, m, ahead + x]


@kernel(inner=True)
def _clear(rows: Array, row: int) -> None:
    for m in range(rows.shape[1]):
        for x in range(rows.shape[2]):
            rows[row, m, x] = 0


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _combine(
    sums: Array, first: int, own: Array, other: Array, z: int, y: int, centre: Any, of_other: Any, factor: Any,
    out: Array,
) -> None:  # fmt: skip
    """Write a line of one image's gradient."""
    for x in range(np.uintp(out.shape[2])):
        gradient = (other[z, y, x] - of_other) * sums[0, 0, x] - (own[z, y, x] - centre) * sums[0, first, x]
        out[z, y, x] = (gradient - sums[0, first + 1, x]) * factor


@kernel()
def correlate(
    images: tuple[Array, Array],
    border: Array,
    centres: tuple[Any, Any],
    taps: tuple[Array, Array, Array],
    formula: int,
    numbers: Any,
    tile: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    factor: Any,
    gradients: tuple[Array, Array],
    work: Any,
) -> float:
    """Return the sum of the values of the windows about some planes, lines and entries.

    Where one of the ``gradients`` has planes, ``factor`` times the gradient of the sum of all values is written into
    these planes and lines. ``border`` is a line of zeros, ``taps`` are the weights along each axis, ``work`` is zeros
    of `workspace`; for the rest see `sliding.correlate`.
    """
    (t, p), (by_t, by_p), (taps_z, taps_y, taps_x) = images, gradients, taps
    (top, bottom), (left, right), (start, stop) = tile
    ring, beside, facts, fresh, across, back, sums = work
    depth, height, width = t.shape
    wz, wy, wx = taps_z.shape[0], taps_y.shape[0], taps_x.shape[0]
    before_z, before_y, before_x = (wz - 1) // 2, (wy - 1) // 2, (wx - 1) // 2
    after_z, after_y, after_x = wz // 2, wy // 2, wx // 2
    wants_t, wants_p = by_t.shape[0] > 0, by_p.shape[0] > 0
    wanted, first_of_t, first_of_p = wants_t or wants_p, np.int64(1), np.int64(1 + 2 * wants_t)
    # Numba compiles what it calls anew for each number that it knows.
    zero, of_t, of_p = np.int64(0), np.int64(0), np.int64(1)
    low_z, high_z, low_y, high_y, last_z = top, bottom, left, right, bottom
    if wanted:
        low_z, high_z, last_z = max(0, top - after_z), min(depth, bottom + before_z), bottom + before_z
        low_y, high_y = max(0, left - after_y), min(height, right + before_y)
    weight_z, weight_y = taps_z.sum(), taps_y.sum()
    padded, rows = width + wx - 1, right - left

    total = 0.0
    for middle_z in range(low_z, last_z):
        slot = middle_z % wz * rows - left
        here = middle_z < high_z
        for y in range(low_y - before_y, (high_y + after_y) if here else low_y - before_y):
            row, middle_y = y % wy, y - after_y
            _clear(ring, row)
            for x in range(padded):
                ring[row, 0, x], ring[row, 1, x] = -centres[0], -centres[1]
            if 0 <= y < height:
                for x in range(width):
                    ring[row, 0, before_x + x] = ring[row, 1, before_x + x] = 0
                for i in range(wz // 2):
                    za, zb = middle_z - before_z + i, middle_z + after_z - i
                    a = (t, p, za, y) if za >= 0 else (border, border, zero, zero)
                    b = (t, p, zb, y) if zb < depth else (border, border, zero, zero)
                    _of_voxels(t, p, middle_z, y, a, b, taps_z[i], before_x, ring, row)
                _settle_voxels(t, p, middle_z, y, centres, weight_z, before_x, ring, row)
            if middle_y < low_y:
                continue
            _merge(ring, y, taps_y, False, weight_z, beside, zero, padded)
            _merge(beside, zero, taps_x, True, weight_z * weight_y, facts, zero, width)
            scores.smoothed(facts, numbers, formula == scores.SIGNED)
            if top <= middle_z < bottom and left <= middle_y < right:
                total += scores.total(facts, scores.VALUE, start, stop)
            if not wanted:
                continue
            if wants_t:
                scores.factors(facts, of_t, first_of_t, numbers[2], width, after_x, fresh)
            if wants_p:
                scores.factors(facts, of_p, first_of_p, numbers[2], width, after_x, fresh)
            line = middle_y - low_y
            _clear(across, line)
            for i in range(wx):
                _add(fresh, zero, i, taps_x[i], across, line, width)
        if not wanted:
            continue
        for y in range(left, right):
            _clear(back, slot + y)
            for i in range(wy if here else 0):
                line = y - after_y + i
                if low_y <= line < high_y:
                    _add(across, line - low_y, zero, taps_y[i], back, slot + y, width)
        z = middle_z - before_z
        for y in range(left, right if top <= z else left):
            _clear(sums, zero)
            for i in range(wz):
                plane = z - after_z + i
                if low_z <= plane:
                    _add(back, plane % wz * rows + y - left, zero, taps_z[i], sums, zero, width)
            if wants_t:
                _combine(sums, first_of_t, t, p, z, y, centres[0], centres[1], factor, by_t)
            if wants_p:
                _combine(sums, first_of_p, p, t, z, y, centres[1], centres[0], factor, by_p)
    return total
