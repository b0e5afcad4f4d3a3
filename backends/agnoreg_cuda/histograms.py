"""Mutual information, of which a kernel counts the joint histogram."""

import math
from collections.abc import Sequence

from agnoreg.engine.validate import voxels
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg_cuda.evaluation import MOST_BLOCKS, THREADS, Array, Arrays, CudaEvaluation, CudaMeasure, divide_up
from agnoreg_cuda.launch import Program

#: Threads of a block that holds a histogram in registers, as in histogram.cu.
FEW = 128
#: The largest histogram, and the farthest reach of a voxel in it.
MOST_BINS, FARTHEST = 64, 8
#: Exponents below this are left out: exp(-17) is less than half a unit in the last place of 1 in float32.
NEGLIGIBLE = 17.0


class CudaParzenInformation(CudaMeasure, ParzenInformation):
    """`ParzenInformation` of few bins: a kernel for the joint histogram, and one for the gradient at every voxel."""

    @property
    def radius(self) -> int:
        """To how many bins on each side of the nearest one a voxel adds; the next would be negligible."""
        radius = 1
        while radius * (radius + 1) / (2.0 * self.sigma_ratio**2) < NEGLIGIBLE and radius <= FARTHEST:
            radius += 1
        return radius

    @property
    def program(self) -> Program:
        """The kernels for these bins and windows."""
        return Program("histogram", (f"-DBINS={self.num_bins}", f"-DRADIUS={self.radius}"))

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Return whether the kernels can do this, with images of this shape."""
        return self.num_bins <= MOST_BINS and self.radius <= FARTHEST and shape[0] <= MOST_BLOCKS

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: a voxel's weights have one more factor."""
        return True

    @property
    def _rate(self) -> float:
        return math.log2(math.e) / (2.0 * self.sigma_ratio**2)

    def add_up(self, call: CudaEvaluation) -> Arrays:
        """Return the joint histogram."""
        samples, bins, count = call.samples, self.num_bins, voxels(call.shape)
        program = self.program
        # Three blocks fill a multiprocessor's registers.
        blocks = min(divide_up(count, FEW), divide_up(3 * call.queue.multiprocessors, samples))
        partial = call.empty((samples, blocks, bins, bins), wide=True)
        joint = call.empty((samples, bins, bins), wide=True)
        call.launch(
            program,
            "histogram",
            (blocks, samples, 1),
            *call.images,
            call.weights,
            count,
            self._rate,
            partial,
            threads=FEW,
        )
        call.launch(program, "sum_of_partial", (divide_up(bins * bins, THREADS), samples, 1), partial, blocks, joint)
        return (joint,)

    def slope(self, call: CudaEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        own, other, gradient = call.images[index], call.images[1 - index], call.empty(call.shape)
        count = voxels(call.shape)
        blocks = min(divide_up(count, THREADS), divide_up(16 * call.queue.multiprocessors, call.samples))
        call.launch(
            self.program, "histogram_gradient", (blocks, call.samples, 1),
            own, other, call.weights, count, self._rate, call.memory.contiguous(coefficients[index]), gradient,
        )  # fmt: skip
        return gradient
