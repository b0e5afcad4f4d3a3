"""Which measures have kernels, and for which arrays."""

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from agnoreg.backend import Backend, get_backend
from agnoreg.backend.accelerators import HostMemory
from agnoreg.engine.accelerated import recast
from agnoreg.engine.measure import Measure
from agnoreg.measures.cross_entropy import BinaryCrossEntropy
from agnoreg.measures.dice import DiceOverlap
from agnoreg.measures.families.central_differences import GradientEnergy, SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy, CompactSecondDerivativeEnergy
from agnoreg.measures.gncc import GlobalCorrelation
from agnoreg.measures.jaccard import JaccardOverlap
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg.measures.ssd import SquaredDifference
from agnoreg_cpu import fields, voxelwise
from agnoreg_cpu.information import CpuInformation
from agnoreg_cpu.lncc import CpuLocalCorrelation, whole
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation

#: Dtypes in which the kernels compute.
DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
KINDS: dict[type, Any] = {
    LocalCorrelation: CpuLocalCorrelation,
    GlobalCorrelation: voxelwise.CpuGlobalCorrelation,
    DiceOverlap: voxelwise.CpuDice,
    JaccardOverlap: voxelwise.CpuJaccard,
    ParzenInformation: CpuInformation,
    SquaredDifference: voxelwise.CpuSquaredDifference,
    BinaryCrossEntropy: voxelwise.CpuCrossEntropy,
    GradientEnergy: fields.CpuGradient,
    CompactGradientEnergy: fields.CpuCompactGradient,
    SecondDerivativeEnergy: fields.CpuBending,
    CompactSecondDerivativeEnergy: fields.CpuCompactBending,
}


def evaluation(
    measure: Measure, backend: Backend, memory: HostMemory, arrays: Arrays, otherwise: Any
) -> HostEvaluation | None:
    """Return the evaluation of a measure by kernels, or None if they do not support such arrays."""
    measure = whole(measure, backend.shape(arrays[0]))
    if type(measure) not in KINDS:
        return None
    own = recast(measure, KINDS[type(measure)])
    mask = own.mask(backend, arrays)
    if mask is not None:
        if not own.takes_mask():
            return None
        mask = _mask_on_host(backend, memory, mask, arrays[0].dtype)
        if mask is None:
            return None
    given: Any = tuple(map(memory.take, arrays[: measure.inputs]))
    if any(array is None or array.dtype not in DTYPES or array.dtype != given[0].dtype for array in given):
        return None
    if not own.suits(given[0].dtype):
        return None
    images = measure.to_canonical(memory.inner, given)
    if own.worth_a_copy:
        images = tuple(np.require(image, requirements=("C", "A")) for image in images)
    elif not all(_in_one_piece(*pair) for pair in zip(images, given, strict=True)):
        return None
    return HostEvaluation(own, memory, given, images, otherwise, mask)


def compile_kernels(dtypes: Sequence[str]) -> None:
    """Compile the kernels of every measure with its default options, for images of these dtypes."""
    with _no_garbage():
        _compile_kernels(dtypes)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Leave Python's garbage for later: an eighth of the time would be spent looking for it in what compilers keep."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compile_kernels(dtypes: Sequence[str]) -> None:
    backend = get_backend("numpy")
    for kind in KINDS:
        measure = kind()
        for dtype in dtypes:
            # Smooth ramps, which differ: no window is flat and no label beyond [0, 1].
            shape = (1, 6, 7, 8, 3)[: 5 if measure.inputs == 1 else 4]
            ramp = np.linspace(0.1, 0.9, math.prod(shape), dtype=dtype).reshape(shape)
            arrays = (ramp, ramp * ramp)[: measure.inputs]
            every = tuple(range(measure.inputs))
            if evaluation(measure, backend, HostMemory(backend), arrays, measure) is None:
                continue
            for wrt in ((), *((index,) for index in every), every):
                run = evaluation(measure, backend, HostMemory(backend), arrays, measure)
                assert run is not None
                run.compute_with_gradients(backend, arrays, wrt) if wrt else run.compute(backend, arrays)
                if measure.backward_needs_inputs and wrt:
                    value, saved = run.compute_forward(backend, arrays, wrt)
                    run.compute_backward(backend, arrays, wrt, wrt, saved, np.ones_like(value))


def _mask_on_host(backend: Backend, memory: HostMemory, mask: Array, dtype: Any) -> Array | None:
    """Return a mask in the host's memory; one of numbers that kernels do not know as the images' numbers."""
    found = memory.take(mask)
    return memory.take(backend.xp.astype(mask, dtype)) if found is None else found


def _in_one_piece(image: Array, given: Array) -> bool:
    """Return whether an image is contiguous and shares the memory of the input, so that nothing was copied."""
    flags = image.flags
    return bool(flags.c_contiguous and flags.aligned and (image is given or np.may_share_memory(image, given)))
