"""The CuPy adapter."""

from collections.abc import Mapping
from typing import Any, ClassVar

import cupy as cp
from agnoreg_cuda import Queue, fused, usable
from array_api_compat import cupy as xp

from agnoreg.backend import GPU_SLABS, Backend

Array = Any


class CuPyBackend(Backend):
    """CuPy arrays: no autodiff, so gradients come from `agnoreg.value_and_grad` alone."""

    slab_sizes: ClassVar[Mapping[str, int]] = GPU_SLABS

    def owns(self, array: Array) -> bool:
        """Say whether this is a CuPy array."""
        return isinstance(array, cp.ndarray)

    def unusable(self) -> str:
        """Say where CUDA finds no card."""
        try:
            cp.cuda.runtime.getDeviceCount()
        except cp.cuda.runtime.CUDARuntimeError as error:
            return f"no CUDA device: {error}"
        return ""

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a card: ``device`` is its number, ``"cuda"``, ``"cuda:1"`` or a `cupy.cuda.Device`."""
        if isinstance(device, str):
            device = int(device.partition(":")[2] or 0)
        with cp.cuda.Device(device):
            return cp.asarray(array)

    def to_numpy(self, array: Array) -> Any:
        """Copy the array to the host."""
        return cp.asnumpy(array)

    def room(self, piece: Array, planes: int) -> Array:
        """Return memory for so many planes, on the piece's card."""
        with piece.device:
            return cp.empty((piece.shape[0], planes, *piece.shape[2:]), dtype=piece.dtype)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index, in their own dtype."""
        return cp.bincount(index, weights=weights, minlength=size).astype(weights.dtype)

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return a measure of CUDA kernels, where there is one for these arrays."""
        measure = super().override(measure, arrays)
        return fused(measure, self, arrays) if self.kernels and usable() else measure

    # What the kernels ask for.

    def contiguous(self, array: Array) -> Array:
        """Return the array, or a copy whose last axis is contiguous."""
        return cp.ascontiguousarray(array)

    def address(self, array: Array) -> int:
        """Return where the array's first element is."""
        return int(array.data.ptr)

    def queue(self, array: Array) -> Queue:
        """Return the array's card with CuPy's current stream."""
        return Queue(array.device.id)


backend = CuPyBackend("cupy", xp)
