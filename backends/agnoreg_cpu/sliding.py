"""Local correlation in windows made of boxes, and its gradients, by running sums.

Intensities less their centre become integers: they are multiplied by a power of two, so that the largest takes some 26
bits for float32, which is finer than float32 is for large intensities, and twice as many for float64. Sums of these
integers and of their products are exact. So nothing is lost by adding what enters a window and subtracting what leaves
it, a flat window has moments of exactly 0, and the time does not depend on the width. Along axis 1 there is a running
sum for each voxel of a plane, along axis 2 one for each entry of a line. Along axis 3 the sums from the beginning of
the line are subtracted. Zeros beyond the border are merged with what windows hold of the image.

A triangle is a box of boxes: its sum grows by the sum of the box ahead, less that of the box behind.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from agnoreg_cpu import adjoint, running, scores
from agnoreg_cpu.boxes import BoxWindows
from agnoreg_cpu.compiling import kernel
from agnoreg_cpu.plans import Layout, layout
from agnoreg_cpu.running import BOXES, RUNNING, SLOPE

Array = Any

#: Lines of voxels: of the planes that enter windows, are in the middle of triangles and leave, and beyond the border.
NEW, MIDDLE, OLD, BEYOND, LINES = range(5)
#: Lines have a multiple of so many entries, and before the first one as many as a window is wide.
GRAIN = 16


def facts_of(words: int, masked: bool) -> tuple[int, int]:
    """Return how many integers there are of a voxel, and how many sums of a window."""
    return 1 + 2 * words, (running.ALL if words == 2 else running.SUMS) + masked


@lru_cache(maxsize=256)
def workspace(
    shape: tuple[int, ...], windows: BoxWindows, lines: int, wrt: int, words: int, masked: bool, dtype: Any
) -> Layout:
    """Return the memory that `correlate` needs for so many lines of an image, and gradients by ``wrt`` images.

    See there for the names of its arrays.
    """
    (_, height, width), (all_z, all_y, all_x), twice, kinds = shape, windows.widths, windows.twice, 1 + 2 * wrt
    size, lead = (-(-number // GRAIN) * GRAIN for number in (width, all_x))
    valued = min(height, lines + all_y - 1) if wrt else 0
    held, padded, rows = min(height, max(lines, valued) + all_y - 1) + 1, size + 2 * lead, 4
    of_voxel, of_window = facts_of(words, masked)
    of_gradient = kinds * (1 + (dtype == np.float64))
    return layout(
        ((LINES, of_voxel, size), np.int32), ((held, of_window, size), np.int64),
        ((held * twice, of_window, size), np.int64), ((rows, of_window, padded), np.int64),
        ((size,), np.int64), *(((size,), np.float64),) * 3,
        ((1, scores.FACTS, size), dtype), ((1, kinds, size), dtype), (((all_z + twice) * valued, kinds, size), dtype),
        ((valued + 1, of_gradient, size), np.float64), (((valued + 1) * twice, of_gradient, size), np.float64),
        ((rows, of_gradient, padded), np.float64),
    )  # fmt: skip


@kernel()
def correlate(
    images: tuple[Array, Array],
    weights: Array,
    by_weight: Any,
    centres: tuple[Any, Any],
    scales: tuple[Any, Any],
    limit: Any,
    word: Any,
    fine: Any,
    boxes: tuple[int, int, int],
    twice: bool,
    counts: tuple[Array, Array, Array],
    unit: float,
    outer: float,
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
    lines.

    Parameters
    ----------
    images, weights, gradients
        Arrays ``(d1, d2, d3)``, or without planes.
    by_weight
        By what weights are multiplied; None: they are 0 or 1.
    centres, scales, limit
        What is subtracted from each image, by what it is multiplied, and how large it may then be.
    word
        What the upper of two integers counts; None: there is one.
    fine
        Whether gradients are sums of two numbers; None: they are not.
    boxes, twice
        Widths of the boxes along each axis, and whether windows are boxes of boxes.
    counts, unit, outer
        What windows hold along each axis, and at the end what a full one does. That counts ``unit`` each, and ``outer``
        where there are zeros beyond the border.
    formula, numbers
        See `scores.smoothed`.
    work
        Zeros of `workspace`.
    """
    (t, p), (by_t, by_p), (wz, wy, wx) = images, gradients, boxes
    (top, bottom), (left, right), (start, stop) = tile
    voxels, sums, slopes, along, volume, inverse, held, border, facts, fresh, ring, back_z, slopes_z, back_y = work
    depth, height, width = t.shape
    # How far a window reaches: from its middle, and its last voxel from its first one that it leaves.
    all_z, all_y, all_x = (2 * wz - 1, 2 * wy - 1, 2 * wx - 1) if twice else (wz, wy, wx)
    before_z, before_y, before_x = (all_z - 1) // 2, (all_y - 1) // 2, (all_x - 1) // 2
    after_z, after_y, after_x = all_z // 2, all_y // 2, all_x // 2
    past_z, past_y = (2 * wz, 2 * wy) if twice else (wz, wy)
    wants_t, wants_p, masked = by_t.shape[0] > 0, by_p.shape[0] > 0, weights.shape[0] > 0
    back, exact = wants_t or wants_p, formula >= scores.EXACT
    first_of_t, first_of_p, kinds = np.int64(1), np.int64(1 + 2 * wants_t), fresh.shape[1]
    # Numba compiles what it calls anew for each number that it knows.
    rows: Any = np.int64(RUNNING), np.int64(SLOPE), np.int64(BOXES), np.int64(BEYOND), np.int64(0)
    running_row, slope_row, boxes_row, beyond_border, nothing = rows
    of_t, of_p, first_of_score = np.int64(0), np.int64(1), np.int64(scores.VALUE)
    # Another name for an array costs two atomic operations, so there is none further below.
    growing = slopes if twice else sums
    # The windows that are wanted: a gradient collects from all that its voxel lies in.
    low_z, high_z, low_y, high_y, last_z, last_y = top, bottom, left, right, bottom, right
    if back:
        low_z, high_z, last_z = max(0, top - after_z), min(depth, bottom + before_z), bottom + before_z
        low_y, high_y, last_y = max(0, left - after_y), min(height, right + before_y), right + before_y
    from_z, from_y, to_y = max(0, low_z - before_z), max(0, low_y - before_y), min(height, high_y + after_y)
    zeros, no_line = to_y - from_y, high_y - low_y
    lead, entries = -(-all_x // GRAIN) * GRAIN, width + all_x - 1
    # The images' units. The exact formula has its own, which lie halfway between the largest intensity and the last
    # digit of two integers: products of moments stay in float32's range.
    one = t.dtype.type(1.0)
    digit = one if word is None else one / np.sqrt(limit)
    sizes = (digit, digit) if exact else (one / scales[0], one / scales[1])
    by: Any = np.float64(sizes[0]), np.float64(sizes[1]), unit
    weighing = scales[0] * sizes[0], scales[1] * sizes[1]
    least = t.dtype.type(0.0) if exact else numbers[2]
    offsets = -centres[0] * scales[0], -centres[1] * scales[1]
    ends = np.trunc(np.float64(offsets[0])), np.trunc(np.float64(offsets[1]))
    about = offsets[0] * sizes[0], offsets[1] * sizes[1]
    full, shared = counts[0][depth] * counts[1][height] * counts[2][width], -1
    of_line = counts[2][:width]
    # Entries near the border, those whose windows lie in the image, and those near the other border.
    near, size = -(-before_x // GRAIN) * GRAIN, facts.shape[2]
    pieces = nothing, min(near, size), max(min(near, size), (width - after_x) // GRAIN * GRAIN), size

    total, counted, beyond = 0.0, 0.0, 0
    for z in range(low_z - before_z, last_z + after_z):
        middle_z = z - after_z
        z_back, slots = middle_z - before_z, middle_z % past_z * no_line - low_y
        slots_middle = (middle_z - wz) % past_z * no_line - low_y
        here, finished = low_z <= middle_z < high_z, back and top <= z_back < bottom
        if here:
            for m in range(along.shape[1]):
                for x in range(along.shape[2]):
                    along[running_row, m, x] = along[slope_row, m, x] = 0
        else:
            for m in range(kinds):
                for x in range(fresh.shape[2]):
                    fresh[0, m, x] = 0
        if finished:
            for m in range(back_y.shape[1]):
                for x in range(back_y.shape[2]):
                    back_y[running_row, m, x] = back_y[slope_row, m, x] = 0.0
        for y in range(low_y - before_y, last_y + after_y):
            middle_y = y - after_y
            inside = from_y <= y < to_y
            if inside and middle_z < high_z:
                new = middle = old = beyond_border
                for line in range(NEW, OLD + 1):
                    plane = z - (past_z if line == OLD else wz) if line != NEW else z
                    if not from_z <= plane < depth or (line == MIDDLE and not twice):
                        continue
                    if word is None and not masked:
                        found = running.quantise(t, p, plane, y, centres, scales, limit, voxels, line)
                    elif word is None:
                        found = running.quantise_masked(t, p, weights, plane, y, centres, scales, limit, voxels, line)
                    else:
                        found = running.quantise_in_two(
                            t, p, weights, plane, y, centres, scales, limit, word, by_weight, voxels, line
                        )
                    if line == NEW:
                        new, beyond = NEW, beyond + found
                    elif line == MIDDLE:
                        middle = MIDDLE
                    else:
                        old = OLD
                for turn in range(1 + twice):
                    first, second = (new, middle if twice else old) if turn == 0 else (old, middle)
                    if first == second:
                        continue
                    if word is not None:
                        running.exchange_in_two(voxels, first, second, by_weight, growing, y - from_y)
                    else:
                        running.exchange(voxels, first, second, growing, y - from_y)
                if twice:
                    running.add(growing, y - from_y, sums, y - from_y)
            if here and middle_y < high_y:
                y_middle, y_old = y - wy, y - past_y
                new = y - from_y if inside else zeros
                middle = y_middle - from_y if from_y <= y_middle < to_y else zeros
                old = y_old - from_y if y_old >= from_y else zeros
                first, row = (middle, slope_row) if twice else (old, running_row)
                running.move(sums, new, first, lead, along, row)
                if twice:
                    running.move(sums, old, middle, lead, along, slope_row)
                    running.add(along, slope_row, along, running_row)
                if middle_y >= low_y and masked and not scores.some_count(weights, middle_z, middle_y):
                    for m in range(kinds):
                        for x in range(fresh.shape[2]):
                            fresh[0, m, x] = 0
                elif middle_y >= low_y:
                    running.cumulate(along, running_row, lead - before_x, entries)
                    if twice:
                        running.box(along, wx, width + wx - 1)
                        running.cumulate(along, boxes_row, nothing, width + wx - 1)
                    share = counts[0][middle_z] * counts[1][middle_y]
                    if masked or share != shared:
                        running.count_weights(
                            along, wx, masked, share, of_line, full, unit, outer, volume, inverse, held, border
                        )
                        shared = share
                    for part in range(3):
                        first, second = pieces[part], pieces[part + 1]
                        bordered = outer > 0.0 and (part != 1 or share != counts[0][depth] * counts[1][height])
                        if first == second:
                            continue
                        if word is None:
                            running.moments(
                                along, wx, first, second, bordered, volume, inverse, border, ends, by, facts
                            )
                        else:
                            running.moments_in_two(
                                along, wx, first, second, bordered, volume, inverse, border, ends, by, word, facts
                            )
                    if exact:
                        scores.exact(facts, held, about, numbers, formula == scores.EXACT)
                    else:
                        scores.smoothed(facts, numbers, formula == scores.SIGNED)
                    if masked:
                        scores.weigh(weights, middle_z, middle_y, facts, nothing, first_of_score, facts.shape[1])
                    if top <= middle_z < bottom and left <= middle_y < right:
                        total += scores.total(facts, scores.VALUE, start, stop)
                        if exact:
                            counted += scores.total(facts, scores.COUNTED, start, stop)
                    if wants_t:
                        scores.factors(facts, of_t, first_of_t, least, width, nothing, fresh)
                    if wants_p:
                        scores.factors(facts, of_p, first_of_p, least, width, nothing, fresh)
            if not back or middle_y < low_y:
                continue
            line = middle_y - low_y
            if middle_y < high_y and middle_z >= low_z:
                if fine is None:
                    if twice:
                        adjoint.collect_twice(
                            fresh, ring, slots + middle_y, slots_middle + middle_y, slopes_z, back_z, line
                        )
                    else:
                        adjoint.collect(fresh, ring, slots + middle_y, back_z, line)
                elif twice:
                    adjoint.collect_twice_in_two(
                        fresh, ring, slots + middle_y, slots_middle + middle_y, slopes_z, back_z, line
                    )
                else:
                    adjoint.collect_in_two(fresh, ring, slots + middle_y, back_z, line)
            if not finished:
                continue
            new = line if middle_y < high_y else no_line
            middle = line - wy if wy <= line < no_line + wy else no_line
            old = line - past_y if line >= past_y else no_line
            y_back = middle_y - before_y
            first, row = (middle, slope_row) if twice else (old, running_row)
            if fine is None:
                running.move(back_z, new, first, lead, back_y, row)
                if twice:
                    running.move(back_z, old, middle, lead, back_y, slope_row)
                    running.add(back_y, slope_row, back_y, running_row)
            else:
                adjoint.move_in_two(back_z, new, first, lead, back_y, row)
                if twice:
                    adjoint.move_in_two(back_z, old, middle, lead, back_y, slope_row)
                    adjoint.add_in_two(back_y, slope_row, back_y, running_row)
            if not left <= y_back < right:
                continue
            if fine is None:
                running.cumulate(back_y, running_row, lead - after_x, entries)
                if twice:
                    running.box(back_y, wx, width + wx - 1)
                    running.cumulate(back_y, boxes_row, nothing, width + wx - 1)
            else:
                adjoint.cumulate_in_two(back_y, running_row, lead - after_x, entries)
                if twice:
                    running.box(back_y, wx, width + wx - 1)
                    adjoint.cumulate_in_two(back_y, boxes_row, nothing, width + wx - 1)
            if wants_t:
                adjoint.combine(back_y, wx, first_of_t, fine, t, p, z_back, y_back, centres[0], centres[1],
                                weighing[0], weighing[1], factor, by_t)  # fmt: skip
                if masked:
                    scores.weigh(weights, z_back, y_back, by_t, z_back, y_back, y_back + 1)
            if wants_p:
                adjoint.combine(back_y, wx, first_of_p, fine, p, t, z_back, y_back, centres[1], centres[0],
                                weighing[1], weighing[0], factor, by_p)  # fmt: skip
                if masked:
                    scores.weigh(weights, z_back, y_back, by_p, z_back, y_back, y_back + 1)
    return total, counted, beyond
