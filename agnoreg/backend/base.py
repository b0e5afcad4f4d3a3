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

    An adapter subclasses this and overrides what its framework does otherwise. What a framework may also do better is
    in five parts, each of which an adapter may replace by a subclass. Every method, here and in the parts, is written
    in Array API calls alone and serves any array with ``__array_namespace__``.

    Parameters
    ----------
    name
        The import name of the framework.
    xp
        The Array API namespace that the core computes with.
    dtypes, execution, operations, autodiff, counting
        The classes of the parts.
    """

    #: Types whose objects are arrays of this framework, known before the first one turns up; it may have more.
    types: ClassVar[tuple[type, ...]] = ()
    #: Whether compiled kernels are used, where there are any; False makes it the core's own path.
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
        """Turn what the framework takes for an array (a variable, say) into one that the namespace computes with."""
        return array

    def device(self, array: Array) -> Any:
        """Return the device that ``array`` lives on, None where it has none yet; two arrays of one call must agree."""
        return getattr(array, "device", None)

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """Return the shape as integers, ``None`` for a size that is unknown while a function is traced."""
        return tuple(array.shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Return a NumPy array as an array of this framework, on ``device``."""
        return self.xp.asarray(array, device=device)

    def to_numpy(self, array: Array) -> Any:
        """Return an array of this framework as a NumPy array, from whatever device."""
        import numpy

        return numpy.asarray(array)


def broadcast_samples(xp: Any, values: Array, like: Array) -> Array:
    """Reshape ``(B,)`` values so that they broadcast over the samples of ``like``."""
    return xp.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
