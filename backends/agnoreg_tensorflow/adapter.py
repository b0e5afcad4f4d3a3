"""The TensorFlow adapter: closed-form gradients behind ``tf.custom_gradient``, slabs by ``tf.while_loop``."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from agnoreg_cpu import ALIGNED, fused
from agnoreg_cpu.threads import cores

from agnoreg.backend import CPU_SLABS, Backend, per_sample
from agnoreg.engine import slabs
from agnoreg_tensorflow import namespace as xp
from agnoreg_tensorflow._devices import device_of, placed

try:  # what records now: these are no public functions
    from tensorflow.python.eager.forwardprop_util import pack_tangents
    from tensorflow.python.eager.record import could_possibly_record, record_operation, should_record_backprop
except ImportError:
    could_possibly_record = record_operation = should_record_backprop = pack_tangents = None

Array = Any
Results = tuple[tuple[Array, ...], tuple[Array, ...]]
Step = tuple[Any, tuple[Array, ...], tuple[Array, ...]]

#: While a function is traced, more tiles than these become a loop of the graph: an unrolled one costs memory and time.
MOST_UNROLLED = 4
#: Of so many tiles that are alike.
LEAST_LOOPED = 3

#: From so many voxels on a measure is compiled: tracing takes up to two seconds, once for a shape.
LEAST_COMPILED = 1 << 18

#: Fewer numbers are copied sooner than memory is handed over.
LEAST_SHARED = 1 << 12

SECOND_DERIVATIVE = (
    "The second derivative of an agnoreg loss (and forward mode) is not defined through its closed-form gradient: "
    "compute the loss inside `with agnoreg.native_autodiff():` to have TensorFlow differentiate it itself."
)

# AutoGraph would rewrite what a traced function calls; nothing below the adapter's entrances needs that.
_as_written = tf.autograph.experimental.do_not_convert


class TensorFlowBackend(Backend):
    """TensorFlow tensors and variables, eager or while a function is traced, on any device."""

    #: A slab is copied out of its image and into its gradient: voxel by voxel that is most of the work. An operation
    #: shares a slab in bins among threads, which takes some time by itself.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"bins": 3 << 19, "voxels": 1 << 23}

    def __init__(self) -> None:
        super().__init__("tensorflow", xp)

    def owns(self, array: Any) -> bool:
        """Say whether this is a dense tensor or a variable, Keras's own included."""
        return tf.is_tensor(array) and not isinstance(array, (tf.SparseTensor, tf.RaggedTensor, tf.IndexedSlices))

    def prepare(self, array: Array) -> Array:
        """Read a variable, in sight of a tape; a tensor stays as it is."""
        return tf.convert_to_tensor(array)

    def detach(self, array: Array) -> Array:
        """Return the tensor out of sight of any tape."""
        return tf.stop_gradient(array)

    def device(self, array: Array) -> str | None:
        """Return for example ``"GPU:0"``; ``None`` while a function is traced, when devices are not assigned yet."""
        return device_of(array if hasattr(array, "device") else tf.convert_to_tensor(array))

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """Return the shape, with ``None`` for a batch size that is not known while a function is traced.

        Raises
        ------
        ValueError
            If the number of axes, or any size but the batch's, is unknown; the message names the argument.
        """
        shape = array.shape
        if shape.rank is None or any(size is None for size in shape[1:]):
            raise ValueError(
                f"Only the batch size may be unknown while a function is traced, got {array.name} of shape {shape}: "
                "state the others in the function's input_signature, or by tf.ensure_shape."
            )
        return tuple(shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a tensor, on ``device`` (``"cpu"``, ``"gpu"``, ``"GPU:1"``) if one is named."""
        with placed(device):
            return tf.convert_to_tensor(array)

    def to_numpy(self, array: Array) -> Any:
        """Copy an eager tensor or a variable to the host."""
        return tf.convert_to_tensor(array).numpy()

    def default_float(self) -> Any:
        """Return float32, which TensorFlow gives a Python float."""
        return tf.float32

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Say whether all entries are true; None on a card and while a function is traced."""
        if not tf.executing_eagerly():
            return None
        result = condition()
        return bool(tf.reduce_all(result)) if "CPU" in result.device else None

    def visible(self, array: Array) -> bool:
        """Say whether this is an eager tensor in the host's memory."""
        return tf.executing_eagerly() and "CPU" in array.device

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return a measure of kernels where there is one, or the measure compiled for a large image.

        Each of the many operations on slabs is dear when eager.
        """
        if not tf.executing_eagerly():
            return measure
        large = arrays[0].shape.num_elements() >= LEAST_COMPILED
        otherwise = _Compiled(measure) if large else measure
        return fused(measure, self, arrays, otherwise) if self.kernels else otherwise

    # What the kernels ask for.

    def on_host(self, array: Array) -> Any:
        """Return an eager tensor's memory as a NumPy array, None where it is not on the host."""
        known = array.dtype in (tf.float32, tf.float64, tf.bool) and array.device.endswith("CPU:0")
        return np.asarray(memoryview(array)) if known else None

    def from_host(self, array: Any) -> Array:
        """Return a NumPy array as a tensor, in the same memory where TensorFlow can take that for its own.

        Its operations read memory by instructions that know no places but aligned ones.
        """
        if array.size < LEAST_SHARED or array.ctypes.data % ALIGNED:
            return tf.convert_to_tensor(array)
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

    def kernel_threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return _threads() or cores()

    # --- work -------------------------------------------------------------------------------------------------------

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

    @_as_written
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

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``, 0 where both are."""
        return tf.math.divide_no_nan(part, whole)

    def exp_minus(self, x: Array) -> Array:
        """Return ``exp(-x)``; TensorFlow joins functions of one tensor that follow each other, in a graph."""
        return tf.exp(-x)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return tf.math.unsorted_segment_sum(weights, index, size)

    # What metrics ask for.

    def recorded(self, array: Array) -> bool:
        """Say whether a tape watches the tensor."""
        eager = tf.executing_eagerly()
        return eager and array.dtype.is_floating and not _unwatched() and _recorded(array)

    def counted(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return eager tensors on the host as NumPy's arrays, those on a card as CuPy's.

        Raises
        ------
        TypeError
            While a function is traced, and for tensors on a card without CuPy.
        """
        if not tf.executing_eagerly():
            raise TypeError("A metric needs the numbers: call it outside tf.function.")
        if all("CPU" in array.device for array in arrays):
            return super().counted(arrays)
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                "A metric of tensors on a card needs CuPy: pip install agnoreg[cupy12] (or cupy13), or pass tensors on "
                "the host."
            ) from error
        return adopted(tuple(map(tf.experimental.dlpack.to_dlpack, arrays)))

    # --- gradients --------------------------------------------------------------------------------------------------

    @_as_written
    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value, with the gradient with respect to every floating-point input hung on it.

        The value is computed out of sight of any tape. For each input a zero is added to it that carries that input's
        gradient, so that TensorFlow asks only for those that it needs, one by one. Of what a tape records, the part
        that is shared with the value is computed with it; whatever else is asked for is computed then. A variable that
        the function itself uses gets no gradient.
        """
        arrays = tuple(tf.convert_to_tensor(array) for array in arrays)
        eager = tf.executing_eagerly()
        if eager and _unwatched():
            return function.value(self, arrays)
        fixed = tuple(tf.stop_gradient(array) for array in arrays)
        # A mask, which may follow the inputs, is a constant.
        floating = [i for i, array in enumerate(arrays[: function.inputs]) if array.dtype.is_floating]
        wanted = tuple(i for i in floating if _recorded(arrays[i]))
        saved: tuple[Array, ...] = ()
        made: tuple[Array, ...] = ()
        if wanted and eager and function.one_pass:
            value, made = function.value_and_gradients(self, fixed, wanted)
        elif wanted:
            value, saved = function.forward(self, fixed, wanted)
        else:
            value = function.value(self, fixed)
        # Cut off here too, for a traced function, whose loops would otherwise keep their intermediate results for a
        # gradient that goes nowhere.
        value, saved = tf.stop_gradient(value), tuple(tf.stop_gradient(x) for x in saved)

        def carrier(wrt: int, carried: Array) -> Array:
            def backward(cotangent: Array) -> Array:
                def gradient(cotangent: Array) -> Array:
                    if made and wrt in wanted:
                        own = made[wanted.index(wrt)]
                        whole = self.known(lambda: cotangent == 1.0)
                        return own if whole else own * per_sample(xp, cotangent, own)
                    of, known = wanted, saved
                    if wrt not in wanted:
                        of = (wrt,)
                        _, known = function.forward(self, fixed, of)
                    return function.backward(self, fixed, (wrt,), of, known, cotangent)[0]

                return _undifferentiable(gradient, cotangent, arrays[wrt].dtype, [arrays[i] for i in floating])

            return _carrying(carried, arrays[wrt], _as_written(backward))

        # When eager, what is not recorded now never will be; but the probe does not see forward mode.
        first, *others = (wanted if eager and pack_tangents is not None else floating) or (None,)
        if first is None:
            return value
        zeros = [carrier(i, tf.zeros_like(value)) for i in others]
        return sum(zeros, carrier(first, value))

    @_as_written
    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of a function by a tape of its own; no other tape sees it.

        Raises
        ------
        TypeError
            If an input to differentiate by is not floating-point.
        """
        inputs = tuple(tf.stop_gradient(tf.convert_to_tensor(array)) for array in arrays)
        for i in wrt:
            if not inputs[i].dtype.is_floating:
                raise TypeError(f"TensorFlow differentiates by floating-point arrays, input {i} is {inputs[i].dtype}.")
        sources = [inputs[i] for i in wrt]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            value = function(*inputs)
        gradients = tape.gradient(value, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Whatever else the function used (a variable of the user's, say), another tape may have watched.
        return tf.stop_gradient(value), tuple(tf.stop_gradient(tf.convert_to_tensor(one)) for one in gradients)


@lru_cache(maxsize=1)
def _threads() -> int:
    """Return how many threads TensorFlow was told to use, which it takes no more once there are tensors."""
    return tf.config.threading.get_intra_op_parallelism_threads()


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


def _carrying(result: Array, x: Array, backward: Callable[[Array], Array]) -> Array:
    """Return a result, with a function of its cotangent recorded as its gradient by ``x``."""
    if tf.executing_eagerly() and record_operation is not None:
        # Without the checks of a custom gradient, which take longer than a small image's loss.
        result = tf.identity(result)
        record_operation("agnoreg", [result], [x], lambda cotangent: [backward(cotangent)])
        return result
    return tf.custom_gradient(lambda x: (tf.identity(result), backward))(x)


class _Kept:
    """Something that a backward function keeps alive."""


def _unwatched() -> bool:
    """Say whether nothing at all is recorded now, by tapes or by forward mode; no may be wrong."""
    return could_possibly_record is not None and not could_possibly_record()


def _recorded(x: Array) -> bool:
    """Say whether a tape records what is done with a tensor; no may be wrong while a function is traced.

    TensorFlow does not say so in public; where its own record cannot be asked, a probe finds out. Eagerly, a tape that
    records an operation keeps its backward function, and if no tape does, nobody keeps that function. (Where a Python
    does not count references the answer may be yes too often.) While a function is traced its graph keeps it.
    """
    if should_record_backprop is not None:
        recorded = bool(should_record_backprop([x]))
        return recorded or (tf.executing_eagerly() and bool(pack_tangents([x]).tangents))
    return tf.executing_eagerly() and _kept_by_a_tape(x)


def _kept_by_a_tape(x: Array) -> bool:
    """Say whether a tape keeps the backward function of an operation on a tensor."""

    def probe() -> Any:
        kept = _Kept()

        @tf.custom_gradient
        def operation(x: Array) -> Any:
            return tf.zeros([]), lambda _, kept=kept: tf.zeros_like(x)

        return operation(x), weakref.ref(kept)

    result, reference = probe()
    # The result must be alive when this is looked up: with it, a tape forgets the operation.
    kept = reference() is not None
    del result
    return kept


def _undifferentiable(gradient: Callable[[Array], Array], cotangent: Array, dtype: Any, inputs: list[Array]) -> Array:
    """Return a closed-form gradient times its cotangent, which refuses to be differentiated.

    The gradient depends on the inputs in a way that no tape sees. They are arguments here, so that a tape that follows
    one of them comes past this refusal.
    """
    if tf.executing_eagerly() and _unwatched():
        return tf.cast(gradient(cotangent), dtype)

    @tf.custom_gradient
    def product(cotangent: Array, *inputs: Array) -> Any:
        result = tf.cast(tf.stop_gradient(gradient(tf.stop_gradient(cotangent))), dtype)
        # Identities belong to the graph of this gradient; the inputs may belong to that of the value.
        here = [tf.identity(x) for x in (cotangent, *inputs)]
        return result, lambda *_: _refuse(here)

    return product(cotangent, *inputs)


@_as_written
def _refuse(inputs: list[Array]) -> list[Array]:
    """Raise the error of a second derivative.

    Where a traced function is called under a tape that could be asked for second derivatives (a persistent one, or one
    of two), TensorFlow builds the function's second derivative in advance, in a graph called ``__backward...``. There
    the error is left to whoever runs that graph.
    """
    if tf.executing_eagerly() or not _built_in_advance(tf.compat.v1.get_default_graph()):
        raise RuntimeError(SECOND_DERIVATIVE)

    def fail() -> None:
        raise RuntimeError(SECOND_DERIVATIVE)

    def failing(x: Array) -> Array:
        # XLA, which runs no Python, refuses to compile this operation and says its name.
        result = tf.py_function(fail, [], x.dtype, name="second_derivative_needs_agnoreg_native_autodiff")
        return tf.broadcast_to(result, tf.shape(x))

    return [failing(x) for x in inputs]


def _built_in_advance(graph: Any) -> bool:
    while graph is not None:
        if graph.name.startswith("__backward"):
            return True
        graph = getattr(graph, "outer_graph", None)
        graph = graph if hasattr(graph, "name") else None
    return False


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
    order = [1, 0, *range(2, len(sizes) + 1)]
    result = tf.reshape(tf.transpose(stacked, order), [sizes[0], planes, *sizes[2:]])
    result.set_shape([like.shape[0], planes, *like.shape[2:]])
    return result
