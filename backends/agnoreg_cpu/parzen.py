"""Tables of the weights that a voxel has in the bins around it, and of their derivatives.

Between two bins the weights are functions of the voxel's place there. A table divides the way from one bin to the next
into cells, and has cubic polynomials for each.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from agnoreg_cpu.tiles import LANES

Array = Any

#: The least and the greatest standard deviation, in bins: beyond eight bins a window is no more than 4e-11.
SIGMAS = (0.1, 0.52)
#: Up to this standard deviation the outermost two of the eight bins are left out: they have at most 2e-8.
NARROW = 0.502
#: How many cells there are between two bins, times the variance in bins: then polynomials are right to 2e-8.
FINENESS = 7.5
#: The core's greatest exponent: a smaller weight is as good as nothing, and a product of three is a normal number.
MOST = -math.log(np.finfo(np.float32).smallest_normal) / 3.0
#: Less than this, coefficients are 0: products of numbers that are smaller still would be slow.
TINY = 1e-20


@dataclass(frozen=True)
class ParzenTables:
    """Tables for some bins and standard deviation in bins.

    A row has the weights of eight bins. Those that a voxel has weights in begin at the row's first bin, or up to
    ``step - 1`` bins after it: rows for all bins then begin at each ``step``-th bin.
    """

    bins: int
    sigma: float

    @property
    def taps(self) -> int:
        """How many bins a voxel has weights in: as many below it as above."""
        return 6 if self.sigma <= NARROW else 8

    @property
    def step(self) -> int:
        """The number of bins from one row to the next, which is the number of shifts, too."""
        return LANES + 1 - self.taps

    @property
    def cells(self) -> int:
        """Cells between two bins: a power of 2, so that a place times this number is exact."""
        return 1 << math.ceil(math.log2(FINENESS / self.sigma**2))

    def tables(self) -> tuple[Array, Array]:
        """Return the weights and their derivatives but for the window's factor: coefficients, row after row.

        They are ``(kinds, step, cells, 4, LANES)``. Kinds are the places between two bins: those near the first and the
        last bin, where fewer bins are left, and one for all others. A weight's derivative is the weight times the bin's
        distance from the mean of all weights.
        """
        below = self.taps // 2 - 1
        nodes = 0.5 + 0.5 * np.cos(np.pi * (np.arange(4) + 0.5) / 4)
        place = ((np.arange(self.cells)[:, None] + nodes) / self.cells)[..., None]
        offsets = np.arange(self.taps) - below
        beyond = max(self.bins - 2 - below, below)
        kinds = np.asarray([bin for bin in range(self.bins - 1) if bin <= below or bin > beyond])
        reached = kinds[:, None] + offsets
        there = ((reached >= 0) & (reached < self.bins))[:, None, None, :]
        # The squared distance less the nearest bin's: not all windows are nothing.
        square = (place - offsets) ** 2 - np.minimum(place, 1.0 - place) ** 2
        weights = np.where(there, np.exp(-np.minimum(square * (0.5 / self.sigma**2), MOST)), 0.0)
        weights /= weights.sum(axis=-1, keepdims=True)
        slopes = weights * (offsets - (weights * offsets).sum(axis=-1, keepdims=True))
        fit = np.linalg.inv(np.vander(nodes, increasing=True))
        return self._rows(fit @ weights), self._rows(fit @ slopes)

    def _rows(self, coefficients: Array) -> Array:
        """Return the coefficients ``(kinds, cells, 4, taps)`` as rows of eight bins, at each shift; read-only."""
        coefficients = np.where(np.abs(coefficients) < TINY, 0.0, coefficients)
        kinds, cells, count, taps = coefficients.shape
        rows = np.zeros((kinds, self.step, cells, count, LANES), np.float32)
        for shift in range(self.step):
            rows[:, shift, ..., shift : shift + taps] = coefficients
        rows.flags.writeable = False
        return rows.reshape(-1)


@lru_cache(maxsize=8)
def parzen_tables(bins: int, sigma: float) -> tuple[int, int, Array, Array]:
    """Return the number of bins that a voxel has weights in, of cells, and the tables of weights and derivatives."""
    made = ParzenTables(bins, sigma)
    return made.taps, made.cells, *made.tables()
