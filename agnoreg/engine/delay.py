"""Delay lines: the planes that came before, from which windows along the streaming axis are made."""

from collections.abc import Sequence
from typing import Any

from agnoreg.backend.shifts import cut
from agnoreg.backend.windows import WindowMerge, boxes
from agnoreg.engine.rows import Item, _like

#: The items that came last, the newest at the end.
Line = tuple[Item, ...]


def delayed(xp: Any, line: Line, count: int) -> Item:
    """Return as many planes as the line's last item has: those that came ``count`` planes before its own."""
    wanted = line[-1][0].shape[0]
    parts: list[Item] = []
    # Places are counted back from the line's end.
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
    """Return how many earlier planes of windows of 1, 2, 4, ... planes it takes to make windows of ``width``."""
    counts, size, covered = [], 1, 0
    while size <= width:
        counts.append(max(size if 2 * size <= width else 0, covered if width & size else 0))
        covered += width & size
        size *= 2
    return tuple(counts)


def zero_history(item: Item, counts: Sequence[int]) -> tuple[Line, ...]:
    """Return lines in which all that came before was ``item``, of one plane or more."""
    size = item[0].shape[0]
    return tuple(keep_last((item,) * (count // size + 1), count) for count in counts)


def zero_window_history(joining: WindowMerge, item: Item, taps: tuple[float, ...]) -> tuple[Line, ...]:
    """Return the lines that `along_planes` begins with, where all that came before was ``item``."""
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
    """Join each plane's window of weight ``unit`` with those of the planes before it, by ``taps``.

    ``lines`` are at first what `zero_window_history` says; the result is the lines for the next item, and the windows
    that end with each plane of this one.
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
    """Do what `agnoreg.backend.windows.sliding` does, with planes that passed before."""
    power, size = item, 1
    result, covered = None, 0
    kept = []
    for past, count in zip(lines, _memory(width), strict=False):
        line = (*past, power)
        kept.append(keep_last(line, count))
        if width & size:
            if covered:
                # The windows that end where the later one begins.
                result = joining.merge(result, covered, delayed(xp, line, covered), size, unit)
            else:
                result = joining.finalize(power, size)
            covered += size
        if 2 * size <= width:
            power = joining.merge_equal(delayed(xp, line, size), power, size, unit)
        size *= 2
    return kept, result
