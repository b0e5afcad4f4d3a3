"""Local correlation from the moments of windows, and what its gradients sum over windows; line by line.

Facts are of ``(1, FACTS, entries)`` numbers, which the functions take whole.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import INLINE, ROUNDING, SUMMING, kernel

Array = Any

# An index that may be negative, for all that Numba knows, is not vectorised: hence np.uintp below.

#: Facts about a window: two means, three centred second moments (t, p, mixed), then what the formula makes of them.
SECONDS, VALUE, BY_CROSS, BY_VARIANCE, COUNTED, FACTS = 2, 5, 6, 7, 8, 9
#: The formulas.
SQUARED, SIGNED, EXACT, EXACT_SIGNED = range(4)


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def smoothed(facts: Array, numbers: Any, signed: bool) -> None:
    """Write the correlation of each window, squared or signed, and its derivatives, as `correlation.smoothed` does.

    ``numbers`` are the constants in the numerator and the denominator, the least second moment, up to which product of
    the two a window is flat, the value then, and the rounding error of 1.
    """
    kind = facts.dtype.type
    one, half, zero = kind(1.0), kind(0.5), kind(0.0)
    nr, dr, least, flat_up_to, flat_value, _ = numbers
    for x in range(facts.shape[2]):
        tt, pp, tp = facts[0, 2, x], facts[0, 3, x], facts[0, 4, x]
        product, square = tt * pp, tp * tp
        denominator = (tt if tt > least else least) * (pp if pp > least else least) + dr
        if signed:
            inverse = one / np.sqrt(denominator)
            value, by_cross = (tp + nr) * inverse, half * inverse
            by_variance = value * by_cross * inverse
        else:
            inverse = one / denominator
            # Cauchy and Schwarz's bound, which rounding must not break.
            value, by_cross = ((square if square < product else product) + nr) * inverse, tp * inverse
            by_variance = value * inverse
        flat = product <= flat_up_to
        facts[0, VALUE, x] = flat_value if flat else value
        facts[0, BY_CROSS, x] = zero if flat else by_cross
        facts[0, BY_VARIANCE, x] = zero if flat else by_variance


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def exact(facts: Array, held: Array, offsets: Any, numbers: Any, squared: bool) -> None:
    """Write the same without constants, and which windows are not flat, as `correlation.exact` does.

    Here it matters what windows weigh, and by how much images were shifted.
    """
    kind = facts.dtype.type
    one, half, zero, flat_value, eps = kind(1.0), kind(0.5), kind(0.0), numbers[4], numbers[5]
    for x in range(facts.shape[2]):
        tt, pp, whole = facts[0, 2, x], facts[0, 3, x], kind(held[x])
        edge_t, edge_p = (abs(facts[0, 0, x]) + abs(offsets[0])) * eps, (abs(facts[0, 1, x]) + abs(offsets[1])) * eps
        flat = (tt <= edge_t * edge_t * whole) | (pp <= edge_p * edge_p * whole)
        both = one / (np.sqrt(tt) * np.sqrt(pp))
        value = facts[0, 4, x] * both
        value = one if value > one else -one if value < -one else value
        by_cross = (value if squared else half) * both
        by_variance = value * by_cross * both
        facts[0, VALUE, x] = flat_value if flat else value * value if squared else value
        facts[0, BY_CROSS, x] = zero if flat else by_cross
        facts[0, BY_VARIANCE, x] = zero if flat else by_variance
        facts[0, COUNTED, x] = zero if flat else one


@kernel(inner=True)
def some_count(weights: Array, z: int, y: int) -> bool:
    """Return whether some voxels of a line have weights other than 0."""
    found, zero = np.int32(0), weights.dtype.type(0.0)
    for x in range(weights.shape[2]):
        found |= np.int32(weights[z, y, x] != zero)
    return found != 0


@kernel(apart=True, inner=True)
def weigh(weights: Array, z: int, y: int, lines: Array, z_of: int, first: int, stop: int) -> None:
    """Multiply some lines by the weights of one, and write 0 where these are 0, whatever is there."""
    zero = lines.dtype.type(0.0)
    for m in range(first, stop):
        for x in range(weights.shape[2]):
            weight = weights[z, y, x]
            lines[z_of, m, x] = lines[z_of, m, x] * weight if weight != zero else zero


@kernel(fastmath=SUMMING, inner=True)
def total(facts: Array, m: int, start: int, stop: int) -> float:
    """Return the sum of some entries."""
    found = 0.0
    for x in range(np.uintp(start), np.uintp(stop)):
        found += facts[0, m, x]
    return found


@kernel(fastmath=ROUNDING, apart=True, **INLINE)
def factors(facts: Array, own: int, first: int, least: Any, count: Any, start: Any, out: Array) -> None:
    """Write what one image's gradient sums over windows: by the correlation, by its own variance, and by the means.

    They are written from an entry on.
    """
    other, zero, start = 1 - own, facts.dtype.type(0.0), np.uintp(start)
    for x in range(np.uintp(count)):
        by_cross, of_other = facts[0, BY_CROSS, x], facts[0, SECONDS + other, x]
        by_variance = facts[0, BY_VARIANCE, x] * (of_other if of_other > least else least)
        # In a flat window every voxel is the mean, and a large factor of their difference is of no account.
        by_variance = by_variance if facts[0, SECONDS + own, x] > least else zero
        out[0, 0, start + x] = by_cross
        out[0, first, start + x] = by_variance
        out[0, first + 1, start + x] = by_cross * facts[0, other, x] - by_variance * facts[0, own, x]
