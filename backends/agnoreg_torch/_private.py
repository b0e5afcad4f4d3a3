"""What PyTorch does not make public, and what is done where that has vanished: it is slower then, and as right."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

from agnoreg.backend.private import PrivateNames

names = PrivateNames()
_is_wrapped = names.find("torch._C._functorch.is_functorch_wrapped_tensor")
_unwrapped = names.find("torch._C._functorch.get_unwrapped")
_is_batched = names.find("torch._C._functorch.is_batchedtensor")
_is_legacy_batched = names.find("torch._C._functorch.is_legacy_batchedtensor")
_innermost_transform = names.find("torch._C._functorch.peek_interpreter_stack")
_count_modes = names.find("torch._C._len_torch_dispatch_stack")
_keeps_graph = names.find("torch._C._autograd._get_current_graph_task_keep_graph")
_no_subclasses = names.find("torch._C.DisableTorchFunctionSubclass")


def transformed() -> bool:
    """Return whether torch.func transforms what is computed now; yes where nobody knows."""
    return _innermost_transform is None or _innermost_transform() is not None


def dispatched() -> bool:
    """Return whether a mode sees each operation, such as one that records them; yes where nobody knows."""
    return _count_modes is None or _count_modes() > 0


def graph_is_kept() -> bool:
    """Return whether this backward pass keeps its graph, so that there may be another; yes where nobody knows."""
    return _keeps_graph is None or _keeps_graph()


def without_subclasses() -> AbstractContextManager[Any]:
    """Return a context in which tensor subclasses do not see the functions that are called."""
    return nullcontext() if _no_subclasses is None else _no_subclasses()


def has_memory(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has memory of its own, and does not stand for others or for zeros."""
    try:
        return tensor.data_ptr() != 0 or tensor.numel() == 0
    except RuntimeError:  # a tensor of torch.func's, or of a batch of gradients
        return False


def _layers(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield a tensor and those that it stands for: each of torch.func's transforms wraps tensors in others."""
    yield tensor
    if _is_wrapped is None or _unwrapped is None:
        return
    while _is_wrapped(tensor):
        tensor = _unwrapped(tensor)
        yield tensor


def _batch(tensor: torch.Tensor) -> bool:
    """Return whether a tensor itself is a batch that torch.func maps over."""
    return not has_memory(tensor) if _is_batched is None else _is_batched(tensor)


def batched(tensor: torch.Tensor) -> bool:
    """Return whether a tensor stands for a batch of them, which PyTorch maps over."""
    if _is_legacy_batched is None:
        return not has_memory(tensor)
    return any(_batch(one) or _is_legacy_batched(one) for one in _layers(tensor))


def requires_grad(tensor: torch.Tensor) -> bool:
    """Return whether a tensor requires a gradient, or one that it stands for; perhaps, where nobody knows."""
    if _is_wrapped is None or _unwrapped is None:
        return tensor.is_floating_point()
    return any(one.requires_grad for one in _layers(tensor))


def has_tangent(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has a tangent, of forward mode."""
    if not transformed():
        return unpack_dual(tensor).tangent is not None
    return any(unpack_dual(one).tangent is not None for one in _layers(tensor) if not _batch(one))
