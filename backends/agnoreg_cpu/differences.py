"""Energies of a field's differences and their gradient, in one pass.

A term of an energy is a function of ``(u[a] - u[b]) - (u[c] - u[d])``, where ``a`` to ``d`` are four neighbours of a
voxel. A table of such terms describes a regulariser, so that one kernel serves all of them. The order of subtractions
matters: a translation of the field costs no digits.

The kernel goes through the planes of some lines. It computes each term's differences, and keeps as many planes of them
as the gradient reads, which fit in cache. The gradient is the adjoint: the same four neighbours on the other side of
the voxel.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel

Array = Any


@kernel(fastmath=ROUNDING)
def _second(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return ``(a - b) - (c - d)``, in this order, also within a sum that may be added up in any order."""
    return (a - b) - (c - d)


@kernel(fastmath=SUMMING, apart=True)
def _differ(
    u: Array, a: Any, b: Any, c: Any, d: Any, counts: Array, box: Array, by: Any, back: Any, absolute: bool, out: Array
) -> float:
    """Return the sum of the energies in the box, and write their derivatives times ``back``.

    An energy is the square of the difference times ``by``, or its absolute value, times how much it counts. ``a`` to
    ``d`` are places in ``u``. What does not count is 0, whatever the field is there.
    """
    # The sum is in float64 whatever the field is. The compiler may add in another order where it inlines this function,
    # which must change no digit of float32.
    total, zero, count = 0.0, u.dtype.type(0.0), np.uintp(out.shape[0])
    a, b, c, d = np.uintp(a), np.uintp(b), np.uintp(c), np.uintp(d)
    if absolute:
        for i in range(count):
            x, w = _second(u[a + i], u[b + i], u[c + i], u[d + i]) * by, counts[i]
            x = x if w > zero else zero
            total += abs(x) * w * box[i]
            # NaN passes no comparison, and stays what it is.
            sign = back if x > zero else (-back if x < zero else x)
            out[i] = sign * w
    else:
        for i in range(count):
            x, w = _second(u[a + i], u[b + i], u[c + i], u[d + i]) * by, counts[i]
            x = x if w > zero else zero
            total += x * x * w * box[i]
            out[i] = x * w * back
    return total


@kernel(fastmath=ROUNDING, apart=True)
def _gather(terms: Array, first: Any, second: Any, more: bool, out: Array) -> None:
    """Write two terms' shares of the gradient, which are added where there are ``more``; each has four places."""
    a, b, c, d = np.uintp(first[0]), np.uintp(first[1]), np.uintp(first[2]), np.uintp(first[3])
    e, f, g, h = np.uintp(second[0]), np.uintp(second[1]), np.uintp(second[2]), np.uintp(second[3])
    for i in range(np.uintp(out.shape[0])):
        share = _second(terms[a + i], terms[b + i], terms[c + i], terms[d + i])
        share += _second(terms[e + i], terms[f + i], terms[g + i], terms[h + i])
        out[i] = out[i] + share if more else share


@kernel()
def reaches(taps: Array) -> Array:
    """Return how far each term's neighbours are along each axis, ``(terms, 3)``."""
    found = np.zeros((taps.shape[0], 3), np.int64)
    for term in range(taps.shape[0]):
        for tap in range(4):
            for axis in range(3):
                found[term, axis] = max(found[term, axis], abs(taps[term, tap, axis]))
    return found


@kernel(apart=True)
def _repeat(weights: Array, step: int, out: Array) -> None:
    """Write the weight of each voxel of a line for each of its entries."""
    for voxel in range(np.uintp(weights.shape[0])):
        for entry in range(np.uintp(step)):
            out[voxel * np.uintp(step) + entry] = weights[voxel]


@kernel()
def energy(
    u: Array, weights: Array, step: int, taps: Array, lost: Array, groups: Array, by: Array, back: Array,
    shares: Array, absolute: bool, own: Array, planes: Any, lines: Any, out: Array,
) -> float:  # fmt: skip
    """Return the sum of a field's energies in some planes and lines, and write the gradient there.

    Parameters
    ----------
    u
        The field ``(planes, lines, entries)``, of which ``step`` entries are a voxel.
    weights
        Of voxels: ``(groups, planes, lines, voxels)``. Without entries: every energy counts once.
    taps
        The places of each term's four neighbours, ``(terms, 4, 3)``: planes, lines and entries from the voxel.
    lost
        How many planes, lines and entries at each end have no such difference, ``(terms, 3, 2)``.
    groups
        Which of the weights are each term's.
    by, back
        Each term's factors, of the difference and of the energy's derivative by it.
    shares
        Each term's factor, of the energy.
    absolute
        Whether energies are absolute values instead of squares.
    own
        The box that counts, ``(3, 2)``: only its energies are added up.
    planes, lines
        Those of the box that are this call's.
    out
        The gradient in the box. Without entries: none is made.
    """
    terms, entries, zero, one = taps.shape[0], u.shape[2], u.dtype.type(0.0), u.dtype.type(1.0)
    reach, wanted, masked = reaches(taps), out.size > 0, weights.size > 0
    if not wanted:
        reach[...] = 0
    starts = np.zeros(terms + 1, np.int64)
    for term in range(terms):
        starts[term + 1] = starts[term] + 2 * reach[term, 0] + 1
    most, around, margin = reach[:, 0].max(), reach[:, 1].max(), reach[:, 2].max()
    # Planes are rows: a neighbour in another line is some entries away, and beyond a line's end lies another line,
    # whose differences do not exist there. A plane of differences takes the place of one that is no longer read.
    height = lines[1] - lines[0] + 2 * around
    size = height * entries + 2 * margin
    kept = np.zeros((starts[terms] + 1) * size, u.dtype)
    box = np.zeros((height, entries), u.dtype)
    box[:, own[2, 0] : own[2, 1]] = one
    # How much a difference counts, of each group for as many planes as there are at once: the same for all without a
    # mask.
    counts = np.zeros((groups.max() + 1, most + 1 if masked else 1, height, entries), u.dtype)
    filled = np.full(len(counts), -1, np.int64)
    if not masked:
        for term in range(terms):
            counts[groups[term], 0, :, lost[term, 2, 0] : entries - lost[term, 2, 1]] = one
    flat, row = u.reshape(-1), np.empty((lines[1] - lines[0]) * entries, u.dtype)
    near, places = (
        (taps[:, :, 0] * u.shape[1] + taps[:, :, 1]) * entries + taps[:, :, 2],
        np.empty((terms + 1, 4), np.int64),
    )
    total = 0.0
    for plane in range(planes[0] - 2 * most, planes[1]):
        for term in range(terms):
            x, group = plane + reach[term, 0], groups[term]
            if x < planes[0] - reach[term, 0]:
                continue
            to = (starts[term] + x % (2 * reach[term, 0] + 1)) * size
            if (x < lost[term, 0, 0]) | (x >= u.shape[0] - lost[term, 0, 1]):
                kept[to : to + size] = zero
                continue
            if masked & (filled[group] < x):
                filled[group] = x
                low, high = max(lines[0] - around, 0), min(lines[1] + around, u.shape[1])
                for y in range(low, high):
                    _repeat(weights[group, x, y], step, counts[group, x % (most + 1), y - lines[0] + around])
            here = counts[group, x % (most + 1) if masked else 0].reshape(-1)
            low, high = max(lines[0] - reach[term, 1], lost[term, 1, 0]), lines[1] + reach[term, 1]
            high = min(high, u.shape[1] - lost[term, 1, 1])
            begin, end = min(max(low, lines[0]), high), max(min(high, lines[1]), low)
            # Before the call's lines, in them, and behind them.
            for part in range(3):
                first = low if part == 0 else (begin if part == 1 else end)
                last = begin if part == 0 else (end if part == 1 else high)
                if first >= last:
                    continue
                start = (first - lines[0] + around) * entries + lost[term, 2, 0]
                stop = (last - lines[0] + around) * entries - lost[term, 2, 1]
                i = (x * u.shape[1] + first) * entries + lost[term, 2, 0]
                found = _differ(
                    flat, i + near[term, 0], i + near[term, 1], i + near[term, 2], i + near[term, 3],
                    here[start:stop], box.reshape(-1)[start:stop], by[term], back[term], absolute,
                    kept[to + margin + start : to + margin + stop],
                )  # fmt: skip
                if (part == 1) & (x >= planes[0]) & (x < planes[1]):
                    total += found * shares[term]
        if not wanted or plane < planes[0]:
            continue
        # Without a second one, a term is paired with places that hold 0.
        places[terms] = starts[terms] * size
        for term in range(terms):
            for tap in range(4):
                slot = starts[term] + (plane - taps[term, tap, 0]) % (2 * reach[term, 0] + 1)
                line = around - taps[term, tap, 1]
                places[term, tap] = slot * size + margin + line * entries - taps[term, tap, 2]
        for term in range(0, terms, 2):
            _gather(kept, places[term], places[term + 1], term > 0, row)
        for y in range(lines[0], lines[1]):
            start = (y - lines[0]) * entries
            out[plane - own[0, 0], y - own[1, 0]] = row[start + own[2, 0] : start + own[2, 1]]
    return total
