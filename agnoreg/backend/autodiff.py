"""A framework's automatic differentiation, and access to values while it records or traces."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from agnoreg.messages import describe

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any


class Autodiff:
    """The part of a `Backend` for autodiff. This one has none; adapters of frameworks with autodiff replace it."""

    #: Whether parameters of a measure may be 0-d arrays, such as a traced spacing.
    takes_parameters: ClassVar[bool] = False

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return ``function``'s value, with its gradient registered with the framework's autodiff, if any."""
        return function.value(self.backend, arrays)

    def value_and_gradients(
        self, function: Any, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``function``'s value and ``scale`` times its gradients, which nobody differentiates further."""
        return function.value_and_gradients(self.backend, arrays, wrt, scale)

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
        """Return the array detached from the framework's autodiff, sharing its memory."""
        return array

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Return whether ``condition()`` holds everywhere; None if that needs a device sync or the value is traced."""
        return None

    def visible(self, array: Array) -> bool:
        """Return whether values can be read now, without a device sync and without being recorded or traced."""
        return False
