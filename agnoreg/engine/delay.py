"""Delay lines: the latest planes of a stream, from which windows along the streaming axis are made.

A stream arrives in items of one or more planes. With items of 2 planes, after planes ``0 1 | 2 3 | 4 5``, a line that
holds all three items gives for a delay of 3 the planes ``1 2``: those that came 3 planes before ``4 5``.
"""

from collections.abc import Sequence
from typing import Any

from agnoreg.backend.shifts import cut
from agnoreg.backend.windows import WindowMerge, boxes
from agnoreg.engine.rows import Item, _like

#: The latest items, the newest at the end.
Line = tuple[Item, ...]


def delayed(xp: Any, line: Line, count: int) -> Item:
    """Return the planes that came ``count`` planes before those of the line's last item, as many as that has."""
    wanted = line[-1][0].shape[0]
    parts: list[Item] = []
    # Positions count back from the end of the line.
    end = 0
    for item in reversed(line):
        size = item[0].shape[0]
        start, stop = max(0, end + size - count - wanted), min(size, end + size - count)
        if start < stop:
            parts.append(item if stop - start == size else _like(item, [cut(x, 0, start, stop) for x in item]))
        end += size
    if len(parts) == 1:
        return parts[0]
    return _like(item, [xp.concat(list(column), axis=0) for column in zip(*reversed(parts), strict=True)])


def keep_last(line: Line, count: int) -> Line:
    """Return the line's last ``count`` planes."""
    kept: list[Item] = []
    for item in reversed(line):
        if count <= 0:
            break
        size = item[0].shape[0]
        kept.append(item if size <= count else _like(item, [cut(x, 0, size - count, None) for x in item]))
        count -= size
    return tuple(reversed(kept))


def _memory(width: int) -> tuple[int, ...]:
    """Return how many earlier windows of 1, 2, 4, ... planes `_doubling` needs for windows of ``width`` planes.

    For example ``(1, 2, 1)`` for a width of 5; the last entry says that the newest plane is joined to the window of 4
    planes that ended 1 plane earlier.
    """
    counts, size, covered = [], 1, 0
    while size <= width:
        counts.append(max(size if 2 * size <= width else 0, covered if width & size else 0))
        covered += width & size
        size *= 2
    return tuple(counts)


def zero_history(item: Item, counts: Sequence[int]) -> tuple[Line, ...]:
    """Return delay lines pre-filled with ``item``, one for each delay in ``counts``; an item may have many planes."""
    size = item[0].shape[0]
    return tuple(keep_last((item,) * (count // size + 1), count) for count in counts)


def zero_window_history(joining: WindowMerge, item: Item, taps: tuple[float, ...]) -> tuple[Line, ...]:
    """Return the initial delay lines of `along_planes`, as if every earlier plane had been ``item``."""
    widths = boxes(taps)
    if not widths:
        return zero_history(item, (len(taps) - 1,))
    lines: list[Line] = []
    for width in widths:
        power, size = item, 1
        for count in _memory(width):
            lines += zero_history(power, (count,))
            power, size = joining.merge_equal(power, power, size, 1.0), 2 * size
    return tuple(lines)


def along_planes(
    xp: Any, joining: WindowMerge, lines: tuple[Line, ...], item: Item, taps: tuple[float, ...], unit: float
) -> tuple[tuple[Line, ...], Item]:
    """Extend windows within planes to windows along the stream, by ``taps``.

    ``item`` has a window of weight ``unit`` for each entry of the new planes. ``lines`` are those that the previous
    call returned, at first those of `zero_window_history`. The result is the lines for the next call, and for each new
    plane the window that ends with it.

    For example, sums (`agnoreg.engine.rows.SUMS`) of three planes, ``taps = (1.0, 1.0, 1.0)``, one plane an item::

        plane that arrives   1   2   3   4   5   0
        window that ends     1   3   6   9  12   9
        centred on plane    -1   0   1   2   3   4

    A centred window is thus complete `StreamingMeasure.value_delay` planes after its middle, here 1; the planes of
    zeros after the last one complete those at the border.
    """
    widths = boxes(taps)
    if not widths:
        line, last = (*lines[0], item), len(taps) - 1
        near = [delayed(xp, line, last - i) for i in range(last + 1)]
        return (keep_last(line, last),), joining.weighted(near, taps, unit)
    kept: list[Line] = []
    for width in widths:
        more, item = _doubling(xp, joining, lines[len(kept) :], item, width, unit)
        kept += more
        unit *= width
    return tuple(kept), item


def _doubling(
    xp: Any, joining: WindowMerge, lines: Sequence[Line], item: Item, width: int, unit: float
) -> tuple[list[Line], Item]:
    """Do what `agnoreg.backend.windows.sliding` does, taking earlier planes from delay lines."""
    power, size = item, 1
    result, covered = None, 0
    kept = []
    for past, count in zip(lines, _memory(width), strict=False):
        line = (*past, power)
        kept.append(keep_last(line, count))
        if width & size:
            if covered:
                # The window that ends just before the later one begins.
                result = joining.merge(result, covered, delayed(xp, line, covered), size, unit)
            else:
                result = joining.finalize(power, size)
            covered += size
        if 2 * size <= width:
            power = joining.merge_equal(delayed(xp, line, size), power, size, unit)
        size *= 2
    return kept, result
