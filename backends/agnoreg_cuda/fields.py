"""Regularisers of displacement fields: one kernel makes the sum of the energies and the gradient."""

import math
from typing import Any, ClassVar

from agnoreg.measures.families.central_differences import GradientEnergy, SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy, CompactSecondDerivativeEnergy
from agnoreg.measures.families.fields import FieldMeasure
from agnoreg_cuda.evaluation import MOST_BLOCKS, THREADS, Array, Arrays, CudaEvaluation, CudaMeasure, divide_up
from agnoreg_cuda.launch import Program

#: Entries and lines of a block's outputs, as in fields.cu.
TILE = (32, THREADS // 32)
#: Blocks that a multiprocessor should have, in turn, and the most planes of one: what neighbours read is in cache.
BLOCKS, PLANES = 16, 16


class CudaField(CudaMeasure, FieldMeasure):
    """A regulariser by a kernel."""

    #: Which differences, as in fields.cu.
    kind: ClassVar[int]

    @property
    def program(self) -> Program:
        """The kernels for these differences."""
        return Program("fields", (f"-DKIND={self.kind}", f"-DDIMS={self.spatial_dims}"))

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with fields of this shape."""
        return shape[0] <= MOST_BLOCKS and divide_up(shape[2], TILE[1]) <= MOST_BLOCKS

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks."""
        return True

    def takes_box(self) -> bool:
        """Return that the kernel can leave out what lies around a box."""
        return True

    def weights_of(self, call: Any, weights: Arrays) -> Array:
        """Return the weights of the energies, for each voxel."""
        return call.memory.contiguous(call.xp.astype(weights[-1], call.xp.float32, copy=False))

    def factors(self, call: CudaEvaluation) -> tuple[float, float]:
        """Return the factors of differences along planes and lines."""
        return self.relative[:2]

    def _grid(self, shape: tuple[int, ...], multiprocessors: int) -> tuple[tuple[int, int, int], int]:
        """Return the grid for outputs of this shape, and how many planes a block goes through."""
        samples, planes, lines, entries = shape
        across, down = divide_up(entries, TILE[0]), divide_up(lines, TILE[1])
        chunk = min(PLANES, across * down * samples * planes // (BLOCKS * multiprocessors))
        chunk = max(1, chunk, divide_up(planes, MOST_BLOCKS // samples))
        return (across, down, samples * divide_up(planes, chunk)), chunk

    def add_up(self, call: CudaEvaluation) -> Arrays:
        """Return the sum of the energies."""
        return self.in_one_go(call, (), 1.0)[0]

    def in_one_go(self, call: CudaEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sum of the energies, and ``scale`` times the gradient."""
        planes, lines, voxels = call.box()
        first = planes.start, lines.start, voxels.start * self.step_size
        own = planes.stop - first[0], lines.stop - first[1], voxels.stop * self.step_size - first[2]
        grid, chunk = self._grid((call.samples, *own), call.queue.multiprocessors)
        scale, shares = self.units[1] * scale / call.parts, None
        if call.weights is None:
            scale /= call.count
        elif wrt:
            shares = self._shares(call)
        partial, total = call.empty((math.prod(grid),), wide=True), call.empty((call.samples,), wide=True)
        gradient = call.empty((call.samples, *own)) if wrt else None
        along = [call.memory.contiguous(factor) for factor in call.constants] or [None, None]
        call.launch(
            self.program, "field_energy", grid, call.images[0], call.weights, shares, *along, *call.shape[1:],
            *first, *own, self.step_size, chunk, int(not self.quadratic), *map(float, self.factors(call)), scale,
            partial, gradient,
        )  # fmt: skip
        blocks = math.prod(grid) // call.samples
        call.launch(self.program, "total_of_partial", (call.samples, 1, 1), partial, blocks, total)
        return (total,), {} if gradient is None else {0: gradient}

    def _shares(self, call: CudaEvaluation) -> Array:
        """Return ``1 / effective count`` of each sample, 0 where the mask is empty."""
        xp, counts = call.xp, call.count > 0.0
        share = 1.0 / xp.where(counts, call.count, xp.ones_like(call.count))
        return call.memory.contiguous(xp.astype(xp.where(counts, share, xp.zeros_like(share)), xp.float32))


class CudaGradient(CudaField, GradientEnergy):
    """`GradientEnergy` by a kernel."""

    kind: ClassVar[int] = 0


class CudaCompactGradient(CudaField, CompactGradientEnergy):
    """`CompactGradientEnergy` by a kernel, which takes the lesser weight of a difference's two voxels."""

    kind: ClassVar[int] = 1

    def factors(self, call: CudaEvaluation) -> tuple[float, float]:
        """Return the factors along planes and lines, without that of the numbers of differences if there is a mask."""
        if call.constants:
            return self.relative[:2]
        return self.along(call.shape[1], self.layout(call.shape))


class CudaBending(CudaField, SecondDerivativeEnergy):
    """`SecondDerivativeEnergy` by a kernel."""

    kind: ClassVar[int] = 2


class CudaCompactBending(CudaField, CompactSecondDerivativeEnergy):
    """`CompactSecondDerivativeEnergy` by a kernel."""

    kind: ClassVar[int] = 3
