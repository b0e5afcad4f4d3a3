"""Planes laid out as rows, so that a shift along either axis of a plane is a shift of the row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agnoreg.backend.shifts import pad
from agnoreg.backend.windows import WindowMerge, boxes, paired_sum, sliding

Array = Any

#: Several arrays of the same planes, ``(planes, samples, size)`` each: a tuple or a named tuple.
Item = Any


#: Lines begin at multiples of this many entries, 64 bytes of float32, as vector instructions and views prefer.
ALIGNED = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Layout of planes of ``rows`` times ``columns`` as one row of numbers, with a gap after each line and each plane.

    A packed array is ``(planes, b, size)``. ``gap`` empty lines follow the last line of a plane, and at least ``side``
    empty entries follow each line; for windows these are the window's lengths less one. With 2 rows, 3 columns, a gap
    of 1 and a side of 1, and without the rounding to `ALIGNED`, a plane becomes a row of 12 entries::

        a b c          a b c .
        d e f    ->    d e f .    ->    a b c . d e f . . . . .
                       . . . .

    The neighbour to the right is the next entry, the one below lies ``line`` entries ahead, and beyond a border there
    is a gap.
    """

    rows: int
    columns: int
    gap: int
    side: int

    @property
    def line(self) -> int:
        """Entries from one line to the next; single columns without windows have no gaps between them."""
        if self.columns == 1 and self.gap == self.side == 0:
            return 1
        return math.ceil((self.columns + self.side) / ALIGNED) * ALIGNED

    @property
    def size(self) -> int:
        """Entries of one plane of a sample, gaps included."""
        return (self.rows + self.gap) * self.line

    def pack(self, xp: Any, image: Array) -> Array:
        """Return ``(b, planes, rows, columns)`` as ``(planes, b, size)``, with zeros in the gaps."""
        x = xp.permute_dims(pad(xp, image, 3, 0, self.line - self.columns), (1, 0, 2, 3))
        x = xp.reshape(x, (x.shape[0], -1, self.rows * self.line))
        return pad(xp, x, 2, 0, self.gap * self.line)

    def border_values(self, xp: Any, values: Array, before: tuple[int, int], device: Any) -> Array:
        """Return ``(b, size)`` with each sample's value in its plane and in the gaps around it.

        Windows reach ``before`` (lines, entries) back from their middle, at a border into the end of the previous
        sample's gap: that part of the gap gets the value of the next sample.
        """
        following = xp.concat([values[1:], values[:1]])
        own = xp.arange(self.size, device=device) < self.size - self._distance(before)
        return xp.where(own, values[:, None], following[:, None])

    @property
    def slack(self) -> int:
        """Extra entries at the end of a row, which let slices keep the alignment."""
        return ALIGNED * (4 * self.side.bit_length() + 1) - self.side % ALIGNED

    def _distance(self, steps: tuple[int, int]) -> int:
        """Return the distance in entries of a step of (lines, entries)."""
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
        """Return the windows around each entry, within planes: from ``before`` to ``after`` (lines, entries) from it.

        ``taps`` are the weights along axes 2 and 3, and an entry has weight ``unit``. All planes are one row, closed to
        a ring, so that windows at a border read a gap: it must hold zeros or `border_values`. Windows around entries of
        a gap are meaningless.

        For example, sums over 3 entries, ``before = after = (0, 1)``, in a plane of one line of 3 voxels, side 2::

            packed     1  2  3  .  .
            windows    3  6  5  x  x
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
        # The row has at least ``size`` entries, maybe fewer than ``slack``.
        least, slack = self.size, self.slack
        parts += [row[: min(least, slack - done)] for done in range(0, slack, least)]
        return xp.concat(parts)

    def lines(self, xp: Any, x: Array) -> Array:
        """Return packed planes as ``(b, planes, lines, entries)``, gaps included."""
        x = xp.reshape(x, (x.shape[0], -1, self.rows + self.gap, self.line))
        return xp.permute_dims(x, (1, 0, 2, 3))

    def unpack(self, xp: Any, x: Array) -> Array:
        """Return packed planes as ``(b, planes, rows, columns)``, without the gaps."""
        return self.lines(xp, x)[:, :, : self.rows, : self.columns]

    def voxel_mask(self, xp: Any, device: Any) -> Array:
        """Return which entries of a packed plane are voxels, not gaps: bools ``(size,)``."""
        index = xp.arange(self.size, device=device)
        return (index % self.line < self.columns) & (index // self.line < self.rows)


class SumMerge(WindowMerge):
    """Merges windows of which the sums of several images are known."""

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
    """Merge windows of weight ``unit`` along each ``(stride, taps)`` in turn; entry ``i`` is the one that begins there.

    The result is ``surplus`` entries shorter than the row. Slices that begin at the row's start keep its alignment: a
    framework that cannot address unaligned data can take them as views.
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
