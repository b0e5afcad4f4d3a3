"""Helpers of MONAI's losses: reductions and added axes."""

import math
from collections.abc import Sequence
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.objects.loss import Loss

Array = Any

FIRST = "channels_first"


def _reduced(loss: Loss, values: Array, entries: Sequence[int | None]) -> Array:
    """Return the values ``(B,)`` reduced as the loss says; each value is a mean over ``prod(entries)`` numbers."""
    if loss.reduction == "sum":
        known = [size for size in entries if size is not None]
        if len(known) < len(entries):
            raise ValueError('reduction="sum" adds up the numbers of each sample, and needs known sizes.')
        with backend_of(values).execution.at(values):
            values = values * float(math.prod(known))
    return loss.reduce(values)


def _planes(array: Array, rank: int) -> Array:
    """Return the array with axes of size 1 appended, so that it has at least ``rank`` axes."""
    backend = backend_of(array)
    array = backend.prepare(array)
    for _ in range(rank - len(backend.shape(array))):
        array = backend.xp.expand_dims(array, axis=-1)
    return array
