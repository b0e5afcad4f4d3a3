"""Losses of images and fields as CUDA kernels, for CuPy arrays and for PyTorch tensors on a card.

The kernels are CUDA C++ sources. NVRTC compiles them when a window's width or a number of bins is first used, through
CuPy for its arrays, and for another framework's through cuda.core, or else CuPy (`agnoreg_cuda.queues`); both keep what
they compiled on disk. No CUDA toolkit is needed, nor a header. Memory comes from the framework of the arrays, work goes
to its current stream, and nothing waits for the card: after one call, which compiles and loads the kernels, calls can
be captured in a CUDA graph. Without atomics, two calls agree bit for bit.

- Local correlation, `LocalCorrelation`, by every convention, with masks and in windows of any kind of up to 32 voxels,
  24 where voxels have weights: windows are joined as in the core, in float32, so that offsets cost no digits and flat
  windows have moments of exactly 0. One kernel reads the images and writes what the gradient sums over windows, a
  second one sums it and writes the gradient.
- Mutual information, `ParzenInformation` with up to 64 bins and windows of up to 8 bins each way: weights that float32
  does not see beside a voxel's largest are left out, in the value and in the gradient alike. The joint histogram is a
  product of small matrices in float32, added up in double; the core's `finish` makes the value and the coefficients.
- Bending energy and gradient norm: each entry of the gradient is made of the differences around it, by one thread. No
  differences are kept.

All else takes the core's path, which is the oracle of these: float64, 2^31 voxels or more, and whatever PyTorch
traces, batches or differentiates itself.
"""

from typing import Any

from agnoreg_cuda.queues import missing, queue_of

__all__ = ["CudaKernels", "accelerator"]


class CudaKernels:
    """The accelerator of arrays on an NVIDIA card."""

    def missing(self) -> str:
        """Return what is missing to compile and launch kernels, or ``""``."""
        return missing()

    def evaluation(self, measure: Any, backend: Any, memory: Any, arrays: tuple[Any, ...], otherwise: Any) -> Any:
        """Return the evaluation of a measure by kernels; None where they cannot do it with such arrays."""
        queue = queue_of(*memory.stream(arrays[0]))
        if queue is None:
            return None
        from agnoreg_cuda.measures import evaluation

        return evaluation(measure, backend, memory, arrays, otherwise, queue)


accelerator = CudaKernels()
