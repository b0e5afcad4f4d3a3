"""A framework's automatic differentiation, and what can be known while it records or traces."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from agnoreg.messages import describe

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any


class Autodiff:
    """No automatic differentiation; a part of a `Backend`, which an adapter of a framework that has some replaces."""

    #: Whether a measure may have arrays without axes among its parameters, such as a spacing that is traced.
    takes_parameters: ClassVar[bool] = False

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return ``function``'s value, with its gradient hung on the framework's autodiff where it has one."""
        return function.value(self.backend, arrays)

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of an arbitrary ``function`` of ``arrays`` by the framework's own autodiff."""
        raise NotImplementedError(
            f"{describe(function)} has no gradient of its own and {self.backend.name} has no automatic "
            "differentiation: give its class a method gradient(self, *arrays, wrt) that returns one array for each "
            "index in wrt, or let its measure() return a combination of agnoreg's own, or pass arrays of a framework "
            "that differentiates."
        )

    def detach(self, array: Array) -> Array:
        """Return the array cut off from the framework's autodiff, sharing its memory."""
        return array

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Return whether ``condition()`` holds everywhere; None if that needs a device sync or the value is traced."""
        return None

    def visible(self, array: Array) -> bool:
        """Return whether the numbers of an array may be looked at now, without waiting and with no one recording it."""
        return False
