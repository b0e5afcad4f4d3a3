"""Local correlation and its gradients where running sums are not exact: in one pass over rows that stay in cache.

A row is what is known of the windows at one line of voxels: their moments (two means, three centred second moments and
with a mask their weight) on the way to the values, sums on the way back to the gradients. Windows are joined as in the
core: those of 1, 2, 4, ... voxels one with the next, and a width of 9 = 8 + 1 from two of these; a triangle is windows
of windows, a Gaussian is joined tap by tap. Along axes 1 and 2 the earlier ones are remembered in rings, along axis 3
they stand beside each other. What is to be joined is written down as steps first.

Along an axis a window is given as the widths of its boxes, or as taps where it is made of none.
"""

from typing import Any

import numpy as np

from agnoreg_cpu.compiling import ROUNDING, SUMMING, kernel

Array = Any

#: The means of both images, their second moments, and the mixed one; with a mask the weight comes last.
MOMENTS, WEIGHT = 5, 5
# An index that may be negative, for all that Numba knows, is not vectorised: hence np.uintp below.

#: Rows have a multiple of so many entries, for loops that are unrolled and vectorised; the slack after them is aligned.
GRAIN, ALIGNED = 32, 16
#: Where a step says how many rows there must be.
NEEDS = 6
#: How many planes of windows are made at once, at least.
BLOCK = 16


# --- joining ----------------------------------------------------------------------------------------------------------


@kernel(fastmath=ROUNDING, inner=True)
def _join_entry(
    a: Array, ia: int, j: Any, b: Array, ib: int, k: Any, out: Array, io: int, share: Any, between: Any
) -> None:
    """Join the moments of two windows, of which the second is ``share`` of both."""
    dt = b[ib, 0, k] - a[ia, 0, j]
    dp = b[ib, 1, k] - a[ia, 1, j]
    out[io, 0, j] = a[ia, 0, j] + dt * share
    out[io, 1, j] = a[ia, 1, j] + dp * share
    out[io, 2, j] = a[ia, 2, j] + b[ib, 2, k] + dt * dt * between
    out[io, 3, j] = a[ia, 3, j] + b[ib, 3, k] + dp * dp * between
    out[io, 4, j] = a[ia, 4, j] + b[ib, 4, k] + dt * dp * between


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _join(
    a: Array, ia: int, b: Array, ib: int, ahead: Any, out: Array, io: int, share: Any, between: Any, count: Any
) -> None:
    """Join the moments of windows; those of ``b`` begin ``ahead`` entries further on, and are ``share`` of both."""
    ahead, count = np.uintp(ahead), np.uintp(count)
    for j in range(count):
        _join_entry(a, ia, j, b, ib, ahead + j, out, io, share, between)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _add(a: Array, ia: int, b: Array, ib: int, ahead: Any, out: Array, io: int, count: Any) -> None:
    """Add windows' sums; those of ``b`` begin ``ahead`` entries further on."""
    ahead, count = np.uintp(ahead), np.uintp(count)
    for m in range(a.shape[1]):
        for j in range(count):
            out[io, m, j] = a[ia, m, j] + b[ib, m, ahead + j]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _join_weighted(a: Array, ia: int, b: Array, ib: int, ahead: Any, out: Array, io: int, count: Any) -> None:
    """Join the moments of windows that weigh what their voxels do; nothing has a weight and means of 0."""
    zero = a.dtype.type(0.0)
    ahead, count = np.uintp(ahead), np.uintp(count)
    for j in range(count):
        weight = a[ia, WEIGHT, j] + b[ib, WEIGHT, ahead + j]
        share = b[ib, WEIGHT, ahead + j] / weight
        share = share if weight != zero else zero
        between = share * a[ia, WEIGHT, j]
        _join_entry(a, ia, j, b, ib, ahead + j, out, io, share, between)
        out[io, WEIGHT, j] = weight


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _begin(out: Array, io: int, count: Any) -> None:
    """Write zeros."""
    zero = out.dtype.type(0.0)
    for m in range(out.shape[1]):
        for j in range(np.uintp(count)):
            out[io, m, j] = zero


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _add_times(a: Array, ia: int, ahead: Any, tap: Any, out: Array, io: int, count: Any) -> None:
    """Add windows' sums times a tap."""
    ahead, count = np.uintp(ahead), np.uintp(count)
    for m in range(a.shape[1]):
        for j in range(count):
            out[io, m, j] += tap * a[ia, m, ahead + j]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _add_about(
    a: Array, ia: int, ahead: Any, middle: int, half: Any, tap: Any, factor: Any, out: Array, io: int, count: Any
) -> None:
    """Add windows' moments times a tap, about the means of the middle ones; ``factor`` is that of squares of means."""
    ahead, half, count = np.uintp(ahead), np.uintp(half), np.uintp(count)
    for j in range(count):
        dt = a[ia, 0, ahead + j] - a[middle, 0, half + j]
        dp = a[ia, 1, ahead + j] - a[middle, 1, half + j]
        out[io, 0, j] += tap * dt
        out[io, 1, j] += tap * dp
        out[io, 2, j] += tap * a[ia, 2, ahead + j] + factor * dt * dt
        out[io, 3, j] += tap * a[ia, 3, ahead + j] + factor * dp * dp
        out[io, 4, j] += tap * a[ia, 4, ahead + j] + factor * dt * dp


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _settle(a: Array, middle: int, half: Any, inverse: Any, factor: Any, out: Array, io: int, count: Any) -> None:
    """Make such sums moments about their own means."""
    half, count = np.uintp(half), np.uintp(count)
    for j in range(count):
        dt, dp = out[io, 0, j] * inverse, out[io, 1, j] * inverse
        out[io, 0, j] = a[middle, 0, half + j] + dt
        out[io, 1, j] = a[middle, 1, half + j] + dp
        out[io, 2, j] -= factor * dt * dt
        out[io, 3, j] -= factor * dp * dp
        out[io, 4, j] -= factor * dt * dp


@kernel(inner=True)
def _spread(
    rows: Array, start: int, length: int, row: int, taps: Array, out: Array, io: int, unit: float, count: int
) -> None:
    """Join windows tap by tap: those that ended with the last rows of a ring, or in one row those at its entries."""
    kind, width = rows.dtype.type, taps.shape[0]
    along, weight = length == 1, taps.sum()
    middle = width // 2
    place = start + (row - width + 1 + middle) % length
    half = middle if along else 0
    _begin(out, io, count)
    for i in range(width):
        item, ahead, tap = start + (row - width + 1 + i) % length, i if along else 0, taps[i]
        if unit == 0.0:
            _add_times(rows, item, ahead, kind(tap), out, io, count)
        elif i != middle:
            _add_about(rows, item, ahead, place, half, kind(tap), kind(tap * unit), out, io, count)
        else:
            for m in range(2, MOMENTS):
                _add_times(rows[:, m : m + 1], item, ahead, kind(tap), out[:, m : m + 1], io, count)
    if unit != 0.0:
        _settle(rows, place, half, kind(1.0 / weight), kind(weight * unit), out, io, count)


@kernel(inner=True)
def _follow(
    steps: Array, taps: Array, known: int, rows: Array, first: int, out: Array, io: int, unit: float, count: int
) -> None:
    """Join moments of windows of ``unit`` voxels, or where that is 0 add sums, step by step; the last makes ``out``.

    The rows of the steps are those from ``first`` on. Windows of more rows than are ``known`` are left out.
    """
    kind, weighted = rows.dtype.type, rows.shape[1] > MOMENTS
    for s in range(steps.shape[0]):
        if steps[s, NEEDS] > known:
            continue
        a, b, ahead = first + steps[s, 0], first + steps[s, 1], steps[s, 2]
        to, na, nb = first + steps[s, 3], steps[s, 4], steps[s, 5]
        last = s == steps.shape[0] - 1
        into, at = (out, io) if last else (rows, to)
        if taps.shape[0]:
            _spread(rows, a, steps[s, 1], steps[s, 2], taps, out, io, unit, count)
        elif nb == 0:
            into[at] = rows[a]
        elif unit == 0.0:
            _add(rows, a, rows, b, ahead, into, at, count)
        elif weighted:
            _join_weighted(rows, a, rows, b, ahead, into, at, count)
        else:
            share, between = kind(nb / (na + nb)), kind(na * nb * unit / (na + nb))
            _join(rows, a, rows, b, ahead, into, at, share, between, count)


@kernel(inner=True)
def _levels(width: int) -> int:
    """Return how many of 1, 2, 4, ... are not above a width."""
    levels = 0
    while (1 << levels) <= width:
        levels += 1
    return levels


@kernel(inner=True)
def _steps_of_box(width: int) -> int:
    """Return in how many steps a box is made: windows are doubled and then joined, or one row is taken as it is."""
    levels = digits = _levels(width)
    for k in range(levels):
        digits -= 1 - (width >> k & 1)
    return max(levels + digits - 2, 1)


@kernel(inner=True)
def _places(boxes: Array, taps: Array, past: bool) -> Array:
    """Return for each box's windows of 1, 2, 4, ... where their rows begin, then two spare rows, and the end of all.

    With a ``past`` there are as many earlier rows of each as joining takes, else one row.
    """
    if taps.shape[0]:
        return np.asarray([0, taps.shape[0] if past else 1])
    count = 2
    for width in boxes:
        count += _levels(width)
    places, n = np.zeros(count, np.int64), 0
    for width in boxes:
        covered = 0
        for k in range(_levels(width)):
            size = 1 << k
            memory = size if 2 * size <= width else 0
            if width & size:
                memory = max(memory, covered)
                covered += size
            places[n + 1] = places[n] + 1 + (memory if past else 0)
            n += 1
    places[n + 1] = places[n] + 2
    return places


@kernel(inner=True)
def _place(places: Array, level: int, row: int) -> int:
    """Return where the windows are that end with a row."""
    return places[level] + row % (places[level + 1] - places[level])


@kernel(inner=True)
def _steps(boxes: Array, taps: Array) -> Array:
    """Return room for the steps that make a window.

    A step says which two rows it takes, how far ahead the second is read, which row it makes, of how many windows both
    are, and how many rows there must be. That of taps says where their ring begins, how long it is, and the row.
    """
    if taps.shape[0]:
        return np.zeros((1, NEEDS + 1), np.int64)
    count = 0
    for width in boxes:
        count += _steps_of_box(width)
    return np.zeros((count, NEEDS + 1), np.int64)


@kernel(inner=True)
def _plan(steps: Array, boxes: Array, taps: Array, places: Array, row: int, along: bool) -> None:
    """Write down how windows that end with a row are made, or ``along`` a row those that begin at each entry."""
    if taps.shape[0]:
        steps[0, 0], steps[0, 1], steps[0, 2] = 0, places[1], row
        steps[0, NEEDS] = taps.shape[0]
        return
    spare = places[places.shape[0] - 2]
    n, base, unit, before = 0, 0, 1, 0
    for width in boxes:
        levels, end = _levels(width), n + _steps_of_box(width)
        # What a box makes is what the next one is made of; what the last one makes goes elsewhere.
        after = _place(places, base + levels, row)
        if width == 1:
            steps[n, 0], steps[n, 3], steps[n, 5], steps[n, NEEDS] = _place(places, base, row), after, 0, before + 1
            n += 1
        for k in range(levels - 1):
            size = 1 << k
            steps[n, 0], steps[n, 1] = _place(places, base + k, row - size), _place(places, base + k, row)
            steps[n, 2] = size if along else 0
            steps[n, 3] = after if n + 1 == end else _place(places, base + k + 1, row)
            steps[n, 4], steps[n, 5], steps[n, NEEDS] = size * unit, size * unit, before + 2 * size
            n += 1
        found, covered = 0, 0
        for k in range(levels):
            size = 1 << k
            if width & size:
                item = _place(places, base + k, row - covered)
                if covered:
                    steps[n, 0], steps[n, 1] = found, item
                    steps[n, 2] = covered if along else 0
                    steps[n, 3] = after if n + 1 == end else spare + (n & 1)
                    steps[n, 4], steps[n, 5], steps[n, NEEDS] = covered * unit, size * unit, before + covered + size
                    found = steps[n, 3]
                    n += 1
                else:
                    found = item
                covered += size
        base, unit, before = base + levels, unit * width, before + width - 1


@kernel(inner=True)
def _extent(boxes: Array, taps: Array) -> tuple[int, float]:
    """Return a window's width and the sum of its weights."""
    if taps.shape[0]:
        return taps.shape[0], taps.sum()
    width, weight = 1, 1
    for box in boxes:
        width, weight = width + box - 1, weight * box
    return width, float(weight)


# --- images -----------------------------------------------------------------------------------------------------------


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _read(image: Array, z: int, y: int, centre: Any, before: Any, out: Array, io: int, m: int) -> None:
    """Read a line of an image less its centre, with the zeros beyond the border, which the centre moves, too."""
    planes, lines, entries = image.shape
    there = 0 <= z < planes and 0 <= y < lines
    for j in range(before if there else out.shape[2]):
        out[io, m, j] = -centre
    if there:
        before, entries = np.uintp(before), np.uintp(entries)
        for j in range(entries):
            out[io, m, before + j] = image[z, y, j] - centre
        for j in range(before + entries, out.shape[2]):
            out[io, m, j] = -centre


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _read_weights(weights: Array, z: int, y: int, beyond: Any, before: Any, out: Array, io: int) -> None:
    """Read a line of weights, with those beyond the border, and let what weighs nothing be 0."""
    planes, lines, entries = weights.shape
    there = 0 <= z < planes and 0 <= y < lines
    zero = weights.dtype.type(0.0)
    for j in range(out.shape[2]):
        out[io, WEIGHT, j] = beyond
    if there:
        before, entries = np.uintp(before), np.uintp(entries)
        for j in range(entries):
            out[io, WEIGHT, before + j] = weights[z, y, j]
    for j in range(out.shape[2]):
        out[io, 0, j] = out[io, 0, j] if out[io, WEIGHT, j] != zero else zero
        out[io, 1, j] = out[io, 1, j] if out[io, WEIGHT, j] != zero else zero


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _values(moments: Array, nr: Any, dr: Any, value: Array, inverse: Array) -> None:
    """Write the value of each window, and 1 by its denominator."""
    one = moments.dtype.type(1.0)
    for j in range(value.shape[0]):
        product = moments[0, 2, j] * moments[0, 3, j]
        square = moments[0, 4, j] * moments[0, 4, j]
        inverse[j] = one / (product + dr)
        # Cauchy and Schwarz's bound, which rounding must not break.
        value[j] = ((square if square < product else product) + nr) * inverse[j]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _weigh(weights: Array, z: int, y: int, inverse: Array, value: Array, share: Array) -> None:
    """Multiply values by the weights of their windows' middles, and write these times 1 by the denominators."""
    for j in range(value.shape[0]):
        value[j] *= weights[z, y, j]
        share[j] = inverse[j] * weights[z, y, j]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _factors(
    moments: Array, value: Array, inverse: Array, share: Array, own: int, first: int, after: Any, out: Array
) -> None:
    """Write what one image's gradient sums over windows: by the correlation, by its own variance, and by the means."""
    other, zero = 1 - own, moments.dtype.type(0.0)
    after, count = np.uintp(after), np.uintp(value.shape[0])
    for j in range(count):
        by_cross = moments[0, 4, j] * share[j]
        by_variance = value[j] * inverse[j] * moments[0, 2 + other, j]
        # In a flat window every voxel is the mean, and a large factor of their difference is of no account.
        by_variance = by_variance if moments[0, 2 + own, j] != zero else zero
        out[0, 0, after + j] = by_cross
        out[0, first, after + j] = by_variance
        out[0, first + 1, after + j] = by_cross * moments[0, other, j] - by_variance * moments[0, own, j]


@kernel(fastmath=SUMMING, inner=True)
def _sum(row: Array) -> float:
    total = 0.0
    for j in range(row.shape[0]):
        total += row[j]
    return total


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _combine(
    sums: Array,
    first: int,
    own: Array,
    other: Array,
    z: int,
    y: int,
    own_centre: Any,
    other_centre: Any,
    factor: Any,
    out: Array,
) -> None:
    """Write a line of one image's gradient."""
    for j in range(out.shape[2]):
        gradient = (other[z, y, j] - other_centre) * sums[0, 0, j] - (own[z, y, j] - own_centre) * sums[0, first, j]
        out[z, y, j] = (gradient - sums[0, first + 1, j]) * factor


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _combine_weighted(
    sums: Array,
    first: int,
    own: Array,
    other: Array,
    weights: Array,
    z: int,
    y: int,
    own_centre: Any,
    other_centre: Any,
    factor: Any,
    out: Array,
) -> None:
    """Write a line of one image's gradient times the weights; what weighs nothing is 0, whatever it is."""
    zero = weights.dtype.type(0.0)
    for j in range(out.shape[2]):
        weight = weights[z, y, j]
        x, x_of_other = own[z, y, j] - own_centre, other[z, y, j] - other_centre
        x, x_of_other = x if weight != zero else zero, x_of_other if weight != zero else zero
        gradient = x_of_other * sums[0, 0, j] - x * sums[0, first, j]
        out[z, y, j] = (gradient - sums[0, first + 1, j]) * (factor * weight)


@kernel()
def correlate(
    t: Array,
    p: Array,
    weights: Array,
    beyond: Any,
    centres: tuple[Any, Any],
    boxes: tuple[Array, Array, Array],
    taps: tuple[Array, Array, Array],
    smooth: tuple[Any, Any],
    planes: tuple[int, int],
    lines: tuple[int, int],
    columns: tuple[int, int],
    factor: Any,
    by_t: Array,
    by_p: Array,
) -> float:
    """Return the sum of the values of the windows about these planes, lines and columns of two images ``(d1, d2, d3)``.

    Where ``by_t`` or ``by_p`` have the images' shape and not 0 planes, ``factor`` times the gradient of the sum of all
    values is written into these planes and lines of them. Where ``weights`` has, it is the voxels' weights, and
    ``beyond`` that of what lies beyond the border.
    """
    (boxes_z, boxes_y, boxes_x), (taps_z, taps_y, taps_x) = boxes, taps
    (wz, unit_z), (wy, unit_y) = _extent(boxes_z, taps_z), _extent(boxes_y, taps_y)
    wx, _ = _extent(boxes_x, taps_x)
    before_z, before_y, before_x = (wz - 1) // 2, (wy - 1) // 2, (wx - 1) // 2
    after_z, after_y, after_x = wz // 2, wy // 2, wx // 2
    depth, height, width = t.shape
    (top, bottom), (left, right) = planes, lines
    wants_t, wants_p, masked = by_t.shape[0] > 0, by_p.shape[0] > 0, weights.shape[0] > 0
    facts = MOMENTS + 1 if masked else MOMENTS
    back = wants_t or wants_p
    # The windows that are wanted: a gradient collects from all that its voxel lies in.
    low_z, high_z, low_y, high_y = top, bottom, left, right
    if back:
        low_z, high_z = max(0, top - after_z), min(depth, bottom + before_z)
        low_y, high_y = max(0, left - after_y), min(height, right + before_y)
    rows, wanted = high_y - low_y + wy - 1, right - left if back else 0
    kinds = 1 + 2 * (wants_t + wants_p)
    first_of_p = kinds - 2

    places_z, places_y = _places(boxes_z, taps_z, True), _places(boxes_y, taps_y, True)
    places_x = _places(boxes_x, taps_x, False)
    steps_z, steps_y, steps_x = _steps(boxes_z, taps_z), _steps(boxes_y, taps_y), _steps(boxes_x, taps_x)
    steps_back = _steps(boxes_y, taps_y)
    _plan(steps_x, boxes_x, taps_x, places_x, 0, True)
    slots = places_y[-1]
    count = -(-(width + wx - 1) // GRAIN) * GRAIN
    size = count + -(-wx // ALIGNED) * ALIGNED
    # So many planes of windows are made of the planes around them, line by line, which stay in cache.
    at_once = min(max(BLOCK, 2 * (wz - 1)), high_z - low_z)
    plans_z = np.zeros((at_once + wz - 1, *steps_z.shape), np.int64)
    ring_z = np.zeros((places_z[-1], facts, size), t.dtype)
    ring_y = np.zeros((at_once * slots, facts, size), t.dtype)
    beside = np.zeros((places_x[-1], facts, size), t.dtype)
    moments = np.zeros((1, facts, size), t.dtype)
    value, inverse = np.empty(width, t.dtype), np.empty(width, t.dtype)
    share = np.empty(width, t.dtype) if masked else inverse
    # The planes that gradients still wait for.
    kept = at_once + wz - 1
    planes_of = np.zeros((wanted * kept, kinds, size), t.dtype)
    back_z = np.zeros((places_z[-1], kinds, size), t.dtype)
    back_y = np.zeros((at_once * slots, kinds, size), t.dtype)
    back_beside = np.zeros((places_x[-1], kinds, size), t.dtype)
    sums = np.zeros((1, kinds, size), t.dtype)

    total, done = 0.0, top
    for first in range(low_z, high_z, at_once):
        stop = min(first + at_once, high_z)
        if back:
            back_y[:] = 0
        for z in range(first - before_z, stop + after_z):
            _plan(plans_z[z - first + before_z], boxes_z, taps_z, places_z, z, False)
        for row in range(rows):
            y = low_y - before_y + row
            middle_y = y - after_y
            _plan(steps_y, boxes_y, taps_y, places_y, row, False)
            _plan(steps_back, boxes_y, taps_y, places_y, middle_y, False)
            for z in range(first - before_z, stop + after_z):
                item = _place(places_z, 0, z)
                _read(t, z, y, centres[0], before_x, ring_z, item, 0)
                _read(p, z, y, centres[1], before_x, ring_z, item, 1)
                if masked:
                    _read_weights(weights, z, y, beyond, before_x, ring_z, item)
                plane = z - after_z
                known = z - first + before_z + 1
                ring = (plane - first) * slots
                to = ring + _place(places_y, 0, row) if known >= wz else 0
                _follow(plans_z[known - 1], taps_z, known, ring_z, 0, ring_y, to, 1.0, count)
                if known < wz:
                    continue
                _follow(steps_y, taps_y, row + 1, ring_y, ring, beside, 0, unit_z, count)
                if row < wy - 1:
                    continue
                _follow(steps_x, taps_x, wx, beside, 0, moments, 0, unit_z * unit_y, count)
                _values(moments, smooth[0], smooth[1], value, inverse)
                if masked:
                    _weigh(weights, plane, middle_y, inverse, value, share)
                if top <= plane < bottom and left <= middle_y < right:
                    total += _sum(value[columns[0] : columns[1]])
                if not back:
                    continue
                if wants_t:
                    _factors(moments, value, inverse, share, 0, 1, after_x, back_beside)
                if wants_p:
                    _factors(moments, value, inverse, share, 1, first_of_p, after_x, back_beside)
                _follow(steps_x, taps_x, wx, back_beside, 0, back_y, ring + _place(places_y, 0, middle_y), 0.0, count)
                line = middle_y - before_y - left
                if 0 <= line < wanted:
                    _follow(steps_back, taps_y, wy, back_y, ring, planes_of, line * kept + plane % kept, 0.0, count)
                else:
                    _follow(steps_back, taps_y, wy, back_y, ring, sums, 0, 0.0, count)
        if not back:
            continue
        # Beyond the last line there are no more windows.
        for plane in range(first, stop):
            ring = (plane - first) * slots
            for line in range(high_y - before_y, right):
                back_y[ring + _place(places_y, 0, line + before_y)] = 0
                _plan(steps_y, boxes_y, taps_y, places_y, line + before_y, False)
                if line < left:
                    _follow(steps_y, taps_y, wy, back_y, ring, sums, 0, 0.0, count)
                else:
                    _follow(
                        steps_y, taps_y, wy, back_y, ring, planes_of, (line - left) * kept + plane % kept, 0.0, count
                    )
        # The gradients in planes that no later window reaches.
        ready = bottom if stop == high_z else min(bottom, stop - before_z)
        for line in range(left, right):
            for plane in range(done - after_z, ready + before_z):
                item = _place(places_z, 0, plane)
                if low_z <= plane < high_z:
                    back_z[item] = planes_of[(line - left) * kept + plane % kept]
                else:
                    back_z[item] = 0
                _plan(steps_z, boxes_z, taps_z, places_z, plane, False)
                known = plane - done + after_z + 1
                _follow(steps_z, taps_z, known, back_z, 0, sums, 0, 0.0, count)
                if known >= wz:
                    z = plane - before_z
                    a, b = centres
                    if masked:
                        if wants_t:
                            _combine_weighted(sums, 1, t, p, weights, z, line, a, b, factor, by_t)
                        if wants_p:
                            _combine_weighted(sums, first_of_p, p, t, weights, z, line, b, a, factor, by_p)
                    else:
                        if wants_t:
                            _combine(sums, 1, t, p, z, line, a, b, factor, by_t)
                        if wants_p:
                            _combine(sums, first_of_p, p, t, z, line, b, a, factor, by_p)
        done = max(done, ready)
    return total
