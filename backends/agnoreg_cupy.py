"""The CuPy adapter."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, ClassVar

import cupy as cp
from array_api_compat import cupy as compat

from agnoreg.backend import GPU_SLABS, Backend, Counting, Execution, Operations
from agnoreg.backend.accelerators import CudaMemory

Array = Any

#: CuPy's kernel that adds by index counts in 32 bits.
MOST = 2**31 - 1


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Return the array with every entry between two numbers; NaN stays NaN."""
    return cp.clip(x, min, max).astype(x.dtype, copy=False)


def sign(x: Array, /) -> Array:
    """Return -1, 0 or 1, and NaN where the array is."""
    return cp.where(x != x, x, cp.sign(x))


def _namespace() -> ModuleType:
    """Return array_api_compat's namespace, less what waits for the card there.

    Its `clip` and `sign` write through a boolean index, of which CuPy asks the card how many entries it has.
    """
    namespace = ModuleType(f"{__name__}.namespace", "CuPy as an Array API namespace.")
    namespace.__dict__.update({name: getattr(compat, name) for name in dir(compat)}, clip=clip, sign=sign)
    return namespace


class CuPyMemory(CudaMemory):
    """The memory of CuPy's arrays."""

    def contiguous(self, array: Array) -> Array:
        """Return the array, or a copy whose last axis is contiguous."""
        return cp.ascontiguousarray(array)

    def address(self, array: Array) -> int:
        """Return where the array's first element is."""
        return int(array.data.ptr)

    def stream(self, array: Array) -> tuple[int, None]:
        """Return the array's card, with CuPy's current stream."""
        return array.device.id, None


class CuPyExecution(Execution):
    """Eager execution in slabs that fill a card."""

    slab_sizes: ClassVar[Mapping[str, int]] = GPU_SLABS

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.card = CuPyMemory(backend)
        self.memories = {"cuda": self.card}

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """Return the array's card, as the current one: there CuPy runs kernels, and makes what they return."""
        return array.device

    def unusable(self) -> str:
        """Return why CUDA finds no card."""
        try:
            cp.cuda.runtime.getDeviceCount()
        except cp.cuda.runtime.CUDARuntimeError as error:
            return f"no CUDA device: {error}"
        return ""

    def memory(self, arrays: tuple[Array, ...]) -> CudaMemory:
        """Return the card's memory."""
        return self.card

    def room(self, piece: Array, planes: int) -> Array:
        """Return memory for so many planes, on the piece's card."""
        return cp.empty((piece.shape[0], planes, *piece.shape[2:]), dtype=piece.dtype)


class CuPyOperations(Operations):
    """What CuPy does without waiting for the card."""

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index in float64, in their own dtype.

        Unlike `cupy.bincount`, which serves more than 2^31 of them, this does not wait for the card to know the
        greatest index.
        """
        if max(size, index.size) > MOST:
            return cp.bincount(index, weights=weights, minlength=size).astype(weights.dtype)
        total = cp.zeros((size,), dtype=cp.float64)
        cp.add.at(total, index, weights)
        return total.astype(weights.dtype)


class CuPyCounting(Counting):
    """Counts by CuPy, distances by cupyx."""

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return the arrays as they are."""
        return self.backend, arrays

    def bincount(self, index: Array, size: int, counts: Array | None = None) -> Array:
        """Return the counts, as integers where each entry counts once."""
        return cp.bincount(index, weights=counts, minlength=size)

    def distance_transform(self, mask: Array, spacing: tuple[float, ...]) -> Array:
        """Return the distances from cupyx, in float64."""
        from cupyx.scipy import ndimage

        if not bool(mask.any()):
            return cp.full(mask.shape, cp.inf)
        return ndimage.distance_transform_edt(~mask, sampling=spacing, float64_distances=True)


def adopted(arrays: tuple[Any, ...]) -> tuple[Backend, tuple[Array, ...]]:
    """Return another framework's arrays on a card as CuPy's, in the same memory, for metrics."""
    return backend, tuple(cp.from_dlpack(array) for array in arrays)


class CuPyBackend(Backend):
    """CuPy arrays: no autodiff, so gradients come from `agnoreg.value_and_grad` alone."""

    def __init__(self, name: str, xp: Any) -> None:
        super().__init__(name, xp, execution=CuPyExecution, operations=CuPyOperations, counting=CuPyCounting)

    def owns(self, array: Array) -> bool:
        """Return whether this is a CuPy array."""
        return isinstance(array, cp.ndarray)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a card: ``device`` is its number, ``"cuda"``, ``"cuda:1"`` or a `cupy.cuda.Device`."""
        if isinstance(device, str):
            device = int(device.partition(":")[2] or 0)
        with cp.cuda.Device(device):
            return cp.asarray(array)

    def to_numpy(self, array: Array) -> Any:
        """Copy the array to the host."""
        return cp.asnumpy(array)


backend = CuPyBackend("cupy", _namespace())
