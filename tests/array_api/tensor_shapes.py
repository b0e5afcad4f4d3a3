"""A plugin of pytest for the run of array-api-tests: it lets the suite's own helpers take the shape of a tensor.

Its name stands after ``-p``, as the Makefile has it.

``x.shape`` of a tensor is a ``tf.TensorShape``, which is no tuple. It equals one and has its length and its items, but
ndindex and Hypothesis, which the suite hands it to, ask for a tuple by type. They get one here. The suite's tests, the
namespace and the tensors are left as they are. An example that fails is reported as it was found and not made smaller,
which takes most of the time where failures are expected.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import Phase, settings


def _tuples(function: Callable[..., Any]) -> Callable[..., Any]:
    def as_tuple(value: Any) -> Any:
        return tuple(value) if isinstance(value, tf.TensorShape) else value

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*map(as_tuple, args), **{name: as_tuple(value) for name, value in kwargs.items()})

    return called


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Add to the settings that the suite has made."""
    suites = settings.get_profile("array-api-tests")
    settings.register_profile("agnoreg", suites, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("agnoreg")


def pytest_collection_finish() -> None:
    """Replace the helpers once the suite is imported."""
    from array_api_tests import xps
    from ndindex import shapetools

    shapetools.asshape = _tuples(shapetools.asshape)
    for name in ("arrays", "broadcastable_shapes", "indices", "mutually_broadcastable_shapes"):
        setattr(xps, name, _tuples(getattr(xps, name)))
