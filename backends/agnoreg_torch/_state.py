"""What is being done with tensors: whether it is recorded, traced, or mapped over."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from agnoreg_torch import _private

Array = torch.Tensor

#: Tensors that have no functions of their own.
PLAIN = (torch.Tensor, torch.nn.Parameter)


def recorded(tensor: Array) -> bool:
    """Return whether what is done with a tensor is recorded for a gradient, here or by a transform further out.

    A tensor that is mapped over does not say so itself.
    """
    if not torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling() or not mapped():
        return tensor.requires_grad
    return _private.requires_grad(tensor)


def on_card(tensor: Array) -> bool:
    return tensor.is_cuda


def plain(tensor: Array) -> bool:
    """Return whether this is memory that nothing traces, batches or differentiates as it is read."""
    if type(tensor) not in PLAIN or tensor.is_neg() or tensor.layout is not torch.strided:
        return False
    if recorded(tensor) or _private.has_tangent(tensor):
        return False
    return _private.has_memory(tensor)


def traced() -> bool:
    """Return whether operations are recorded now: a kernel would not be."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or _private.dispatched()


def untouched(tensor: Array) -> bool:
    """Return whether nothing traces, batches or differentiates what is done with a tensor."""
    if traced() or recorded(tensor) or _private.has_tangent(tensor):
        return False
    return _private.has_memory(tensor)


def mapped() -> bool:
    """Return whether torch.func may map over some tensors and not over others, which cannot hold those then."""
    return torch.compiler.is_compiling() or _private.transformed()


def batched(tensor: Array) -> bool:
    """Return whether a tensor stands for a batch of them, which PyTorch maps over."""
    return not traced() and _private.batched(tensor)


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which float32 means float32: autocast would halve the histogram's products."""
    try:
        active = torch.is_autocast_enabled(device_type)
    except RuntimeError:  # a device that knows no autocast
        active = False
    return torch.autocast(device_type, enabled=False) if active else nullcontext()
