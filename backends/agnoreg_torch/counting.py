"""What metrics ask of PyTorch: where the numbers of tensors are counted."""

import torch

from agnoreg.backend import Backend, Counting
from agnoreg_torch import _private
from agnoreg_torch._state import mapped, recorded, traced

Array = torch.Tensor


class TorchCounting(Counting):
    """NumPy counts in tensors on the host, CuPy in those on a card, both in the tensors' memory."""

    def recorded(self, array: Array) -> bool:
        """Return whether a gradient by this tensor would be recorded."""
        return recorded(array) or _private.has_tangent(array)

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return views of tensors on the host as NumPy's arrays, of those on a card as CuPy's.

        Raises
        ------
        TypeError
            While a function is traced, and for tensors on a device that neither of them knows.
        """
        if traced() or mapped():
            raise TypeError("A metric needs the numbers: call it outside functions that PyTorch compiles or maps.")
        if all(array.device.type == "cpu" for array in arrays):
            return super().take(arrays)
        if any(array.device.type != "cuda" for array in arrays):
            raise TypeError(f"A metric of tensors on {arrays[0].device} is computed on the host: pass .cpu() ones.")
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                f"A metric of tensors on {arrays[0].device} needs CuPy: pip install agnoreg[cupy12] (or cupy13), or "
                "pass .cpu() ones."
            ) from error
        return adopted(tuple(array.detach() for array in arrays))
