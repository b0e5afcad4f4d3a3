"""The PyTorch adapter."""

from typing import Any, ClassVar

import torch
from array_api_compat import torch as xp

from agnoreg.backend import Backend, Dtypes
from agnoreg_torch import _private
from agnoreg_torch._state import PLAIN
from agnoreg_torch.autodiff import TorchAutodiff
from agnoreg_torch.counting import TorchCounting
from agnoreg_torch.execution import TorchExecution
from agnoreg_torch.operations import TorchOperations

__all__ = ["PLAIN", "TorchBackend", "backend"]

Array = torch.Tensor


class TorchDtypes(Dtypes):
    """PyTorch's dtypes."""

    def default_float(self) -> torch.dtype:
        """Return `torch.get_default_dtype`, float32 unless the user chose another."""
        return torch.get_default_dtype()

    def accumulator(self, array: Array) -> torch.dtype:
        """Return float64, or float32 on a device that has no float64."""
        return torch.float32 if array.device.type == "mps" else torch.float64


class TorchBackend(Backend):
    """PyTorch tensors, on any device."""

    types: ClassVar[tuple[type, ...]] = PLAIN

    def __init__(self) -> None:
        super().__init__(
            "torch",
            xp,
            dtypes=TorchDtypes,
            execution=TorchExecution,
            operations=TorchOperations,
            autodiff=TorchAutodiff,
            counting=TorchCounting,
        )

    def owns(self, array: Any) -> bool:
        """Return whether this is a tensor, subclasses included."""
        return isinstance(array, torch.Tensor)

    def prepare(self, array: Array) -> Array:
        """Return a plain tensor, which shares the memory and the gradient of the subclass that it came as.

        A subclass that carries something along sees every function, and may refuse a slice of what it knows as a batch.
        One that stands for its operations, such as a sharded tensor, stays as it is.
        """
        kind = type(array)
        if kind in PLAIN or kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            return array
        with _private.without_subclasses():
            return array.as_subclass(torch.Tensor)

    def device(self, array: Array) -> torch.device:
        """Return the tensor's device."""
        return array.device

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a tensor on ``device``."""
        return torch.tensor(array, device=device)

    def to_numpy(self, array: Array) -> Any:
        """Copy the tensor to the host, detached."""
        return array.detach().cpu().numpy()


backend = TorchBackend()
