"""Local correlation, of which kernels slide over an image's planes."""

import math

from agnoreg.engine.validate import voxels
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg_cuda.evaluation import MOST_BLOCKS, THREADS, Array, Arrays, CudaEvaluation, CudaMeasure, divide_up
from agnoreg_cuda.launch import Program

#: The widest window, for the sake of shared memory.
WIDEST = 32


class CudaLocalCorrelation(CudaMeasure, LocalCorrelation):
    """`LocalCorrelation` of rectangular windows: two kernels that slide over the planes, and two small ones."""

    @property
    def width(self) -> int:
        """The window's size, one along all axes."""
        assert isinstance(self.kernel_size, int)
        return self.kernel_size

    @property
    def program(self) -> Program:
        """The kernels for windows of this width."""
        return Program("local_correlation", (f"-DWINDOW={self.width}",))

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
        """Return the columns and rows of a block's outputs, as in local_correlation.cu."""
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
        shape, (t, p), program = call.shape, call.images, self.program
        samples, size = shape[0], shape[1:]
        grid, chunk = self._grid(shape, call.queue.multiprocessors)
        centres, total = call.empty((2, samples)), call.empty((samples,), wide=True)
        partial = call.empty((math.prod(grid),), wide=True)
        # By the correlation, and for each image by its variance and by its mean.
        by_cross = call.empty(shape) if wrt else None
        pairs = [(call.empty(shape), call.empty(shape)) if index in wrt else (None, None) for index in (0, 1)]
        call.launch(program, "centre", (samples, 2, 1), t, p, *size, centres)
        call.launch(
            program, "correlate", grid,
            t, p, centres, *size, chunk, float(self.smooth_nr or 0.0), float(self.smooth_dr or 0.0),
            float(scale) / voxels(shape), partial, by_cross, *pairs[0], *pairs[1],
        )  # fmt: skip
        call.launch(program, "total_of_partial", (samples, 1, 1), partial, math.prod(grid) // samples, total)
        gradients = {}
        for index in set(wrt):
            own, other = call.images[index], call.images[1 - index]
            gradients[index] = call.empty(shape)
            call.launch(
                program, "correlation_gradient", grid,
                by_cross, *pairs[index], own, other, centres[index, :], centres[1 - index, :], *size, chunk,
                gradients[index],
            )  # fmt: skip
        return (total,), gradients
