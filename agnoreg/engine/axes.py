"""Axes of images and fields: their number, their order and the voxel spacing along them."""

import math
from collections.abc import Sequence
from typing import Any

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.validate import as_number
from agnoreg.messages import shown

Array = Any

#: Position of an image's channels, or of a field's components: ``(B, d1, ..., C)`` or ``(B, C, d1, ...)``.
FORMATS = ("channels_last", "channels_first")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError if a parameter is not one of the given strings."""
    if not isinstance(value, str) or value not in tuple(choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}.")


def check_spatial_dims(value: Any, least: int = 1) -> int:
    """Return the number of spatial axes as an int; raise ValueError unless it is from ``least`` to 3."""
    choices = [dims for dims in (1, 2, 3) if dims >= least]
    number = as_number(value)
    if number not in choices:
        raise ValueError(f"spatial_dims must be one of {', '.join(map(str, choices))}, got {shown(value)}.")
    return int(number)


def is_sequence(value: Any) -> bool:
    """Return whether an option is a sequence of values; text and bytes are single values."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def check_spacing(spacing: Any, dims: int) -> tuple[Any, ...]:
    """Return the voxel spacing of each of ``dims`` axes; raise ValueError if it does not fit.

    A spacing is a number, or a 0-d array if the framework allows arrays as parameters of a measure.
    """
    several = is_sequence(spacing) or getattr(spacing, "shape", ()) != ()
    given = tuple(spacing) if several else (spacing,) * dims
    steps = tuple(step if _array_as_number(step) else as_number(step) for step in given)
    if len(steps) != dims or not all(_may_be_distance(step) for step in steps):
        raise ValueError(f"spacing must be a positive number, or one for each of {dims} axes, got {shown(spacing)}.")
    return steps


def axes_between(rank: int, dims: int, channel_axis: int) -> tuple[int, ...]:
    """Return the spatial axes of an array of ``rank`` axes; it has no channel axis if ``rank <= dims + 1``."""
    return tuple(axis for axis in range(1, rank) if rank <= dims + 1 or axis != channel_axis)


def _array_as_number(x: Any) -> bool:
    """Return whether ``x`` is a real 0-d array that may be a parameter."""
    if getattr(x, "shape", None) != () or not hasattr(x, "__array_namespace__"):
        return False
    backend = backend_of(x)
    return backend.autodiff.takes_parameters and bool(backend.xp.isdtype(x.dtype, "real floating"))


def _may_be_distance(step: Any) -> bool:
    """Return False if a spacing is known not to be positive and finite; a traced one passes."""
    if isinstance(step, float):
        return 0 < step < math.inf
    return backend_of(step).autodiff.known(lambda: (step > 0.0) & (step < math.inf)) is not False


def channels_as_samples(backend: Backend, x: Array, data_format: str | None) -> Array:
    """Return an image with its channels moved into the batch, as a view where the framework supports it."""
    shape = backend.shape(x)
    if data_format == "channels_last":
        last = len(shape) - 1
        x = backend.xp.permute_dims(x, (0, last, *range(1, last))) if shape[-1] != 1 else x
        return backend.xp.reshape(x, (-1, *shape[1:-1]))
    return backend.xp.reshape(x, (-1, *shape[2:]))


def samples_as_channels(backend: Backend, x: Array, shape: tuple[int | None, ...], data_format: str | None) -> Array:
    """Undo `channels_as_samples`: return the image in its original ``shape``."""
    if data_format != "channels_last" or shape[-1] == 1:
        return backend.xp.reshape(x, (-1, *shape[1:]))
    x = backend.xp.reshape(x, (-1, shape[-1], *shape[1:-1]))
    return backend.xp.permute_dims(x, (0, *range(2, len(shape)), 1))
