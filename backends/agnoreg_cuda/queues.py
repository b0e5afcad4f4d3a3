"""Which library compiles and launches: cuda.core, or CuPy."""

from agnoreg_cuda import by_cuda_core, by_cupy
from agnoreg_cuda.launch import Queue

#: Said where a card is there and neither library is.
MISSING = "no kernels on the card without cuda.core: pip install cuda-core, and cuda-bindings of its CUDA version"


def queue_of(device: int, stream: int | None) -> Queue | None:
    """Return a stream of a card, by a library that can use it; None if there is none.

    CuPy's own stream, which is None, is CuPy's to use. Of another framework's streams cuda.core knows the address.
    """
    if stream is not None and by_cuda_core.usable(device):
        return by_cuda_core.CoreQueue(device, stream)
    return by_cupy.CuPyQueue(device, stream) if by_cupy.usable() else None


def missing() -> str:
    """Return what to install, or ``""`` if a library is there."""
    return "" if by_cuda_core.installed() or by_cupy.usable() else MISSING
