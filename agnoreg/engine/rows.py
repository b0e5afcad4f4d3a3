"""Planes laid out as rows, in which a shift along either axis is a shift of the row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agnoreg.backend.shifts import pad
from agnoreg.backend.windows import WindowMerge, boxes, paired_sum, sliding

Array = Any

#: A few arrays of the same planes, ``(planes, samples, size)`` each: a tuple, plain or named.
Item = Any


#: Lines begin at multiples of so many entries, 64 bytes of float32, which vector instructions and views like.
ALIGNED = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Planes of ``rows`` times ``columns`` as one row of numbers, with a gap after each line and one below the last.

    The planes that pass are outermost, then come the samples, the lines and their entries: ``(planes, b, size)``.
    There are ``gap`` empty lines below a plane, and at least ``side`` empty entries after a line: a window's, less one.
    """

    rows: int
    columns: int
    gap: int
    side: int

    @property
    def line(self) -> int:
        """The distance from a line to the next; of single columns that no window joins they lie side by side."""
        if self.columns == 1 and self.gap == self.side == 0:
            return 1
        return math.ceil((self.columns + self.side) / ALIGNED) * ALIGNED

    @property
    def size(self) -> int:
        """The entries of one sample's plane."""
        return (self.rows + self.gap) * self.line

    def pack(self, xp: Any, image: Array) -> Array:
        """Lay out ``(b, planes, rows, columns)``, with zeros in the gaps."""
        x = xp.permute_dims(pad(xp, image, 3, 0, self.line - self.columns), (1, 0, 2, 3))
        x = xp.reshape(x, (x.shape[0], -1, self.rows * self.line))
        return pad(xp, x, 2, 0, self.gap * self.line)

    def border_values(self, xp: Any, values: Array, before: tuple[int, int], device: Any) -> Array:
        """Return ``(b, size)`` of one value for each sample, its surroundings included.

        The last lines and entries of the gap below a sample, as many as ``before`` says, belong to the next one.
        """
        following = xp.concat([values[1:], values[:1]])
        own = xp.arange(self.size, device=device) < self.size - self._distance(before)
        return xp.where(own, values[:, None], following[:, None])

    @property
    def slack(self) -> int:
        """How many more entries a row has than windows need, for slices that keep to the alignment."""
        return ALIGNED * (4 * self.side.bit_length() + 1) - self.side % ALIGNED

    def _distance(self, steps: tuple[int, int]) -> int:
        """Return how many entries it is over so many lines and entries."""
        return steps[0] * self.line + steps[1]

    def windows(
        self,
        xp: Any,
        joining: WindowMerge,
        planes: Item,
        taps: tuple[tuple[float, ...], tuple[float, ...]],
        before: tuple[int, int],
        after: tuple[int, int],
        unit: float = 1.0,
    ) -> Item:
        """Return what is known of windows in planes, of ``before`` and ``after`` lines and entries around each voxel.

        ``taps`` are along axes 2 and 3, and an entry weighs ``unit``. Ahead of the first plane stands what stands after
        the last, for which `outside` and gaps of zeros are made.
        """
        count = planes[0].shape[0]
        ahead, behind = self._distance(after), self._distance(before)
        rows = _like(planes, [None if x is None else self._row(xp, x, behind, ahead) for x in planes])
        axes = ((1, taps[1]), (self.line, taps[0]))
        rows = along_rows(joining, rows, axes, unit, behind + ahead + self.slack)
        return _like(rows, [None if x is None else xp.reshape(x, (count, -1, self.size)) for x in rows])

    def _row(self, xp: Any, x: Array, before: int, after: int) -> Array:
        row = xp.reshape(x, (-1,))
        parts = [row[-before:]] if before else []
        parts += [row, row[-after:]] if after else [row]
        # A plane has at least so many entries.
        least, slack = self.size, self.slack
        parts += [row[: min(least, slack - done)] for done in range(0, slack, least)]
        return xp.concat(parts)

    def lines(self, xp: Any, x: Array) -> Array:
        """Return ``(b, planes, lines, entries)`` of planes, gaps included."""
        x = xp.reshape(x, (x.shape[0], -1, self.rows + self.gap, self.line))
        return xp.permute_dims(x, (1, 0, 2, 3))

    def unpack(self, xp: Any, x: Array) -> Array:
        """Return ``(b, planes, rows, columns)`` of planes."""
        return self.lines(xp, x)[:, :, : self.rows, : self.columns]

    def voxel_mask(self, xp: Any, device: Any) -> Array:
        """Say for each entry of a plane whether it is a voxel, in no gap: ``(size,)``."""
        index = xp.arange(self.size, device=device)
        return (index % self.line < self.columns) & (index // self.line < self.rows)


class SumMerge(WindowMerge):
    """What is known of a window is the sums of some images in it."""

    def merge_equal(self, a: Item, b: Item, count: int, unit: float) -> Item:
        """Add the sums."""
        return tuple(x + y for x, y in zip(a, b, strict=True))

    def merge(self, a: Item, na: int, b: Item, nb: int, unit: float) -> Item:
        """Add the sums."""
        return self.merge_equal(a, b, na, unit)

    def weighted(self, near: Sequence[Item], taps: Sequence[float], unit: float) -> Item:
        """Add the sums, each times its tap."""
        return tuple(paired_sum(taps, column) for column in zip(*near, strict=True))


SUMS = SumMerge()


def along_rows(
    joining: WindowMerge, item: Item, axes: Sequence[tuple[int, tuple[float, ...]]], unit: float, surplus: int
) -> Item:
    """Join windows of weight ``unit``, along one ``(stride, taps)`` after the other, where the first of them begins.

    The result is ``surplus`` entries shorter than the row. Slices that begin where the row does keep to its alignment:
    a framework that cannot address others takes those for views.
    """
    lost = 0
    for stride, taps in axes:
        widths = boxes(taps)
        for width in widths:
            item, more = sliding(joining, item, width, stride, unit, _rows, ALIGNED)
            lost, unit = lost + more, unit * width
        if not widths:
            last = len(taps) - 1
            near = [_rows(item, i * stride, (i - last) * stride or None) for i in range(last + 1)]
            item = joining.weighted(near, taps, unit)
            lost, unit = lost + last * stride, unit * sum(taps)
    return _rows(item, None, lost - surplus or None)


def _rows(item: Item, start: int | None, stop: int | None) -> Item:
    if start is None and stop is None:
        return item
    return _like(item, [None if x is None else x[start:stop] for x in item])


def _like(item: Item, arrays: Sequence[Array]) -> Item:
    return item._make(arrays) if hasattr(item, "_make") else tuple(arrays)
