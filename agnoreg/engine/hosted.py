"""A measure evaluated by the host's kernels on NumPy's arrays, for a framework whose compiled code calls a function."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

import agnoreg
from agnoreg.backend import Backend, get_backend
from agnoreg.engine.chosen import in_kernels_of
from agnoreg.engine.words import from_words, to_words

Array = Any
Arrays = tuple[Array, ...]


class Request(NamedTuple):
    """What is asked for: the value, and where ``wrt`` is not None ``scale`` times the gradients."""

    measure: Any
    wrt: tuple[int, ...] | None = None
    scale: float = 1.0

    def evaluation(self, arrays: Arrays) -> Any:
        """Return the evaluation of NumPy arrays by kernels, None if there are none for these."""
        host = get_backend("numpy")
        memory = host.execution.memory(arrays)
        return None if memory is None else in_kernels_of(self.measure, host, memory, arrays, self.measure)

    def run(self, arrays: Arrays, there: Arrays = ()) -> Arrays:
        """Return the value and the gradients of NumPy arrays; by NumPy itself where kernels cannot do it after all.

        ``there`` are contiguous arrays of the gradients' sizes, which a single gradient may be written to.
        """
        if arrays[0].shape[0] == 0:
            dtype = get_backend("numpy").dtypes.compute(*arrays[: self.measure.inputs])
            return tuple(np.zeros(shape, dtype) for shape in self.shapes(arrays))
        evaluation = self.evaluation(arrays)
        # The order in which two gradients are made is not fixed.
        if evaluation is not None and len(there) == 1:
            evaluation.offer(there[0])
        return self.of(self.measure if evaluation is None else evaluation, get_backend("numpy"), arrays)

    def of(self, function: Any, backend: Backend, arrays: Arrays) -> Arrays:
        """Return the same, computed by something that has a measure's ``compute...`` methods."""
        if self.wrt is None:
            return (function.compute(backend, arrays),)
        value, gradients = function.compute_with_gradients(backend, arrays, self.wrt, self.scale)
        return value, *gradients

    def shapes(self, arrays: Arrays) -> list[Any]:
        """Return the shapes of the results for arrays of any framework."""
        return [arrays[0].shape[:1], *(arrays[i].shape for i in self.wrt or ())]


class HostedMeasure:
    """A measure whose value and gradients a framework asks kernels for; ``otherwise`` does what these cannot do.

    An adapter subclasses it and adds `results`.
    """

    def __init__(self, measure: Any, otherwise: Any) -> None:
        self.measure, self.otherwise = measure, otherwise

    def results(self, backend: Backend, request: Request, arrays: Arrays) -> Arrays:
        """Return what a request asks for, of the framework's arrays."""
        raise NotImplementedError

    def compute(self, backend: Backend, arrays: Arrays) -> Array:
        """Return the value."""
        return self.results(backend, Request(self.measure), arrays)[0]

    def compute_image(self, backend: Backend, arrays: Arrays) -> Array:
        """Return the value at every voxel, for which there is no kernel."""
        return self.otherwise.compute_image(backend, arrays)

    def compute_with_gradients(
        self, backend: Backend, arrays: Arrays, wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, Arrays]:
        """Return the value and the gradients."""
        value, *gradients = self.results(backend, Request(self.measure, wrt, scale), arrays)
        return value, tuple(gradients)


@lru_cache(maxsize=512)
def served(measure: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[Any, ...]) -> bool:
    """Return whether there are kernels for NumPy arrays of these shapes and dtypes, none of whose numbers is read."""
    return Request(measure).evaluation(tuple(map(np.empty, shapes, dtypes))) is not None


# Compiled code keeps a request in words, so that it finds it again in whatever process it runs in.


@lru_cache(maxsize=512)
def words_of(request: Request) -> str:
    """Return a request in words, ``""`` where it has none, such as that of a user's local class."""
    try:
        words = to_words((request.measure, request.wrt, request.scale))
    except (TypeError, AttributeError, ImportError):
        return ""
    return f"agnoreg {agnoreg.__version__} {words}"


@lru_cache(maxsize=512)
def request_of(words: str) -> Request:
    """Return the request that `words_of` put into words."""
    return Request(*from_words(words.split(" ", 2)[2]))
