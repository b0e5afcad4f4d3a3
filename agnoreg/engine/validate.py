"""Checks of parameters and shapes, with errors that name the parameter and its value."""

import math
from numbers import Real
from typing import Any

from agnoreg.messages import shown


def check_same_shape(*shapes: tuple[int | None, ...]) -> None:
    """Raise ValueError if y_true and y_pred differ in a known size, or are empty."""
    true, pred = shapes
    if len(true) != len(pred) or any(
        a != b for a, b in zip(true, pred, strict=True) if a is not None and b is not None
    ):
        raise ValueError(f"y_true and y_pred must have one shape, got y_true {true} and y_pred {pred}.")
    check_rank("y_true", true, 1)


def voxels(shape: tuple[int | None, ...]) -> int:
    """Return the number of entries of a sample of this shape; unknown sizes count as 1."""
    return math.prod([size for size in shape[1:] if size is not None])


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError unless a parameter is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}.")


def as_number(value: Any) -> float:
    """Return a parameter as a float; NaN, which fails every comparison, if it is not a real number or overflows."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_number(name: str, value: Any, *, above: bool = False) -> float:
    """Return a finite number that is at least 0 (``above``: greater than 0), or raise ValueError."""
    number = as_number(value)
    if not 0 <= number < math.inf or (above and number == 0):
        raise ValueError(f"{name} must be {'positive' if above else 'a number of at least 0'}, got {shown(value)}.")
    return number


def check_share(name: str, value: Any) -> float:
    """Return a number in [0, 1], or raise ValueError."""
    number = as_number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be within [0, 1], got {shown(value)}.")
    return number


def check_integer(name: str, value: Any, least: int) -> int:
    """Return an integer of at least ``least``, or raise ValueError."""
    number = as_number(value)
    if not least <= number < math.inf or int(number) != number:
        raise ValueError(f"{name} must be an integer of at least {least}, got {shown(value)}.")
    return int(number)


def check_rank(name: str, shape: tuple[int | None, ...], least: int, layout: str = "(batch, ...)") -> None:
    """Raise ValueError if an array has fewer than ``least`` axes, or an axis of size 0 other than the batch."""
    if len(shape) < least:
        hint = " Give a single sample an axis of the batch, array[None]; planes and lines need spatial_dims=2 or 1."
        hint = hint if len(shape) == least - 1 > 2 else ""
        raise ValueError(f"{name} must have at least {least} axes, {layout}, got shape {shape}.{hint}")
    if 0 in shape[1:]:
        raise ValueError(f"{name} must not be empty, got shape {shape}.")
