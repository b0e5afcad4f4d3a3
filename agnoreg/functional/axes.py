"""Axes of images and fields: how many there are, in which order, and how far apart voxels lie along them."""

import math
from collections.abc import Sequence
from typing import Any

from agnoreg.differentiable import as_number

#: Where the channels of an image, or the components of a field, are: ``(B, d1, ..., C)`` or ``(B, C, d1, ...)``.
FORMATS = ("channels_last", "channels_first")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError where a parameter is none of these."""
    if value not in tuple(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")


def check_spacing(spacing: Any, dims: int) -> tuple[float, ...]:
    """Return one distance of neighbouring voxels an axis; raise ValueError where these are not ``dims`` of them."""
    several = hasattr(spacing, "__len__") and not isinstance(spacing, str)
    given = tuple(spacing) if several else (spacing,) * dims
    steps = tuple(as_number(step) for step in given)
    if len(steps) != dims or not all(0 < step < math.inf for step in steps):
        raise ValueError(f"spacing must be a positive number, or one for each of {dims} axes, got {spacing!r}.")
    return steps
