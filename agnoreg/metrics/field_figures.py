"""Figures of a field's determinants, gathered slab by slab in one pass: counts, volumes, extremes, and their spread.

A `Gatherer` sees every slab of one sample once and keeps a few numbers. What it has gathered of blocks of an image is
merged, so that blocks may be computed anywhere, and gives what the whole would.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend import Backend
from agnoreg.metrics.determinants import digital, of_scheme
from agnoreg.metrics.field_conventions import SCHEMES, FieldConvention

Array = Any


def slabs(
    backend: Backend, ddf: Array, mask: Array | None, scheme: str, scales: Sequence[float]
) -> Iterator[tuple[tuple[Array, ...], Array | None]]:
    """Yield the components of one sample in voxels, a few planes with their neighbours, and which voxels count.

    Those are the voxels of which the scheme has a determinant.
    """
    xp, dtype = backend.xp, backend.dtypes.compute(ddf)
    before, after = SCHEMES[scheme]
    planes = max(1, backend.execution.slab_elements(ddf, "voxels") // max(1, math.prod(ddf.shape[1:-1])))
    count = ddf.shape[0] - before - after
    for start in range(0, count, planes):
        stop = min(start + planes, count)
        own = ddf[start : stop + before + after, ...]
        parts = []
        for component, scale in enumerate(scales):
            part = xp.astype(own[..., component], dtype)
            if scale != 1.0:
                part /= scale
            parts.append(part)
        there = None
        if mask is not None:
            inside = tuple(slice(before, size - after) for size in mask.shape[1:])
            there = mask[(slice(start + before, stop + before), *inside)]
        yield tuple(parts), there


@dataclass
class Lowest:
    """The lowest of many numbers, as many as a quantile needs."""

    most: int
    kept: list[Any] = field(default_factory=list)
    limit: float = math.inf
    size: int = 0

    def add(self, backend: Backend, values: Array) -> None:
        """Keep those of an array that may be among the lowest."""
        if self.limit < math.inf:
            values = values[values < self.limit]
        self.put(backend.to_numpy(values))

    def put(self, values: Any) -> None:
        """Keep those of a NumPy array that may be among the lowest."""
        self.kept.append(values)
        self.size += len(values)
        if self.size > 2 * self.most:
            self.kept = [np.partition(np.concatenate(self.kept), self.most - 1)[: self.most].copy()]
            self.size, self.limit = self.most, float(self.kept[0][-1])

    def quantile(self, share: float, count: int) -> float:
        """Return a quantile of all numbers there were, interpolated linearly."""
        ordered = np.sort(np.concatenate(self.kept)).astype(np.float64)
        place = share * (count - 1)
        low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
        return float(low + (high - low) * (place - math.floor(place)))


#: The share of the percentile that is given of determinants.
FIRST_PERCENT = 0.01


class Gathered:
    """What is gathered of a sample, slab by slab."""

    #: How many figures there are.
    size: ClassVar[int]

    def __init__(self, pass_: "Pass") -> None:
        self.convention, self.count = pass_.convention, 0
        #: Whether a determinant was no finite number.
        self.spoiled = False

    def add(self, backend: Backend, parts: Sequence[Array], there: Array | None, scheme: str) -> None:
        """Add a slab, given as its components, and which of its voxels count."""
        raise NotImplementedError

    def merge(self, other: Any) -> None:
        """Add what was gathered elsewhere."""
        self.count += other.count
        self.spoiled = self.spoiled or other.spoiled

    def figures(self) -> list[float]:
        """Return the figures of what counted, which is something and all finite."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pass:
    """One pass over a field: what is gathered, by which determinants."""

    kind: type[Gathered]
    scheme: str
    scales: tuple[float, ...]
    convention: FieldConvention
    #: How many voxels of a sample have a determinant.
    voxels: int

    def of_block(self, backend: Backend, ddf: Array, mask: Array | None = None) -> list[Gathered]:
        """Return what is gathered of each sample of a block."""
        found = []
        for b in range(ddf.shape[0]):
            one = self.kind(self)
            sample = None if mask is None else mask[b, ...]
            for parts, there in slabs(backend, ddf[b, ...], sample, self.scheme, self.scales):
                one.add(backend, parts, there, self.scheme)
            found.append(one)
        return found

    def merged(self, blocks: Sequence[list[Gathered]]) -> list[Gathered]:
        """Return what was gathered of the same samples in several blocks."""
        # Into new ones: what a scheduler keeps of a block must not change.
        merged = [self.kind(self) for _ in blocks[0]]
        for block in blocks:
            for mine, one in zip(merged, block, strict=True):
                mine.merge(one)
        return merged

    def rows(self, samples: Sequence[Gathered]) -> Any:
        """Return how many voxels counted, and the figures, ``(B, 1 + size)``: NaN where nothing counted."""
        nothing = [math.nan] * self.kind.size
        rows = [[one.count, *(one.figures() if one.count and not one.spoiled else nothing)] for one in samples]
        return np.asarray(rows, dtype=np.float64).reshape(len(rows), 1 + self.kind.size)


def counted(backend: Backend, values: Array, there: Array | None) -> Array:
    """Return the values of the voxels that count, flat."""
    return backend.xp.reshape(values, (-1,)) if there is None else values[there]


def total(backend: Backend, values: Array) -> float:
    """Return a sum in float64."""
    xp = backend.xp
    return float(xp.sum(values, dtype=xp.float64))


def number_of(backend: Backend, conditions: Array) -> int:
    """Return how many conditions hold."""
    return int(backend.xp.count_nonzero(conditions))


def raised(backend: Backend, values: Array, by: float | None) -> Array:
    """Return determinants as a convention counts them: raised by a number and clipped, or as they are."""
    return values if by is None else backend.xp.clip(values + by, 1e-9, 1e9)


class Folds(Gathered):
    """Folds, voxels that are not digitally diffeomorphic, the least and the greatest determinant, and a percentile."""

    size = 5

    def __init__(self, pass_: Pass) -> None:
        super().__init__(pass_)
        self.folds, self.undigital = 0, 0
        #: A determinant of one side alone has no corners around it.
        self.has_corners = SCHEMES[pass_.scheme] == SCHEMES["corners"]
        self.least, self.greatest = math.inf, -math.inf
        self.lowest = Lowest(math.floor(FIRST_PERCENT * (pass_.voxels - 1)) + 2)

    def add(self, backend: Backend, parts: Sequence[Array], there: Array | None, scheme: str) -> None:
        """Add a slab."""
        xp = backend.xp
        values = counted(backend, of_scheme(parts, scheme), there)
        self.count += values.shape[0]
        if not values.shape[0]:
            return
        least, greatest = float(xp.min(values)), float(xp.max(values))
        self.spoiled = self.spoiled or not (math.isfinite(least) and math.isfinite(greatest))
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        self.lowest.add(backend, values)
        values = raised(backend, values, self.convention.raised)
        self.folds += number_of(backend, values <= 0 if self.convention.zero_folds else values < 0)
        if self.has_corners:
            self.undigital += number_of(backend, counted(backend, _least_of_all(xp, digital(parts)), there) <= 0)

    def merge(self, other: "Folds") -> None:
        """Add what was gathered elsewhere."""
        super().merge(other)
        self.folds += other.folds
        self.undigital += other.undigital
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        for values in other.lowest.kept:
            self.lowest.put(values)

    def figures(self) -> list[float]:
        """Return both counts, the least determinant, the percentile and the greatest determinant."""
        percentile = self.lowest.quantile(FIRST_PERCENT, self.count)
        return [self.folds, self.undigital if self.has_corners else math.nan, self.least, percentile, self.greatest]


def _least_of_all(xp: Any, arrays: Iterator[Array]) -> Array:
    least = next(arrays)
    for x in arrays:
        least = xp.minimum(least, x)
    return least


class NegativeVolume(Gathered):
    """The volume of the tetrahedra that are turned inside out, in voxels, and how many are."""

    size = 2

    def __init__(self, pass_: Pass) -> None:
        super().__init__(pass_)
        self.volume, self.turned, self.all = 0.0, 0, 0

    def add(self, backend: Backend, parts: Sequence[Array], there: Array | None, scheme: str) -> None:
        """Add a slab."""
        xp, dims = backend.xp, len(parts)
        for values in digital(parts):
            values = counted(backend, values, there)
            self.all += values.shape[0]
            if not values.shape[0]:
                continue
            least, greatest = float(xp.min(values)), float(xp.max(values))
            self.spoiled = self.spoiled or not (math.isfinite(least) and math.isfinite(greatest))
            if least <= 0:
                self.turned += number_of(backend, values <= 0)
                volume = -total(backend, xp.minimum(values, xp.zeros_like(values)))
                self.volume += volume / (2 * math.factorial(dims))
        self.count += values.shape[0]

    def merge(self, other: "NegativeVolume") -> None:
        """Add what was gathered elsewhere."""
        super().merge(other)
        self.volume += other.volume
        self.turned += other.turned
        self.all += other.all

    def figures(self) -> list[float]:
        """Return the volume, and the share of the tetrahedra."""
        return [self.volume, self.turned / self.all]


class LogSpread(Gathered):
    """The mean and the squared deviations of the determinants' logarithms, of those above 0."""

    size = 2

    def __init__(self, pass_: Pass) -> None:
        super().__init__(pass_)
        self.logs, self.mean, self.deviations = 0, 0.0, 0.0

    def add(self, backend: Backend, parts: Sequence[Array], there: Array | None, scheme: str) -> None:
        """Add a slab."""
        xp = backend.xp
        values = counted(backend, of_scheme(parts, scheme), there)
        self.count += values.shape[0]
        self.spoiled = self.spoiled or not math.isfinite(total(backend, values))
        values = raised(backend, values, self.convention.raised)
        logs = xp.log(values[values > 0])
        if logs.shape[0]:
            mean = total(backend, logs) / logs.shape[0]
            self._combine(logs.shape[0], mean, total(backend, (logs - mean) ** 2))

    def _combine(self, logs: int, mean: float, deviations: float) -> None:
        """Merge means and squared deviations (Chan, Golub and LeVeque), so that nothing cancels."""
        both, apart = self.logs + logs, mean - self.mean
        self.deviations += deviations + apart**2 * self.logs * logs / both
        self.mean += apart * logs / both
        self.logs = both

    def merge(self, other: "LogSpread") -> None:
        """Add what was gathered elsewhere."""
        super().merge(other)
        if other.logs:
            self._combine(other.logs, other.mean, other.deviations)

    def figures(self) -> list[float]:
        """Return the deviation, NaN of no logarithm, and how many determinants had none."""
        return [math.sqrt(self.deviations / self.logs) if self.logs else math.nan, self.count - self.logs]
