"""What TensorFlow does not make public, and what is done where that has vanished: it takes longer then."""

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from agnoreg.backend.private import PrivateNames

Array = Any

names = PrivateNames()
could_possibly_record = names.find("tensorflow.python.eager.record.could_possibly_record")
record_operation = names.find("tensorflow.python.eager.record.record_operation")
should_record_backprop = names.find("tensorflow.python.eager.record.should_record_backprop")
pack_tangents = names.find("tensorflow.python.eager.forwardprop_util.pack_tangents")
in_xla_context = names.find("tensorflow.python.ops.control_flow_util.GraphOrParentsInXlaContext")
in_save_context = names.find("tensorflow.python.saved_model.save_context.in_save_context")


def unwatched() -> bool:
    """Return whether nothing at all is recorded now, by tapes or by forward mode; no may be wrong."""
    return could_possibly_record is not None and not could_possibly_record()


def sees_forward_mode() -> bool:
    """Return whether `recorded` knows of forward mode, too."""
    return pack_tangents is not None


def recorded(x: Array) -> bool:
    """Return whether a tape records what is done with a tensor; no may be wrong while a function is traced.

    TensorFlow does not say so in public; where its own record cannot be asked, a probe finds out. Eagerly, a tape that
    records an operation keeps its backward function, and if no tape does, nobody keeps that function. (Where a Python
    does not count references the answer may be yes too often.) While a function is traced its graph keeps it.
    """
    eager = tf.executing_eagerly()
    if should_record_backprop is None:
        return eager and kept_by_a_tape(x)
    if should_record_backprop([x]):
        return True
    return eager and pack_tangents is not None and bool(pack_tangents([x]).tangents)


class _Kept:
    """Something that a backward function keeps alive."""


def kept_by_a_tape(x: Array) -> bool:
    """Return whether a tape keeps the backward function of an operation on a tensor."""

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


def carrying(result: Array, x: Array, backward: Callable[[Array], Array]) -> Array:
    """Return a result, with a function of its cotangent recorded as its gradient by ``x``."""
    if tf.executing_eagerly() and record_operation is not None:
        # Without the checks of a custom gradient, which take longer than a small image's loss.
        result = tf.identity(result)
        record_operation("agnoreg", [result], [x], lambda cotangent: [backward(cotangent)])
        return result
    return tf.custom_gradient(lambda x: (tf.identity(result), backward))(x)


def built_in_advance(graph: Any) -> bool:
    """Return whether a graph, or one around it, is a gradient's that TensorFlow builds before anybody asks for it."""
    while graph is not None:
        if graph.name.startswith("__backward"):
            return True
        graph = getattr(graph, "outer_graph", None)
        graph = graph if hasattr(graph, "name") else None
    return False


def made_for_xla() -> bool:
    """Return whether the graph that is built now is for XLA; no may be wrong, and XLA's own errors follow then."""
    return in_xla_context is not None and bool(in_xla_context(tf.compat.v1.get_default_graph()))


def may_call_python() -> bool:
    """Return whether the graph that is built now is known to be neither for XLA nor for a model that is being saved."""
    if in_xla_context is None or in_save_context is None:
        return False
    return not made_for_xla() and not in_save_context()
