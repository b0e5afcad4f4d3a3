"""The TensorFlow adapter: closed-form gradients behind ``tf.custom_gradient``, slabs by ``tf.while_loop``."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import tensorflow as tf

from agnoreg.backend import Backend, per_sample
from agnoreg_tensorflow import namespace as xp
from agnoreg_tensorflow._devices import device_of, placed

Array = Any
Results = tuple[tuple[Array, ...], tuple[Array, ...]]

#: While a function is traced, more tiles than these become a loop of the graph: an unrolled one costs memory and time.
MOST_UNROLLED = 4

SECOND_DERIVATIVE = (
    "The second derivative of an agnoreg loss (and forward mode) is not defined through its closed-form gradient: "
    "compute the loss inside `with agnoreg.native_autodiff():` to have TensorFlow differentiate it itself."
)

# AutoGraph would rewrite what a traced function calls; nothing below the adapter's entrances needs that.
_as_written = tf.autograph.experimental.do_not_convert


class TensorFlowBackend(Backend):
    """TensorFlow tensors and variables, eager or while a function is traced, on any device."""

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

    # --- work -------------------------------------------------------------------------------------------------------

    def planes(self, array: Array, start: Any, count: int) -> Array:
        """Return ``count`` planes along axis 1 from ``start``, which a loop of the graph only knows as a tensor."""
        if not tf.is_tensor(start):
            return array[:, start : start + count, ...]
        others = [-1 if size is None else size for size in array.shape[2:]]
        batch = array.shape[0]
        result = tf.slice(array, [0, start] + [0] * len(others), [-1 if batch is None else batch, count, *others])
        result.set_shape([batch, count, *array.shape[2:]])
        return result

    @_as_written
    def loop(self, tiles: Sequence[Any], body: Callable[[Any], Results]) -> Results:
        """Run ``body`` over ``tiles``; in a trace, over the inner ones of many by one loop of the graph."""
        inner = tiles[1:-1]
        if tf.executing_eagerly() or len(tiles) <= MOST_UNROLLED or not _uniform(inner):
            return super().loop(tiles, body)
        first, last = body(tiles[0]), body(tiles[-1])
        totals, pieces = _graph_loop(inner, body, first)
        return (
            tuple(a + b for a, b in zip(totals, last[0], strict=True)),
            tuple(tf.concat(parts, axis=1) for parts in zip(first[1], pieces, last[1], strict=True)),
        )

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return tf.math.unsorted_segment_sum(weights, index, size)

    # --- gradients --------------------------------------------------------------------------------------------------

    @_as_written
    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value, with the gradient with respect to every floating-point input hung on it.

        The value is computed out of sight of any tape. For each input a zero is added to it that carries that input's
        gradient, so that TensorFlow asks only for those that it needs. Eagerly, what a tape records is computed with
        the value, in one pass; whatever else is asked for is computed then. A variable that the function itself uses
        gets no gradient.
        """
        arrays = tuple(tf.convert_to_tensor(array) for array in arrays)
        fixed = tuple(tf.stop_gradient(array) for array in arrays)
        floating = [i for i, array in enumerate(arrays) if array.dtype.is_floating]
        wanted = tuple(i for i in floating if tf.executing_eagerly() and _recorded(arrays[i]))
        ready: dict[int, Array] = {}
        if wanted:
            value, gradients = function.value_and_gradients(self, fixed, wanted)
            ready.update(zip(wanted, gradients, strict=True))
        else:
            value = function.value(self, fixed)
        # Cut off here too, for a traced function, whose loops would otherwise keep their intermediate results for a
        # gradient that goes nowhere.
        value = tf.stop_gradient(value)
        zero = tf.zeros_like(value)

        def carrier(wrt: int) -> Array:
            @tf.custom_gradient
            def carry(x: Array) -> Any:
                def backward(cotangent: Array) -> Array:
                    gradient = ready.get(wrt)
                    if gradient is None:
                        _, (gradient,) = function.value_and_gradients(self, fixed, (wrt,))
                    return _product(cotangent, tf.stop_gradient(gradient), x.dtype, [arrays[i] for i in floating])

                return tf.identity(zero), _as_written(backward)

            return carry(arrays[wrt])

        for i in floating:
            value = value + carrier(i)
        return value

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


class _Kept:
    """Something that a backward function keeps alive."""


def _recorded(x: Array) -> bool:
    """Say whether a tape records what is done with an eager tensor.

    TensorFlow does not say so. But a tape that records an operation keeps its backward function, and if no tape does,
    nobody keeps that function. (Where a Python does not count references the answer may be yes too often.)
    """

    def probe() -> Any:
        kept = _Kept()

        @tf.custom_gradient
        def operation(x: Array) -> Any:
            return tf.zeros([]), lambda _, kept=kept: tf.zeros_like(x)

        return operation(x), weakref.ref(kept)

    result, reference = probe()
    # The result must be alive when this is looked up: with it, a tape forgets the operation.
    recorded = reference() is not None
    del result
    return recorded


def _product(cotangent: Array, gradient: Array, dtype: Any, inputs: list[Array]) -> Array:
    """Multiply a closed-form gradient by its cotangent; refuse to be differentiated.

    The gradient depends on the inputs in a way that no tape has seen. They are arguments here, so that a tape that
    follows one of them comes past this refusal.
    """

    @tf.custom_gradient
    def product(cotangent: Array, *inputs: Array) -> Any:
        result = tf.cast(gradient * per_sample(xp, cotangent, gradient), dtype)
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


def _uniform(tiles: Sequence[Any]) -> bool:
    """Say whether the tiles differ in where they start alone, and start at even distances."""
    starts = [tile.start for tile in tiles]
    distances = {b - a for a, b in pairwise(starts)}
    return len({(tile.count, tile.before, tile.after) for tile in tiles}) == 1 and len(distances) <= 1


def _graph_loop(tiles: Sequence[Any], body: Callable[[Any], Results], first: Results) -> Results:
    """Run ``body`` over uniform tiles, one at a time: add its sums to those of ``first``, concatenate its pieces."""
    sums, pieces = first
    start, step = tiles[0].start, tiles[1].start - tiles[0].start
    gathered = tuple(tf.TensorArray(piece.dtype, size=len(tiles), element_shape=None) for piece in pieces)

    def once(i: Array, totals: tuple[Array, ...], gathered: tuple[Any, ...]) -> Any:
        more, new = body(replace(tiles[0], start=start + step * i))
        totals = tuple(a + b for a, b in zip(totals, more, strict=True))
        return i + 1, totals, tuple(array.write(i, piece) for array, piece in zip(gathered, new, strict=True))

    _, totals, gathered = tf.while_loop(
        lambda i, totals, gathered: i < len(tiles),
        once,
        (tf.constant(0), sums, gathered),
        parallel_iterations=1,
        maximum_iterations=len(tiles),
    )
    planes = tiles[0].count * len(tiles)
    return totals, tuple(
        _side_by_side(array.stack(), planes, piece) for array, piece in zip(gathered, pieces, strict=True)
    )


def _side_by_side(stacked: Array, planes: int, like: Array) -> Array:
    """Concatenate pieces that are stacked along axis 0 along their own axis 1."""
    sizes = [-1 if size is None else size for size in like.shape]
    order = [1, 0, *range(2, len(sizes) + 1)]
    result = tf.reshape(tf.transpose(stacked, order), [sizes[0], planes, *sizes[2:]])
    result.set_shape([like.shape[0], planes, *like.shape[2:]])
    return result
