"""Local correlation, of which kernels slide over an image's planes."""

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from agnoreg.backend import Backend
from agnoreg.measures.families.local_moments import Taps
from agnoreg.measures.lncc import FLAT, LocalCorrelation
from agnoreg_cuda.evaluation import MOST_BLOCKS, THREADS, Array, Arrays, CudaEvaluation, CudaMeasure, divide_up
from agnoreg_cuda.launch import Program

#: Bytes of shared memory that a block has without asking, and how many moments a thread keeps in registers at most.
SHARED, MOST_HELD = 48 << 10, 160
#: Columns of a block's outputs, as in windows.cuh.
TILE_X = 32


def stripped(taps: tuple[float, ...]) -> tuple[float, ...]:
    """Return the weights without as many zeros at both ends."""
    while len(taps) > 2 and taps[0] == taps[-1] == 0.0:
        taps = taps[1:-1]
    return taps


@lru_cache(maxsize=1024)
def planes_of_a_block(columns: int, depth: int, more: int, at_once: int) -> int:
    """Return how many planes a block slides over, of so many blocks beside each other.

    A block reads some ``more`` planes than it has: few blocks read less, many keep every multiprocessor busy.
    """

    def cost(chunks: int) -> int:
        return divide_up(columns * chunks, at_once) * (divide_up(depth, chunks) + more)

    return divide_up(depth, min(range(1, depth + 1), key=cost))


class CudaLocalCorrelation(CudaMeasure, LocalCorrelation):
    """`LocalCorrelation` in float32: two kernels that slide over the planes, and two small ones."""

    @cached_property
    def windows(self) -> Taps:
        """The window's weights along each axis of canonical images, without zeros around them."""
        z, y, x = map(stripped, self.taps)
        return z, y, x

    @property
    def formula(self) -> str:
        """The formula's name in local_correlation.cu."""
        if self.exact:
            return "EXACT" if self.squared else "EXACT_SIGNED"
        if self.convention == "monai":
            return "BOUNDED"
        return "SQUARED" if self.squared else "SIGNED"

    @cached_property
    def _constants(self) -> tuple[str, ...]:
        """The constants that the windows and the formula are compiled with."""
        constants = [f"-DWINDOW={','.join(str(len(taps)) for taps in self.windows)}"]
        if any(tap != 1.0 for taps in self.windows for tap in taps):
            constants.append(f"-DTAPS={','.join(f'{tap!r}f' for taps in self.windows for tap in taps)}")
        if self.formula != "SQUARED":
            constants.append(f"-DFORMULA={self.formula}")
        if self.flat_value is not None:
            constants.append("-DFLAT=1")
        return tuple(constants)

    def program(self, weighted: bool, block: bool = False) -> Program:
        """Return the kernels for these windows and this formula.

        For voxels with weights if they are weighted, and for a block of larger images.
        """
        constants = [*self._constants]
        if weighted:
            constants.append("-DWEIGHTED=1")
        if block:
            constants.append("-DBLOCK=1")
        return Program("local_correlation", tuple(constants), ("windows.cuh",))

    def mask(self, backend: Backend, arrays: Arrays) -> Array | None:
        """Return the mask; the kernels need none to cut windows off."""
        return arrays[2] if len(arrays) > 2 else None

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks, the weights of which take room."""
        return self._fits(True)

    def takes_box(self) -> bool:
        """Return that the kernels can leave out the values around a box."""
        return True

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with images of this shape."""
        return (
            self._fits(self.truncated)
            and divide_up(shape[2], self._tile(True)[1]) <= MOST_BLOCKS
            and shape[0] * shape[1] <= MOST_BLOCKS
        )

    def _held(self, weighted: bool) -> int:
        """Return how many moments a thread keeps in registers for each of its rows."""
        return (len(self.windows[0]) - 1) * (6 if weighted else 5)

    def _tile(self, weighted: bool) -> tuple[int, int]:
        """Return the columns and rows of a block's outputs, as in windows.cuh."""
        box = all(tap == 1.0 for tap in self.windows[0])
        return TILE_X, THREADS // 32 * (2 if self._held(weighted) <= (40 if box else 30) else 1)

    def _fits(self, weighted: bool) -> bool:
        """Return whether a block has room for these windows in shared memory and in registers."""
        _, height, width = map(len, self.windows)
        columns, rows = self._tile(weighted)
        high, pitch, fields, parts = rows + height - 1, (columns + width + 1) // 4 * 4 + 1, 2, 5
        if weighted:
            fields, parts = 3, 6
        floats = high * (max(fields * pitch + parts * (columns + 1), 3 * pitch + 3 * (columns + 1)))
        return 4 * floats + 8 * THREADS <= SHARED and self._held(weighted) <= MOST_HELD

    def _grid(
        self, shape: tuple[int, ...], multiprocessors: int, weighted: bool = False
    ) -> tuple[tuple[int, int, int], int]:
        """Return the grid, and how many planes a block slides over."""
        samples, depth, height, width = shape
        tile_x, tile_y = self._tile(weighted)
        across, down = divide_up(width, tile_x), divide_up(height, tile_y)
        at_once = multiprocessors * (2 if self._held(weighted) <= 75 else 1)
        chunk = planes_of_a_block(across * down * samples, depth, len(self.windows[0]) - 1, at_once)
        return (across, down, samples * divide_up(depth, chunk)), chunk

    @property
    def _numbers(self) -> tuple[float, ...]:
        """The numbers of the formula, and how much a voxel beyond the border counts, as the kernel takes them."""
        flat_up_to = FLAT if self.convention == "ants" else 0.0
        numbers = self.smooth_nr, self.smooth_dr, flat_up_to, self.flat_value, not self.truncated
        return tuple(float(number or 0.0) for number in numbers)

    def constants_of(self, call: Any) -> Arrays:
        """Return the images' centres, and by the exact formula their largest intensities."""
        if self.exact:
            return self.constants(call.memory.inner, call.dtype, call.images)
        centres = call.empty((2, call.samples))
        call.launch(
            self.program(self.truncated), "centre", (call.samples, 2, 1), *call.images, *call.shape[1:], centres
        )
        return centres[0, :], centres[1, :]

    def add_up(self, call: CudaEvaluation) -> Arrays:
        """Return the sum of the values, and if flat windows do not count how much the others do."""
        return self._correlated(call, ())[0]

    def in_one_go(self, call: CudaEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and ``scale`` times the gradients."""
        sums, factors = self._correlated(call, wrt)
        share, scale = None, scale / call.parts
        if self.counts:
            (share,) = self.finish(call.xp, sums, call.count)[1]
        elif isinstance(call.count, int):
            scale /= call.count
        else:
            # Of a sample that nothing counts of there is no gradient.
            share = call.xp.where(call.count > 0.0, 1.0 / call.count, call.xp.zeros_like(call.count))
        return sums, self._gradients(call, factors, share, scale)

    def slope(self, call: CudaEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image, where flat windows do not count."""
        return self._gradients(call, self._correlated(call, (index,))[1], coefficients[0], 1.0)[index]

    def map_of(self, call: CudaEvaluation) -> Array:
        """Return the value at every voxel, NaN at those that do not count."""
        call.read_constants()
        values = call.empty(call.shape)
        self._correlated(call, (), values)
        return values

    def _correlated(
        self, call: CudaEvaluation, wrt: tuple[int, ...], values: Array | None = None
    ) -> tuple[Arrays, dict[int, Arrays]]:
        """Return the sums, and for each image three that its gradient sums over windows; write the ``values``.

        The three are by the correlation, by the image's own variance, and by the means.
        """
        shape, samples, weighted = call.shape, call.samples, self.truncated or call.weights is not None
        grid, chunk = self._grid(shape, call.queue.multiprocessors, weighted)
        program = self.program(weighted, call.own is not None)
        box = [bound for part in call.box() for bound in (part.start, part.stop)]
        kinds, blocks = 1 + self.exact, math.prod(grid)
        partial, total = call.empty((kinds, blocks), wide=True), call.empty((kinds, samples), wide=True)
        by_cross = call.empty(shape) if wrt else None
        factors = {index: (by_cross, call.empty(shape), call.empty(shape)) for index in set(wrt)}
        pairs = [factors[index][1:] if index in factors else (None, None) for index in (0, 1)]
        call.launch(
            program, "correlate", grid,
            *call.images, call.weights, *self._shifts(call, (0, 1)), *shape[1:], chunk, *self._numbers,
            *box, partial, values, by_cross, *pairs[0], *pairs[1],
        )  # fmt: skip
        call.launch(program, "total_of_partial", (kinds * samples, 1, 1), partial, blocks // samples, total)
        return tuple(total[kind, :] for kind in range(1 + self.counts)), factors

    def _gradients(
        self, call: CudaEvaluation, factors: dict[int, Arrays], share: Array | None, scale: float
    ) -> dict[int, Array]:
        """Return the gradients times each sample's share and ``scale``."""
        weighted, gradients = self.truncated or call.weights is not None, {}
        grid, chunk = self._grid(call.shape, call.queue.multiprocessors, weighted)
        if share is not None:
            share = call.memory.contiguous(call.xp.astype(share, call.xp.float32, copy=False))
        for index, images in factors.items():
            gradients[index], other = call.empty(call.shape), 1 - index
            call.launch(
                self.program(weighted, call.own is not None), "correlation_gradient", grid,
                *images, call.images[index], call.images[other], call.weights, *self._shifts(call, (index, other)),
                share, scale, *call.shape[1:], chunk, gradients[index],
            )  # fmt: skip
        if call.own is None:
            return gradients
        return {index: gradient[:, *call.own] for index, gradient in gradients.items()}

    def _shifts(self, call: CudaEvaluation, order: tuple[int, int]) -> Arrays:
        """Return the images' centres and, by the exact formula, their largest intensities, in this order."""
        numbers = [*map(call.memory.contiguous, call.constants), None, None]
        return tuple(numbers[2 * kind + index] for kind in (0, 1) for index in order)
