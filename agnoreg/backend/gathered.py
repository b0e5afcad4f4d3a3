"""Collects the results of tiles."""

from typing import TYPE_CHECKING, Any

from agnoreg.backend.shifts import cut

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any


class Gathered:
    """Collects the results of tiles, in order: sums are added, pieces are concatenated along axis 1.

    If arrays are mutable, a piece is copied to its place at once, so that its memory is reused while it is in cache.
    """

    def __init__(self, backend: "Backend", kept: slice, single: bool) -> None:
        self.backend, self.kept, self.single = backend, kept, single
        self.totals: tuple[Array, ...] = ()
        self.pieces: list[tuple[Array, ...]] = []
        self.rooms: tuple[Array, ...] = ()
        self.first = 0

    def add(self, sums: tuple[Array, ...], piece: tuple[Array, ...], placed: int = 0) -> None:
        """Add the results of the next tile; ``placed`` is the number of planes of a piece that was `put` already."""
        self.totals = tuple(a + b for a, b in zip(self.totals, sums, strict=True)) if self.totals else sums
        if not piece:
            self.first += placed
            return
        first, last = self.first, self.first + piece[0].shape[1]
        self.first = last
        start, stop = max(self.kept.start, first), min(self.kept.stop, last)
        if start >= stop:
            return
        if (start, stop) != (first, last):
            piece = tuple(cut(x, 1, start - first, stop - first) for x in piece)
        if not (self.pieces or self.rooms or self.single):
            rooms = tuple(self.backend.execution.room(x, self.kept.stop - self.kept.start) for x in piece)
            self.rooms = () if any(room is None for room in rooms) else rooms
        if self.rooms:
            self.put(start - self.kept.start, piece)
        else:
            self.pieces.append(piece)

    def put(self, start: int, piece: tuple[Array, ...]) -> None:
        """Write a piece to its place; places do not overlap."""
        for room, x in zip(self.rooms, piece, strict=True):
            room[:, start : start + x.shape[1], ...] = x

    def result(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums, and the concatenated pieces."""
        if self.rooms:
            if self.first < self.kept.stop:
                raise ValueError(f"The pieces have {self.first} planes together, where {self.kept.stop} are wanted.")
            return self.totals, self.rooms
        if len(self.pieces) < 2:
            return self.totals, self.pieces[0] if self.pieces else ()
        return self.totals, tuple(
            self.backend.xp.concat(list(column), axis=1) for column in zip(*self.pieces, strict=True)
        )
