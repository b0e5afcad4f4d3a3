"""Functions that move, join and repeat elements."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import tensorflow as tf

from agnoreg_tensorflow._dtypes import tensor, tensors
from agnoreg_tensorflow._shapes import Axis, all_axes, as_shape, one_axis, sizes, with_shape

__all__ = [
    "broadcast_arrays",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flip",
    "moveaxis",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "squeeze",
    "stack",
    "tile",
    "unstack",
]

Array = Any


def reshape(x: Array, /, shape: Any, *, copy: bool | None = None) -> Array:
    """Give ``x`` another shape.

    One size may be -1: what is left. ``None`` stands for the size that ``x`` has on that axis, known or not.
    """
    x = tensor(x, "reshape")
    if copy is False and not tf.executing_eagerly():
        raise ValueError("reshape with copy=False has no meaning while a function is traced.")
    return tf.reshape(x, _own_sizes(x, as_shape(shape)))


def _own_sizes(x: Array, shape: list[Any]) -> list[Any]:
    """Replace every ``None`` in ``shape`` by the size of ``x`` on that axis."""
    return [sizes(x)[axis] if size is None else size for axis, size in enumerate(shape)]


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays along an axis; flattened ones where it is ``None``."""
    found = tensors("concat", *arrays)
    if axis is None:
        return tf.concat([tf.reshape(x, [-1]) for x in found], axis=0)
    return tf.concat(found, one_axis(axis, len(found[0].shape)))


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join arrays of one shape along a new axis."""
    found = tensors("stack", *arrays)
    axis = one_axis(axis, len(found[0].shape) + 1)
    if found[0].dtype == tf.uint16:
        # No kernel of a graph.
        return tf.concat([tf.expand_dims(x, axis) for x in found], axis)
    return tf.stack(found, axis)


def unstack(x: Array, /, *, axis: int = 0) -> tuple[Array, ...]:
    """Split an array into the planes of an axis of known size."""
    x = tensor(x, "unstack")
    return tuple(tf.unstack(x, axis=one_axis(axis, len(x.shape))))


def expand_dims(x: Array, /, axis: int = 0) -> Array:
    """Insert an axis of size one."""
    x = tensor(x, "expand_dims")
    return tf.expand_dims(x, one_axis(axis, len(x.shape) + 1))


def squeeze(x: Array, /, axis: Axis) -> Array:
    """Remove axes of size one."""
    x = tensor(x, "squeeze")
    axes = all_axes(axis, len(x.shape))
    for one in axes:
        if x.shape[one] not in (1, None):
            raise ValueError(f"squeeze needs a size of one, axis {one} of shape {tuple(x.shape)} has another.")
    return tf.squeeze(x, axes) if axes else x


def permute_dims(x: Array, /, axes: Sequence[int]) -> Array:
    """Put the axes in another order."""
    x = tensor(x, "permute_dims")
    order = all_axes(tuple(axes), len(x.shape))
    if len(order) != len(x.shape):
        raise ValueError(f"permute_dims needs every axis of shape {tuple(x.shape)} once, got {tuple(axes)}.")
    return tf.transpose(x, order)


def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int], /) -> Array:
    """Move axes to new positions; the others keep their order."""
    x = tensor(x, "moveaxis")
    rank = len(x.shape)
    origins, targets = all_axes(source, rank), all_axes(destination, rank)
    if len(origins) != len(targets):
        raise ValueError(f"moveaxis needs as many destinations as sources, got {source} and {destination}.")
    order = [axis for axis in range(rank) if axis not in origins]
    for target, origin in sorted(zip(targets, origins, strict=True)):
        order.insert(target, origin)
    return tf.transpose(x, order)


def flip(x: Array, /, *, axis: Axis = None) -> Array:
    """Reverse the order along axes, along all of them where ``axis`` is ``None``."""
    x = tensor(x, "flip")
    return tf.reverse(x, all_axes(axis, len(x.shape)))


def roll(x: Array, /, shift: int | Sequence[int], *, axis: Axis = None) -> Array:
    """Shift along axes; what leaves at one end comes back at the other."""
    x = tensor(x, "roll")
    if axis is None:
        flat = tf.roll(tf.reshape(x, [-1]), shift, 0)
        return with_shape(tf.reshape(flat, tf.shape(x)), x.shape)
    shifts = [shift] if isinstance(shift, int) else list(shift)
    # An axis may be named more than once here: its shifts add up.
    axes = [one_axis(one, len(x.shape)) for one in ((axis,) if isinstance(axis, int) else axis)]
    return tf.roll(x, shifts * len(axes) if len(shifts) == 1 else shifts, axes)


def broadcast_to(x: Array, /, shape: Any) -> Array:
    """Repeat ``x`` to a shape. ``None`` stands for the size that ``x`` has on that axis, counted from the last."""
    x = tensor(x, "broadcast_to")
    target = as_shape(shape)
    own = [1] * (len(target) - len(x.shape)) + sizes(x)
    return tf.broadcast_to(x, [have if want is None else want for have, want in zip(own, target, strict=True)])


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Repeat arrays to their common shape."""
    found = [tensor(x, "broadcast_arrays") for x in arrays]
    static = reduce(tf.broadcast_static_shape, [x.shape for x in found])
    if static.is_fully_defined():
        return [tf.broadcast_to(x, static) for x in found]
    dynamic = reduce(tf.broadcast_dynamic_shape, [tf.shape(x) for x in found])
    return [with_shape(tf.broadcast_to(x, dynamic), static) for x in found]


def _through_int32(function: Callable[[Array], Array], x: Array) -> Array:
    """Apply ``function``, which TensorFlow has no kernel of for uint16."""
    return tf.cast(function(tf.cast(x, tf.int32)), x.dtype) if x.dtype == tf.uint16 else function(x)


def tile(x: Array, repetitions: Sequence[int], /) -> Array:
    """Repeat the whole of ``x`` along each axis; a shape or repetitions that are too short get ones in front."""
    x = tensor(x, "tile")
    missing = len(repetitions) - len(x.shape)
    times = [1] * -missing + list(repetitions)
    if missing > 0:
        x = tf.reshape(x, [1] * missing + sizes(x))
    return _through_int32(lambda values: tf.tile(values, times), x)


def repeat(x: Array, repeats: int | Array, /, *, axis: int | None = None) -> Array:
    """Repeat every element along an axis ``repeats`` times, a number or one for each; flattened without an axis."""
    x = tensor(x, "repeat")
    times = repeats if isinstance(repeats, int) else tensor(repeats, "repeat", "integral")
    if axis is None:
        x, axis = tf.reshape(x, [-1]), 0
    axis = one_axis(axis, len(x.shape))
    return _through_int32(lambda values: tf.repeat(values, times, axis), x)
