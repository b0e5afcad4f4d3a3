"""What is measured: a module a library, each with ``build(loss, arrays, backend, device)``, which returns a `Work`.

``loss`` is a configuration as `agnoreg.build_loss` takes it, ``arrays`` are NumPy arrays in agnoreg's layout and order
(y_true, y_pred; or a field). A library is imported by its module's ``build`` only, in the process that measures it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: The module of each library, and what it is called in tables.
LIBRARIES = {
    "agnoreg": ("ours", "agnoreg"),
    "compat": ("compat", "agnoreg.compat.monai"),
    "monai": ("monai", "MONAI"),
    "voxelmorph": ("voxelmorph", "VoxelMorph (neurite)"),
    "fireants": ("fireants", "FireANTs"),
    "deepreg-formula": ("deepreg_formula", "DeepReg's formula, our rendering"),
    "jax-formula": ("jax_formula", "the plain formula"),
    "simpleitk": ("simpleitk", "SimpleITK"),
    "ants": ("ants", "ANTs (antspyx)"),
    "plain": ("plain", "plain arithmetic"),
}

#: The distribution whose version is stated, of each library that needs one beside its framework.
DISTRIBUTIONS = {
    "agnoreg": "agnoreg",
    "compat": "agnoreg",
    "monai": "monai",
    "voxelmorph": "neurite",
    "fireants": "fireants",
    "simpleitk": "SimpleITK",
    "ants": "antspyx",
}


class NotOfferedError(Exception):
    """The library has no such loss."""


@dataclass(frozen=True)
class Work:
    """A loss of some library with its inputs, ready to be called."""

    #: Computes the value, and leaves it where it is.
    value: Callable[[], Any]
    #: Computes the value and its gradient by y_pred (or the field), and returns both; None where the library has none.
    gradient: Callable[[], tuple[Any, Any]] | None
    #: Turns what `value` returns into a number that is comparable with agnoreg's: a loss, to be minimised.
    number: Callable[[Any], float] = float
    #: How the definition differs from agnoreg's, in words; empty where both must be equal to 1e-3.
    differs: str = ""


def by_autograd(function, arrays, **keywords):
    """Return the `Work` of a function of PyTorch tensors, differentiated by the last of them."""
    import torch

    *rest, last = arrays

    def value():
        with torch.no_grad():
            return function(*rest, last)

    def gradient():
        leaf = last.detach().requires_grad_()
        result = function(*rest, leaf)
        return result.detach(), torch.autograd.grad(result.sum(), leaf)[0]

    return Work(value, gradient, **keywords)


def by_tape(function, arrays, graph, **keywords):
    """Return the `Work` of a function of TensorFlow tensors, differentiated by the last of them; ``graph``: traced."""
    import tensorflow as tf

    def value_and_gradient(*tensors):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors[-1])
            result = function(*tensors)
        return result, tape.gradient(result, tensors[-1])

    value, both = (tf.function(f) if graph else f for f in (function, value_and_gradient))
    return Work(lambda: value(*arrays), lambda: both(*arrays), **keywords)


def by_jit(function, arrays, **keywords):
    """Return the `Work` of a function of JAX arrays, compiled, and differentiated by the last of them."""
    import jax

    value, both = jax.jit(function), jax.jit(jax.value_and_grad(function, argnums=len(arrays) - 1))
    # Either returns before it is computed.
    return Work(lambda: jax.block_until_ready(value(*arrays)), lambda: jax.block_until_ready(both(*arrays)), **keywords)
