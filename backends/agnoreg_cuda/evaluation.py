"""One evaluation of a measure by kernels on a card, whatever the measure is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from agnoreg.backend.accelerators import CudaMemory
from agnoreg.engine.accelerated import Evaluation, KernelMeasure
from agnoreg_cuda.launch import Program, Queue

Array = Any
Arrays = tuple[Array, ...]

#: Threads of a block, as in common.cuh.
THREADS = 256
#: Indices are 32-bit integers; a grid has no more blocks than this along its second and third axes.
MOST_VOXELS, MOST_BLOCKS = 2**31 - 1, 65535


def divide_up(a: int, b: int) -> int:
    """Return ``a / b``, rounded up."""
    return -(-a // b)


class CudaMeasure(KernelMeasure):
    """A measure whose kernels run on a card."""

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with inputs of this canonical shape."""
        return True

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks."""
        return False


class CudaEvaluation(Evaluation):
    """One evaluation on a card, by arrays of the framework; they are kept until every kernel is launched.

    Then their memory is only used again by what comes later on the stream.
    """

    memory: CudaMemory

    def __init__(
        self, queue: Queue, measure: Any, memory: CudaMemory, given: Arrays, images: Arrays, *more: Any
    ) -> None:
        super().__init__(measure, memory, given, images, *more)
        self.queue = queue

    @contextmanager
    def active(self) -> Iterator[None]:
        """Return a context in which the images' card and the framework's stream are the current ones."""
        with self.memory.current(self.images[0]), self.queue.active():
            yield

    def arranged_weights(self, weights: Array) -> Array:
        """Return the weights of every voxel, in float32."""
        weights = self.xp.broadcast_to(self.xp.astype(weights, self.xp.float32, copy=False), self.shape)
        return self.memory.contiguous(weights)

    def empty(self, shape: Sequence[int], wide: bool = False) -> Array:
        """Return memory of the images' framework, on their card and stream."""
        dtype = self.xp.float64 if wide else self.xp.float32
        return self.xp.empty(tuple(shape), dtype=dtype, device=self.memory.inner.device(self.images[0]))

    def launch(
        self, program: Program, name: str, grid: tuple[int, int, int], *arguments: Any, threads: int = THREADS
    ) -> None:
        """Launch a kernel: arrays go by their addresses (None by 0), integers and floats by value, of 32 bits."""
        self.queue.launch(program, name, grid, threads, tuple(map(self._argument, arguments)))

    def _argument(self, argument: Any) -> Any:
        if argument is None:
            return 0
        if isinstance(argument, np.generic):
            return argument
        if isinstance(argument, int):
            return np.int32(argument)
        return np.float32(argument) if isinstance(argument, float) else self.memory.address(argument)
