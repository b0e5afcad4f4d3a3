"""The joint histogram of two images by Gaussian windows, and the gradients of what is made of it; in float32.

A voxel has a weight in the six or eight bins around it, which are all that count where a window is narrow enough. Its
products of weights are added to the histogram, and its gradient reads as many numbers.

Images are worked on in blocks of voxels that stay in cache. Weights are computed for many voxels at once. The histogram
is written and read voxel by voxel, for eight bins at once.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel

Array = Any

#: How many bins a window has, and how many of them lie below its voxel's intensity, less one.
LANES, BELOW = 8, 3
#: The least and the greatest standard deviation, in bins: beyond eight bins a window is no more than 4e-11.
SIGMAS = (0.1, 0.52)
#: Up to this standard deviation the outermost two of the eight bins are left out: they have at most 2e-8.
NARROW = 0.502
#: With more bins it takes longer to add up the histograms of blocks than to make them.
MOST_BINS = 64
#: How many voxels a block has. Their products are added up in float32, in some histograms by turns, so that a product
#: need not wait for the one before it.
BLOCK, TURNS = np.uintp(512), np.uintp(4)
#: Numbers from one row of a histogram to the next. It is a constant, so that the compiler knows that rows are apart.
ROW = np.uintp(MOST_BINS + LANES)

WIDTH = np.uintp(LANES)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
#: How many parts of [0, 1] an intensity's leading bits tell apart: so many that each times the number of bins is exact.
LEADING = np.float32(4096)
#: The core's least weight, as a power of 2: what lies below is nothing, and a product of three is a normal number.
LEAST_POWER = np.float32(np.log2(np.finfo(np.float32).smallest_normal) / 3)
LEAST = np.float32(np.finfo(np.float32).smallest_normal ** (1 / 3))
#: 2^f for f between -1/2 and 1/2: the coefficients of a polynomial, a Chebyshev fit.
P0, P1, P2, P3, P4, P5, P6 = (
    np.float32(c) for c in (1.0, 0.693147207, 0.240226512, 0.0555032721, 0.00961802560, 0.00134004322, 0.000154697320)
)
#: The bits of an exponent: of 0, and where they begin.
BIAS, FRACTION = np.int32(127), np.int32(23)


@kernel(fastmath=ROUNDING)
def power(x: Any) -> Any:
    """Return ``2^x`` for a float32 between -126 and 0, within two units in the last place."""
    whole = np.int32(x - HALF)
    f = x - np.float32(whole)
    q = P0 + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * (P5 + f * P6)))))
    return q * np.int32((whole + BIAS) << FRACTION).view(np.float32)


@kernel(fastmath=ROUNDING, apart=True)
def _place(image: Array, weights: Array, bins: Any, first: Array, distances: Array) -> None:
    """Write each voxel's first bin, counted from `BELOW` before the histogram's, and where it is between two bins.

    That is its distance from the middle between the bin below it, `BELOW` after its first, and the next.
    """
    last = np.float32(bins - 1)
    for i in range(image.shape[0]):
        x = image[i]
        if weights.shape[0] > 0:
            # Nothing is computed with what does not count.
            x = x if weights[i] > ZERO else ZERO
        # NaN passes no comparison, and stays what it is.
        x = ZERO if x < ZERO else x
        x = ONE if x > ONE else x
        # Split into a few leading bits and the rest, whose products with a small integer are exact: windows are steep.
        leading = np.float32(np.int32(x * LEADING)) / LEADING if x >= ZERO else ZERO
        rest = (x - leading) * last
        leading *= last
        whole = np.int32(leading + rest) if x >= ZERO else np.int32(0)
        first[i] = whole
        distances[i] = (leading - np.float32(whole) - HALF) + rest


@kernel(fastmath=ROUNDING)
def _there(weight: Any, lane: int, first: Any, last: Any, d: Any) -> Any:
    """Return a weight, or 0 if there is no such bin.

    NaN lies at the first bins, before which there are none: so it passes on to the sum.
    """
    bin = first + np.int32(lane)
    return max(weight, LEAST) if (bin >= np.int32(BELOW)) & (bin <= last) else ZERO * d


@kernel(fastmath=ROUNDING, apart=True)
def _weigh(first: Array, distances: Array, bins: Any, scale: Any, wide: bool, windows: Array, total: Array) -> None:
    """Write the weights ``(LANES, voxels)`` in those bins that there are, and their sums.

    A voxel lies between two bins, `d` from the middle. Relative to the nearer one's weight, 1, the other one's is
    ``2^(-2 scale |d|)``. From one bin to the next weights change by a ratio, which itself changes by a constant factor.
    """
    last, double = np.int32(bins - 1 + BELOW), scale + scale
    change = np.float32(2.0 ** -np.float64(double))
    outer = ONE if wide else ZERO
    for i in range(np.uintp(total.shape[0])):
        d, at = distances[i], first[i]
        above = d >= ZERO
        far = power(max(-double * abs(d), LEAST_POWER))
        # From the nearer bin outwards, and from the other one.
        steep, steeper = power(max(double * (abs(d) - ONE), LEAST_POWER)), far * change
        up, down = steep if above else steeper, steeper if above else steep
        w3, w4 = far if above else ONE, ONE if above else far
        w5, w2 = w4 * up, w3 * down
        up, down = up * change, down * change
        w6, w1 = w5 * up, w2 * down
        w7, w0 = w6 * (up * change), w1 * (down * change)
        w0, w1 = _there(w0, 0, at, last, d) * outer, _there(w1, 1, at, last, d)
        w2, w3 = _there(w2, 2, at, last, d), _there(w3, 3, at, last, d)
        w4, w5 = _there(w4, 4, at, last, d), _there(w5, 5, at, last, d)
        w6, w7 = _there(w6, 6, at, last, d), _there(w7, 7, at, last, d) * outer
        windows[0, i], windows[1, i], windows[2, i], windows[3, i] = w0, w1, w2, w3
        windows[4, i], windows[5, i], windows[6, i], windows[7, i] = w4, w5, w6, w7
        total[i] = ((w0 + w7) + (w1 + w6)) + ((w2 + w5) + (w3 + w4))


@kernel(apart=True)
def _turn(windows: Array, rows: Array) -> None:
    """Write the weights ``(LANES, voxels)`` as rows ``(voxels, LANES)``."""
    for i in range(np.uintp(rows.shape[0])):
        rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3] = windows[0, i], windows[1, i], windows[2, i], windows[3, i]
        rows[i, 4], rows[i, 5], rows[i, 6], rows[i, 7] = windows[4, i], windows[5, i], windows[6, i], windows[7, i]


@kernel()
def _weigh_both(
    one: Array, other: Array, counts: Array, bins: Any, scale: Any, wide: bool, first: Array, distances: Array,
    windows: Array, sums: Array, rows: Array,
) -> None:  # fmt: skip
    """Write the first bins, weights and sums of weights of a block of both images; the other's as rows, too.

    ``rows`` are ``(voxels, LANES)``.
    """
    count = np.uintp(one.shape[0])
    for index, image in enumerate((one, other)):
        _place(image, counts, bins, first[index], distances)
        _weigh(first[index], distances, bins, scale, wide, windows[index], sums[index, :count])
    _turn(windows[1], rows[:count])


@kernel(fastmath=ROUNDING, apart=True)
def _share(count: Any, sums: Array, counts: Array, windows: Array) -> None:
    """Divide one image's weights by the sums of both, so that a voxel's products add up to 1, or to its weight."""
    for i in range(np.uintp(count)):
        share = ONE / (sums[0, i] * sums[1, i])
        if counts.shape[0] > 0:
            share *= counts[i]
        w0, w1, w2, w3 = windows[0, i], windows[1, i], windows[2, i], windows[3, i]
        w4, w5, w6, w7 = windows[4, i], windows[5, i], windows[6, i], windows[7, i]
        windows[0, i], windows[1, i], windows[2, i], windows[3, i] = w0 * share, w1 * share, w2 * share, w3 * share
        windows[4, i], windows[5, i], windows[6, i], windows[7, i] = w4 * share, w5 * share, w6 * share, w7 * share


@kernel(fastmath=ROUNDING, apart=True)
def _count(of_t: Array, of_p: Array, first_t: Array, first_p: Array, wide: bool, histograms: Array) -> None:
    """Add each voxel's products of weights to one of the histograms."""
    entries, lanes = histograms.reshape(-1), np.uintp(of_p.shape[1])
    size = np.uintp(histograms.shape[1]) * ROW
    for i in range(np.uintp(first_t.shape[0])):
        start = np.uintp(i) % TURNS * size + np.uintp(first_t[i]) * ROW + np.uintp(first_p[i])
        w1, w2, w3, w4, w5, w6 = of_t[1, i], of_t[2, i], of_t[3, i], of_t[4, i], of_t[5, i], of_t[6, i]
        # Eight bins of `p` at once, which is why those of `t` are not in a loop.
        for j in range(lanes):
            weight, at = of_p[i, j], start + j
            entries[at + ROW] += w1 * weight
            entries[at + ROW * np.uintp(2)] += w2 * weight
            entries[at + ROW * np.uintp(3)] += w3 * weight
            entries[at + ROW * np.uintp(4)] += w4 * weight
            entries[at + ROW * np.uintp(5)] += w5 * weight
            entries[at + ROW * np.uintp(6)] += w6 * weight
        if wide:
            w0, w7 = of_t[0, i], of_t[7, i]
            for j in range(lanes):
                weight, at = of_p[i, j], start + j
                entries[at] += w0 * weight
                entries[at + ROW * np.uintp(7)] += w7 * weight


@kernel(fastmath=ROUNDING, apart=True)
def _move(histograms: Array, total: Array) -> None:
    """Add the histograms of some voxels to the whole one, and leave zeros."""
    entries, size = histograms.reshape(-1), np.uintp(total.shape[0])
    for i in range(size):
        part = ZERO
        for turn in range(TURNS):
            part += entries[turn * size + i]
            entries[turn * size + i] = ZERO
        total[i] += part


@kernel()
def histogram(t: Array, p: Array, weights: Array, bins: Any, scale: Any, wide: bool) -> Array:
    """Return the joint histogram ``(bins, bins)``; each voxel's entries add up to 1, or to its weight if there are any.

    A window is ``2^(-scale d^2)`` at a distance of ``d`` bins, in eight bins if it is ``wide``, otherwise in six.
    """
    count, size = np.uintp(t.shape[0]), bins + LANES - 1
    total = np.zeros((size, ROW), np.float64)
    parts = np.zeros((TURNS, size, ROW), np.float32)
    windows, rows = np.empty((2, LANES, BLOCK), np.float32), np.empty((BLOCK, LANES), np.float32)
    first, distances = np.empty((2, BLOCK), np.int32), np.empty(BLOCK, np.float32)
    sums = np.empty((2, BLOCK), np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _weigh_both(t[block], p[block], counts, bins, scale, wide, first, distances, windows, sums, rows)
        _share(n, sums, counts, windows[0])
        _count(windows[0], rows, first[0, :n], first[1, :n], wide, parts)
        _move(parts, total.reshape(-1))
    return total[BELOW : BELOW + bins, BELOW : BELOW + bins]


@kernel(fastmath=ROUNDING, apart=True)
def _differentiate(count: Any, sums: Array, counts: Array, windows: Array) -> None:
    """Replace one image's weights by their derivatives, but for the window's factor, divided by the other's sum.

    A weight's derivative is the weight times the bin's distance from the mean of all weights.
    """
    two, three, four = np.float32(2), np.float32(3), np.float32(4)
    for i in range(np.uintp(count)):
        w0, w1, w2, w3 = windows[0, i], windows[1, i], windows[2, i], windows[3, i]
        w4, w5, w6, w7 = windows[4, i], windows[5, i], windows[6, i], windows[7, i]
        mean = ((w4 - w2) + two * (w5 - w1) + (three * (w6 - w0) + four * w7)) / sums[0, i]
        share = ONE / (sums[0, i] * sums[1, i])
        if counts.shape[0] > 0:
            share = share * counts[i] if counts[i] > ZERO else ZERO
        windows[0, i], windows[1, i] = w0 * (-three - mean) * share, w1 * (-two - mean) * share
        windows[2, i], windows[3, i] = w2 * (-ONE - mean) * share, w3 * -mean * share
        windows[4, i], windows[5, i] = w4 * (ONE - mean) * share, w5 * (two - mean) * share
        windows[6, i], windows[7, i] = w6 * (three - mean) * share, w7 * (four - mean) * share


@kernel(fastmath=SUMMING, apart=True)
def _gather(
    image: Array, windows: Array, rows: Array, own: Array, other: Array, matrix: Array, wide: bool, out: Array
) -> None:
    """Write each voxel's sum of the products of its numbers for both images and the matrix's entry."""
    size, lanes = np.uintp(matrix.shape[1]), np.uintp(rows.shape[1])
    entries = matrix.reshape(-1)
    for i in range(np.uintp(own.shape[0])):
        start, x = np.uintp(own[i]) * size + np.uintp(other[i]), image[i]
        w1, w2, w3 = windows[1, i], windows[2, i], windows[3, i]
        w4, w5, w6 = windows[4, i], windows[5, i], windows[6, i]
        total = ZERO
        for j in range(lanes):
            at = start + j
            low = w1 * entries[at + size] + w2 * entries[at + size * np.uintp(2)]
            middle = w3 * entries[at + size * np.uintp(3)] + w4 * entries[at + size * np.uintp(4)]
            high = w5 * entries[at + size * np.uintp(5)] + w6 * entries[at + size * np.uintp(6)]
            total += (low + middle + high) * rows[i, j]
        if wide:
            w0, w7 = windows[0, i], windows[7, i]
            for j in range(lanes):
                total += (w0 * entries[start + j] + w7 * entries[start + j + size * np.uintp(7)]) * rows[i, j]
        # Clipping passes the gradient at exactly 0 and 1, and NaN is neither inside nor beyond.
        out[i] = ZERO if (x < ZERO) | (x > ONE) else total


@kernel()
def slope(own: Array, other: Array, weights: Array, matrix: Array, scale: Any, wide: bool, out: Array) -> None:
    """Write the derivative by an image's voxels, of whose bins the matrix's rows are.

    The matrix has `BELOW` rows and columns before the histogram's, and one more than these after it.
    """
    count, bins = np.uintp(out.shape[0]), matrix.shape[0] - (LANES - 1)
    windows, rows = np.empty((2, LANES, BLOCK), np.float32), np.empty((BLOCK, LANES), np.float32)
    first, distances = np.empty((2, BLOCK), np.int32), np.empty(BLOCK, np.float32)
    sums = np.empty((2, BLOCK), np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _weigh_both(own[block], other[block], counts, bins, scale, wide, first, distances, windows, sums, rows)
        _differentiate(n, sums, counts, windows[0])
        _gather(own[block], windows[0], rows, first[0, :n], first[1, :n], matrix, wide, out[block])
        if counts.shape[0] > 0:
            for i in range(n):
                out[start + i] = out[start + i] if counts[i] > ZERO else ZERO
