"""How TensorFlow goes over slabs, by ``tf.while_loop`` in a graph, and how kernels reach its memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from agnoreg.backend import CPU_SLABS, Backend, Execution
from agnoreg.backend.accelerators import ALIGNED, HostMemory, cores
from agnoreg.backend.execution import Results, Step
from agnoreg.engine import slabs
from agnoreg.engine.native import natively_differentiated
from agnoreg_tensorflow._private import may_call_python
from agnoreg_tensorflow.hosted import Hosted

Array = Any

#: While a function is traced, more tiles than these become a loop of the graph: an unrolled one costs memory and time.
MOST_UNROLLED = 4
#: Of so many tiles that are alike.
LEAST_LOOPED = 3

#: From so many voxels on a measure is compiled: tracing takes up to two seconds, once for a shape.
LEAST_COMPILED = 1 << 18

#: Fewer numbers are copied sooner than memory is handed over.
LEAST_SHARED = 1 << 12


class TensorFlowMemory(HostMemory):
    """The memory of eager tensors on the CPU."""

    def take(self, array: Array) -> Any:
        """Return an eager tensor's memory as a NumPy array, None where it is not on the host."""
        known = array.dtype in (tf.float32, tf.float64, tf.bool) and array.device.endswith("CPU:0")
        return np.asarray(memoryview(array)) if known else None

    def give(self, array: Any) -> Array:
        """Return a NumPy array as a tensor, in the same memory where TensorFlow can take that for its own.

        Its operations read memory by instructions that know no places but aligned ones.
        """
        if array.size < LEAST_SHARED or array.ctypes.data % ALIGNED:
            return tf.convert_to_tensor(array)
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

    def threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return _threads() or cores()


class TensorFlowExecution(Execution):
    """Eager execution, compiled for large images; in a trace, loops of the graph."""

    #: A slab is copied out of its image and into its gradient: voxel by voxel that is most of the work. An operation
    #: shares a slab in bins among threads, which takes some time by itself.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"bins": 3 << 19, "voxels": 1 << 23}

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.host = TensorFlowMemory(backend)
        self.memories = {"host": self.host}
        self._value_calls: ContextVar[bool | None] = ContextVar("value_calls", default=None)

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the measure, compiled for a large image: each of the many operations on slabs is dear when eager.

        A graph calls kernels where it can.
        """
        if not tf.executing_eagerly():
            return Hosted(measure, measure) if self.calls_kernels() else measure
        return _Compiled(measure) if arrays[0].shape.num_elements() >= LEAST_COMPILED else measure

    def calls_kernels(self) -> bool:
        """Return whether the graph that is built now may call kernels; in a gradient's, whether its value's does."""
        if self._value_calls.get() is not None:
            return bool(self._value_calls.get())
        return self.backend.kernels and not natively_differentiated() and may_call_python() and _only_cpu()

    @contextmanager
    def as_in_value(self, calls: bool) -> Iterator[None]:
        """Have a gradient computed as its value was, whose graph may be another one: that is what was saved for it."""
        before = self._value_calls.set(calls)
        try:
            yield
        finally:
            self._value_calls.reset(before)

    def memory(self, arrays: tuple[Array, ...]) -> HostMemory | None:
        """Return the host's memory; None while a function is traced."""
        return self.host if tf.executing_eagerly() else None

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return ``count`` planes along axis 1 from ``start``, which a loop of the graph only knows as a tensor."""
        if not tf.is_tensor(start):
            return super().planes(array, start, count, beyond)
        batch = array.shape[0]
        shape = [batch, count, *array.shape[2:]]
        if beyond:
            index = start + tf.range(count, dtype=start.dtype)
            there = index < array.shape[1]
            result = tf.gather(array, tf.where(there, index, tf.zeros_like(index)), axis=1)
            result = tf.where(tf.reshape(there, [-1] + [1] * (len(shape) - 2)), result, tf.zeros([], array.dtype))
        else:
            sizes = [-1 if size is None else size for size in shape]
            result = tf.slice(array, [0, start] + [0] * (len(shape) - 2), sizes)
        result.set_shape(shape)
        return result

    @tf.autograph.experimental.do_not_convert
    def scan(
        self, tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, kept: slice = slice(None)
    ) -> Results:
        """Run ``body`` over ``tiles``; in a trace, over many that are alike by one loop of the graph."""
        alike = slabs.alike(tiles)
        if tf.executing_eagerly() or len(tiles) <= MOST_UNROLLED or alike.stop - alike.start < LEAST_LOOPED:
            return super().scan(tiles, body, state, kept)
        steps: list[Any] = []
        for tile in tiles[: alike.start]:
            state, *step = body(tile, state)
            steps.append(step)
        if kept != slice(None):
            # Planes that nobody keeps are not even gathered, where whole tiles of them come first.
            assert alike == slice(0, len(tiles))
            unkept, count = kept.start // tiles[0].count, tiles[0].count
            kept = slice(kept.start - unkept * count, kept.stop - unkept * count)
        else:
            unkept = 0
        state, *step = _graph_loop(tiles[alike], body, state, unkept)
        steps.append(step)
        for tile in tiles[alike.stop :]:
            state, *step = body(tile, state)
            steps.append(step)
        totals, pieces = zip(*steps, strict=True)
        images = [parts[0] if len(parts) == 1 else tf.concat(parts, axis=1) for parts in zip(*pieces, strict=True)]
        if kept != slice(None):
            images = [x if kept == slice(0, x.shape[1]) else x[:, kept] for x in images]
        return tuple(tf.add_n(list(column)) for column in zip(*totals, strict=True)), tuple(images)


@lru_cache(maxsize=1)
def _threads() -> int:
    """Return how many threads TensorFlow was told to use, which it takes no more once there are tensors."""
    return tf.config.threading.get_intra_op_parallelism_threads()


def _only_cpu() -> bool:
    """Return whether whatever is traced runs in this process, on the CPU: TensorFlow has no other device."""
    return all(device.name.startswith("/device:CPU") for device in tf.config.list_logical_devices())


class _Compiled:
    """A measure that is traced once for every shape and computed by the graph."""

    def __init__(self, measure: Any) -> None:
        self.measure = measure

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value."""
        return _graph_of(backend, self.measure, "compute")(arrays)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel."""
        return _graph_of(backend, self.measure, "compute_image")(arrays)

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients."""
        return _graph_of(backend, self.measure, "compute_with_gradients", wrt, scale)(arrays)

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and what its gradients need."""
        return _graph_of(backend, self.measure, "compute_forward", wrt)(arrays)

    def compute_backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients times a cotangent."""
        return _graph_of(backend, self.measure, "compute_backward", wrt, of)(arrays, saved, cotangent)


@lru_cache(maxsize=128)
def _graph_of(backend: Backend, measure: Any, what: str, *options: Any) -> Callable[..., Any]:
    """Trace a measure's method: what it takes between the arrays and other tensors are ``options``."""

    def function(arrays: tuple[Array, ...], *tensors: Any) -> Any:
        return getattr(measure, what)(backend, arrays, *options, *tensors)

    return tf.function(function, autograph=False)


# --- the loop of a graph ----------------------------------------------------------------------------------------------


def _graph_loop(tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, unkept: int) -> Step:
    """Run ``body`` over tiles that are alike, one at a time: add its sums, concatenate its pieces.

    The pieces of the first ``unkept`` tiles are left out.
    """
    start, step = tiles[0].start, tiles[1].start - tiles[0].start
    # What the body returns is learnt from the first tile, outside the loop.
    state, sums, pieces = body(replace(tiles[0], start=tf.constant(start)), state)
    outside = max(1, unkept)
    gathered = tuple(tf.TensorArray(x.dtype, size=len(tiles) - outside, element_shape=x.shape) for x in pieces)

    def once(i: Array, state: Any, totals: tuple[Array, ...], gathered: tuple[Any, ...]) -> Any:
        state, more, new = body(replace(tiles[0], start=start + step * i), state)
        totals = tuple(a + b for a, b in zip(totals, more, strict=True))
        place = tf.maximum(i - outside, 0)
        return i + 1, state, totals, tuple(array.write(place, x) for array, x in zip(gathered, new, strict=True))

    _, state, totals, gathered = tf.while_loop(
        lambda i, state, totals, gathered: i < len(tiles),
        once,
        (tf.constant(1), state, sums, gathered),
        parallel_iterations=1,
        maximum_iterations=len(tiles) - 1,
    )
    planes = tiles[0].count * (len(tiles) - outside)
    images = tuple(_side_by_side(array.stack(), planes, x) for array, x in zip(gathered, pieces, strict=True))
    if not unkept:
        images = tuple(tf.concat([x, rest], axis=1) for x, rest in zip(pieces, images, strict=True))
    return state, totals, images


def _side_by_side(stacked: Array, planes: int, like: Array) -> Array:
    """Concatenate pieces that are stacked along axis 0 along their own axis 1."""
    sizes = [-1 if size is None else size for size in like.shape]
    if sizes[0] != 1:
        # Planes of a single sample lie one after the other already.
        stacked = tf.transpose(stacked, [1, 0, *range(2, len(sizes) + 1)])
    result = tf.reshape(stacked, [sizes[0], planes, *sizes[2:]])
    result.set_shape([like.shape[0], planes, *like.shape[2:]])
    return result
