"""What MONAI's losses share: reductions and planes."""

import math
from collections.abc import Sequence
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.objects.loss import Loss

Array = Any

FIRST = "channels_first"


def _reduced(loss: Loss, values: Array, entries: Sequence[int | None]) -> Array:
    """Return the values ``(B,)`` reduced as the loss says; each is a mean over so many entries of a sample."""
    if loss.reduction == "sum":
        known = [size for size in entries if size is not None]
        if len(known) < len(entries):
            raise ValueError('reduction="sum" adds up a sample\'s entries, and needs sizes that are known.')
        with backend_of(values).execution.at(values):
            values = values * float(math.prod(known))
    return loss.reduce(values)


def _planes(array: Array, rank: int) -> Array:
    """Return the array with axes of one entry behind its own, to have at least so many."""
    backend = backend_of(array)
    array = backend.prepare(array)
    for _ in range(rank - len(backend.shape(array))):
        array = backend.xp.expand_dims(array, axis=-1)
    return array
