"""Gradients as arrays, by index or by name of an argument."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.engine.function import Differentiable, _of_no_sample, checked
from agnoreg.messages import shown

Array = Any


def resolve_argnums(argnums: Any, count: int, names: Sequence[str]) -> tuple[tuple[int, ...], bool]:
    """Return the indices that ``argnums`` stands for, and whether it was a single one rather than a sequence."""
    single = isinstance(argnums, str) or not isinstance(argnums, Iterable)
    indices: list[int] = []
    for index in [argnums] if single else argnums:
        if isinstance(index, str) and index in names:
            index = names.index(index)
        if not hasattr(index, "__index__") or not -count <= operator.index(index) < count:
            raise ValueError(
                f"argnums must be indices of the loss's {count} arrays, or of their names {', '.join(names)}; "
                f"got {shown(index)}."
            )
        indices.append(operator.index(index) % count)
    return tuple(indices), single


def gradients_of(
    function: Differentiable,
    arrays: tuple[Array, ...],
    wrt: tuple[int, ...],
    mean: bool,
    masks: Mapping[str, Array | None] | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """Return the value ``(B,)`` and the gradients of its sum, or mean, over the batch, in each input's dtype."""
    backend, arrays = checked(function, arrays, masks)
    arrays = tuple(backend.autodiff.detach(array) for array in arrays)
    with backend.execution.at(arrays[0]):
        return _gradients_of(function, backend, arrays, wrt, mean)


def _gradients_of(
    function: Differentiable, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], mean: bool
) -> tuple[Array, tuple[Array, ...]]:
    xp = backend.xp
    if backend.shape(arrays[0])[0] == 0:
        value = _of_no_sample(backend, arrays[: function.inputs])
        gradients = tuple(xp.zeros_like(arrays[i], dtype=value.dtype) for i in wrt)
        return value, tuple(_in_dtype_of(backend, g, arrays[i]) for g, i in zip(gradients, wrt, strict=True))
    if not wrt:
        return backend.autodiff.detach(function.value(backend, arrays)), ()
    batch = backend.shape(arrays[0])[0] if mean else 1
    value, gradients = backend.autodiff.value_and_gradients(function, arrays, wrt, 1.0 / (batch or 1))
    if batch is None:
        # The batch size is known only when the traced function runs.
        share = xp.ones_like(value) / xp.sum(xp.ones_like(value))
        gradients = tuple(gradient * broadcast_samples(xp, share, gradient) for gradient in gradients)
    return value, tuple(_in_dtype_of(backend, g, arrays[i]) for g, i in zip(gradients, wrt, strict=True))


def _in_dtype_of(backend: Backend, gradient: Array, array: Array) -> Array:
    if gradient.dtype == array.dtype or not backend.xp.isdtype(array.dtype, "real floating"):
        return gradient
    return backend.xp.astype(gradient, array.dtype)
