"""The numbers of `agnoreg.metrics` of two label maps: all labels in one pass, distances between surfaces once."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agnoreg.evaluate.quantity import LEARN2REG, Quantity
from agnoreg.metrics import overlap, surface_distances
from agnoreg.metrics.conventions import convention_of

if TYPE_CHECKING:
    from agnoreg.evaluate.inputs import PairInputs
    from agnoreg.evaluate.measuring import Computer

Array = Any


class LabelQuantities:
    """Quantities of a pair's label maps, computed once for all labels.

    Parameters
    ----------
    pair
        The pair, whose label maps were read.
    computer
        The backend.
    labels
        Which labels.
    """

    def __init__(self, pair: "PairInputs", computer: "Computer", labels: Sequence[int]) -> None:
        self.pair, self.computer, self.labels = pair, computer, tuple(labels)
        self.spacing = pair.fixed.along(pair.fixed.voxel_size)
        self.dims = len(self.spacing)
        self.maps: list[Array] = []
        self.mask: Array = None
        #: What several quantities share.
        self.shared: dict[Any, Any] = {}
        self._absent: set[int] | None = None

    def values(self, quantity: Quantity) -> tuple[list[float], float]:
        """Return a value for each label, and the seconds that one took.

        Raises
        ------
        ValueError
            If the labels do not fit.
        ImportError
            If a package is not installed that it needs.
        """
        start = time.perf_counter()
        with np.errstate(all="ignore"):
            found = self._surface(quantity) if quantity.of_surfaces else self._overlap(quantity)
        if quantity.convention == LEARN2REG:
            found = [math.nan if label in self._left_out() else x for label, x in zip(self.labels, found, strict=True)]
        return found, (time.perf_counter() - start) / len(self.labels)

    def _take(self) -> None:
        """Hand both maps to the backend, and the mask."""
        if not self.maps:
            arrays = [self.pair.data[f"{which} label"] for which in ("fixed", "moved")]
            values = [value for entry in self.pair.inputs for value in entry.labels or ()]
            low, high = min(values), max(values)
            # Not every framework has unsigned integers of more than 8 bits.
            kind = np.uint8 if low >= 0 and high < 2**8 else np.int32 if low >= -(2**31) and high < 2**31 else np.int64
            self.maps = [self.computer.take(np.ascontiguousarray(array, dtype=kind)[None]) for array in arrays]
            counts = self.pair.counts("labels")
            self.mask = None if counts is None else self.computer.take(counts[None])

    def _overlap(self, quantity: Quantity) -> list[float]:
        if "overlap" not in self.shared:
            self._take()
            self.shared["overlap"] = overlap(*self.maps, labels=self.labels, mask=self.mask, spatial_dims=self.dims)
        return self._numbers(getattr(self.shared["overlap"], quantity.part))

    def _surface(self, quantity: Quantity) -> list[float]:
        given = {key: value for key, value in quantity.arguments.items() if value is not None}
        surface, convention = given.pop("surface", None), given.pop("convention", None)
        key = (surface, convention)
        if key not in self.shared:
            self._take()
            self.shared[key] = surface_distances(
                *self.maps,
                spacing=self.spacing,
                labels=self.labels,
                surface=surface,
                mask=self.mask,
                convention=convention,
                spatial_dims=self.dims,
            )
        found = self.shared[key]
        # Where a tool raises an error, the other labels have values all the same.
        if "raise" in convention_of(convention).empty[quantity.function] and given.get("empty") is None:
            given["empty"] = "nan"
        given.pop("percentile", None)
        first = {"hausdorff": [quantity.percentile], "nsd": [given.pop("tolerance", None)]}.get(quantity.function, [])
        return self._numbers(getattr(found, quantity.function)(*first, **given))

    def _numbers(self, values: Array) -> list[float]:
        return [float(value) for value in np.asarray(self.computer.backend.to_numpy(values)).reshape(-1)]

    def _left_out(self) -> set[int]:
        """Return the labels that Learn2Reg leaves out: those that the fixed or the unwarped moving map lacks."""
        if self._absent is None:
            there, unwarped = self.pair.labels_of("fixed label"), self.pair.unwarped
            self._absent = {
                label for label in self.labels if label not in there or (unwarped is not None and label not in unwarped)
            }
        return self._absent
