"""How PyTorch goes over slabs, and how kernels reach its memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import torch

from agnoreg.backend import CPU_SLABS, GPU_SLABS, Backend, Execution
from agnoreg.backend.accelerators import CudaMemory, HostMemory, Memory
from agnoreg.messages import warn_of_input
from agnoreg_torch._state import mapped, on_card, plain, traced, untouched

Array = torch.Tensor

#: What kernels on the host may be given.
KNOWN = (torch.float32, torch.float64, torch.bool)


class TorchHostMemory(HostMemory):
    """The memory of tensors on the CPU."""

    def take(self, array: Array) -> Any:
        """Return the tensor's memory as a NumPy array; None where it has none on the host that is no one else's."""
        if not array.is_cpu or array.dtype not in KNOWN or not plain(array):
            return None
        return (array.detach() if array.requires_grad else array).numpy()

    def give(self, array: Any) -> Array:
        """Return a NumPy array's memory as a tensor."""
        return torch.from_numpy(array)

    def threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return torch.get_num_threads()


class TorchCudaMemory(CudaMemory):
    """The memory of tensors on a card."""

    def contiguous(self, array: Array) -> Array:
        """Return the tensor, or a copy whose last axis is contiguous."""
        return array.contiguous()

    def address(self, array: Array) -> int:
        """Return where the tensor's first element is."""
        return array.data_ptr()

    def stream(self, array: Array) -> tuple[int, int]:
        """Return the tensor's card with PyTorch's current stream."""
        stream = torch.cuda.current_stream(array.device)
        return stream.device_index, stream.cuda_stream

    def current(self, array: Array) -> AbstractContextManager[Any]:
        """Return a context in which the tensor's card is PyTorch's current one."""
        return torch.cuda.device(array.device)

    def present(self) -> bool:
        """Return whether PyTorch finds an NVIDIA card."""
        return torch.cuda.is_available() and not torch.version.hip


@torch.compiler.assume_constant_result
def _warn(text: str) -> None:
    warn_of_input(text)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let this thread's operations run on one core each.

    Streaming takes hundreds of operations on a few planes, each of which would end with a barrier of all threads: where
    other work runs, the slowest of them is late every time. PyTorch keeps this number for each thread of Python's.
    """
    threads = torch.get_num_threads()
    if threads == 1 or not torch.backends.openmp.is_available():
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TorchExecution(Execution):
    """Eager execution, or a compiler's, in which slabs are unrolled."""

    #: A large image's slabs are worth a second thread.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"streaming": 1 << 17, "voxels": 1 << 18}

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.host, self.card = TorchHostMemory(backend), TorchCudaMemory(backend)
        self.memories = {"host": self.host, "cuda": self.card}

    def memory(self, arrays: tuple[Array, ...]) -> Memory | None:
        """Return the memory that the tensors are in; None where operations are recorded or transformed."""
        # While torch.func transforms, what is done to a plain tensor makes one that is none.
        if traced() or mapped():
            return None
        if not all(map(on_card, arrays)):
            return self.host
        # PyTorch calls AMD's cards by the same name.
        return self.card if not torch.version.hip and all(map(plain, arrays)) else None

    def warn(self, text: str) -> None:
        """Warn of inputs, also where a compiler traces the call, which it leaves out of the graph."""
        _warn(text)

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return a cache-sized slab on a CPU, one that fills a card elsewhere, and while a compiler traces.

        PyTorch has no loop that a compiler differentiates: slabs are unrolled, so there must be few of them.
        """
        small = array.device.type == "cpu" and not torch.compiler.is_compiling()
        return (self.slab_sizes if small else GPU_SLABS)[kind]

    def scan(self, tiles: Sequence[Any], body: Callable[[Any, Any], Any], state: Any, kept: slice = slice(None)) -> Any:
        """Run ``body`` over tiles that follow one another, on a CPU on one core."""
        if torch.compiler.is_compiling():
            return super().scan(tiles, body, state, kept)
        with _one_thread():
            return super().scan(tiles, body, state, kept)

    def loop(self, tiles: Sequence[Any], body: Callable[[Any], Any], parallel: bool = False) -> Any:
        """Run ``body`` over tiles that are independent: large operations, on all cores."""
        return super().scan(tiles, lambda tile, state: (state, *body(tile)), ())

    def room(self, piece: Array, planes: int) -> Array | None:
        """Return memory for so many planes; None where PyTorch records what is done with the pieces."""
        if not untouched(piece):
            return None
        return piece.new_empty((piece.shape[0], planes, *piece.shape[2:]))
