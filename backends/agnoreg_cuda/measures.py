"""Which measures have kernels, and for which arrays."""

import math
from typing import Any

from agnoreg.backend import Backend
from agnoreg.backend.accelerators import CudaMemory
from agnoreg.engine.accelerated import recast
from agnoreg.engine.measure import Measure
from agnoreg.measures.families.central_differences import GradientEnergy, SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy, CompactSecondDerivativeEnergy
from agnoreg.measures.lncc import LocalCorrelation, ThinCorrelation
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg_cuda import fields
from agnoreg_cuda.evaluation import MOST_VOXELS, Arrays, CudaEvaluation
from agnoreg_cuda.histograms import CudaParzenInformation
from agnoreg_cuda.launch import Queue
from agnoreg_cuda.local_correlation import CudaLocalCorrelation

KINDS: dict[type, Any] = {
    LocalCorrelation: CudaLocalCorrelation,
    ParzenInformation: CudaParzenInformation,
    GradientEnergy: fields.CudaGradient,
    CompactGradientEnergy: fields.CudaCompactGradient,
    SecondDerivativeEnergy: fields.CudaBending,
    CompactSecondDerivativeEnergy: fields.CudaCompactBending,
}


def evaluation(
    measure: Measure, backend: Backend, memory: CudaMemory, arrays: Arrays, otherwise: Any, queue: Queue
) -> CudaEvaluation | None:
    """Return the evaluation of a measure by kernels, or None if they do not support such arrays.

    ``queue`` is the framework's current stream on the arrays' card.
    """
    if type(measure) is ThinCorrelation:
        # The kernels need no other measure for images of a single plane.
        measure = recast(measure, LocalCorrelation)
    if type(measure) not in KINDS:
        return None
    own = recast(measure, KINDS[type(measure)])
    given, mask = arrays[: measure.inputs], own.mask(backend, arrays)
    if backend.dtypes.compute(*given) != backend.xp.float32 or (mask is not None and not own.takes_mask()):
        return None
    arranged = measure.to_canonical(backend, given)
    shape = tuple(arranged[0].shape)
    if math.prod(shape) > MOST_VOXELS or not own.suits(shape):
        return None
    images = tuple(memory.contiguous(backend.xp.astype(array, backend.xp.float32, copy=False)) for array in arranged)
    return CudaEvaluation(queue, own, memory, given, images, otherwise, mask)
