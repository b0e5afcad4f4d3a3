"""A loss inside PyTorch's compiler: one operator, ``agnoreg::loss``, into which the compiler does not look.

The compiler would trace hundreds of operations, slab by slab, and could not use kernels. It gets a single node instead,
which computes the value together with the gradients that are wanted, as an eager call does.

A node takes tensors and plain values, so a function goes into it as a text and a list of numbers, from which it is made
again: a graph that is stored means the same in another process.
"""

import json
import operator
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

import torch
from array_api_compat import torch as xp

from agnoreg.backend import broadcast_samples, get_backend
from agnoreg.engine.function import Differentiable
from agnoreg.engine.words import CLASS, NUMBER, from_words, name_of
from agnoreg_torch import _private
from agnoreg_torch._state import without_autocast

Array = torch.Tensor
Arrays = tuple[Array, ...]


# --- A function as a text and numbers ---------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
def _parameters(kind: type) -> tuple[str, ...] | None:
    """Return the names of a class's parameters; None if it is no dataclass."""
    return tuple(item.name for item in fields(kind) if item.init) if is_dataclass(kind) else None


def _is_plain(value: Any) -> bool:
    """Return whether a function, or a parameter of one, consists of plain values."""
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if isinstance(value, tuple):
        return all([_is_plain(item) for item in value])
    names = _parameters(type(value)) if isinstance(value, Differentiable) else None
    return names is not None and all([_is_plain(getattr(value, name)) for name in names])


def _described(value: Any, numbers: list[float]) -> Any:
    """Return a plain value or function as nested tuples; numbers with a fraction are appended to ``numbers``.

    The compiler runs this, and compiles again for another value. It may take a number for a variable: one with a
    fraction is therefore an argument of the operator, and an integer is made constant.
    """
    if isinstance(value, float):
        numbers.append(value)
        return float, len(numbers) - 1
    if isinstance(value, int) and not isinstance(value, bool):
        return operator.index(value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, tuple):
        return tuple, *[_described(item, numbers) for item in value]
    kind = type(value)
    names = _parameters(kind) or ()
    return kind, *[(name, _described(getattr(value, name), numbers)) for name in names]


@torch.compiler.assume_constant_result
def _text(description: Any) -> str:
    return json.dumps(_for_json(description), separators=(",", ":"))


def _for_json(description: Any) -> Any:
    if not isinstance(description, tuple):
        return description
    kind, *items = description
    if kind is float:
        return {NUMBER: items[0]}
    if kind is tuple:
        return [_for_json(item) for item in items]
    return {CLASS: name_of(kind)} | {name: _for_json(value) for name, value in items}


@lru_cache(maxsize=1024)
def _function(text: str, numbers: tuple[float, ...]) -> Differentiable:
    made: Differentiable = from_words(text, numbers)
    return made


# --- The operator -----------------------------------------------------------------------------------------------------


@torch.library.custom_op(
    "agnoreg::loss",
    mutates_args=(),
    schema=(
        "(str function, float[] numbers, int[] wrt, Tensor first, Tensor? second, Tensor? mask)"
        " -> (Tensor, Tensor, Tensor)"
    ),
)
def _loss(
    function: str, numbers: Sequence[float], wrt: Sequence[int], first: Array, second: Array | None, mask: Array | None
) -> tuple[Array, Array, Array]:
    """Return the value, and a gradient for each of the two inputs, which is empty where it is not wanted."""
    backend, made = get_backend("torch"), _function(function, tuple(numbers))
    arrays = tuple(x.detach() for x in (first, second, mask) if x is not None)
    gradients: Arrays = ()
    with torch.no_grad(), without_autocast(first.device.type):
        if wrt:
            value, gradients = made.value_and_gradients(backend, arrays, tuple(wrt))
        else:
            value = made.value(backend, arrays)
    return _results(value, wrt, [gradient.contiguous() for gradient in gradients])


@_loss.register_fake
def _(
    function: str, numbers: Sequence[float], wrt: Sequence[int], first: Array, second: Array | None, mask: Array | None
) -> tuple[Array, Array, Array]:
    inputs = [x for x in (first, second) if x is not None]
    dtype = get_backend("torch").dtypes.compute(*inputs)
    value = first.new_empty((first.shape[0],), dtype=dtype)
    return _results(value, wrt, [value.new_empty(inputs[index].shape) for index in wrt])


def _results(value: Array, wrt: Sequence[int], gradients: Sequence[Array]) -> tuple[Array, Array, Array]:
    made = dict(zip(wrt, gradients, strict=True))
    first, second = (made[index] if index in made else value.new_empty(0) for index in range(2))
    return value, first, second


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Arrays) -> None:
    _, _, wrt, *given, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.kept = [(index, given[index].dtype) for index in wrt]
    ctx.save_for_backward(*(output[1 + index] for index in wrt))


def _backward(ctx: Any, cotangent: Array | None, *_: Any) -> tuple[Array | None, ...]:
    results: list[Array | None] = [None, None]
    if cotangent is not None:
        for (index, dtype), gradient in zip(ctx.kept, ctx.saved_tensors, strict=True):
            results[index] = (gradient * broadcast_samples(xp, cotangent, gradient)).to(dtype)
    return None, None, None, *results, None


_loss.register_autograd(_backward, setup_context=_keep)


# --- What a traced call does with it ----------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
def _transformed() -> bool:
    return _private.transformed()


def is_hidden(function: Any) -> bool:
    """Return whether a compiler traces this call and may get it as the operator.

    A user's own function it looks into; and so it does where torch.func transforms the call.
    """
    return torch.compiler.is_compiling() and not _transformed() and function.inputs <= 2 and _is_plain(function)


def value_and_gradients(function: Any, arrays: Arrays, wrt: tuple[int, ...]) -> tuple[Array, Arrays]:
    """Return the value and the gradients at unit cotangent, from the operator; autograd knows it."""
    numbers: list[float] = []
    text = _text(_described(function, numbers))
    first, *others = arrays
    second = others.pop(0) if function.inputs == 2 else None
    mask = others.pop(0) if others else None
    value, *gradients = torch.ops.agnoreg.loss(text, numbers, wrt, first, second, mask)
    return value, tuple([gradients[index] for index in wrt])
