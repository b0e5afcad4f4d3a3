"""Labels of integer maps: which there are, and the place of each voxel's label among those that are asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agnoreg.backend import Backend
from agnoreg.engine.validate import as_number
from agnoreg.messages import shown

Array = Any

#: A table by value is made for labels up to so far apart; others are searched for.
WIDEST_TABLE = 1 << 20
#: Up to this value the values of maps themselves are counted, and nothing is looked up.
FEW = 255
#: Values that are shown of a map that is not integral, and the largest that a float holds exactly.
SHOWN, LARGEST = 5, 2.0**53


def checked_labels(labels: Any) -> tuple[tuple[int, ...] | None, bool]:
    """Return the labels that are asked for, None for all that occur, and whether it is a single one.

    Raises
    ------
    ValueError
        If they are no integers, if one comes twice, or if there is none.
    """
    if labels is None:
        return None, False
    single = as_number(labels) == as_number(labels)
    given = [labels] if single else list(labels) if isinstance(labels, Sequence | np.ndarray | range) else None
    numbers = [as_number(label.item() if hasattr(label, "item") else label) for label in given or ()]
    if not numbers or isinstance(labels, str) or any(number != number or number % 1 for number in numbers):
        raise ValueError(f"labels must be an integer, or a sequence of them, got {shown(labels)}.")
    integers = tuple(int(number) for number in numbers)
    if twice := sorted({label for label in integers if integers.count(label) > 1}):
        raise ValueError(f"labels must differ from each other, got {', '.join(map(str, twice))} twice.")
    return integers, single


class Lookup:
    """From the values of maps to places: 0 for a value that is not among the labels, 1 for the first, and so on."""

    def __init__(self, backend: Backend, labels: Sequence[int]) -> None:
        self.backend, self.count = backend, len(labels)
        order = np.argsort(labels)
        ordered = np.asarray(labels, dtype=np.int64)[order]
        self.least, self.most = int(ordered[0]), int(ordered[-1])
        self.known, self.order = ordered, order + 1
        self.table: Any = None
        if self.most - self.least < WIDEST_TABLE:
            # One more at each end, for all values beyond.
            self.table = np.zeros(self.most - self.least + 3, dtype=np.int64)
            self.table[ordered - self.least + 1] = self.order

    def places(self, values: Array) -> Array:
        """Return the places of a map's values, which are flat.

        Raises
        ------
        ValueError
            If the map is one of floats that are no integers.
        """
        xp, device = self.backend.xp, self.backend.device(values)
        values = integral(self.backend, values)
        if self.table is not None:
            values -= self.least - 1
            values = xp.clip(values, 0, self.table.shape[0] - 1)
            return xp.take(xp.asarray(self.table, device=device), values)
        known = xp.asarray(self.known, device=device)
        found = xp.clip(xp.searchsorted(known, values), 0, self.count - 1)
        places = xp.take(xp.asarray(self.order, device=device), found)
        return xp.where(xp.take(known, found) == values, places, xp.zeros_like(places))


class Dense:
    """The same where every value from 0 on is a label, and no other value occurs: a value is its place."""

    def __init__(self, backend: Backend, most: int) -> None:
        self.backend, self.count = backend, most

    def places(self, values: Array) -> Array:
        """Return the values as integers, of a width that a joint index of few labels needs."""
        return integral(self.backend, values, self.backend.xp.int32)


def integral(backend: Backend, values: Array, dtype: Any = None) -> Array:
    """Return a map's values as integers, of 64 bit by default; raise ValueError where one is none, and list such."""
    xp = backend.xp
    if xp.isdtype(values.dtype, "real floating"):
        bad = ~((xp.floor(values) == values) & (xp.abs(values) <= LARGEST))
        if bool(xp.any(bad)):
            raise ValueError(_not_integral(np.unique(backend.to_numpy(values[bad]))))
    return xp.astype(values, dtype or xp.int64, copy=True)


def _not_integral(values: Any) -> str:
    some = ", ".join(f"{value:g}" for value in values[:SHOWN].tolist())
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return (
        f"A label map must hold integers, got {some}{more}: pass the map as it was before it was interpolated, warp it "
        "by nearest neighbour, or threshold a probability first; for soft labels there is agnoreg.functional.dice."
    )


def slabs(backend: Backend, *samples: Array) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of one sample, flat, a slab after the other."""
    flat = [backend.xp.reshape(sample, (-1,)) for sample in samples]
    size, step = flat[0].shape[0], backend.execution.slab_elements(flat[0], "voxels")
    for start in range(0, size, step):
        yield tuple(x[start : min(start + step, size)] for x in flat)


def occurring(backend: Backend, *maps: Array) -> tuple[int, ...]:
    """Return the labels that occur in the maps, without 0, the background, in order."""
    found: set[int] = set()
    for x in maps:
        values = backend.counting.distinct(x)
        if values.dtype.kind == "f":
            bad = ~((np.floor(values) == values) & (np.abs(values) <= LARGEST))
            if bad.any():
                raise ValueError(_not_integral(values[bad]))
        found.update(values.astype(np.int64).tolist())
    return tuple(sorted(found - {0}))


def dense(backend: Backend, *maps: Array) -> int | None:
    """Return the greatest value of maps whose values are few and none below 0, else None."""
    if any(0 in x.shape for x in maps):
        return 0
    found = [backend.counting.bounds(x) for x in maps]
    if any(bounds is None for bounds in found):
        return None
    least, most = min(bounds[0] for bounds in found if bounds), max(bounds[1] for bounds in found if bounds)
    return int(most) if least >= 0 and most <= FEW else None
