"""The class that an adapter subclasses, with a generic implementation of everything in Array API calls."""

from typing import Any, ClassVar

from agnoreg.backend.autodiff import Autodiff
from agnoreg.backend.counting import Counting
from agnoreg.backend.dtypes import Dtypes
from agnoreg.backend.execution import Execution
from agnoreg.backend.operations import Operations

Array = Any


class Backend:
    """One framework's adapter: its Array API namespace and the few things that the standard lacks.

    An adapter subclasses this and overrides what differs in its framework. Five parts hold what a framework may do
    better; an adapter may replace each by a subclass. All methods, here and in the parts, use Array API calls only and
    support any array with ``__array_namespace__``.

    Parameters
    ----------
    name
        The import name of the framework.
    xp
        The Array API namespace that the core computes with.
    dtypes, execution, operations, autodiff, counting
        The classes of the parts.
    """

    #: Array types of this framework that are known in advance; there may be more.
    types: ClassVar[tuple[type, ...]] = ()
    #: Whether compiled kernels are used if available; False chooses the core's own implementation.
    kernels: bool = True

    def __init__(
        self,
        name: str,
        xp: Any,
        *,
        dtypes: type[Dtypes] = Dtypes,
        execution: type[Execution] = Execution,
        operations: type[Operations] = Operations,
        autodiff: type[Autodiff] = Autodiff,
        counting: type[Counting] = Counting,
    ) -> None:
        self.name = name
        self.xp = xp
        self.dtypes = dtypes(self)
        self.execution = execution(self)
        self.operations = operations(self)
        self.autodiff = autodiff(self)
        self.counting = counting(self)

    def __repr__(self) -> str:
        return f"<agnoreg backend {self.name}>"

    def owns(self, array: Array) -> bool:
        """Return whether ``array`` is an array of this framework."""
        return hasattr(array, "__array_namespace__") and array.__array_namespace__() is self.xp

    def prepare(self, array: Array) -> Array:
        """Convert anything that the framework treats as an array, such as a variable, to an array of the namespace."""
        return array

    def device(self, array: Array) -> Any:
        """Return the device of ``array``, or None if it has none yet; the arrays of a call must have one device."""
        return getattr(array, "device", None)

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """Return the shape as integers, with None for sizes that are unknown during tracing."""
        return tuple(array.shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Return a NumPy array as an array of this framework, on ``device``."""
        return self.xp.asarray(array, device=device)

    def to_numpy(self, array: Array) -> Any:
        """Return an array of this framework as a NumPy array, from any device."""
        import numpy

        return numpy.asarray(array)


def broadcast_samples(xp: Any, values: Array, like: Array) -> Array:
    """Reshape ``(B,)`` values so that they broadcast over the samples of ``like``."""
    return xp.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
