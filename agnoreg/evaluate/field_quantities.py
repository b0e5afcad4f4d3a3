"""The numbers of `agnoreg.metrics` of a displacement field and of landmarks: each function is called once."""

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from agnoreg import metrics
from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.quantity import Quantity

if TYPE_CHECKING:
    from agnoreg.evaluate.inputs import PairInputs
    from agnoreg.evaluate.measuring import Computer

Array = Any


class FieldQuantities:
    """Quantities of a pair's field and landmarks.

    Parameters
    ----------
    pair
        The pair; its field was read, in voxels, where there is one.
    computer
        The backend.
    """

    def __init__(self, pair: "PairInputs", computer: "Computer") -> None:
        self.pair, self.computer = pair, computer
        self.spacing = pair.fixed.along(pair.fixed.voxel_size)
        self.field: Array = None
        self.mask: Array = None
        self.shared: dict[tuple[str, str | None], Any] = {}

    def found(self, quantity: Quantity) -> tuple[Any, float]:
        """Return all that a quantity's function returns, and the seconds that this call took.

        Raises
        ------
        ValueError
            If the field or the landmarks do not fit.
        ImportError
            If a package is not installed that it needs.
        """
        start, key = time.perf_counter(), (quantity.function, quantity.convention)
        if key not in self.shared:
            self._take()
            with np.errstate(all="ignore"):
                self.shared[key] = self._computed(quantity)
        return self.shared[key], time.perf_counter() - start

    def value(self, quantity: Quantity) -> tuple[float, float]:
        """Return the number, and the seconds that it took."""
        if quantity.name == "ndv" and len(self.spacing) < 3:
            raise ValueError("a slice has no volume but an area, of which there is the share.")
        found, seconds = self.found(quantity)
        return self._scaled(quantity, getattr(found, quantity.part)), seconds

    def before(self, quantity: Quantity) -> float | None:
        """Return the number without the field, of landmarks; None of the field itself."""
        if "landmarks" not in quantity.measures:
            return None
        return self._scaled(quantity, getattr(self.found(quantity)[0].before, quantity.part))

    def number(self, values: Array) -> float:
        """Return the number of the one sample that there is."""
        return float(np.asarray(self.computer.backend.to_numpy(values)).reshape(-1)[0])

    def count(self, values: Array | None) -> int | None:
        """Return how many voxels a result says; None where it says nothing."""
        number = math.nan if values is None else self.number(values)
        return None if math.isnan(number) else round(number)

    def _scaled(self, quantity: Quantity, values: Array) -> float:
        return self.number(values) * (100 if quantity.part.endswith("share") else 1)

    def _take(self) -> None:
        if self.field is None and "ddf" in self.pair.data:
            field, counts = self.pair.data["ddf"], self.pair.counts("field")
            if counts is not None and (hidden := ~np.isfinite(field).all(axis=-1) & ~counts).any():
                # A determinant reads its voxel's neighbours: next to what is no number there is none.
                field = np.where(hidden[..., None], np.float32(0), field)
                near = _grown(hidden) & counts
                counts = counts & ~near
                self.pair.notes.append(
                    f"field: {np.count_nonzero(near)} voxels lie next to NaN or infinity, and have no determinant."
                )
            self.field = self.computer.take(field[None])
            self.mask = None if counts is None else self.computer.take(counts[None])

    def _computed(self, quantity: Quantity) -> Any:
        function = getattr(metrics, quantity.function)
        if "field" in quantity.measures:
            return function(self.field, mask=self.mask, spacing=self.spacing, convention=quantity.convention)
        assert self.pair.landmarks is not None
        fixed, moving = self.pair.landmarks
        volume = self.pair.fixed
        grid = {"affine": volume.affine} if len(volume.axes) == 3 else {"spacing": self.spacing}
        if quantity.convention is not None and self.field is None:
            raise InputError(f"{quantity.name}: the convention {quantity.convention} is of a field; pass --ddf.")
        return function(fixed, moving, self.field, convention=quantity.convention, **grid)


def _grown(mask: Array) -> Array:
    """Return a mask with the neighbours of its voxels, across corners, too."""
    for axis in range(mask.ndim):
        grown = mask.copy()
        ahead, back = ([slice(None)] * mask.ndim for _ in range(2))
        ahead[axis], back[axis] = slice(1, None), slice(None, -1)
        grown[tuple(ahead)] |= mask[tuple(back)]
        grown[tuple(back)] |= mask[tuple(ahead)]
        mask = grown
    return mask
