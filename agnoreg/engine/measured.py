"""x"""

from collections.abc import Callable
from typing import Any, TypeVar

from agnoreg.engine.function import Differentiable

F = TypeVar("F", bound=Callable[..., Any])


def measured_by(kind: Callable[..., Differentiable]) -> Callable[[F], F]:
    """Note on a function of arrays which measure its options make, so that `agnoreg.value_and_grad` takes it."""

    def note(function: F) -> F:
        function.measure = kind  # type: ignore[attr-defined]
        return function

    return note
