"""The joint histogram of two images by Gaussian windows, and the gradients of what is made of it; in float32.

A voxel has a weight in each of the eight bins around it, which are all that count where a window is narrow enough. So
a voxel adds a product of eight times eight weights to the histogram, and its gradient reads as many numbers.

Blocks of voxels stay in cache. Their weights are computed bin by bin, for many voxels at once; and where the histogram
is written or read, voxel by voxel, for eight bins at once.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel

Array = Any

#: How many bins a window has, and how many of them lie below its voxel's intensity, less one.
LANES, BELOW = 8, 3
#: The least and the greatest standard deviation, in bins: beyond eight bins a window is no more than the core's least.
SIGMAS = (0.1, 0.52)
#: With more bins it takes longer to add up the histograms of blocks than to make them.
MOST_BINS = 64
#: How many voxels a block has. Their products are added up in float32, in some histograms by turns, so that a product
#: need not wait for the one before it.
BLOCK, TURNS = np.uintp(512), np.uintp(4)

WIDTH = np.uintp(LANES)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
#: How many parts of [0, 1] an intensity's leading bits tell apart: so many that each times the number of bins is exact.
LEADING = np.float32(4096)
#: The core's least weight, as a power of 2: what lies below is nothing, and a product of three is a normal number.
LEAST_POWER = np.float32(np.log2(np.finfo(np.float32).smallest_normal) / 3)
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


@kernel(fastmath=ROUNDING, apart=True)
def _weigh(first: Array, distances: Array, bins: Any, scale: Any, windows: Array, total: Array) -> None:
    """Write the weights ``(LANES, voxels)`` in those bins that there are, and their sums.

    Exponents are relative to the nearest bin's: `d` from the middle between the bins 0 and 1 that of bin `j` is
    ``(d + 1/2 - j)^2 - (1/2 - |d|)^2 = (|d| + (1 - 2 j) d) + j (j - 1)``, which is exact in 0 and 1.
    """
    last = np.int32(bins - 1 + BELOW)
    for i in range(np.uintp(total.shape[0])):
        total[i] = ZERO
    for j in range(WIDTH):
        lane = np.int32(j)
        bin = lane - np.int32(BELOW)
        slope, more = np.float32(1 - 2 * bin), np.float32(bin * (bin - 1))
        for i in range(np.uintp(total.shape[0])):
            d = distances[i]
            weight = power(max(((abs(d) + slope * d) + more) * -scale, LEAST_POWER))
            # NaN lies at the first bins, before which there are none: it passes on to the sum.
            there = (first[i] + lane >= np.int32(BELOW)) & (first[i] + lane <= last)
            windows[j, i] = weight if there else ZERO * d
            total[i] += windows[j, i]


@kernel()
def _weigh_both(
    one: Array, other: Array, counts: Array, bins: Any, scale: Any, first: Array, distances: Array, windows: Array,
    sums: Array, rows: Array,
) -> None:  # fmt: skip
    """Write the first bins, weights and sums of weights of a block of both images; the other's as rows, too.

    ``rows`` are ``(voxels, LANES)``.
    """
    count = np.uintp(one.shape[0])
    for index, image in enumerate((one, other)):
        _place(image, counts, bins, first[index], distances)
        _weigh(first[index], distances, bins, scale, windows[index], sums[index, :count])
    for i in range(count):
        for j in range(WIDTH):
            rows[i, j] = windows[1, j, i]


@kernel(fastmath=ROUNDING, apart=True)
def _count(of_t: Array, of_p: Array, first_t: Array, first_p: Array, shares: Array, histograms: Array) -> None:
    """Add each voxel's products of weights, times its share, to one of the histograms."""
    entries, size, lanes = histograms.reshape(-1), np.uintp(histograms.shape[1]), np.uintp(of_p.shape[1])
    for i in range(np.uintp(shares.shape[0])):
        start = (np.uintp(i) % TURNS * size + np.uintp(first_t[i])) * size + np.uintp(first_p[i])
        for k in range(WIDTH):
            weight = of_t[k, i] * shares[i]
            for j in range(lanes):
                entries[start + j] += weight * of_p[i, j]
            start += size


@kernel()
def histogram(t: Array, p: Array, weights: Array, bins: Any, scale: Any) -> Array:
    """Return the joint histogram ``(bins, bins)``; each voxel's entries add up to 1, or to its weight if there are any.

    A window is ``2^(-scale d^2)`` at a distance of ``d`` bins.
    """
    count, size = np.uintp(t.shape[0]), bins + LANES - 1
    total = np.zeros((size, size), np.float64)
    parts = np.zeros((TURNS, size, size), np.float32)
    windows, rows = np.empty((2, LANES, BLOCK), np.float32), np.empty((BLOCK, LANES), np.float32)
    first, distances = np.empty((2, BLOCK), np.int32), np.empty(BLOCK, np.float32)
    sums, shares = np.empty((2, BLOCK), np.float32), np.empty(BLOCK, np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _weigh_both(t[block], p[block], counts, bins, scale, first, distances, windows, sums, rows)
        for i in range(n):
            shares[i] = ONE / (sums[0, i] * sums[1, i])
        if counts.shape[0] > 0:
            for i in range(n):
                shares[i] *= counts[i]
        _count(windows[0], rows, first[0], first[1], shares[:n], parts)
        for i in range(size):
            for j in range(size):
                part = ZERO
                for turn in range(TURNS):
                    part += parts[turn, i, j]
                    parts[turn, i, j] = ZERO
                total[i, j] += part
    return total[BELOW : BELOW + bins, BELOW : BELOW + bins]


@kernel(fastmath=SUMMING, apart=True)
def _moments(windows: Array, rows: Array, own: Array, other: Array, matrix: Array, by_bin: Array) -> None:
    """Write two sums of each voxel, over its own bins ``k`` and the other image's.

    Of the products of both weights and the matrix's entry, and of the same times ``k``, counted from the bin below.
    """
    size, lanes = np.uintp(matrix.shape[1]), np.uintp(rows.shape[1])
    entries = matrix.reshape(-1)
    for i in range(np.uintp(own.shape[0])):
        start = np.uintp(own[i]) * size + np.uintp(other[i])
        w0, w1, w2, w3 = windows[0, i], windows[1, i], windows[2, i], windows[3, i]
        w4, w5, w6, w7 = windows[4, i], windows[5, i], windows[6, i], windows[7, i]
        sum_0, sum_1 = ZERO, ZERO
        # Eight bins of the other image at once, which is why those of its own are not in a loop.
        for j in range(lanes):
            at = start + j
            a0 = w0 * entries[at]
            a1 = w1 * entries[at + size]
            a2 = w2 * entries[at + size * np.uintp(2)]
            a3 = w3 * entries[at + size * np.uintp(3)]
            a4 = w4 * entries[at + size * np.uintp(4)]
            a5 = w5 * entries[at + size * np.uintp(5)]
            a6 = w6 * entries[at + size * np.uintp(6)]
            a7 = w7 * entries[at + size * np.uintp(7)]
            sum_0 += (a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7) * rows[i, j]
            near = (a4 - a2) + np.float32(2) * (a5 - a1)
            sum_1 += (near + (np.float32(3) * (a6 - a0) + np.float32(4) * a7)) * rows[i, j]
        by_bin[0, i] = sum_0
        by_bin[1, i] = sum_1


@kernel()
def slope(own: Array, other: Array, weights: Array, matrix: Array, scale: Any, out: Array) -> None:
    """Write the derivative by an image's voxels, of whose bins the matrix's rows are.

    The matrix has `BELOW` rows and columns before the histogram's, and one more than these after it.
    """
    count, bins = np.uintp(out.shape[0]), matrix.shape[0] - (LANES - 1)
    windows, rows = np.empty((2, LANES, BLOCK), np.float32), np.empty((BLOCK, LANES), np.float32)
    first, distances = np.empty((2, BLOCK), np.int32), np.empty(BLOCK, np.float32)
    sums, by_bin = np.empty((2, BLOCK), np.float32), np.empty((2, BLOCK), np.float32)
    mean = np.empty(BLOCK, np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _weigh_both(own[block], other[block], counts, bins, scale, first, distances, windows, sums, rows)
        _moments(windows[0], rows, first[0, :n], first[1, :n], matrix, by_bin)
        mean[:] = ZERO
        for k in range(WIDTH):
            for i in range(n):
                mean[i] += windows[0, k, i] * np.float32(np.int32(k) - np.int32(BELOW))
        for i in range(n):
            x, j = own[start + i], start + i
            value = (by_bin[1, i] - by_bin[0, i] * (mean[i] / sums[0, i])) / (sums[0, i] * sums[1, i])
            # Clipping passes the gradient at exactly 0 and 1, and NaN is neither inside nor beyond.
            out[j] = ZERO if (x < ZERO) | (x > ONE) else value
        if counts.shape[0] > 0:
            for i in range(n):
                out[start + i] = out[start + i] * counts[i] if counts[i] > ZERO else ZERO
