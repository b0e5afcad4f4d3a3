"""Measures whose sums and gradients are kernels; values and coefficients are made of the sums by the core."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend.accelerators import ALIGNED, HostMemory
from agnoreg.engine.accelerated import Evaluation, KernelMeasure
from agnoreg.engine.validate import voxels
from agnoreg.measures.cross_entropy import BinaryCrossEntropy
from agnoreg.measures.dice import DiceOverlap
from agnoreg.measures.gncc import GlobalCorrelation
from agnoreg.measures.jaccard import JaccardOverlap
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg.measures.ssd import SquaredDifference
from agnoreg_cpu import histograms, pointwise
from agnoreg_cpu.threads import Part, parts, run

Array = Any
Arrays = tuple[Array, ...]

#: For fewer voxels than these a thread costs more than it saves.
VOXELS_A_THREAD = 1 << 15
#: A kernel knows no warnings: what is no number comes without one from all that belongs to it.
quiet = partial(np.errstate, all="ignore")


class HostEvaluation(Evaluation):
    """One evaluation in the host's memory, of NumPy arrays."""

    memory: HostMemory

    def __init__(self, measure: Any, memory: HostMemory, given: Arrays, images: Arrays, *more: Any) -> None:
        super().__init__(measure, memory, given, tuple(map(read_only, images)), *more)
        self.xp = np
        most = self.samples * self.count // VOXELS_A_THREAD
        self.threads: int = min(memory.threads(), most) if most > 1 else 1

    def active(self) -> AbstractContextManager[Any]:
        """Return a context without warnings."""
        return quiet()

    def arranged_weights(self, weights: Array) -> Array:
        """Return the weights of every voxel, in the images' dtype."""
        return read_only(np.ascontiguousarray(np.broadcast_to(weights, self.shape), self.dtype))

    def to_give(self, gradient: Array) -> Array:
        """Return a gradient as a contiguous array."""
        if gradient.flags.c_contiguous:
            return gradient
        there = _room(gradient.shape, self.dtype)
        there[...] = gradient
        return there

    def room(self) -> Array:
        """Return memory for the gradient of an image in canonical shape."""
        return _room(self.shape, self.dtype)

    def over_voxels(self, body: Callable[..., Any], *arrays: Array) -> list[list[Any]]:
        """Call ``body(sample, *voxels)`` for parts of each sample of arrays, and return what comes of it by samples."""
        rows = [array.reshape(self.samples, -1) for array in arrays]
        if self.threads == 1:
            return [[body(sample, *(row[sample] for row in rows))] for sample in range(self.samples)]
        # Whole blocks, which are added up first: so the numbers do not depend on how many threads there are.
        pieces = parts(voxels(self.shape), -(-self.threads // self.samples), int(pointwise.BLOCK))
        jobs = [(sample, piece) for sample in range(self.samples) for piece in pieces]

        def job(sample: int, piece: Part) -> Any:
            return body(sample, *(row[sample, slice(*piece)] for row in rows))

        results = run(job, jobs, self.threads)
        return [results[i : i + len(pieces)] for i in range(0, len(results), len(pieces))]


def _boxed(image: Array) -> Array:
    """Return an image whose samples have three axes; further ones are joined to the last."""
    axes = image.shape[1:]
    return image.reshape(image.shape[0], *(1,) * (2 - len(axes[:2])), *axes[:2], -1)


def _room(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory that any framework takes as it is."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def read_only(image: Array) -> Array:
    """Return a read-only view of an image, so that a kernel is compiled once for writable and read-only images."""
    view = image.view()
    view.flags.writeable = False
    return view


class Kernels(KernelMeasure):
    """A measure of kernels in the host's memory."""

    #: Whether there is so much to do that images which do not lie in one piece are copied.
    worth_a_copy: ClassVar[bool] = False

    def suits(self, dtype: Any) -> bool:
        """Return whether the kernels support this measure with images of this dtype."""
        return True

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks."""
        return False

    def constants_of(self, call: Any) -> Arrays:
        """Return the images' centres, where the measure has constants."""
        if not self.constant_count:
            return ()
        return tuple(
            np.asarray([pointwise.centre(sample) for sample in _boxed(image)], call.dtype) for image in call.images
        )


# --- voxel by voxel ---------------------------------------------------------------------------------------------------


class _Linear(Kernels):
    """A function of two images' moments, whose gradient is a linear combination of the images and 1."""

    def moments(self, call: HostEvaluation) -> Array:
        """Return the sums of both images less their centres, of their squares and product: ``(5, samples)``."""
        centres = self.centres(call)

        def body(sample: int, t: Array, p: Array) -> Any:
            return pointwise.moments(t, p, centres[0][sample], centres[1][sample])

        return np.sum(call.over_voxels(body, *call.images), axis=1).T

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
        if by_own is None:
            call.over_voxels(lambda i, x, to: pointwise.line(x, by_other[i], constant[i], to), other, out)
            return out
        centres = self.centres(call)
        numbers = centres[index], centres[1 - index], by_own, by_other, constant

        def body(i: int, x: Array, y: Array, to: Array) -> None:
            pointwise.combination(x, y, *[number[i] for number in numbers], to)

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

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> float:
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
        results = call.over_voxels(
            lambda _, own, other, to: self.part_with_slope(own, other, factor, index, to),
            call.images[index], call.images[1 - index], out,
        )  # fmt: skip
        return _sums(results), {index: out}


def _sums(results: list[list[float]]) -> Arrays:
    return (np.asarray([sum(parts) for parts in results]),)


class CpuSquaredDifference(_Mean, SquaredDifference):
    """`SquaredDifference` by kernels."""

    def part(self, t: Array, p: Array) -> float:
        """Return the sum of squares."""
        return pointwise.squares(t, p)

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> float:
        """Return the sum of squares, and write the differences."""
        return pointwise.squares_and_difference(own, other, factor + factor, out)

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

    def part_with_slope(self, own: Array, other: Array, factor: Any, index: int, out: Array) -> float:
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


# --- histograms -------------------------------------------------------------------------------------------------------


class CpuInformation(Kernels, ParzenInformation):
    """`ParzenInformation` by kernels."""

    worth_a_copy: ClassVar[bool] = True

    def suits(self, dtype: Any) -> bool:
        """Return whether eight bins are all that a voxel has a weight in, and the histogram is small."""
        least, most = histograms.SIGMAS
        few = self.num_bins <= histograms.MOST_BINS
        return bool(dtype == np.float32 and least <= self.sigma_ratio <= most and few)

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: always, as a mask is one more factor of a voxel's weights."""
        return True

    @property
    def scale(self) -> Any:
        """The factor of the squared distance in bins that gives a window's exponent of 2."""
        return np.float32(0.5 / (self.sigma_ratio**2 * math.log(2.0)))

    def weights(self, call: HostEvaluation) -> Array:
        """Return the mask's weights, or a placeholder if there is no mask."""
        nothing = np.empty((call.samples, 0), call.dtype)
        return read_only(nothing) if call.weights is None else call.weights

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the joint histogram."""

        def body(_: int, t: Array, p: Array, weights: Array) -> Any:
            return histograms.histogram(t, p, weights, self.num_bins, self.scale)

        results = call.over_voxels(body, *call.images, self.weights(call))
        return (np.stack([np.sum(parts, axis=0) for parts in results]),)

    def slope(self, call: HostEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        out, bins = call.room(), slice(histograms.BELOW, histograms.BELOW + self.num_bins)
        matrices = np.zeros((call.samples, *(self.num_bins + histograms.LANES - 1,) * 2), call.dtype)
        matrices[:, bins, bins] = coefficients[index]

        def body(sample: int, own: Array, other: Array, weights: Array, to: Array) -> None:
            histograms.slope(own, other, weights, matrices[sample], self.scale, to)

        call.over_voxels(body, call.images[index], call.images[1 - index], self.weights(call), out)
        return out
