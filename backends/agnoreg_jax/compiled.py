"""Measures and filters that JAX compiles as a whole."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
from jax import numpy as xp

from agnoreg.backend import Backend, Operations
from agnoreg_jax._parameters import joined
from agnoreg_jax._private import traced

Array = Any

#: What XLA is told where the adapter itself compiles, as ``jax.jit`` takes it; None for JAX's own choice.
COMPILER_OPTIONS: dict[str, Any] | None = None


def tracing() -> bool:
    """Return whether operations are recorded now: then even a constant is."""
    return traced(xp.zeros(()))


class Compiled:
    """A measure that is compiled once for every shape; of its numbers only arrays may change."""

    def __init__(self, backend: Backend, kept: Any, parameters: tuple[Array, ...], elements: int) -> None:
        self.backend, self.kept, self.parameters, self.elements = backend, kept, parameters, elements

    def _run(self, what: str, arrays: tuple[Array, ...], wrt: tuple[int, ...] | None = None, **numbers: Any) -> Any:
        function = graph_of(self.backend, self.kept, what, wrt, self.elements, options_for(*self.parameters, *arrays))
        return function(self.parameters, arrays, **numbers)

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value."""
        return self._run("compute", arrays)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel."""
        return self._run("compute_image", arrays)

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients."""
        return self._run("compute_with_gradients", arrays, wrt, scale=scale)


Options = tuple[tuple[str, Any], ...]


def options_for(*arrays: Array) -> Options:
    """Return the options, none where this becomes a part of what somebody else compiles."""
    nested = any(traced(x) for x in arrays)
    return () if not COMPILER_OPTIONS or nested or tracing() else tuple(COMPILER_OPTIONS.items())


@lru_cache(maxsize=1024)
def graph_of(
    backend: Backend, kept: Any, what: str, wrt: tuple[int, ...] | None, elements: int, options: Options
) -> Callable[..., Any]:
    """Return a measure's method, to be compiled for every shape; slabs of another size are another program."""
    more = {} if wrt is None else {"wrt": wrt}

    def function(parameters: tuple[Array, ...], arrays: tuple[Array, ...], **numbers: Any) -> Any:
        return getattr(joined(kept, parameters), what)(backend, arrays, **more, **numbers)

    return jax.jit(function, compiler_options=dict(options))


@lru_cache(maxsize=128)
def filter_of(
    backend: Backend, kernels: tuple[Any, ...], transpose: bool, options: Options
) -> Callable[[Array], Array]:
    """Return a separable filter, to be compiled for every shape."""
    return jax.jit(
        lambda x: Operations.conv3d(backend.operations, x, kernels, transpose), compiler_options=dict(options)
    )
