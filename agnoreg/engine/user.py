"""Adapter that makes a user's own function `Differentiable`."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.function import Differentiable
from agnoreg.engine.validate import check_same_shape

Array = Any

#: Parameters of a function that take arguments by position.
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class FromCall(Differentiable):
    """A user's own function of arrays with values ``(B,)``; the gradient is the user's or the framework's.

    The user's functions get arrays in the compute dtype.
    """

    call: Callable[..., Array]
    gradient: Callable[..., Any] | None = None
    inputs: int = 2
    title: str = "The loss"
    #: Whether the arrays must have equal shapes, as for a loss; a plain function may take any.
    alike: bool = True

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether the user gave a gradient."""
        return self.gradient is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays in the user's signature."""
        own = [one.name for one in inspect.signature(self.call).parameters.values() if one.kind in POSITIONAL]
        return (*own[: self.inputs], *super().names[len(own) :])

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes must be equal and are not."""
        if self.alike and len(shapes) == 2:
            check_same_shape(*shapes)

    def _called(self, arrays: tuple[Array, ...]) -> Array:
        """Call the user's function; arrays that are keyword-only parameters are passed by name."""
        parameters = inspect.signature(self.call).parameters.values()
        count = sum(one.kind in POSITIONAL for one in parameters)
        if count >= len(arrays) or any(one.kind is one.VAR_POSITIONAL for one in parameters):
            return self.call(*arrays)
        return self.call(*arrays[:count], **dict(zip(self.names[count:], arrays[count:], strict=True)))

    def takes(self, name: str) -> bool:
        """Return whether the user's function has an argument of this name, or ``**keywords``."""
        parameters = inspect.signature(self.call).parameters
        return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def check_masked(self) -> None:
        """Raise TypeError if the user's function takes no mask."""
        if not self.takes("mask"):
            raise TypeError(f"{self.title} takes no mask: give its call an argument mask=None.")

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return the function with further arguments bound; raise TypeError if it does not take them."""
        if not all(map(self.takes, keywords)):
            return super().bind(keywords)
        gradient = partial(self.gradient, **keywords) if self.gradient else None
        return replace(self, call=partial(self.call, **keywords), gradient=gradient)

    def _masked(self, arrays: tuple[Array, ...]) -> tuple["FromCall", tuple[Array, ...]]:
        """Return the function with the mask bound, and the inputs without the mask."""
        inputs, mask = arrays[: self.inputs], arrays[self.inputs :]
        function = self.bind({"mask": mask[0]})
        assert isinstance(function, FromCall)
        return function, inputs

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return what the user's function returns."""
        if len(arrays) > self.inputs:
            function, arrays = self._masked(arrays)
            return function.value(backend, arrays)
        dtype = backend.dtypes.compute(*arrays)
        values = self._called(tuple(backend.xp.astype(array, dtype) for array in arrays))
        batch = backend.shape(arrays[0])[:1]
        shape = backend.shape(values) if backend.owns(values) else None
        if shape is None or len(shape) != 1 or (None not in (*shape, *batch) and shape != batch):
            found = f"shape {shape}" if shape is not None else f"{type(values).__name__}"
            raise ValueError(f"{self.title} must return one value a sample, shape {batch}, got {found}.")
        return values

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the user's value and gradient, or the framework's gradient of the user's value."""
        if len(arrays) > self.inputs:
            masked, arrays = self._masked(arrays)
            return masked.value_and_gradients(backend, arrays, wrt, scale)
        dtype = backend.dtypes.compute(*arrays)
        arrays = tuple(backend.xp.astype(array, dtype) for array in arrays)
        if self.gradient is None:

            def function(*arrays: Array) -> Array:
                return self.value(backend, arrays)

            function.__name__ = self.title
            value, gradients = backend.autodiff.value_and_grad(function, arrays, wrt)
        else:
            value, gradients = self.value(backend, arrays), self.gradient(*arrays, wrt=wrt)
            found = [backend.shape(gradient) for gradient in gradients] if isinstance(gradients, tuple | list) else None
            wanted = [backend.shape(arrays[index]) for index in wrt]
            if found != wanted:
                described = "no tuple" if found is None else f"shapes {found}"
                raise ValueError(f"{self.title}.gradient must return a tuple of shapes {wanted}, got {described}.")
        return value, tuple(gradient if scale == 1.0 else gradient * scale for gradient in gradients)
