"""Axes and shapes, while some sizes may be unknown."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Array = Any
Axis = int | Sequence[int] | None


def one_axis(axis: int, rank: int) -> int:
    """Return ``axis`` counted from the front."""
    if not -rank <= axis < rank:
        raise IndexError(f"axis {axis} is out of bounds for an array of {rank} dimensions.")
    return axis % rank


def all_axes(axis: Axis, rank: int) -> list[int]:
    """Return the axes that a reduction's ``axis`` names, counted from the front; ``None`` names all."""
    if axis is None:
        return list(range(rank))
    axes = [one_axis(one, rank) for one in ((axis,) if isinstance(axis, int) else axis)]
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis {axis} names one axis twice.")
    return axes


def as_shape(shape: Any) -> list[Any]:
    """Return a shape, or a single size, as a list."""
    return [shape] if isinstance(shape, int) else list(shape)


def sizes(x: Array) -> list[Any]:
    """Return the size of every axis: an integer where it is known, otherwise a scalar tensor."""
    static = list(x.shape)
    if None not in static:
        return static
    dynamic = tf.unstack(tf.shape(x), num=len(static))
    return [now if known is None else known for known, now in zip(static, dynamic, strict=True)]


def size(x: Array, axes: Sequence[int], dtype: Any) -> Array:
    """Return the number of elements along ``axes``, as a scalar of ``dtype``."""
    every = sizes(x)
    return tf.cast(tf.reduce_prod(tf.stack([tf.cast(every[axis], tf.int64) for axis in axes] or [1])), dtype)


def with_shape(x: Array, shape: Any) -> Array:
    """State what is known of ``x``'s shape, and return it. A tracer forgets it where a size came from a tensor."""
    x.set_shape(shape)
    return x
