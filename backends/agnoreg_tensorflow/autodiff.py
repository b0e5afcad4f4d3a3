"""Closed-form gradients behind ``tf.custom_gradient``."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from agnoreg.backend import Autodiff, broadcast_samples
from agnoreg_tensorflow import _private
from agnoreg_tensorflow import namespace as xp

Array = Any

SECOND_DERIVATIVE = (
    "The second derivative of an agnoreg loss (and forward mode) is not defined through its closed-form gradient: "
    "compute the loss inside `with agnoreg.native_autodiff():` to have TensorFlow differentiate it itself."
)

# AutoGraph would rewrite what a traced function calls; nothing below the adapter's entrances needs that.
_as_written = tf.autograph.experimental.do_not_convert


class TensorFlowAutodiff(Autodiff):
    """TensorFlow's tapes."""

    def detach(self, array: Array) -> Array:
        """Return the tensor out of sight of any tape."""
        return tf.stop_gradient(array)

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Return whether all entries are true; None on a card and while a function is traced."""
        if not tf.executing_eagerly():
            return None
        result = condition()
        return bool(tf.reduce_all(result)) if "CPU" in result.device else None

    def visible(self, array: Array) -> bool:
        """Return whether this is an eager tensor in the host's memory."""
        return tf.executing_eagerly() and "CPU" in array.device

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
        if eager and _private.unwatched():
            return function.value(self.backend, arrays)
        execution: Any = self.backend.execution
        calls = not eager and execution.calls_kernels()
        fixed = tuple(tf.stop_gradient(array) for array in arrays)
        # A mask, which may follow the inputs, is a constant.
        floating = [i for i, array in enumerate(arrays[: function.inputs]) if array.dtype.is_floating]
        wanted = tuple(i for i in floating if _private.recorded(arrays[i]))
        saved: tuple[Array, ...] = ()
        made: tuple[Array, ...] = ()
        if wanted and eager and function.fused_value_and_gradient:
            value, made = function.value_and_gradients(self.backend, fixed, wanted)
        elif wanted:
            value, saved = function.forward(self.backend, fixed, wanted)
        else:
            value = function.value(self.backend, fixed)
        # Cut off here too, for a traced function, whose loops would otherwise keep their intermediate results for a
        # gradient that goes nowhere.
        value, saved = tf.stop_gradient(value), tuple(tf.stop_gradient(x) for x in saved)

        def carrier(wrt: int, carried: Array) -> Array:
            def backward(cotangent: Array) -> Array:
                def gradient(cotangent: Array) -> Array:
                    if made and wrt in wanted:
                        own = made[wanted.index(wrt)]
                        whole = self.known(lambda: cotangent == 1.0)
                        return own if whole else own * broadcast_samples(xp, cotangent, own)
                    of, known = wanted, saved
                    with nullcontext() if eager else execution.as_in_value(calls):
                        if wrt not in wanted:
                            of = (wrt,)
                            _, known = function.forward(self.backend, fixed, of)
                        return function.backward(self.backend, fixed, (wrt,), of, known, cotangent)[0]

                return _undifferentiable(gradient, cotangent, arrays[wrt].dtype, [arrays[i] for i in floating])

            return _private.carrying(carried, arrays[wrt], _as_written(backward))

        # When eager, what is not recorded now never will be; but the probe does not see forward mode.
        first, *others = (wanted if eager and _private.sees_forward_mode() else floating) or (None,)
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


def _undifferentiable(gradient: Callable[[Array], Array], cotangent: Array, dtype: Any, inputs: list[Array]) -> Array:
    """Return a closed-form gradient times its cotangent, which refuses to be differentiated.

    The gradient depends on the inputs in a way that no tape sees. They are arguments here, so that a tape that follows
    one of them comes past this refusal.
    """
    if tf.executing_eagerly() and _private.unwatched():
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
    if tf.executing_eagerly() or not _private.built_in_advance(tf.compat.v1.get_default_graph()):
        raise RuntimeError(SECOND_DERIVATIVE)

    def fail() -> None:
        raise RuntimeError(SECOND_DERIVATIVE)

    def failing(x: Array) -> Array:
        # XLA, which runs no Python, refuses to compile this operation and says its name.
        result = tf.py_function(fail, [], x.dtype, name="second_derivative_needs_agnoreg_native_autodiff")
        return tf.broadcast_to(result, tf.shape(x))

    return [failing(x) for x in inputs]
