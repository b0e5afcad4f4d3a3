"""Closed-form gradients behind ``jax.custom_jvp``."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
from jax import lax
from jax import numpy as xp

from agnoreg.backend import Autodiff
from agnoreg_jax._parameters import joined, split
from agnoreg_jax._private import moves, traced

Array = Any


class JaxAutodiff(Autodiff):
    """JAX's transformations."""

    takes_parameters: ClassVar[bool] = True

    def detach(self, array: Array) -> Array:
        """Return the array as a constant."""
        return lax.stop_gradient(array)

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Return whether all entries are true; None on a card and while anything traces."""
        result = condition()
        if traced(result) or any(one.platform != "cpu" for one in result.devices()):
            return None
        return bool(result.all())

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value, whose tangent is the sum of the gradients times the inputs' tangents.

        From that one rule JAX makes reverse mode too, for it is linear in the tangents. Differentiated once more it is
        JAX that differentiates the gradient's own operations. An array among the function's parameters, such as a
        spacing, has no closed form: by that JAX differentiates the value itself.
        """
        kept, parameters = split(function)

        @jax.custom_jvp
        def value(parameters: tuple[Array, ...], arrays: tuple[Array, ...]) -> Array:
            return joined(kept, parameters).value(self.backend, arrays)

        @partial(value.defjvp, symbolic_zeros=True)
        def tangent(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
            # Forward mode hands on what it was given: NumPy's arrays, too.
            parameters, arrays = jax.tree.map(xp.asarray, primals)
            # A mask, which may follow the inputs, is a constant.
            moving = {i: move for i, move in enumerate(tangents[1][: function.inputs]) if moves(move)}
            if moving:
                result, gradients = joined(kept, parameters).value_and_gradients(self.backend, arrays, tuple(moving))
            else:
                result, gradients = joined(kept, parameters).value(self.backend, arrays), ()
            total = xp.zeros_like(result)
            for gradient, move in zip(gradients, moving.values(), strict=True):
                total += self._products(gradient, move)
            if any(map(moves, tangents[0])):

                def by_parameters(*parameters: Array) -> Array:
                    return joined(kept, parameters).value(self.backend, arrays)

                steps = (x if moves(x) else xp.zeros(x.shape, x.dtype) for x in tangents[0])
                total += jax.jvp(by_parameters, parameters, tuple(steps))[1]
            return result, total

        return value(parameters, arrays)

    def _products(self, gradient: Array, move: Array) -> Array:
        """Return the sums of the products of each sample; a cotangent, too, meets the gradient before it is rounded."""
        products = gradient * xp.astype(move, gradient.dtype)
        sums = xp.sum(products, axis=tuple(range(1, products.ndim)), dtype=self.backend.dtypes.accumulator(products))
        return xp.astype(sums, gradient.dtype)

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of a function in reverse mode.

        Raises
        ------
        TypeError
            If an input to differentiate by is not floating-point.
        """
        for i in wrt:
            if not xp.isdtype(arrays[i].dtype, "real floating"):
                raise TypeError(f"JAX differentiates by floating-point arrays, input {i} is {arrays[i].dtype}.")

        def of(*moved: Array) -> Array:
            inputs = list(arrays)
            for i, x in zip(wrt, moved, strict=True):
                inputs[i] = x
            return function(*inputs)

        value, back = jax.vjp(of, *(arrays[i] for i in wrt))
        return value, back(xp.ones_like(value))
