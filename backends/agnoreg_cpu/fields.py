"""Regularisers of displacement fields: tables of differences, of which one kernel makes value and gradient."""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from agnoreg.backend.shifts import cut
from agnoreg.measures.families.central_differences import GradientEnergy, SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy, CompactSecondDerivativeEnergy
from agnoreg.measures.families.fields import FieldMeasure
from agnoreg_cpu import differences
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only
from agnoreg_cpu.threads import Part, parts, run

#: How many bytes of differences a call keeps at most, if it has more than a few lines, so that they stay in cache.
CACHE = 1 << 21
#: The fewest lines of a call. What is around them is computed twice.
LINES = 4


class Term(NamedTuple):
    """A part of an energy: the square, or absolute value, of ``(u[a] - u[b]) - (u[c] - u[d])`` times a factor."""

    #: Where the four neighbours are, in planes, lines and voxels.
    taps: tuple[tuple[int, int, int], ...]
    #: The axes whose factors are multiplied by the difference.
    axes: tuple[int, ...]
    #: Another factor of the difference, and one of the energy.
    by: float = 1.0
    share: float = 1.0


def _steps(axis: int, *sizes: int) -> tuple[tuple[int, int, int], ...]:
    """Return steps along an axis."""
    return tuple(tuple(size if one == axis else 0 for one in range(3)) for size in sizes)  # type: ignore[misc]


def _mixed(one: int, other: int) -> Term:
    """Return the mixed difference of central ones along two axes, which the energy counts twice."""
    signs = ((1, 1), (-1, 1), (1, -1), (-1, -1))
    pairs = [zip(*_steps(one, a), *_steps(other, b), strict=True) for a, b in signs]
    return Term(tuple(tuple(map(sum, pair)) for pair in pairs), (one, other), share=2.0)  # type: ignore[misc]


class Table(NamedTuple):
    """The terms of a regulariser as the kernel reads them; places are in planes, lines and entries."""

    taps: Array
    lost: Array
    groups: Array
    #: Factors of each term's difference, and of its energy.
    by: Array
    shares: Array
    #: The axes whose factors are multiplied by each difference.
    axes: list[tuple[int, ...]]
    #: How far each term's neighbours are along each axis.
    reach: Array


@lru_cache(maxsize=64)
def table(measure: "FieldKernels") -> Table:
    """Return the table of a measure's terms, which depends on nothing but its parameters."""
    terms = list(measure.terms(range(3 - measure.spatial_dims, 3)))
    sizes = np.asarray((1, 1, measure.step_size))
    taps = np.asarray([term.taps for term in terms]) * sizes
    return Table(
        taps,
        np.asarray([measure.lost(term) for term in terms]) * sizes[:, None],
        np.asarray([measure.group(term) for term in terms]),
        np.asarray([term.by for term in terms]),
        np.asarray([term.share for term in terms]),
        [term.axes for term in terms],
        differences.reaches(taps),
    )


class Plan(NamedTuple):
    """What a call knows before it reads a field: each sample's factors of the terms, and the tiles."""

    #: Factors of each term's difference and of the energy's derivative by it, ``(samples, terms)``; and of the energy.
    by: Array
    back: Array
    shares: Array
    #: The box that counts, ``(3, 2)``: planes, lines and entries.
    own: Array
    #: Samples, each with planes and lines.
    tiles: list[tuple[int, Part, Part]]


class FieldKernels(Kernels, FieldMeasure):
    """A regulariser by kernels."""

    worth_a_copy: ClassVar[bool] = True
    #: Of 32³ voxels one thread makes the gradient in 0.2 ms; another one has to be woken for 0.05 ms.
    voxels_a_thread: ClassVar[int] = 1 << 16

    def terms(self, axes: range) -> Iterator[Term]:
        """Return the terms of a field with these axes."""
        raise NotImplementedError

    def lost(self, term: Term) -> list[tuple[int, int]]:
        """Return how many planes, lines and voxels at each end lack this difference."""
        return [(crop, crop) for crop in self.crops]

    def along_axes(self, shape: Sequence[int], constants: Arrays) -> Array:
        """Return the factors of differences along each axis, for each sample: ``(samples, 3)``."""
        return np.broadcast_to(np.asarray(self.relative), (shape[0], 3))

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks."""
        return True

    def takes_box(self) -> bool:
        """Return that the kernels can leave out what lies around a box."""
        return True

    def weights_of(self, call: Any, weights: Arrays) -> Array:
        """Return the weights of the energies, ``(samples, groups, planes, lines, voxels)``; here there is one group."""
        return self._grouped(call, weights[1:])

    def _grouped(self, call: HostEvaluation, weights: Sequence[Array]) -> Array:
        return read_only(np.stack(weights, axis=1).astype(call.dtype))

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the sum of the energies."""
        return self.in_one_go(call, (), 1.0)[0]

    def in_one_go(self, call: HostEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sum of the energies, and ``scale`` times the gradient."""
        made = plan if call.weights is None and not call.constants else plan.__wrapped__
        box = tuple((part.start, part.stop) for part in call.box())
        by, back, shares, own, tiles = made(
            self, call.shape, call.dtype, call.constants, call.count, call.parts, box, scale, call.threads, bool(wrt)
        )
        out = call.room(tuple(own[:, 1] - own[:, 0])) if wrt else np.empty((call.samples, 0, 0, 0), call.dtype)
        weights = np.empty((call.samples, 0, 0, 0, 0), call.dtype) if call.weights is None else call.weights
        weights, field, known = read_only(weights), call.images[0], table(self)

        def body(i: int, planes: Part, lines: Part) -> float:
            return differences.energy(
                field[i], weights[i], self.step_size, known.taps, known.lost, known.groups, by[i], back[i], shares,
                not self.quadratic, own, planes, lines, out[i],
            )  # fmt: skip

        sums = np.asarray(run(body, tiles, call.threads)).reshape(call.samples, -1).sum(axis=1)
        return (sums,), {0: out} if wrt else {}

    def group(self, term: Term) -> int:
        """Return which of the weights are a term's."""
        return 0


@lru_cache(maxsize=256)
def plan(
    measure: FieldKernels,
    shape: tuple[int, ...],
    dtype: Any,
    constants: Arrays,
    count: Any,
    parts_of_sample: int,
    box: tuple[Part, ...],
    scale: float,
    threads: int,
    wanted: bool,
) -> Plan:
    """Return what a call knows before it reads a field, whose gradient may be ``wanted``; remembered without a mask.

    ``parts_of_sample`` is what `HostEvaluation.parts` is, and the other arguments are called as there.
    """
    known, samples = table(measure), shape[0]
    along = measure.along_axes(shape, constants)
    by = np.stack([np.prod(along[:, axes], axis=1) for axes in known.axes], axis=1) * known.by
    # Of a sample of which nothing counts there is no gradient.
    counts = np.broadcast_to(np.asarray(count, np.float64), (samples,))
    share = np.where(counts > 0, measure.units[1] * scale / parts_of_sample / np.where(counts > 0, counts, 1.0), 0.0)
    back = by * known.shares * share[:, None]
    own = np.asarray(box)
    own[2] *= measure.step_size
    reach = known.reach if wanted else 0 * known.reach
    tiles = list(itertools.product(range(samples), *_tiles(shape, dtype.itemsize, own, reach, threads)))
    return Plan(by.astype(dtype), back.astype(dtype), known.shares.astype(dtype), own, tiles)


def _tiles(
    shape: tuple[int, ...], itemsize: int, own: Array, reach: Array, threads: int
) -> tuple[list[Part], list[Part]]:
    """Return parts of the box's planes and lines: lines whose differences stay in cache, a few for each thread."""
    line = shape[3] * itemsize * (2 * reach[:, 0] + 1).sum()
    count = max(LINES, CACHE // int(line) - 2 * int(reach[:, 1].max()))
    (x, end), (y, stop), _ = own.tolist()
    lines = [(y + a, y + b) for a, b in parts(stop - y, -(-(stop - y) // count))]
    few = shape[0] * len(lines) < 4 * threads
    return [(x + a, x + b) for a, b in parts(end - x, threads if few else 1)], lines


class _First(FieldKernels):
    def terms(self, axes: range) -> Iterator[Term]:
        """Return a difference along each axis; the formula makes it twice as large."""
        for axis in axes:
            after, before = _steps(axis, *self.ends)
            yield Term((after, before, before, after), (axis,), 0.5)

    #: Where a difference begins and ends.
    ends: ClassVar[tuple[int, int]]


class CpuGradient(_First, GradientEnergy):
    """`GradientEnergy` by kernels."""

    ends: ClassVar[tuple[int, int]] = (1, -1)


class CpuCompactGradient(_First, CompactGradientEnergy):
    """`CompactGradientEnergy` by kernels."""

    ends: ClassVar[tuple[int, int]] = (1, 0)

    def lost(self, term: Term) -> list[tuple[int, int]]:
        """Return that the last voxel along the axis has no next one."""
        return [(0, int(axis in term.axes)) for axis in range(3)]

    def along_axes(self, shape: Sequence[int], constants: Arrays) -> Array:
        """Return the factors of the axes, which have different numbers of differences."""
        along = np.ones((shape[0], 3))
        if constants:
            along[:, 0], along[:, 1] = constants
            return along * np.asarray(self.relative)
        along[:, :2] = self.along(shape[1], self.layout(tuple(shape)))
        return along

    def group(self, term: Term) -> int:
        """Return the axis's place among the weights."""
        return term.axes[0]

    def weights_of(self, call: Any, weights: Arrays) -> Array:
        """Return the weights of the differences along each axis: the lesser one of two voxels."""
        (mask,) = weights
        lesser = []
        for axis in (1, 2, 3):
            least = np.zeros(mask.shape, mask.dtype)
            here, there = cut(mask, axis, None, -1), cut(mask, axis, 1, None)
            np.minimum(here, there, out=cut(least, axis, None, -1))
            lesser.append(least)
        return self._grouped(call, lesser)


class CpuBending(FieldKernels, SecondDerivativeEnergy):
    """`SecondDerivativeEnergy` by kernels."""

    def terms(self, axes: range) -> Iterator[Term]:
        """Return central differences of central differences."""
        for axis in axes:
            after, here, before = _steps(axis, 2, 0, -2)
            yield Term((after, here, here, before), (axis, axis))
        for pair in itertools.combinations(axes, 2):
            yield _mixed(*pair)


class CpuCompactBending(FieldKernels, CompactSecondDerivativeEnergy):
    """`CompactSecondDerivativeEnergy` by kernels."""

    def terms(self, axes: range) -> Iterator[Term]:
        """Return second differences, four times as large, as mixed ones are; and these."""
        for axis in axes:
            after, here, before = _steps(axis, 1, 0, -1)
            yield Term((after, here, here, before), (axis, axis), 4.0)
        for pair in itertools.combinations(axes, 2):
            yield _mixed(*pair)
