"""Gradients as each framework's own automatic differentiation gives them, by the way that its users would write."""

from collections.abc import Callable
from typing import Any

import pytest

Arrays = tuple[Any, ...]


def gradients(backend: Any, function: Callable[..., Any], arrays: Arrays) -> Arrays:
    """Return the gradient of the scalar ``function(*arrays)`` for each array; without autodiff the test is skipped."""
    driver = DRIVERS.get(backend.name)
    if driver is not None:
        return driver(function, arrays)
    try:
        return backend.autodiff.value_and_grad(function, arrays, tuple(range(len(arrays))))[1]
    except NotImplementedError:
        pytest.skip(f"{backend.name} has no automatic differentiation")


def _torch(function: Callable[..., Any], arrays: Arrays) -> Arrays:
    leaves = tuple(array.detach().clone().requires_grad_() for array in arrays)
    function(*leaves).backward()
    return tuple(leaf.grad for leaf in leaves)


def _tensorflow(function: Callable[..., Any], arrays: Arrays) -> Arrays:
    import tensorflow

    with tensorflow.GradientTape() as tape:
        tape.watch(arrays)
        value = function(*arrays)
    return tuple(tape.gradient(value, arrays))


#: A backend that is not here is differentiated by its adapter's ``value_and_grad``.
DRIVERS = {"torch": _torch, "tensorflow": _tensorflow}
