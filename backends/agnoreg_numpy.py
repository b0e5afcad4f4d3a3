"""The NumPy adapter."""

from typing import Any

import numpy as np
from array_api_compat import numpy as xp

from agnoreg.backend import Backend

Array = Any


class NumPyBackend(Backend):
    """NumPy arrays: no autodiff, so gradients come from `agnoreg.value_and_grad` alone."""

    def owns(self, array: Array) -> bool:
        """Say whether this is a NumPy array, subclasses and memory maps included."""
        return isinstance(array, np.ndarray | np.generic)

    def prepare(self, array: Array) -> Array:
        """Return a plain ndarray in the machine's byte order, which shares the memory of the subclass it came as."""
        if np.ma.is_masked(array):
            raise TypeError(
                "The array has masked voxels, which a loss does not know: fill them, or pass the data alone."
            )
        array = np.asarray(array)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def device(self, array: Array) -> str:
        """Return ``"cpu"``."""
        return "cpu"

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index, in their own dtype."""
        return np.bincount(index, weights=weights, minlength=size).astype(weights.dtype)


backend = NumPyBackend("numpy", xp)
