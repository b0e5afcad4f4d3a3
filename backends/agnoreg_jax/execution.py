"""How JAX goes over slabs: by ``lax.scan`` in a compiled function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import jax
from jax import lax
from jax import numpy as xp

from agnoreg.backend import CPU_SLABS, GPU_SLABS, Backend, Execution
from agnoreg.backend.accelerators import HostMemory
from agnoreg.backend.execution import Results, Step
from agnoreg.backend.shifts import pad
from agnoreg.engine.slabs import alike
from agnoreg_jax._parameters import joined, split
from agnoreg_jax._private import traced
from agnoreg_jax.compiled import Compiled, tracing
from agnoreg_jax.hosted import hosted

Array = Any
#: A state, sums so far, and the images that pieces are written to.
_Carry = tuple[Any, tuple[Array, ...], tuple[Array, ...]]

#: While a function is traced, from so many tiles on that are alike they become a loop: unrolled, they cost memory, and
#: time to compile.
LEAST_LOOPED = 3


class JaxExecution(Execution):
    """Measures compiled as a whole, whose slabs are a loop."""

    #: XLA fuses what is done voxel by voxel: in a whole image it stores nothing.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"voxels": 1 << 23}

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        # `Hosted` reaches it; the engine is told of no memory, since a trace has none.
        self.memories = {"host": HostMemory(backend)}

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the measure, compiled as a whole or by kernels; its own arrays in the compute dtype.

        One by one, JAX would compile each of its operations for each shape, which takes longer.
        """
        kept, parameters = split(measure)
        dtype = self.backend.dtypes.compute(*arrays[: measure.inputs])
        parameters = tuple(xp.astype(x, dtype) for x in parameters)
        if not _hashable(kept):
            return joined(kept, parameters)
        compiled = Compiled(self.backend, kept, parameters, self.slab_elements(arrays[0], measure.workload))
        return compiled if parameters else hosted(self.backend, kept, compiled)

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return a cache-sized slab on a CPU, one that fills the card elsewhere; a tracer's device is the default."""
        concrete = not traced(array)
        platform = next(iter(array.devices())).platform if concrete else jax.default_backend()
        return (self.slab_sizes if platform == "cpu" else GPU_SLABS)[kind]

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return ``count`` planes along axis 1 from ``start``, which a loop only knows as a tracer."""
        if isinstance(start, int):
            return super().planes(array, start, count, beyond)
        if not beyond:
            return lax.dynamic_slice_in_dim(array, start, count, axis=1)
        array = _with_zeros(array, count - array.shape[1])
        # The last planes that there are, and zeros after them, of which the later ones are taken.
        first = xp.minimum(start, array.shape[1] - count)
        there = _with_zeros(lax.dynamic_slice_in_dim(array, first, count, axis=1), count)
        return lax.dynamic_slice_in_dim(there, start - first, count, axis=1)

    def scan(
        self, tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, kept: slice = slice(None)
    ) -> Results:
        """Run ``body`` over ``tiles``; while a function is traced, over many that are alike by one loop."""
        same = alike(tiles)
        if same.stop - same.start < LEAST_LOOPED or not tracing():
            return super().scan(tiles, body, state, kept)
        planes = sum(tile.count for tile in tiles)

        def take(tile: Any, state: Any, totals: tuple[Array, ...], rooms: tuple[Array, ...]) -> _Carry:
            state, sums, pieces = body(tile, state)
            totals = tuple(a + b for a, b in zip(totals, sums, strict=True)) if totals else sums
            rooms = rooms or tuple(xp.zeros((x.shape[0], planes, *x.shape[2:]), x.dtype) for x in pieces)
            places = zip(rooms, pieces, strict=True)
            # One after the other they are written to the same memory.
            rooms = tuple(lax.dynamic_update_slice_in_dim(room, x, tile.start, axis=1) for room, x in places)
            return state, totals, rooms

        carry: _Carry = (state, (), ())
        # What the body returns is learnt from the first tile, outside the loop.
        for tile in tiles[: same.start + 1]:
            carry = take(tile, *carry)
        first, second = tiles[same][:2]

        def once(carry: _Carry, step: Array) -> tuple[_Carry, None]:
            return take(replace(first, start=first.start + step * (second.start - first.start)), *carry), None

        carry, _ = lax.scan(once, carry, xp.arange(1, same.stop - same.start, dtype=xp.int32))
        for tile in tiles[same.stop :]:
            carry = take(tile, *carry)
        _, totals, rooms = carry
        return totals, rooms if kept == slice(None) else tuple(room[:, kept] for room in rooms)


def _hashable(measure: Any) -> bool:
    """Return whether a measure, which may be a user's, can be remembered."""
    try:
        hash(measure)
    except TypeError:
        return False
    return True


def _with_zeros(array: Array, planes: int) -> Array:
    """Put so many planes of zeros after an array's along axis 1, none where the number is negative."""
    return pad(xp, array, 1, 0, max(0, planes))
