"""A plugin of pytest for the run of array-api-tests: it lets the suite's own helpers take the shape of a tensor.

Its name stands after ``-p``, as the Makefile has it.

``x.shape`` of a tensor is a ``tf.TensorShape``, which is no tuple. It equals one and has its length and its items. But
ndindex and Hypothesis, which the suite hands it to, ask for a tuple by type, and it does not equal one with a 1.0 in
it, as the suite has once. They get a tuple here. The suite's tests, the namespace and the tensors are left as they
are. An example that fails is reported as it was found and not made smaller, which takes most of the time where
failures are expected.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import tensorflow as tf
from hypothesis import Phase, settings
from hypothesis.strategies import SearchStrategy


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, tf.TensorShape) else value


def _with_tuples(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        kwargs = {name: _as_tuple(value) for name, value in kwargs.items()}
        if isinstance(kwargs.get("shape"), SearchStrategy):
            kwargs["shape"] = kwargs["shape"].map(_as_tuple)
        return function(*map(_as_tuple, args), **kwargs)

    return called


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """Replace the helpers once the suite is imported, before its tests are, and add to its settings."""
    from array_api_tests import pytest_helpers, xps
    from ndindex import shapetools

    strategies = ["arrays", "broadcastable_shapes", "indices", "mutually_broadcastable_shapes"]
    checks = ["assert_result_shape", "assert_shape"]
    for where, names in ((shapetools, ["asshape"]), (pytest_helpers, checks), (xps, strategies)):
        for name in names:
            setattr(where, name, _with_tuples(getattr(where, name)))
    suites = settings.get_profile("array-api-tests")
    settings.register_profile("agnoreg", suites, phases=(Phase.explicit, Phase.generate))
    settings.load_profile("agnoreg")
