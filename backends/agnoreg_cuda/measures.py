"""Measures whose whole value and gradients are kernels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from agnoreg.backend import Backend, per_sample
from agnoreg.engine.measure import Measure
from agnoreg.engine.validate import voxels
from agnoreg.functional.mutual_information import ParzenInformation
from agnoreg.functional.ncc import LocalCorrelation
from agnoreg_cuda.launch import Queue, bins_options, window_options

Array = Any

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


class _Call:
    """One evaluation on a card: its images, the queue, and memory from the framework of the images."""

    def __init__(self, measure: Any, backend: Any, arrays: tuple[Array, ...]) -> None:
        xp = self.xp = backend.xp
        self.backend, self.given = backend, arrays
        arranged = measure.arrange(backend, arrays)
        #: Kept until every kernel is launched; then memory is only used again by what comes later on the stream.
        self.images = [backend.contiguous(xp.astype(array, xp.float32, copy=False)) for array in arranged]
        self.shape: tuple[int, ...] = tuple(arranged[0].shape)
        self.queue: Queue = backend.queue(self.images[0])

    def empty(self, shape: Sequence[int], wide: bool = False) -> Array:
        """Return memory of the images' framework, on their card and stream."""
        xp = self.xp
        dtype = xp.float64 if wide else xp.float32
        return xp.empty(tuple(shape), dtype=dtype, device=self.backend.device(self.images[0]))

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
        return np.float32(argument) if isinstance(argument, float) else self.backend.address(argument)

    def restore(self, gradients: dict[int, Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Give the gradients the shapes of the inputs as they came."""
        return tuple(self.xp.reshape(gradients[index], tuple(self.given[index].shape)) for index in wrt)


class CudaLocalCorrelation(LocalCorrelation):
    """`LocalCorrelation` of rectangular windows: two kernels that slide over the planes, and two small ones."""

    @property
    def width(self) -> int:
        """The window's size, one along all axes."""
        assert isinstance(self.kernel_size, int)
        return self.kernel_size

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Say whether the kernels can do this, with images of this shape."""
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

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        return self.compute_with_gradients(backend, arrays, ())[0]

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        call = _Call(self, backend, arrays)
        shape, (t, p), options = call.shape, call.images, window_options(self.width)
        samples, size = shape[0], shape[1:]
        with call.queue.active():
            grid, chunk = self._grid(shape, call.queue.multiprocessors)
            centres, value = call.empty((2, samples)), call.empty((samples,))
            partial = call.empty((math.prod(grid),), wide=True)
            # By the correlation, and for each image by its variance and by its mean.
            by_cross = call.empty(shape) if wrt else None
            pairs = [(call.empty(shape), call.empty(shape)) if index in wrt else (None, None) for index in (0, 1)]
            factor = float(scale) / voxels(shape)
            call.launch(options, "centre", (samples, 2, 1), t, p, *size, centres)
            call.launch(
                options, "correlate", grid,
                t, p, centres, *size, chunk, float(self.smooth_nr or 0.0), float(self.smooth_dr or 0.0), factor,
                partial, by_cross, *pairs[0], *pairs[1],
            )  # fmt: skip
            count = math.prod(grid) // samples
            call.launch(options, "mean_of_partial", (samples, 1, 1), partial, count, np.float64(voxels(shape)), value)
            gradients = {}
            for index in set(wrt):
                own, other = call.images[index], call.images[1 - index]
                gradients[index] = call.empty(shape)
                call.launch(
                    options, "correlation_gradient", grid,
                    by_cross, *pairs[index], own, other, centres[index, :], centres[1 - index, :], *size, chunk,
                    gradients[index],
                )  # fmt: skip
        return value, call.restore(gradients, wrt)


class CudaParzenInformation(ParzenInformation):
    """`ParzenInformation` of few bins: a kernel for the joint histogram, and one for the gradient at every voxel."""

    @property
    def radius(self) -> int:
        """To how many bins on each side of the nearest one a voxel adds; the next would be negligible."""
        radius = 1
        while radius * (radius + 1) / (2.0 * self.sigma_ratio**2) < NEGLIGIBLE and radius <= FARTHEST:
            radius += 1
        return radius

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Say whether the kernels can do this, with images of this shape."""
        return self.num_bins <= MOST_BINS and self.radius <= FARTHEST and shape[0] <= MOST_BLOCKS

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        return self.compute_forward(backend, arrays, ())[0]

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        call = _Call(self, backend, arrays)
        value, coefficients = self._histogram(call)
        return value, self._gradients(call, coefficients, wrt, lambda c: c * float(scale))

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and the gradient's coefficients."""
        return self._histogram(_Call(self, backend, arrays))

    def compute_backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt`` times a cotangent."""
        call = _Call(self, backend, arrays)
        return self._gradients(call, saved, wrt, lambda c: c * per_sample(backend.xp, cotangent, c))

    @property
    def _rate(self) -> float:
        return math.log2(math.e) / (2.0 * self.sigma_ratio**2)

    def _histogram(self, call: _Call) -> tuple[Array, tuple[Array, ...]]:
        xp, samples, bins, count = call.xp, call.shape[0], self.num_bins, voxels(call.shape)
        options = bins_options(bins, self.radius)
        with call.queue.active():
            # Three blocks fill a multiprocessor's registers.
            blocks = min(divide_up(count, FEW), divide_up(3 * call.queue.multiprocessors, samples))
            partial = call.empty((samples, blocks, bins, bins), wide=True)
            joint = call.empty((samples, bins, bins), wide=True)
            call.launch(
                options, "histogram", (blocks, samples, 1), *call.images, count, self._rate, partial, threads=FEW
            )
            cells = divide_up(bins * bins, THREADS)
            call.launch(options, "sum_of_partial", (cells, samples, 1), partial, blocks, joint)
            value, coefficients = self.finish(xp, (joint,), voxels(call.shape))
            return xp.astype(value, xp.float32), tuple(xp.astype(c, xp.float32) for c in coefficients)

    def _gradients(
        self, call: _Call, coefficients: Sequence[Array], wrt: tuple[int, ...], scaled: Callable[[Array], Array]
    ) -> tuple[Array, ...]:
        samples, count = call.shape[0], voxels(call.shape)
        options = bins_options(self.num_bins, self.radius)
        gradients = {}
        with call.queue.active():
            blocks = min(divide_up(count, THREADS), divide_up(16 * call.queue.multiprocessors, samples))
            for index in set(wrt):
                own, other = call.images[index], call.images[1 - index]
                # The product is of the images' card, like all that is made while its queue is active.
                matrix = call.backend.contiguous(scaled(coefficients[index]))
                gradients[index] = call.empty(call.shape)
                call.launch(
                    options, "histogram_gradient", (blocks, samples, 1),
                    own, other, count, self._rate, matrix, gradients[index],
                )  # fmt: skip
        return call.restore(gradients, wrt)


KINDS: dict[type, Any] = {LocalCorrelation: CudaLocalCorrelation, ParzenInformation: CudaParzenInformation}


def fused(measure: Measure, backend: Backend, arrays: tuple[Array, ...]) -> Measure:
    """Return the measure as one of kernels, where they can do it with such arrays; else the measure itself."""
    kind = KINDS.get(type(measure))
    if (
        kind is None
        or measure.mask(backend, arrays) is not None
        or backend.compute_dtype(*arrays) != backend.xp.float32
    ):
        return measure
    shape = tuple(arrays[0].shape)
    if math.prod(shape) > MOST_VOXELS:
        return measure
    own = kind(**{item.name: getattr(measure, item.name) for item in fields(measure)})  # type: ignore[arg-type]
    return own if own.suits(shape) else measure
