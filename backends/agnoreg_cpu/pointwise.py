"""Sums over voxels of two images, and gradients that are made voxel by voxel, each in one pass.

Images are a sample's voxels in a row. Blocks of voxels are added up in the images' dtype, eight or more numbers at
once, and blocks in float64: a sum of so few voxels, in as many parts as are added at once, costs float32 no digits.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel
from agnoreg_cpu.past_caches import BLOCK, in_blocks, wait, write_block

Array = Any


@kernel()
def centre(image: Array) -> Any:
    """Return a rough centre of an image ``(d1, d2, d3)``; `agnoreg.measures.intensities.centre` says why."""
    a, b, c = image.shape
    x, y, z = max(1, a // 16), max(1, b // 16), max(1, c // 16)
    total, most, count = 0.0, image.dtype.type(0.0), 0
    for i in range(x // 2, a, x):
        for j in range(y // 2, b, y):
            for k in range(z // 2, c, z):
                value = image[i, j, k]
                total += value
                most = max(most, abs(value))
                count += 1
    large = most + most
    return image.dtype.type(image.dtype.type(total / count) + large) - large


@kernel(fastmath=ROUNDING)
def _less(x: Any, centre: Any) -> Any:
    """Return ``x - centre``: within a sum that may be added up in any order, this comes first."""
    return x - centre


@kernel(fastmath=SUMMING)
def moments(t: Array, p: Array, t_centre: Any, p_centre: Any) -> tuple[float, float, float, float, float]:
    """Return the sums of both images less their centres, of their squares, and of their product."""
    of_t, of_p, of_tt, of_pp, of_tp = 0.0, 0.0, 0.0, 0.0, 0.0
    zero, count = t.dtype.type(0.0), np.uintp(t.shape[0])
    for start in range(np.uintp(0), count, BLOCK):
        a, b, aa, bb, ab = zero, zero, zero, zero, zero
        for j in range(start, min(start + BLOCK, count)):
            x, y = _less(t[j], t_centre), _less(p[j], p_centre)
            a += x
            b += y
            aa += x * x
            bb += y * y
            ab += x * y
        of_t += a
        of_p += b
        of_tt += aa
        of_pp += bb
        of_tp += ab
    return of_t, of_p, of_tt, of_pp, of_tp


# Blocks of a ``large`` gradient are made in ``room``, in a core's cache, and then written past the caches.


@kernel(fastmath=ROUNDING, apart=True)
def combination(
    own: Array,
    other: Array,
    own_centre: Any,
    other_centre: Any,
    by_own: Any,
    by_other: Any,
    constant: Any,
    out: Array,
    large: bool,
) -> None:
    """Write a linear combination of two images, less their centres, and 1."""
    whole, room = in_blocks(out, large), np.empty(BLOCK, out.dtype)
    for start in range(np.uintp(0), whole, BLOCK):
        for i in range(np.uintp(0), BLOCK):
            j = start + i
            room[i] = (other[j] - other_centre) * by_other + (own[j] - own_centre) * by_own + constant
        write_block(room, out, start)
    if whole > 0:
        wait()
    for j in range(whole, np.uintp(out.shape[0])):
        out[j] = (other[j] - other_centre) * by_other + (own[j] - own_centre) * by_own + constant


@kernel(fastmath=ROUNDING, apart=True)
def line(other: Array, by_other: Any, constant: Any, out: Array, large: bool) -> None:
    """Write a linear function of an image."""
    whole, room = in_blocks(out, large), np.empty(BLOCK, out.dtype)
    for start in range(np.uintp(0), whole, BLOCK):
        for i in range(np.uintp(0), BLOCK):
            room[i] = other[start + i] * by_other + constant
        write_block(room, out, start)
    if whole > 0:
        wait()
    for j in range(whole, np.uintp(out.shape[0])):
        out[j] = other[j] * by_other + constant


@kernel(fastmath=SUMMING)
def squares(t: Array, p: Array) -> float:
    """Return the sum of the squared differences."""
    total = 0.0
    zero, count = t.dtype.type(0.0), np.uintp(t.shape[0])
    for start in range(np.uintp(0), count, BLOCK):
        part = zero
        for j in range(start, min(start + BLOCK, count)):
            difference = t[j] - p[j]
            part += difference * difference
        total += part
    return total


@kernel(fastmath=ROUNDING, apart=True)
def difference(own: Array, other: Array, factor: Any, out: Array) -> None:
    """Write the differences times a factor."""
    for j in range(out.shape[0]):
        out[j] = (own[j] - other[j]) * factor


@kernel(fastmath=SUMMING, apart=True)
def squares_and_difference(own: Array, other: Array, factor: Any, out: Array, large: bool) -> float:
    """Return the sum of the squared differences, and write the differences times a factor."""
    total, whole, room = 0.0, in_blocks(out, large), np.empty(BLOCK, out.dtype)
    zero, count = own.dtype.type(0.0), np.uintp(own.shape[0])
    for start in range(np.uintp(0), whole, BLOCK):
        part = zero
        for i in range(np.uintp(0), BLOCK):
            difference = own[start + i] - other[start + i]
            part += difference * difference
            room[i] = difference * factor
        write_block(room, out, start)
        total += part
    if whole > 0:
        wait()
    for start in range(whole, count, BLOCK):
        part = zero
        for j in range(start, min(start + BLOCK, count)):
            difference = own[j] - other[j]
            part += difference * difference
            out[j] = difference * factor
        total += part
    return total


# --- cross-entropy, in float32 ----------------------------------------------------------------------------------------

#: For 1 + f between sqrt(1/2) and sqrt(2), log(1 + f) = f - f^2 / 2 + f^3 q(f): the coefficients of q, a minimax fit.
Q0, Q1, Q2, Q3, Q4, Q5, Q6, Q7, Q8 = (
    np.float32(c)
    for c in (
        0.3333333118,
        -0.2499999696,
        0.2000071575,
        -0.1666780232,
        0.1424905765,
        -0.1242568733,
        0.1168541992,
        -0.1147973385,
        0.06971611471,
    )
)
#: log(2), the first part with so few digits that an exponent times it is exact.
LN2, LN2_REST = np.float32(0.693359375), np.float32(-2.12194440e-4)
#: The bits of sqrt(1/2) in float32, those of a fraction, and the least normal number.
HALF_ROOT, FRACTION, LEAST_NORMAL = np.int32(0x3F3504F3), np.int32(23), np.float32(2.0**-126)
#: Its bits, and how many normal positive numbers there are.
FIRST_NORMAL, NORMALS = np.uint32(0x00800000), np.uint32(0x7F000000)
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
#: By which a number below the normal ones is multiplied first.
SCALE, LN_SCALE = np.float32(2.0**23), np.float32(23 * np.log(2))
INFINITY, NO_NUMBER = np.float32(np.inf), np.float32(np.nan)


@kernel(fastmath=ROUNDING)
def _normal_logarithm(x: Any) -> Any:
    """Return the natural logarithm of a normal positive number."""
    bits = np.float32(x).view(np.int32)
    exponent = (bits - HALF_ROOT) >> FRACTION
    f = np.int32(bits - (exponent << FRACTION)).view(np.float32) - ONE
    e = np.float32(exponent)
    # By powers of f^2, so that a term need not wait for all before it.
    g = f * f
    h = g * g
    q = (Q0 + f * Q1) + g * (Q2 + f * Q3) + h * ((Q4 + f * Q5) + g * (Q6 + f * Q7) + h * Q8)
    return f + (g * (f * q - HALF) + e * LN2_REST) + e * LN2


@kernel(fastmath=ROUNDING)
def logarithm(x: Any) -> Any:
    """Return the natural logarithm of a float32, within two units in the last place."""
    small = x < LEAST_NORMAL
    result = _normal_logarithm(x * SCALE if small else x) - (LN_SCALE if small else ZERO)
    result = result if x < INFINITY else x
    result = result if x > ZERO else -INFINITY
    # NaN passes no comparison.
    return result if x >= ZERO else NO_NUMBER


@kernel()
def _beyond_normal(x: Any) -> Any:
    """Return by how many steps a number lies above the least normal one: `NORMALS` and more if it is none of them."""
    return np.uint32(np.float32(x).view(np.uint32) - FIRST_NORMAL)


@kernel(fastmath=ROUNDING)
def _argument(p: Any, smooth: Any, background: bool) -> Any:
    """Return ``p + s``, or ``1 - p + s`` so that ``1 + s``, which has fewer digits of ``s``, is not added up first."""
    return smooth - (p - ONE) if background else p + smooth


@kernel(fastmath=SUMMING)
def _sum_of_logarithms(t: Array, p: Array, start: Any, stop: Any, smooth: Any, background: bool) -> Any:
    """Return the sum over a block of ``t log(p + s)``, or of ``(1 - t) log(1 - p + s)``."""
    total, furthest = ZERO, np.uint32(0)
    for j in range(start, stop):
        x = _argument(p[j], smooth, background)
        furthest = max(furthest, _beyond_normal(x))
        factor = ONE - t[j] if background else t[j]
        total += factor * _normal_logarithm(x)
    if furthest >= NORMALS:
        total = ZERO
        for j in range(start, stop):
            factor = ONE - t[j] if background else t[j]
            total += factor * logarithm(_argument(p[j], smooth, background))
    return total


@kernel()
def entropy(t: Array, p: Array, smooth: Any, weight: Any) -> float:
    """Return the cross-entropy's sum of ``t log(p + s)`` and the background's, each times its weight."""
    total, count = 0.0, np.uintp(t.shape[0])
    for start in range(np.uintp(0), count, BLOCK):
        stop = min(start + BLOCK, count)
        total -= _sum_of_logarithms(t, p, start, stop, smooth, False) * (ONE - weight)
        # Left out where it has no weight: beyond p = 1 + s its logarithm would be NaN.
        if weight > ZERO:
            total -= _sum_of_logarithms(t, p, start, stop, smooth, True) * weight
    return total


@kernel(fastmath=ROUNDING, apart=True)
def entropy_slope(t: Array, p: Array, smooth: Any, weight: Any, factor: Any, out: Array) -> None:
    """Write the derivative of that sum by ``p`` times a factor."""
    foreground, background = factor * -(ONE - weight), factor * weight
    if weight == ZERO:
        for j in range(out.shape[0]):
            out[j] = t[j] / _argument(p[j], smooth, False) * foreground
    else:
        for j in range(out.shape[0]):
            of_background = (ONE - t[j]) / _argument(p[j], smooth, True) * background
            out[j] = t[j] / _argument(p[j], smooth, False) * foreground + of_background


@kernel(fastmath=ROUNDING, apart=True)
def entropy_slope_of_true(p: Array, smooth: Any, weight: Any, factor: Any, out: Array) -> None:
    """Write the derivative of that sum by ``t`` times a factor."""
    foreground, background = factor * -(ONE - weight), factor * weight
    if weight == ZERO:
        for j in range(out.shape[0]):
            out[j] = logarithm(_argument(p[j], smooth, False)) * foreground
    else:
        for j in range(out.shape[0]):
            of_background = logarithm(_argument(p[j], smooth, True)) * background
            out[j] = logarithm(_argument(p[j], smooth, False)) * foreground + of_background


@kernel(fastmath=SUMMING, apart=True)
def _sum_and_slope(
    t: Array, p: Array, start: Any, stop: Any, smooth: Any, background: bool, factor: Any, out: Array
) -> Any:
    """Return the sum over a block, and write its derivative by ``p`` times a factor; add that of the background."""
    total, furthest = ZERO, np.uint32(0)
    for j in range(start, stop):
        x = _argument(p[j], smooth, background)
        furthest = max(furthest, _beyond_normal(x))
        weight = ONE - t[j] if background else t[j]
        total += weight * _normal_logarithm(x)
        slope = weight / x * factor
        out[j] = out[j] - slope if background else slope
    return total if furthest < NORMALS else _sum_of_logarithms(t, p, start, stop, smooth, background)


@kernel(apart=True)
def entropy_and_slope(t: Array, p: Array, smooth: Any, weight: Any, factor: Any, out: Array) -> float:
    """Return the sum, and write its derivative by ``p`` times a factor."""
    total, count = 0.0, np.uintp(t.shape[0])
    foreground, background = factor * -(ONE - weight), factor * -weight
    for start in range(np.uintp(0), count, BLOCK):
        stop = min(start + BLOCK, count)
        total -= _sum_and_slope(t, p, start, stop, smooth, False, foreground, out) * (ONE - weight)
        if weight > ZERO:
            total -= _sum_and_slope(t, p, start, stop, smooth, True, background, out) * weight
    return total
