"""Combinators of differentiable functions, each with its gradient: negation, weighted sum, smoothing of the inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.engine import doubts
from agnoreg.engine.function import Differentiable, apply
from agnoreg.engine.slabs import fill_masked
from agnoreg.engine.validate import check_rank

Array = Any


@dataclass(frozen=True)
class _Wrapping(Differentiable):
    """Base class of combinators that wrap a single function."""

    function: Differentiable

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """The number of arrays that the wrapped function takes."""
        return self.function.inputs

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether the wrapped function's gradient is closed-form."""
        return self.function.closed_form

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the wrapped function's arrays."""
        return self.function.names

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return this combinator around the function with further arguments bound."""
        return replace(self, function=self.function.bind(keywords))

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit the wrapped function."""
        self.function.check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return a warning about probably unintended shapes, or an empty string."""
        return self.function.doubt(*shapes)

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn if the inputs' values are outside the wrapped function's domain."""
        self.function.look(backend, arrays)

    def check_masked(self) -> None:
        """Raise TypeError if the wrapped function takes no mask."""
        self.function.check_masked()

    def channel_axis(self, rank: int) -> int:
        """Return the axis that a mask may lack."""
        return self.function.channel_axis(rank)


@dataclass(frozen=True)
class Negated(_Wrapping):
    """``offset - function``; the offset defaults to 0.

    It is attached to autodiff as a whole, so that the sign is in the gradient's factor and costs no pass of its own.
    """

    offset: float = 0.0

    @property
    def composed(self) -> bool:  # type: ignore[override]
        """Whether the wrapped function is composed of others."""
        return self.function.composed

    @property
    def backward_needs_inputs(self) -> bool:  # type: ignore[override]
        """Whether the wrapped function's `backward` reads the arrays."""
        return self.function.backward_needs_inputs

    @property
    def fused_value_and_gradient(self) -> bool:  # type: ignore[override]
        """Whether the wrapped function computes both in one pass."""
        return self.function.fused_value_and_gradient

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return ``offset - value``."""
        return self._turned(self.function.value(backend, arrays))

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``offset - value`` and its gradient."""
        value, gradients = self.function.value_and_gradients(backend, arrays, wrt, -scale)
        return self._turned(value), gradients

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``offset - value``, and what the wrapped function saves."""
        value, saved = self.function.forward(backend, arrays, wrt)
        return self._turned(value), saved

    def backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt`` times a cotangent, which is negated for the wrapped function."""
        return self.function.backward(backend, arrays, wrt, of, saved, -cotangent)

    def _turned(self, value: Array) -> Array:
        return self.offset - value if self.offset else -value


@dataclass(frozen=True)
class WeightedSum(Differentiable):
    """A weighted sum of functions of the same inputs."""

    composed: ClassVar[bool] = True

    functions: tuple[Differentiable, ...]
    weights: tuple[float, ...]

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """The number of arrays that each function takes."""
        return self.functions[0].inputs

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether every gradient is closed-form."""
        return all(function.closed_form for function in self.functions)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the first function's arrays."""
        return self.functions[0].names

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return the sum of the functions with further arguments bound."""
        return replace(self, functions=tuple(function.bind(keywords) for function in self.functions))

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit one of the functions."""
        for function in self.functions:
            function.check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return a warning about probably unintended shapes, or an empty string."""
        return next(filter(None, (function.doubt(*shapes) for function in self.functions)), "")

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn if the inputs' values are outside the domain of one of the functions."""
        for function in self.functions:
            function.look(backend, arrays)

    def check_masked(self) -> None:
        """Raise TypeError if one of the functions takes no mask."""
        for function in self.functions:
            function.check_masked()

    def channel_axis(self, rank: int) -> int:
        """Return the axis that a mask of the first function may lack."""
        return self.functions[0].channel_axis(rank)

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the weighted sum of the values.

        The inputs are cast to the compute dtype first, so that gradients of half precision are added before rounding.
        """
        xp, dtype = backend.xp, backend.dtypes.compute(*arrays[: self.inputs])
        arrays = tuple(xp.astype(x, dtype, copy=False) if xp.isdtype(x.dtype, "real floating") else x for x in arrays)
        return weighted_sum(self.weights, [apply(function, backend, arrays) for function in self.functions])

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the weighted sum and its gradient."""
        parts = [
            function.value_and_gradients(backend, arrays, wrt, scale * weight)
            for function, weight in zip(self.functions, self.weights, strict=True)
        ]
        gradients = parts[0][1]
        for _, more in parts[1:]:
            gradients = tuple(a + b for a, b in zip(gradients, more, strict=True))
        return weighted_sum(self.weights, [value for value, _ in parts]), gradients


def weighted_sum(weights: Sequence[float], values: Sequence[Array]) -> Array:
    """Return ``sum(weight * value)``."""
    result = values[0] * weights[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        result = result + value * weight
    return result


@dataclass(frozen=True)
class Filtered(_Wrapping):
    """A function of smoothed inputs: one kernel along each spatial axis; channels are not mixed."""

    kernel: tuple[float, ...]
    spatial_dims: int = 3
    data_format: str | None = None

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit."""
        dims, axes = self.spatial_dims, ", ".join(f"dim{i + 1}" for i in range(self.spatial_dims))
        for name, shape in zip(("y_true", "y_pred"), shapes, strict=False):
            check_rank(name, shape, dims + 1, f"(batch, {axes}), to be smoothed")
            if self.data_format is None and len(shape) == dims + 2 and shape[1] == 1 and shape[-1] != 1:
                raise ValueError(
                    f"{name} has shape {shape}, whose channel seems to come first: channels go last, "
                    f"(batch, {axes}, channels), or where data_format says, or scales would smooth across them."
                )
        super().check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return a warning about probably unintended shapes, or an empty string."""
        first = 2 if self.data_format == "channels_first" else 1
        axes = range(first, first + self.spatial_dims)
        if doubts.thin(shapes[0], axes, lambda: [len(self.kernel)] * self.spatial_dims):
            return doubts.THIN.format("scales smooth it with", "a volume this thin has no scales")
        return super().doubt(*shapes)

    def _filter(self, backend: Backend, array: Array, transpose: bool = False) -> Array:
        kernels = [self.kernel if axis < self.spatial_dims else None for axis in range(3)]
        if self.data_format != "channels_first":
            return backend.operations.conv3d(array, kernels, transpose)
        shape = backend.shape(array)
        array = backend.operations.conv3d(backend.xp.reshape(array, (-1, *shape[2:])), kernels, transpose)
        return backend.xp.reshape(array, (-1, *shape[1:]))

    def _smooth(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the smoothed inputs and the unchanged mask; masked voxels are 0, like those beyond the border."""
        inputs, mask = arrays[: self.inputs], arrays[self.inputs :]
        dtype = backend.dtypes.compute(*inputs)
        inputs = tuple(backend.xp.astype(array, dtype) for array in inputs)
        for weights in mask:
            inputs = fill_masked(backend, inputs, weights)
        return *(self._filter(backend, array) for array in inputs), *mask

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value of the smoothed inputs."""
        return apply(self.function, backend, self._smooth(backend, arrays))

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value of the smoothed inputs, and its gradient after the adjoint of the filter."""
        value, gradients = self.function.value_and_gradients(backend, self._smooth(backend, arrays), wrt, scale)
        return value, self._back(backend, gradients, arrays[self.inputs :])

    def _back(self, backend: Backend, gradients: tuple[Array, ...], mask: tuple[Array, ...]) -> tuple[Array, ...]:
        gradients = tuple(self._filter(backend, gradient, transpose=True) for gradient in gradients)
        for weights in mask:
            gradients = fill_masked(backend, gradients, weights)
        return gradients

    @property
    def backward_needs_inputs(self) -> bool:  # type: ignore[override]
        """Whether the wrapped function's `backward` reads the arrays."""
        return self.function.backward_needs_inputs

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value of the smoothed inputs, and what to save; `backward` smooths the inputs again."""
        return self.function.forward(backend, self._smooth(backend, arrays), wrt)

    def backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt`` times a cotangent, after the adjoint of the filter."""
        smoothed = self._smooth(backend, arrays) if self.backward_needs_inputs else arrays
        gradients = self.function.backward(backend, smoothed, wrt, of, saved, cotangent)
        return self._back(backend, gradients, arrays[self.inputs :])
