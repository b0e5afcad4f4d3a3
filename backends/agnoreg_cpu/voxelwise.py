"""Measures of single voxels: Dice, Jaccard, global correlation, squared differences and cross-entropy."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnoreg.measures.cross_entropy import BinaryCrossEntropy
from agnoreg.measures.dice import DiceOverlap
from agnoreg.measures.gncc import GlobalCorrelation
from agnoreg.measures.jaccard import JaccardOverlap
from agnoreg.measures.ssd import SquaredDifference
from agnoreg_cpu import pointwise
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels
from agnoreg_cpu.past_caches import LARGE


def _large(gradient: Array) -> bool:
    """Return whether a gradient is written past the caches."""
    return bool(gradient.nbytes >= LARGE)


def _sums(results: list[list[float]]) -> Arrays:
    return (np.asarray([sum(parts) for parts in results]),)


def _sums_of_each(results: list[list[tuple[float, ...]]]) -> Array:
    """Return the sums of several numbers, ``(numbers, samples)``; a few numbers NumPy would take longer to add up."""
    return np.asarray([[sum(parts) for parts in zip(*sample, strict=True)] for sample in results]).T


class _Linear(Kernels):
    """A function of two images' moments, whose gradient is a linear combination of the images and 1."""

    def moments(self, call: HostEvaluation) -> Array:
        """Return the sums of both images less their centres, of their squares and product: ``(5, samples)``."""
        centres = self.centres(call)

        def body(sample: int, t: Array, p: Array) -> Any:
            return pointwise.moments(t, p, centres[0][sample], centres[1][sample])

        return _sums_of_each(call.over_voxels(body, *call.images))

    def centres(self, call: HostEvaluation) -> Arrays:
        """Return what is subtracted from the images."""
        return call.constants or (np.zeros(call.samples, call.dtype),) * 2

    def factors(self, coefficients: Sequence[Array], index: int) -> tuple[Array | None, Array, Array]:
        """Return the factors of an image itself (None for 0), of the other one, and of 1, ``(samples,)`` each."""
        raise NotImplementedError

    def slope(self, call: HostEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        by_own, by_other, constant = self.factors(coefficients, index)
        own, other, out = call.images[index], call.images[1 - index], call.room()
        large = _large(out)
        if by_own is None:
            call.over_voxels(lambda i, x, to: pointwise.line(x, by_other[i], constant[i], to, large), other, out)
            return out
        centres = self.centres(call)
        numbers = centres[index], centres[1 - index], by_own, by_other, constant

        def body(i: int, x: Array, y: Array, to: Array) -> None:
            pointwise.combination(x, y, *[number[i] for number in numbers], to, large)

        call.over_voxels(body, own, other, out)
        return out


class _Overlap(_Linear):
    binary: bool
    squared: bool | None

    def suits(self, dtype: Any) -> bool:
        """Return whether the labels are taken as they are."""
        return not self.binary

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the sums of the product, and of the labels or their squares."""
        t, p, tt, pp, tp = self.moments(call)
        return tp, tt + pp if self.squared else t + p

    def factors(self, coefficients: Sequence[Array], index: int) -> tuple[Array | None, Array, Array]:
        """Return the factors."""
        by_product, by_both = coefficients
        return (by_both + by_both, by_product, 0 * by_both) if self.squared else (None, by_product, by_both)


class CpuDice(_Overlap, DiceOverlap):
    """`DiceOverlap` by kernels."""


class CpuJaccard(_Overlap, JaccardOverlap):
    """`JaccardOverlap` by kernels."""


class CpuGlobalCorrelation(_Linear, GlobalCorrelation):
    """`GlobalCorrelation` by kernels."""

    def suits(self, dtype: Any) -> bool:
        """Return whether there are constants; the kernels divide by no intensities."""
        return not self.exact

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the first and second moments."""
        return tuple(self.moments(call))

    def factors(self, coefficients: Sequence[Array], index: int) -> tuple[Array | None, Array, Array]:
        """Return the factors."""
        by_cov, *rest = coefficients
        return rest[index], by_cov, rest[2 + index]


class _Mean(Kernels):
    """A mean over voxels, whose one coefficient is known before its value."""

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the sum."""
        return _sums(call.over_voxels(lambda _, t, p: self.part(t, p), *call.images))

    def part(self, t: Array, p: Array) -> float:
        """Return the sum over some voxels."""
        raise NotImplementedError

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array, large: bool) -> float:
        """Return the same, and write the gradient of one image times a factor."""
        raise NotImplementedError

    def part_of_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> None:
        """Write the gradient by one image times a factor."""
        raise NotImplementedError

    def slope(self, call: HostEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        (factor,), out = coefficients, call.room()
        call.over_voxels(
            lambda i, own, other, to: self.part_of_slope(own, other, factor[i], index, to),
            call.images[index], call.images[1 - index], out,
        )  # fmt: skip
        return out

    def in_one_go(self, call: HostEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sum, and ``scale`` times one gradient."""
        if not wrt:
            return self.add_up(call), {}
        index, factor, out = wrt[0], call.dtype.type(scale / (call.count * call.parts)), call.room()
        large = _large(out)
        results = call.over_voxels(
            lambda _, own, other, to: self.part_with_slope(own, other, factor, index, to, large),
            call.images[index], call.images[1 - index], out,
        )  # fmt: skip
        return _sums(results), {index: out}


class CpuSquaredDifference(_Mean, SquaredDifference):
    """`SquaredDifference` by kernels."""

    def part(self, t: Array, p: Array) -> float:
        """Return the sum of squares."""
        return pointwise.squares(t, p)

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array, large: bool) -> float:
        """Return the sum of squares, and write the differences."""
        return pointwise.squares_and_difference(own, other, factor + factor, out, large)

    def part_of_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> None:
        """Write the differences."""
        pointwise.difference(own, other, factor + factor, out)


class CpuCrossEntropy(_Mean, BinaryCrossEntropy):
    """`BinaryCrossEntropy` by kernels."""

    def suits(self, dtype: Any) -> bool:
        """Return whether the labels are taken as they are, in float32, of which a logarithm is made here."""
        return not self.binary and dtype == np.float32

    @property
    def numbers(self) -> tuple[Any, Any]:
        """The constant in the logarithms and the background's weight."""
        return np.float32(self.smooth), np.float32(self.background_weight)

    def part(self, t: Array, p: Array) -> float:
        """Return the sum of logarithms."""
        return pointwise.entropy(t, p, *self.numbers)

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array, large: bool) -> float:
        """Return the sum of logarithms, and write the gradient."""
        if index == 1:
            return pointwise.entropy_and_slope(other, own, *self.numbers, factor, out)
        self.part_of_slope(own, other, factor, index, out)
        return self.part(own, other)

    def part_of_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> None:
        """Write the gradient."""
        if index == 1:
            pointwise.entropy_slope(other, own, *self.numbers, factor, out)
        else:
            pointwise.entropy_slope_of_true(other, *self.numbers, factor, out)
