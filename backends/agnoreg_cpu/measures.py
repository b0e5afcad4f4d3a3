"""Evaluation of a measure by kernels in the host's memory, whatever the measure is."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend.accelerators import ALIGNED, HostMemory
from agnoreg.engine.accelerated import Evaluation, KernelMeasure
from agnoreg.engine.evaluator import Box
from agnoreg.engine.validate import voxels
from agnoreg_cpu import pointwise
from agnoreg_cpu.threads import Part, parts, run

Array = Any
Arrays = tuple[Array, ...]

#: A kernel knows no warnings: what is no number comes without one from all that belongs to it.
quiet = partial(np.errstate, all="ignore")


class HostEvaluation(Evaluation):
    """One evaluation in the host's memory, of NumPy arrays."""

    memory: HostMemory

    def __init__(self, measure: Any, memory: HostMemory, given: Arrays, images: Arrays, *more: Any) -> None:
        super().__init__(measure, memory, given, tuple(map(read_only, images)), *more)
        self.xp = np
        most = self.samples * self.count // measure.voxels_a_thread
        self.threads: int = min(memory.threads(), most) if most > 1 else 1
        self._offered: Array | None = None

    def offer(self, memory: Array) -> None:
        """Take memory that the one gradient of the call may be written to."""
        self._offered = memory

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
        there = room(gradient.shape, self.dtype)
        there[...] = gradient
        return there

    def of_block(self, constants: Arrays, count: Any, own: Box | None) -> bool:
        """Take the arrays for a block of larger ones, in one thread: blocks are worked on side by side."""
        self.threads = 1
        return super().of_block(constants, count, own)

    def room(self, sizes: tuple[int, ...] | None = None) -> Array:
        """Return memory for the gradient of an image in canonical shape, or of samples of other sizes."""
        shape = self.shape if sizes is None else (self.samples, *sizes)
        there, self._offered = self._offered, None
        if there is not None and there.dtype == self.dtype and there.size == math.prod(shape):
            return there.reshape(shape)
        return room(shape, self.dtype)

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


def room(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return memory that any framework takes as it is."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return np.ndarray(shape, dtype, memory, start)


def read_only(image: Array) -> Array:
    """Return a read-only view of an image, so that a kernel is compiled once for writable and read-only images."""
    view = image.view()
    view.setflags(write=False)
    return view


class Kernels(KernelMeasure):
    """A measure of kernels in the host's memory."""

    #: Whether there is so much to do that images which do not lie in one piece are copied.
    worth_a_copy: ClassVar[bool] = False
    #: For fewer voxels than these a thread costs more than it saves.
    voxels_a_thread: ClassVar[int] = 1 << 15

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
