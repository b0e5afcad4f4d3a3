"""Closed-form gradients behind one autograd.Function."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from array_api_compat import torch as xp

from agnoreg.backend import Autodiff, broadcast_samples
from agnoreg_torch import _private, compiled
from agnoreg_torch._state import batched, mapped, recorded, traced, untouched, without_autocast

Array = torch.Tensor

SECOND_DERIVATIVE = (
    "The second derivative of an agnoreg loss is not defined through its closed-form gradient: compute the loss inside "
    "`with agnoreg.native_autodiff():` to have PyTorch differentiate it twice."
)


class _Value(torch.autograd.Function):
    """A function's value."""

    @staticmethod
    def forward(ctx: Any, backend: Any, function: Any, wrt: tuple[int, ...], *arrays: Array) -> Array:
        # A gradient that costs no pass of its own is made now: then the inputs need not be kept.
        made = function.fused_value_and_gradient
        value, saved = (function.value_and_gradients if made else function.forward)(backend, arrays, wrt)
        _Value.keep(ctx, backend, function, wrt, arrays, saved, made)
        return value

    @staticmethod
    def keep(
        ctx: Any,
        backend: Any,
        function: Any,
        wrt: tuple[int, ...],
        arrays: Sequence[Array],
        saved: Sequence[Array],
        made: bool = False,
    ) -> None:
        """Keep what the gradients need, or where they are ``made`` the arrays whose dtype they get."""
        ctx.backend, ctx.function, ctx.wrt, ctx.count, ctx.made = backend, function, wrt, len(arrays), made
        ctx.kept = tuple(range(len(arrays))) if function.backward_needs_inputs and not made else wrt
        ctx.save_for_backward(*(arrays[index] for index in ctx.kept), *saved)

    @staticmethod
    def backward(ctx: Any, cotangent: Array, *_: Any) -> tuple[Array | None, ...]:
        backend = ctx.backend
        # Read once: a checkpoint computes them for that.
        tensors = ctx.saved_tensors
        kept, saved = tensors[: len(ctx.kept)], tensors[len(ctx.kept) :]
        # An array that is not kept is not read.
        arrays = tuple(kept[ctx.kept.index(i)] if i in ctx.kept else cotangent for i in range(ctx.count))
        with torch.no_grad(), without_autocast(cotangent.device.type):
            if ctx.made:
                gradients = _scaled(saved, cotangent, given_away=not _private.graph_is_kept())
            elif batched(cotangent):
                # Of many cotangents at once the gradient is made once, at unit cotangent: they are factors of samples.
                unit = torch.ones(cotangent.shape, dtype=cotangent.dtype, device=cotangent.device)
                made = ctx.function.backward(backend, arrays, ctx.wrt, ctx.wrt, saved, unit)
                gradients = _scaled(made, cotangent, given_away=False)
            else:
                gradients = ctx.function.backward(backend, arrays, ctx.wrt, ctx.wrt, saved, cotangent)
        results: list[Array | None] = [None] * ctx.count
        for index, gradient in zip(ctx.wrt, gradients, strict=True):
            result = gradient.to(arrays[index].dtype)
            # Recorded only where somebody may differentiate once more.
            results[index] = (
                _Gradient.apply(result, cotangent, kept[0], kept[ctx.kept.index(ctx.wrt[-1])])
                if torch.is_grad_enabled()
                else result
            )
        return None, None, None, *results


class _MappedValue(torch.autograd.Function):
    """The same for torch.func and compilers, which take longer: what the gradients need is of its results."""

    generate_vmap_rule = True

    @staticmethod
    def forward(backend: Any, function: Any, wrt: tuple[int, ...], *arrays: Array) -> tuple[Array, ...]:
        value, saved = function.forward(backend, arrays, wrt)
        return value, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Array, ...]) -> None:
        backend, function, wrt, *arrays = inputs
        ctx.mark_non_differentiable(*output[1:])
        _Value.keep(ctx, backend, function, wrt, arrays, output[1:])

    backward = _Value.backward


class _Gradient(torch.autograd.Function):
    """A gradient, as a function of the cotangent and the arrays.

    Its derivatives by them are unknown, so it refuses to be differentiated; if they were no inputs, a second derivative
    would silently be zero.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Array, cotangent: Array, first: Array, last: Array) -> Array:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(SECOND_DERIVATIVE)


def _scaled(gradients: Sequence[Array], cotangent: Array, given_away: bool) -> Sequence[Array]:
    """Return gradients times a cotangent ``(B,)``; those that are given away, in their own memory where that can be."""
    multiply: Callable[[Array, Array], Array] = torch.mul
    if given_away and untouched(cotangent) and _apart(gradients):
        # On a card nobody looks: that would wait for it.
        if cotangent.device.type == "cpu" and all(factor == 1.0 for factor in cotangent.tolist()):
            return gradients
        multiply = torch.Tensor.mul_
    return [multiply(gradient, broadcast_samples(xp, cotangent, gradient)) for gradient in gradients]


def _apart(gradients: Sequence[Array]) -> bool:
    """Return whether no two gradients share memory, as those of a symmetric function of both images may."""
    return len({gradient.untyped_storage().data_ptr() for gradient in gradients}) == len(gradients)


class TorchAutodiff(Autodiff):
    """PyTorch's autograd and torch.func."""

    def detach(self, array: Array) -> Array:
        """Return the tensor detached."""
        return array.detach()

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Return whether all entries are true; None on a card, and while something traces or batches operations."""
        if traced():
            return None
        result = condition()
        if result.device.type != "cpu":
            return None
        try:
            return bool(result.all())
        except RuntimeError:  # a tensor of torch.func's, which has no value of its own
            return None

    def visible(self, array: Array) -> bool:
        """Return whether the tensor is in the host's memory, and nothing traces or transforms operations."""
        return array.device.type == "cpu" and not traced() and not _private.transformed()

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value; where a tensor requires a gradient, with that gradient hung on it."""
        wrt = tuple(i for i, array in enumerate(arrays[: function.inputs]) if recorded(array))
        if compiled.is_hidden(function):
            return compiled.value_and_gradients(function, arrays, wrt)[0]
        with without_autocast(arrays[0].device.type):
            if not wrt:
                return function.value(self.backend, arrays)
            if mapped():
                return _MappedValue.apply(self.backend, function, wrt, *arrays)[0]
            return _Value.apply(self.backend, function, wrt, *arrays)

    def value_and_gradients(
        self, function: Any, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients; a compiler gets them from one operator."""
        if not compiled.is_hidden(function):
            return super().value_and_gradients(function, arrays, wrt, scale)
        value, gradients = compiled.value_and_gradients(function, arrays, wrt)
        return value, tuple([gradient * scale for gradient in gradients])

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of a function on detached copies, so that no tensor's ``.grad`` is touched."""
        with torch.enable_grad():
            leaves = [array.detach().requires_grad_(i in wrt) for i, array in enumerate(arrays)]
            value = function(*leaves)
            if not value.requires_grad:
                return value.detach(), tuple(torch.zeros_like(leaves[i]) for i in wrt)
            gradients = torch.autograd.grad(value.sum(), [leaves[i] for i in wrt], materialize_grads=True)
        return value.detach(), gradients
