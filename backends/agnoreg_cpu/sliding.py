"""Local correlation of float32 images in rectangular windows, and its gradients, by running sums.

Intensities less their centre become integers: they are multiplied by a power of two, so that the largest takes some 26
bits, which is finer than float32 is for large intensities. Sums of these integers and of their products are exact in 64
bits. So nothing is lost by adding what enters a window and subtracting what leaves it, a flat window has moments of
exactly 0, and the time does not depend on the width. Along axis 1 there is a running sum for each voxel of a plane,
along axis 2 one for each entry of a line. Along axis 3 the sums from the beginning of the line are subtracted.

The gradient sums factors of the windows in the same way, in float64, where sums of float32 numbers of similar size are
exact, too.

Arrays of lines are ``(lines, facts, entries)``; functions take them whole, with the index of a line.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel

Array = Any

# An index that may be negative, for all that Numba knows, is not vectorised: hence np.uintp below.

#: Sums of a window: of both images, of their squares and product; with a mask also the number of voxels.
SUMS, COUNT = 5, 5
#: Facts about a window: two means, three centred second moments (t, p, mixed), then what the formula makes of them.
MEANS, SECONDS, MIXED, VALUE, BY_CROSS, BY_VARIANCE, COUNTED, FACTS = 0, 2, 4, 5, 6, 7, 8, 9
#: The formulas.
SQUARED, SIGNED, EXACT, EXACT_SIGNED = range(4)
#: Lines of voxels: of the plane that enters the windows, of the one that leaves, beyond the border, and zeros.
NEW, OLD, EDGE, ZEROS = range(4)
#: Lines of sums along axis 2: the running sums, these from the beginning of the line, and those before the first line.
RUNNING, AHEAD, BEGIN = range(3)
#: Added to a number, and subtracted again, to round it to an integer.
SHIFT = 1 << 27
#: Lines have a multiple of so many entries, and before the first one as many as a window is wide.
GRAIN = 16


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _quantise(image: Array, z: int, y: int, centre: Any, scale: Any, limit: Any, out: Array, line: int, m: int) -> int:
    """Write a line of an image as integers; return how many voxels are beyond the limit or not finite."""
    beyond = np.int32(0)
    for x in range(image.shape[2]):
        value = (image[z, y, x] - centre) * scale
        beyond += np.int32(0) if abs(value) <= limit else np.int32(1)
        out[line, m, x] = np.int32(value)
    return int(beyond)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _quantise_masked(
    image: Array, weights: Array, z: int, y: int, centre: Any, scale: Any, limit: Any, out: Array, line: int, m: int
) -> int:
    """Do the same where the mask is not 0, and write 0 elsewhere; and write the mask."""
    beyond, zero = np.int32(0), np.float32(0.0)
    for x in range(image.shape[2]):
        value = (image[z, y, x] - centre) * scale if weights[z, y, x] != zero else zero
        beyond += np.int32(0) if abs(value) <= limit else np.int32(1)
        out[line, m, x] = np.int32(value)
        out[line, 2, x] = np.int32(1) if weights[z, y, x] != zero else np.int32(0)
    return int(beyond)


@kernel(apart=True, inner=True)
def _pass(voxels: Array, new: int, old: int, sums: Array, line: int) -> None:
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


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _move(lines: Array, new: int, old: int, lead: Any, sums: Array) -> None:
    """Add a line's sums to those along axis 2, and subtract one's."""
    lead, count = np.uintp(lead), np.uintp(lines.shape[2])
    for m in range(lines.shape[1]):
        for x in range(count):
            sums[RUNNING, m, lead + x] += lines[new, m, x] - lines[old, m, x]


@kernel(apart=True, inner=True)
def _cumulate(sums: Array, first: Any, count: Any) -> None:
    """Write the sums of so many entries from the first one on, up to each."""
    zero = sums.dtype.type(0)
    first, count, one, facts = np.uintp(first), np.uintp(count), np.uintp(1), sums.shape[1]
    for m in range(0, facts - 2, 3):
        a, b, c = zero, zero, zero
        for x in range(count):
            a += sums[RUNNING, m, first + x]
            b += sums[RUNNING, m + 1, first + x]
            c += sums[RUNNING, m + 2, first + x]
            sums[AHEAD, m, x + one] = a
            sums[AHEAD, m + 1, x + one] = b
            sums[AHEAD, m + 2, x + one] = c
    for m in range(facts // 3 * 3, facts):
        a = zero
        for x in range(count):
            a += sums[RUNNING, m, first + x]
            sums[AHEAD, m, x + one] = a


@kernel(apart=True, inner=True)
def _count(sums: Array, width: int, share: int, entries: int, volume: Array, inverse: Array) -> None:
    """Write how many voxels windows hold: what the sums say, or ``share`` times those along the line."""
    before, after, ahead = (width - 1) // 2, width // 2, np.uintp(width)
    for x in range(np.uintp(volume.shape[0])):
        if sums.shape[1] > COUNT:
            volume[x] = sums[AHEAD, COUNT, ahead + x] - sums[AHEAD, COUNT, x]
        else:
            place: Any = np.int64(x)
            volume[x] = share * max(min(place + after + 1, entries) - max(place - before, 0), 0)
        inverse[x] = 1.0 / volume[x] if volume[x] > 0 else 0.0


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _moments(sums: Array, width: Any, volume: Array, inverse: Array, units: tuple[Any, Any], facts: Array) -> None:
    """Write the means and the centred second moments of windows.

    Moments about a mean that is rounded to an integer are exact; the rest of the mean makes little difference.
    """
    by_t, by_p = units
    by_tt, by_pp, by_tp, shift = by_t * by_t, by_p * by_p, by_t * by_p, np.float64(SHIFT) + 0.5
    width = np.uintp(width)
    for x in range(np.uintp(facts.shape[2])):
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
        facts[0, 0, x] = np.float32(mean_t * by_t)
        facts[0, 1, x] = np.float32(mean_p * by_p)
        facts[0, 2, x] = np.float32((np.float64(tt) - dt * dt * inverse[x]) * by_tt)
        facts[0, 3, x] = np.float32((np.float64(pp) - dp * dp * inverse[x]) * by_pp)
        facts[0, 4, x] = np.float32((np.float64(tp) - dt * dp * inverse[x]) * by_tp)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _score(facts: Array, numbers: Any, signed: bool) -> None:
    """Write the correlation of each window, squared or signed, and its derivatives, as `correlation.smoothed` does.

    ``numbers`` are the constants in the numerator and the denominator, the least second moment, up to which product of
    the two a window is flat, and the value then.
    """
    one, half, zero = np.float32(1.0), np.float32(0.5), np.float32(0.0)
    nr, dr, least, flat_up_to, flat_value = numbers
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
def _score_exactly(facts: Array, volume: Array, offsets: Any, flat_value: Any, squared: bool) -> None:
    """Write the same without constants, and which windows are not flat, as `correlation.exact` does."""
    one, half, zero, eps = np.float32(1.0), np.float32(0.5), np.float32(0.0), np.float32(2.0**-23)
    for x in range(facts.shape[2]):
        tt, pp, whole = facts[0, 2, x], facts[0, 3, x], np.float32(volume[x])
        edge_t, edge_p = (abs(facts[0, 0, x]) + offsets[0]) * eps, (abs(facts[0, 1, x]) + offsets[1]) * eps
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


@kernel(apart=True, inner=True)
def _leave_out(weights: Array, z: int, y: int, lines: Array, z_of: int, y_of: int) -> None:
    """Write 0 where the mask is 0, whatever is there."""
    for x in range(weights.shape[2]):
        lines[z_of, y_of, x] = lines[z_of, y_of, x] if weights[z, y, x] != np.float32(0.0) else np.float32(0.0)


@kernel(fastmath=SUMMING, inner=True)
def _sum(facts: Array, m: int, start: int, stop: int) -> float:
    total = 0.0
    for x in range(np.uintp(start), np.uintp(stop)):
        total += facts[0, m, x]
    return total


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _factors(facts: Array, own: int, first: int, least: Any, count: Any, out: Array) -> None:
    """Write what one image's gradient sums over windows: by the correlation, by its own variance, and by the means."""
    other, zero = 1 - own, np.float32(0.0)
    for x in range(np.uintp(count)):
        by_cross, of_other = facts[0, BY_CROSS, x], facts[0, SECONDS + other, x]
        by_variance = facts[0, BY_VARIANCE, x] * (of_other if of_other > least else least)
        # In a flat window every voxel is the mean, and a large factor of their difference is of no account.
        by_variance = by_variance if facts[0, SECONDS + own, x] > least else zero
        out[0, 0, x] = by_cross
        out[0, first, x] = by_variance
        out[0, first + 1, x] = by_cross * facts[0, other, x] - by_variance * facts[0, own, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _collect(new: Array, ring: Array, slot: int, sums: Array, line: int) -> None:
    """Add factors to the sums along axis 1, subtract those whose place they take, and remember them."""
    for m in range(new.shape[1]):
        for x in range(new.shape[2]):
            sums[line, m, x] += np.float64(new[0, m, x]) - np.float64(ring[slot, m, x])
            ring[slot, m, x] = new[0, m, x]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _combine(
    sums: Array, width: Any, first: int, own: Array, other: Array, z: int, y: int,
    centre: Any, of_other: Any, scale: Any, scale_of_other: Any, factor: Any, out: Array,
) -> None:  # fmt: skip
    """Write a line of one image's gradient."""
    width, factor = np.uintp(width), factor * scale
    for x in range(np.uintp(out.shape[2])):
        by_cross = np.float32(sums[AHEAD, 0, width + x] - sums[AHEAD, 0, x])
        by_variance = np.float32(sums[AHEAD, first, width + x] - sums[AHEAD, first, x])
        by_means = np.float32(sums[AHEAD, first + 1, width + x] - sums[AHEAD, first + 1, x])
        gradient = (other[z, y, x] - of_other) * scale_of_other * by_cross
        out[z, y, x] = (gradient - (own[z, y, x] - centre) * scale * by_variance - by_means) * factor


@kernel()
def correlate(
    images: tuple[Array, Array],
    weights: Array,
    centres: tuple[Any, Any],
    scales: tuple[Any, Any],
    limit: Any,
    widths: tuple[int, int, int],
    truncated: bool,
    formula: int,
    numbers: Any,
    tile: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    factor: Any,
    gradients: tuple[Array, Array],
    work: Any,
) -> tuple[float, float, int]:
    """Return the sum of the values of the windows about some planes, lines and entries, and how many are not flat.

    The third result is how many voxels were beyond the limit; if there are any, all results are void. Where one of the
    ``gradients`` has planes, ``factor`` times the gradient of the sum of all values is written into these planes and
    lines. ``work`` is zeros of `workspace`.
    """
    (t, p), (by_t, by_p), (wz, wy, wx) = images, gradients, widths
    (top, bottom), (left, right), (start, stop) = tile
    voxels, sums, along, volume, inverse, facts, fresh, ring, back_z, back_y = work
    depth, height, width = t.shape
    before_z, before_y, before_x, after_z, after_y = (wz - 1) // 2, (wy - 1) // 2, (wx - 1) // 2, wz // 2, wy // 2
    wants_t, wants_p, masked = by_t.shape[0] > 0, by_p.shape[0] > 0, weights.shape[0] > 0
    back, exact, varied = wants_t or wants_p, formula >= EXACT, masked or truncated
    is_t, is_p, first_of_t, first_of_p = np.int64(0), np.int64(1), np.int64(1), np.int64(1 + 2 * wants_t)
    # The windows that are wanted: a gradient collects from all that its voxel lies in.
    low_z, high_z, low_y, high_y, last_z, last_y = top, bottom, left, right, bottom, right
    if back:
        low_z, high_z, last_z = max(0, top - after_z), min(depth, bottom + before_z), bottom + before_z
        low_y, high_y, last_y = max(0, left - after_y), min(height, right + before_y), right + before_y
    from_y, to_y = max(0, low_y - before_y), min(height, high_y + after_y)
    beyond_border, no_line = to_y - from_y, high_y - low_y
    lead, entries = -(-wx // GRAIN) * GRAIN, width + wx - 1
    for x in range(volume.shape[0]):
        volume[x], inverse[x] = wz * wy * wx, 1.0 / (wz * wy * wx)
    units: Any = 1.0 / np.float64(scales[0]), 1.0 / np.float64(scales[1])
    weighing = np.float32(1.0), np.float32(1.0)
    if exact:
        units, weighing = (1.0, 1.0), scales
    least = np.float32(0.0) if exact else numbers[2]
    offsets = abs(centres[0] * scales[0]), abs(centres[1] * scales[1])

    # All sums begin as those of what is beyond the border.
    if not truncated:
        for m in range(2):
            for x in range(voxels.shape[2]):
                voxels[EDGE, m, x] = np.int32(-centres[m] * scales[m])
        if masked:
            for x in range(voxels.shape[2]):
                voxels[EDGE, 2, x] = np.int32(1)
    for line in (NEW, OLD):
        voxels[line] = voxels[EDGE]
    _pass(voxels, EDGE, ZEROS, sums, beyond_border)
    sums[beyond_border] *= wz
    for line in range(beyond_border):
        sums[line] = sums[beyond_border]
    for m in range(sums.shape[1]):
        along[BEGIN, m] = sums[beyond_border, m, 0] * wy
        along[RUNNING, m] = along[BEGIN, m]

    total, counted, beyond = 0.0, 0.0, 0
    for z in range(low_z - before_z, last_z + after_z):
        z_out, middle_z = z - wz, z - after_z
        z_back, slots = middle_z - before_z, middle_z % wz * no_line - low_y
        enters, leaves = 0 <= z < depth and middle_z < high_z, z_out >= low_z - before_z and 0 <= z_out < depth
        here, finished = low_z <= middle_z < high_z, back and top <= z_back < bottom
        planes = min(middle_z + after_z + 1, depth) - max(middle_z - before_z, 0)
        if here:
            along[RUNNING] = along[BEGIN]
        else:
            fresh[:] = np.float32(0.0)
        if finished:
            back_y[RUNNING] = 0.0
        for y in range(low_y - before_y, last_y + after_y):
            middle_y = y - after_y
            inside = from_y <= y < to_y
            if inside and middle_z < high_z and (enters or leaves):
                if masked:
                    if enters:
                        for m in range(2):
                            image = t if m == 0 else p
                            beyond += _quantise_masked(
                                image, weights, z, y, centres[m], scales[m], limit, voxels, NEW, m
                            )
                    if leaves:
                        for m in range(2):
                            image = t if m == 0 else p
                            _quantise_masked(image, weights, z_out, y, centres[m], scales[m], limit, voxels, OLD, m)
                else:
                    if enters:
                        beyond += _quantise(t, z, y, centres[0], scales[0], limit, voxels, NEW, is_t)
                        beyond += _quantise(p, z, y, centres[1], scales[1], limit, voxels, NEW, is_p)
                    if leaves:
                        _quantise(t, z_out, y, centres[0], scales[0], limit, voxels, OLD, is_t)
                        _quantise(p, z_out, y, centres[1], scales[1], limit, voxels, OLD, is_p)
                _pass(voxels, NEW if enters else EDGE, OLD if leaves else EDGE, sums, y - from_y)
            if here and middle_y < high_y:
                y_out = y - wy
                _move(sums, y - from_y if inside else beyond_border,
                      y_out - from_y if y_out >= from_y else beyond_border, lead, along)  # fmt: skip
                if middle_y >= low_y:
                    _cumulate(along, lead - before_x, entries)
                    if varied:
                        lines = min(middle_y + after_y + 1, height) - max(middle_y - before_y, 0)
                        _count(along, wx, planes * lines, width, volume, inverse)
                    _moments(along, wx, volume, inverse, units, facts)
                    if exact:
                        _score_exactly(facts, volume, offsets, numbers[4], formula == EXACT)
                    else:
                        _score(facts, numbers, formula == SIGNED)
                    if masked:
                        for m in range(VALUE, FACTS):
                            _leave_out(weights, middle_z, middle_y, facts, 0, m)
                    if top <= middle_z < bottom and left <= middle_y < right:
                        total += _sum(facts, VALUE, start, stop)
                        if exact:
                            counted += _sum(facts, COUNTED, start, stop)
                    if wants_t:
                        _factors(facts, is_t, first_of_t, least, width, fresh)
                    if wants_p:
                        _factors(facts, is_p, first_of_p, least, width, fresh)
            if not back or middle_y < low_y:
                continue
            line = middle_y - low_y
            if middle_y < high_y and middle_z >= low_z:
                _collect(fresh, ring, slots + middle_y, back_z, line)
            if finished:
                _move(
                    back_z, line if middle_y < high_y else no_line, line - wy if line >= wy else no_line, lead, back_y
                )
                y_back = middle_y - before_y
                if left <= y_back < right:
                    _cumulate(back_y, lead - wx // 2, entries)
                    if wants_t:
                        _combine(back_y, wx, first_of_t, t, p, z_back, y_back, centres[0], centres[1],
                                 weighing[0], weighing[1], factor, by_t)  # fmt: skip
                        if masked:
                            _leave_out(weights, z_back, y_back, by_t, z_back, y_back)
                    if wants_p:
                        _combine(back_y, wx, first_of_p, p, t, z_back, y_back, centres[1], centres[0],
                                 weighing[1], weighing[0], factor, by_p)  # fmt: skip
                        if masked:
                            _leave_out(weights, z_back, y_back, by_p, z_back, y_back)
    return total, counted, beyond
