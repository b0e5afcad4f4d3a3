"""Kernels of the host in a graph, by ``tf.numpy_function``."""

from typing import Any

import tensorflow as tf

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.engine.hosted import HostedMeasure, Request, request_of, served, words_of
from agnoreg_tensorflow import namespace as xp

Array = Any
Arrays = tuple[Array, ...]

#: What errors name where XLA compiles such a graph after all, or another process runs it.
NAME = "agnoreg_kernels_are_of_this_process_and_not_for_XLA"


class Hosted(HostedMeasure):
    """A measure whose value and gradients the graph asks kernels for."""

    # What is saved is the gradients, whatever the measure is: a graph is built as a whole, in one way.

    def compute_forward(self, backend: Backend, arrays: Arrays, wrt: tuple[int, ...]) -> tuple[Array, Arrays]:
        """Return the value, and the gradients to save."""
        return self.compute_with_gradients(backend, arrays, wrt)

    def compute_backward(
        self,
        backend: Backend,
        arrays: Arrays,
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: Arrays,
        cotangent: Array,
    ) -> Arrays:
        """Return the gradients for ``wrt`` times a cotangent ``(B,)``."""
        gradients = [saved[of.index(index)] for index in wrt]
        return tuple(gradient * broadcast_samples(xp, cotangent, gradient) for gradient in gradients)

    def results(self, backend: Backend, request: Request, arrays: Arrays) -> Arrays:
        """Return what a request asks for."""
        shapes = tuple(tuple(1 if size is None else size for size in x.shape) for x in arrays)
        words = words_of(request)
        if not words or not served(self.measure, shapes, tuple(x.dtype.as_numpy_dtype for x in arrays)):
            return request.of(self.otherwise, backend, arrays)
        dtype, expected = backend.dtypes.compute(*arrays[: self.measure.inputs]), request.shapes(arrays)
        results = tf.numpy_function(_run, (words, *arrays), [dtype] * len(expected), stateful=False, name=NAME)
        for result, shape in zip(results, expected, strict=True):
            result.set_shape(shape)
        return tuple(results)


def _run(words: bytes, *arrays: Any) -> list[Any]:
    return list(request_of(words.decode()).run(arrays))
