"""Measures whose sums and gradients are kernels; values and coefficients are made of the sums by the core."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from agnoreg.backend import Backend
from agnoreg.backend.accelerators import CudaMemory
from agnoreg.engine.accelerated import Evaluation, KernelMeasure, in_kernels
from agnoreg.engine.measure import Measure
from agnoreg.engine.validate import voxels
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg_cuda.launch import Queue, bins_options, window_options

Array = Any
Arrays = tuple[Array, ...]

#: Threads of a block, and of one that holds a histogram in registers, as in kernels.cu.
THREADS, FEW = 256, 128
#: The widest window, for the sake of shared memory, and the largest histogram and reach of a voxel in it.
WIDEST, MOST_BINS, FARTHEST = 32, 64, 8
#: Indices are 32-bit integers; a grid has no more blocks than this along its second and third axes.
MOST_VOXELS, MOST_BLOCKS = 2**31 - 1, 65535
#: Exponents below this are left out: exp(-17) is less than half a unit in the last place of 1 in float32.
NEGLIGIBLE = 17.0


def divide_up(a: int, b: int) -> int:
    """Return ``a / b``, rounded up."""
    return -(-a // b)


class CudaEvaluation(Evaluation):
    """One evaluation on a card, by arrays of the framework; they are kept until every kernel is launched.

    Then their memory is only used again by what comes later on the stream.
    """

    memory: CudaMemory

    def __init__(self, measure: Any, memory: CudaMemory, given: Arrays, images: Arrays, otherwise: Any) -> None:
        super().__init__(measure, memory, given, images, otherwise)
        self.queue = Queue(*memory.stream(images[0]))

    def active(self) -> AbstractContextManager[Any]:
        """Return a context in which the images' card and the framework's stream are CuPy's current ones."""
        return self.queue.active()

    def empty(self, shape: Sequence[int], wide: bool = False) -> Array:
        """Return memory of the images' framework, on their card and stream."""
        dtype = self.xp.float64 if wide else self.xp.float32
        return self.xp.empty(tuple(shape), dtype=dtype, device=self.memory.inner.device(self.images[0]))

    def launch(
        self, options: tuple[str, ...], name: str, grid: tuple[int, int, int], *arguments: Any, threads: int = THREADS
    ) -> None:
        """Launch a kernel: arrays go by their addresses (None by 0), integers and floats by value, of 32 bits."""
        self.queue.launch(options, name, grid, threads, tuple(map(self._argument, arguments)))

    def _argument(self, argument: Any) -> Any:
        if argument is None:
            return 0
        if isinstance(argument, np.generic):
            return argument
        if isinstance(argument, int):
            return np.int32(argument)
        return np.float32(argument) if isinstance(argument, float) else self.memory.address(argument)


class CudaLocalCorrelation(KernelMeasure, LocalCorrelation):
    """`LocalCorrelation` of rectangular windows: two kernels that slide over the planes, and two small ones."""

    @property
    def width(self) -> int:
        """The window's size, one along all axes."""
        assert isinstance(self.kernel_size, int)
        return self.kernel_size

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with images of this shape."""
        if not isinstance(self.kernel_size, int):
            return False
        tile_y = self._tile()[1]
        return (
            self.kernel_type == "rectangular"
            and self.width <= WIDEST
            and self.spatial_dims == 3
            and self.data_format is None
            and self.convention == "deepreg"
            and self.padding == "zero"
            and self.squared
            and self.flat_value is None
            and divide_up(shape[2], tile_y) <= MOST_BLOCKS
            and shape[0] * shape[1] <= MOST_BLOCKS
        )

    def _tile(self) -> tuple[int, int]:
        """Return the columns and rows of a block's outputs, as in kernels.cu."""
        return 32, THREADS // 32 * (2 if self.width <= 9 else 1)

    def _grid(self, shape: tuple[int, ...], multiprocessors: int) -> tuple[tuple[int, int, int], int]:
        """Return the grid, and how many planes a block slides over.

        A block reads a window's planes more than it has: few blocks read less, many keep every multiprocessor busy.
        """
        samples, depth, height, width = shape
        tile_x, tile_y = self._tile()
        across, down = divide_up(width, tile_x), divide_up(height, tile_y)
        at_once = multiprocessors * (2 if self.width <= 16 else 1)

        def cost(chunks: int) -> int:
            waves = divide_up(across * down * samples * chunks, at_once)
            return waves * (divide_up(depth, chunks) + self.width - 1)

        chunk = divide_up(depth, min(range(1, depth + 1), key=cost))
        return (across, down, samples * divide_up(depth, chunk)), chunk

    def add_up(self, call: CudaEvaluation) -> Arrays:
        """Return the sum of the values."""
        return self.in_one_go(call, (), 1.0)[0]

    def in_one_go(self, call: CudaEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sum of the values, and ``scale`` times the gradients."""
        shape, (t, p), options = call.shape, call.images, window_options(self.width)
        samples, size = shape[0], shape[1:]
        grid, chunk = self._grid(shape, call.queue.multiprocessors)
        centres, total = call.empty((2, samples)), call.empty((samples,), wide=True)
        partial = call.empty((math.prod(grid),), wide=True)
        # By the correlation, and for each image by its variance and by its mean.
        by_cross = call.empty(shape) if wrt else None
        pairs = [(call.empty(shape), call.empty(shape)) if index in wrt else (None, None) for index in (0, 1)]
        call.launch(options, "centre", (samples, 2, 1), t, p, *size, centres)
        call.launch(
            options, "correlate", grid,
            t, p, centres, *size, chunk, float(self.smooth_nr or 0.0), float(self.smooth_dr or 0.0),
            float(scale) / voxels(shape), partial, by_cross, *pairs[0], *pairs[1],
        )  # fmt: skip
        call.launch(options, "total_of_partial", (samples, 1, 1), partial, math.prod(grid) // samples, total)
        gradients = {}
        for index in set(wrt):
            own, other = call.images[index], call.images[1 - index]
            gradients[index] = call.empty(shape)
            call.launch(
                options, "correlation_gradient", grid,
                by_cross, *pairs[index], own, other, centres[index, :], centres[1 - index, :], *size, chunk,
                gradients[index],
            )  # fmt: skip
        return (total,), gradients


class CudaParzenInformation(KernelMeasure, ParzenInformation):
    """`ParzenInformation` of few bins: a kernel for the joint histogram, and one for the gradient at every voxel."""

    @property
    def radius(self) -> int:
        """To how many bins on each side of the nearest one a voxel adds; the next would be negligible."""
        radius = 1
        while radius * (radius + 1) / (2.0 * self.sigma_ratio**2) < NEGLIGIBLE and radius <= FARTHEST:
            radius += 1
        return radius

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with images of this shape."""
        return self.num_bins <= MOST_BINS and self.radius <= FARTHEST and shape[0] <= MOST_BLOCKS

    @property
    def _rate(self) -> float:
        return math.log2(math.e) / (2.0 * self.sigma_ratio**2)

    def add_up(self, call: CudaEvaluation) -> Arrays:
        """Return the joint histogram."""
        samples, bins, count = call.samples, self.num_bins, voxels(call.shape)
        options = bins_options(bins, self.radius)
        # Three blocks fill a multiprocessor's registers.
        blocks = min(divide_up(count, FEW), divide_up(3 * call.queue.multiprocessors, samples))
        partial = call.empty((samples, blocks, bins, bins), wide=True)
        joint = call.empty((samples, bins, bins), wide=True)
        call.launch(options, "histogram", (blocks, samples, 1), *call.images, count, self._rate, partial, threads=FEW)
        call.launch(options, "sum_of_partial", (divide_up(bins * bins, THREADS), samples, 1), partial, blocks, joint)
        return (joint,)

    def slope(self, call: CudaEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        own, other, gradient = call.images[index], call.images[1 - index], call.empty(call.shape)
        count = voxels(call.shape)
        blocks = min(divide_up(count, THREADS), divide_up(16 * call.queue.multiprocessors, call.samples))
        call.launch(
            bins_options(self.num_bins, self.radius), "histogram_gradient", (blocks, call.samples, 1),
            own, other, count, self._rate, call.memory.contiguous(coefficients[index]), gradient,
        )  # fmt: skip
        return gradient


KINDS: dict[type, Any] = {LocalCorrelation: CudaLocalCorrelation, ParzenInformation: CudaParzenInformation}


def evaluation(
    measure: Measure, backend: Backend, memory: CudaMemory, arrays: Arrays, otherwise: Any
) -> CudaEvaluation | None:
    """Return the evaluation of a measure by kernels, where they can do it with such arrays."""
    kind, float32 = KINDS.get(type(measure)), backend.xp.float32
    if kind is None or measure.mask(backend, arrays) is not None or backend.dtypes.compute(*arrays) != float32:
        return None
    own = in_kernels(measure, kind)
    arranged = measure.to_canonical(backend, arrays)
    shape = tuple(arranged[0].shape)
    if math.prod(shape) > MOST_VOXELS or not own.suits(shape):
        return None
    images = tuple(memory.contiguous(backend.xp.astype(array, float32, copy=False)) for array in arranged)
    return CudaEvaluation(own, memory, arrays, images, otherwise)
