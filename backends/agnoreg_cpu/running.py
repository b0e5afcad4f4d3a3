"""Running sums of integers: what enters a window is added, what leaves it is subtracted, and nothing is lost.

An intensity less its centre is an integer of so many bits that the sums of its squares in a window fit into 64 bits,
or two such integers, the second of which holds the lower bits. Arithmetic is modulo 2^64: sums on the way may be
larger, if the result is not.

Arrays of lines are ``(lines, facts, entries)``; functions take them whole, with the index of a line.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import INLINE, ROUNDING, kernel

Array = Any

# An index that may be negative, for all that Numba knows, is not vectorised: hence np.uintp below.

# What is known of a voxel: both images' integers at 0 and 1, its weight at 2, and their lower integers at 3 and 4.

#: How many sums a window has: of both images, of their squares and product; of two integers these are of the upper
#: ones, and there are those of the lower from 5 on, of products of both from 7, and of the lower ones' from 10. With a
#: mask the sum of weights is last.
SUMS, ALL = 5, 13
#: Lines of sums along axis 2: the running sums, and these from the beginning of the line; of triangles also by how much
#: the sums grow, and those of boxes.
RUNNING, AHEAD, SLOPE, BOXES = range(4)
#: Added to a number, and subtracted again, to round it to an integer.
SHIFT = 1 << 30


@kernel(fastmath=ROUNDING)
def reach(image: Array, weights: Array, centre: Any, steps: tuple[int, int, int]) -> tuple[float, float]:
    """Return how far intensities on a grid are from the centre at most, and usually: where they have any but one value.

    Both are unspecified, and one of them is NaN, where an intensity is.
    """
    (a, b, c), (sz, sy, sx), masked = image.shape, steps, weights.shape[0] > 0
    usual, largest, total, count = image[sz // 2, sy // 2, sx // 2], 0.0, 0.0, 0
    for z in range(sz // 2, a, sz):
        for y in range(sy // 2, b, sy):
            for x in range(sx // 2, c, sx):
                value = image[z, y, x]
                if masked and weights[z, y, x] == 0:
                    continue
                far = np.float64(abs(value - centre))
                largest = max(largest, far)
                if value != usual:
                    total += far
                    count += 1
    return largest, largest if total == 0.0 else total / count


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def quantise(t: Array, p: Array, z: int, y: int, centres: Any, scales: Any, limit: Any, out: Array, line: int) -> int:
    """Write a line of images as integers; return how many voxels are beyond the limit or not finite."""
    (c, d), (e, f), beyond = centres, scales, np.int32(0)
    for x in range(t.shape[2]):
        a, b = (t[z, y, x] - c) * e, (p[z, y, x] - d) * f
        beyond += np.int32(0) if (abs(a) <= limit) & (abs(b) <= limit) else np.int32(1)
        out[line, 0, x], out[line, 1, x] = np.int32(a), np.int32(b)
    return int(beyond)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def quantise_masked(
    t: Array, p: Array, weights: Array, z: int, y: int, centres: Any, scales: Any, limit: Any, out: Array, line: int
) -> int:
    """Write the mask, too, and 0 where it is 0.

    A function for both would count references to the mask for each line, which takes as long as the line itself.
    """
    (c, d), (e, f), zero, beyond = centres, scales, t.dtype.type(0.0), np.int32(0)
    for x in range(t.shape[2]):
        there = weights[z, y, x] != zero
        a, b = (t[z, y, x] - c) * e if there else zero, (p[z, y, x] - d) * f if there else zero
        beyond += np.int32(0) if (abs(a) <= limit) & (abs(b) <= limit) else np.int32(1)
        out[line, 0, x], out[line, 1, x] = np.int32(a), np.int32(b)
        out[line, 2, x] = np.int32(1) if there else np.int32(0)
    return int(beyond)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def quantise_in_two(
    t: Array, p: Array, weights: Array, z: int, y: int, centres: Any, scales: Any, limit: Any, word: Any,
    by_weight: Any, out: Array, line: int,
) -> int:  # fmt: skip
    """Write a line of images as two integers each, of which the upper ones count ``word``; weights as integers."""
    (c, d), (e, f), zero, beyond = centres, scales, t.dtype.type(0.0), np.int32(0)
    upper = t.dtype.type(1.0) / word
    for x in range(t.shape[2]):
        a, b = (t[z, y, x] - c) * e, (p[z, y, x] - d) * f
        if weights.shape[0]:
            there = weights[z, y, x] != zero
            a, b = a if there else zero, b if there else zero
            if by_weight is None:
                out[line, 2, x] = np.int32(1) if there else np.int32(0)
            else:
                out[line, 2, x] = np.int32(weights[z, y, x] * by_weight)
        beyond += np.int32(0) if (abs(a) <= limit) & (abs(b) <= limit) else np.int32(1)
        i, j = np.int32(a * upper), np.int32(b * upper)
        out[line, 0, x], out[line, 1, x] = i, j
        out[line, 3, x], out[line, 4, x] = np.int32(a - t.dtype.type(i) * word), np.int32(b - t.dtype.type(j) * word)
    return int(beyond)


@kernel(apart=True, **INLINE)
def exchange(voxels: Array, new: int, old: int, sums: Array, line: int) -> None:
    """Add a line of voxels to the sums along axis 1, and subtract one."""
    for x in range(voxels.shape[2]):
        a, b = np.int64(voxels[new, 0, x]), np.int64(voxels[new, 1, x])
        c, d = np.int64(voxels[old, 0, x]), np.int64(voxels[old, 1, x])
        sums[line, 0, x] += a - c
        sums[line, 1, x] += b - d
        sums[line, 2, x] += a * a - c * c
        sums[line, 3, x] += b * b - d * d
        sums[line, 4, x] += a * b - c * d
    for m in range(SUMS, sums.shape[1]):
        for x in range(voxels.shape[2]):
            sums[line, m, x] += np.int64(voxels[new, 2, x]) - np.int64(voxels[old, 2, x])


@kernel(apart=True, inner=True)
def _add_in_two(voxels: Array, of: int, sign: Any, sums: Array, line: int) -> None:
    """Add a line of voxels of two integers times their weights, or subtract it."""
    for x in range(voxels.shape[2]):
        a, b = np.int64(voxels[of, 0, x]), np.int64(voxels[of, 1, x])
        c, d = np.int64(voxels[of, 3, x]), np.int64(voxels[of, 4, x])
        e = np.int64(voxels[of, 2, x]) * sign
        sums[line, 0, x] += a * e
        sums[line, 1, x] += b * e
        sums[line, 2, x] += a * a * e
        sums[line, 3, x] += b * b * e
        sums[line, 4, x] += a * b * e
        sums[line, 5, x] += c * e
        sums[line, 6, x] += d * e
        sums[line, 7, x] += a * c * e
        sums[line, 8, x] += b * d * e
        sums[line, 9, x] += (a * d + b * c) * e
        sums[line, 10, x] += c * c * e
        sums[line, 11, x] += d * d * e
        sums[line, 12, x] += c * d * e


@kernel(apart=True, inner=True)
def exchange_in_two(voxels: Array, new: int, old: int, by_weight: Any, sums: Array, line: int) -> None:
    """Do the same for voxels of two integers, and multiply all by their weights, if they have any but 0 and 1."""
    if by_weight is not None:
        _add_in_two(voxels, new, np.int64(1), sums, line)
        _add_in_two(voxels, old, np.int64(-1), sums, line)
    else:
        for x in range(voxels.shape[2]):
            a, b = np.int64(voxels[new, 0, x]), np.int64(voxels[new, 1, x])
            c, d = np.int64(voxels[new, 3, x]), np.int64(voxels[new, 4, x])
            e, f = np.int64(voxels[old, 0, x]), np.int64(voxels[old, 1, x])
            g, h = np.int64(voxels[old, 3, x]), np.int64(voxels[old, 4, x])
            sums[line, 0, x] += a - e
            sums[line, 1, x] += b - f
            sums[line, 2, x] += a * a - e * e
            sums[line, 3, x] += b * b - f * f
            sums[line, 4, x] += a * b - e * f
            sums[line, 5, x] += c - g
            sums[line, 6, x] += d - h
            sums[line, 7, x] += a * c - e * g
            sums[line, 8, x] += b * d - f * h
            sums[line, 9, x] += a * d + b * c - e * h - f * g
            sums[line, 10, x] += c * c - g * g
            sums[line, 11, x] += d * d - h * h
            sums[line, 12, x] += c * d - g * h
    for m in range(ALL, sums.shape[1]):
        for x in range(voxels.shape[2]):
            sums[line, m, x] += np.int64(voxels[new, 2, x]) - np.int64(voxels[old, 2, x])


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def move(lines: Array, new: int, old: int, lead: Any, sums: Array, row: int) -> None:
    """Add a line's sums to those along axis 2, and subtract one's."""
    lead, count = np.uintp(lead), np.uintp(lines.shape[2])
    for m in range(lines.shape[1]):
        for x in range(count):
            sums[row, m, lead + x] += lines[new, m, x] - lines[old, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def add(lines: Array, line: int, sums: Array, row: int) -> None:
    """Add a line of sums."""
    for m in range(lines.shape[1]):
        for x in range(lines.shape[2]):
            sums[row, m, x] += lines[line, m, x]


@kernel(apart=True, inner=True)
def cumulate(sums: Array, row: int, first: Any, count: Any) -> None:
    """Write the sums of so many entries from the first one on, up to each."""
    zero = sums.dtype.type(0)
    first, count, one, facts = np.uintp(first), np.uintp(count), np.uintp(1), sums.shape[1]
    # An entry waits for the one before it: so three facts at once, of which some are written twice.
    for start in range(0, facts, 3):
        m = min(start, facts - 3)
        a, b, c = zero, zero, zero
        for x in range(count):
            a += sums[row, m, first + x]
            b += sums[row, m + 1, first + x]
            c += sums[row, m + 2, first + x]
            sums[AHEAD, m, x + one] = a
            sums[AHEAD, m + 1, x + one] = b
            sums[AHEAD, m + 2, x + one] = c


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def box(sums: Array, width: Any, count: Any) -> None:
    """Write the sums of boxes at so many entries."""
    width = np.uintp(width)
    for m in range(sums.shape[1]):
        for x in range(np.uintp(count)):
            sums[BOXES, m, x] = sums[AHEAD, m, width + x] - sums[AHEAD, m, x]


@kernel(fastmath=ROUNDING, **INLINE)
def count_weights(
    sums: Array, width: Any, counted: bool, share: int, along: Array, full: int, unit: float, outer: float,
    volume: Array, inverse: Array, held: Array, border: Array,
) -> None:  # fmt: skip
    """Write what the voxels of windows weigh, and 1 by that; what windows weigh, and what part of it is the border's.

    Voxels weigh what the sums say, or ``share`` times what they do along the line; they count ``unit``. What a window
    lacks of ``full`` counts ``outer``.
    """
    width, last = np.uintp(width), sums.shape[1] - 1
    for x in range(np.uintp(along.shape[0])):
        there = share * along[x]
        volume[x] = sums[AHEAD, last, width + x] - sums[AHEAD, last, x] if counted else there
        inverse[x] = 1.0 / volume[x] if volume[x] > 0 else 0.0
        beyond = (full - there) * outer
        held[x] = volume[x] * unit + beyond
        border[x] = beyond / held[x] if beyond > 0.0 else 0.0


@kernel(fastmath=ROUNDING, inner=True)
def _write(
    about: Any, rest: Any, seconds: Any, bordered: bool, ends: Any, share: float, voxels: int, by: Any, facts: Array,
    x: Any,
) -> None:  # fmt: skip
    """Write moments in the images' units, with those of the border, which is ``share`` of the window.

    Means are given by an integer, and by what is left of them; it makes no difference to a window that is flat.
    """
    kind, (by_t, by_p, unit), (tt, pp, tp), (t, p) = facts.dtype.type, by, seconds, rest
    if bordered:
        to_t, to_p, weight = ends[0] - about[0] - t, ends[1] - about[1] - p, np.float64(voxels) * share
        t, p = t + to_t * share, p + to_p * share
        tt, pp, tp = tt + weight * to_t * to_t, pp + weight * to_p * to_p, tp + weight * to_t * to_p
    facts[0, 0, x] = kind((about[0] + t) * by_t)
    facts[0, 1, x] = kind((about[1] + p) * by_p)
    facts[0, 2, x] = kind(tt * (by_t * by_t * unit))
    facts[0, 3, x] = kind(pp * (by_p * by_p * unit))
    facts[0, 4, x] = kind(tp * (by_t * by_p * unit))


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def moments(
    sums: Array, width: Any, first: int, stop: int, bordered: bool, volume: Array, inverse: Array, border: Array,
    ends: Any, by: Any, facts: Array,
) -> None:  # fmt: skip
    """Write the means and the centred second moments of some windows, which are ``bordered`` or in the image.

    Moments about a mean that is rounded to an integer are exact; the rest of the mean makes little difference. ``ends``
    are the integers of what is beyond the border; ``by`` makes numbers of integers, and weights of those of windows.
    """
    shift, width = np.float64(SHIFT) + 0.5, np.uintp(width)
    for x in range(np.uintp(first), np.uintp(stop)):
        t = sums[AHEAD, 0, width + x] - sums[AHEAD, 0, x]
        p = sums[AHEAD, 1, width + x] - sums[AHEAD, 1, x]
        tt = sums[AHEAD, 2, width + x] - sums[AHEAD, 2, x]
        pp = sums[AHEAD, 3, width + x] - sums[AHEAD, 3, x]
        tp = sums[AHEAD, 4, width + x] - sums[AHEAD, 4, x]
        mean_t, mean_p = np.float64(t) * inverse[x], np.float64(p) * inverse[x]
        about_t, about_p = np.int64(np.int32(mean_t + shift)) - SHIFT, np.int64(np.int32(mean_p + shift)) - SHIFT
        rest_t, rest_p = t - volume[x] * about_t, p - volume[x] * about_p
        tp -= about_t * p + about_p * rest_t
        tt -= about_t * (t + rest_t)
        pp -= about_p * (p + rest_p)
        dt, dp = np.float64(rest_t), np.float64(rest_p)
        about, rest = (np.float64(about_t), np.float64(about_p)), (dt * inverse[x], dp * inverse[x])
        seconds = np.float64(tt) - dt * rest[0], np.float64(pp) - dp * rest[1], np.float64(tp) - dt * rest[1]
        _write(about, rest, seconds, bordered, ends, border[x], volume[x], by, facts, x)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def moments_in_two(
    sums: Array, width: Any, first: int, stop: int, bordered: bool, volume: Array, inverse: Array, border: Array,
    ends: Any, by: Any, word: Any, facts: Array,
) -> None:  # fmt: skip
    """Write the same from sums of two integers a voxel; the mean is rounded to two integers, too."""
    word, shift, width = np.float64(word), np.float64(SHIFT) + 0.5, np.uintp(width)
    words, upper = word * word, 1.0 / word
    for x in range(np.uintp(first), np.uintp(stop)):
        t = sums[AHEAD, 0, width + x] - sums[AHEAD, 0, x]
        p = sums[AHEAD, 1, width + x] - sums[AHEAD, 1, x]
        low_t = sums[AHEAD, 5, width + x] - sums[AHEAD, 5, x]
        low_p = sums[AHEAD, 6, width + x] - sums[AHEAD, 6, x]
        mean_t = (np.float64(t) * word + np.float64(low_t)) * inverse[x]
        mean_p = (np.float64(p) * word + np.float64(low_p)) * inverse[x]
        a, b = np.int64(np.int32(mean_t * upper + shift)) - SHIFT, np.int64(np.int32(mean_p * upper + shift)) - SHIFT
        c = np.int64(np.int32(mean_t - np.float64(a) * word + shift)) - SHIFT
        d = np.int64(np.int32(mean_p - np.float64(b) * word + shift)) - SHIFT
        rest_t, rest_p = t - volume[x] * a, p - volume[x] * b
        rest_low_t, rest_low_p = low_t - volume[x] * c, low_p - volume[x] * d
        # The sums of products of what is left of both integers.
        tt = sums[AHEAD, 2, width + x] - sums[AHEAD, 2, x] - a * (t + rest_t)
        pp = sums[AHEAD, 3, width + x] - sums[AHEAD, 3, x] - b * (p + rest_p)
        tp = sums[AHEAD, 4, width + x] - sums[AHEAD, 4, x] - a * p - b * rest_t
        both_tt = sums[AHEAD, 7, width + x] - sums[AHEAD, 7, x] - a * low_t - c * rest_t
        both_pp = sums[AHEAD, 8, width + x] - sums[AHEAD, 8, x] - b * low_p - d * rest_p
        both_tp = sums[AHEAD, 9, width + x] - sums[AHEAD, 9, x] - a * low_p - d * rest_t - b * low_t - c * rest_p
        low_tt = sums[AHEAD, 10, width + x] - sums[AHEAD, 10, x] - c * (low_t + rest_low_t)
        low_pp = sums[AHEAD, 11, width + x] - sums[AHEAD, 11, x] - d * (low_p + rest_low_p)
        low_tp = sums[AHEAD, 12, width + x] - sums[AHEAD, 12, x] - c * low_p - d * rest_low_t
        dt = np.float64(rest_t) * word + np.float64(rest_low_t)
        dp = np.float64(rest_p) * word + np.float64(rest_low_p)
        about = np.float64(a) * word + np.float64(c), np.float64(b) * word + np.float64(d)
        rest = dt * inverse[x], dp * inverse[x]
        of_t = np.float64(tt) * words + np.float64(both_tt) * (word + word) + np.float64(low_tt) - dt * rest[0]
        of_p = np.float64(pp) * words + np.float64(both_pp) * (word + word) + np.float64(low_pp) - dp * rest[1]
        of_both = np.float64(tp) * words + np.float64(both_tp) * word + np.float64(low_tp) - dt * rest[1]
        seconds = of_t if of_t > 0.0 else 0.0, of_p if of_p > 0.0 else 0.0, of_both
        _write(about, rest, seconds, bordered, ends, border[x], volume[x], by, facts, x)
