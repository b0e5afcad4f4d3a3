"""Measures that kernels evaluate in the host's memory: at once of arrays that are there, as a call of XLA's in a trace.

Such a call says by itself what is to be computed, so that a program which XLA kept on disk finds it in another process.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from agnoreg.backend import Backend, get_backend
from agnoreg.engine.allocator import take_large_pages
from agnoreg.engine.hosted import HostedMeasure, Request, request_of, served, words_of
from agnoreg.engine.native import natively_differentiated
from agnoreg_jax import foreign
from agnoreg_jax._private import committed, moves, traced, varies

Array = Any
Arrays = tuple[Array, ...]

TARGET = "agnoreg.host"


class Hosted(HostedMeasure):
    """A measure that kernels evaluate, of arrays that are there or in a trace."""

    def results(self, backend: Backend, request: Request, arrays: Arrays) -> Arrays:
        """Return what a request asks for."""
        if any(map(traced, arrays)):
            # Sizes that ``jax.export`` leaves open are no integers.
            known = all(isinstance(size, int) for x in arrays for size in x.shape)
            if known and _only_cpu() and not any(map(varies, arrays)) and foreign.registered(TARGET, _run):
                kinds = tuple(x.shape for x in arrays), tuple(np.dtype(x.dtype) for x in arrays)
                if served(self.measure, *kinds) and (words := words_of(request)):
                    return _recorded(backend, request, words, self.otherwise, arrays)
        elif all(map(_on_host, arrays)):
            given = tuple(map(np.asarray, arrays))
            evaluation = request.evaluation(given)
            if evaluation is not None:
                place = next((x.device for x in arrays if committed(x)), None)
                return tuple(jax.device_put(x, place) for x in request.of(evaluation, get_backend("numpy"), given))
        return request.of(self.otherwise, backend, arrays)


def hosted(backend: Backend, measure: Any, otherwise: Any) -> Any:
    """Return what evaluates a measure without arrays among its parameters: kernels where these may be used and help.

    What is done voxel by voxel XLA makes one pass of, together with what is around it.
    """
    helpful = measure.workload != "voxels" and backend.kernels and not natively_differentiated()
    return Hosted(measure, otherwise) if helpful else otherwise


def _on_host(array: Array) -> bool:
    devices = array.devices()
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _only_cpu() -> bool:
    """Return whether whatever is compiled runs on the CPU: JAX has nothing else."""
    return jax.default_backend() == "cpu" and getattr(jax.config, "jax_platforms", None) in (None, "", "cpu")


def _recorded(backend: Backend, request: Request, words: str, otherwise: Any, arrays: Arrays) -> Arrays:
    """Return what a call of `_run` makes of traced arrays; JAX differentiates it by what it sees into instead."""
    dtype = backend.dtypes.compute(*arrays[: request.measure.inputs])
    results = [jax.ShapeDtypeStruct(shape, dtype) for shape in request.shapes(arrays)]

    @jax.custom_jvp
    def function(*arrays: Array) -> Arrays:
        return foreign.call(TARGET, results, arrays, words)

    @partial(function.defjvp, symbolic_zeros=True)
    def tangent(primals: Arrays, tangents: Arrays) -> tuple[Arrays, Arrays]:
        moving = [i for i, move in enumerate(tangents) if moves(move)]

        def of(*moved: Array) -> Arrays:
            inputs = list(map(jax.numpy.asarray, primals))
            for i, x in zip(moving, moved, strict=True):
                inputs[i] = x
            return request.of(otherwise, backend, tuple(inputs))

        return jax.jvp(of, tuple(primals[i] for i in moving), tuple(tangents[i] for i in moving))

    return function(*arrays)


# --- the function that XLA calls --------------------------------------------------------------------------------------


def _run(arguments: Sequence[Array], results: Sequence[Array], words: str) -> None:
    """Write a request's results of XLA's arrays into its memory; axes that ``vmap`` put in front are samples, too."""
    request = request_of(words)
    for result in results:
        take_large_pages(result)
    mapped = results[0].ndim - 1
    samples = arguments[0].shape[mapped]

    def merged(x: Array) -> Array:
        # A mask may have one sample for all.
        every = x if not mapped else np.broadcast_to(x, (*x.shape[:mapped], samples, *x.shape[mapped + 1 :]))
        return every.reshape(-1, *x.shape[mapped + 1 :])

    made = request.run(tuple(map(merged, arguments)), tuple(results[1:]))
    for result, x in zip(results, made, strict=True):
        if not np.may_share_memory(result, x):
            result[...] = x.reshape(result.shape)
