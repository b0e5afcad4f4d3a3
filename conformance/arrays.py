"""NumPy arrays to a backend's arrays of some dtype on the chosen device, and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Maker:
    """Makes arrays of one backend on one device."""

    backend: Any
    device: str | None
    #: The widest floating-point dtype: "float64", or "float32" to do without any of 64 bit.
    widest: str = "float64"

    def __call__(self, array: np.ndarray, dtype: str = "float64") -> Any:
        """Return ``array`` as an array of this dtype; a dtype that the framework lacks skips the test."""
        backend, xp = self.backend, self.backend.xp
        if "64" in dtype and self.widest != "float64":
            pytest.skip(f"--widest {self.widest} leaves out {dtype}")
        if not hasattr(xp, dtype):
            pytest.skip(f"{backend.name} has no {dtype}")
        if dtype == "bfloat16":  # which NumPy lacks
            return xp.astype(backend.from_numpy(np.asarray(array, dtype=np.float32), self.device), xp.bfloat16)
        return backend.from_numpy(np.asarray(array, dtype=dtype), self.device)

    def all(self, arrays: tuple[np.ndarray, ...], dtype: str = "float64") -> tuple[Any, ...]:
        """Return each of ``arrays`` as an array of this dtype."""
        return tuple(self(array, dtype) for array in arrays)

    def masks(self, masks: dict[str, np.ndarray], dtype: str = "float64") -> dict[str, Any]:
        """Return masks by their names: bools stay bools, other weights become numbers of this dtype."""
        return {name: self(mask, "bool" if mask.dtype == np.bool_ else dtype) for name, mask in masks.items()}

    def numpy(self, array: Any) -> np.ndarray:
        """Return an array of the backend as float64, whatever its dtype."""
        xp = self.backend.xp
        if hasattr(xp, "bfloat16") and array.dtype == xp.bfloat16:  # which NumPy lacks
            array = xp.astype(array, xp.float32)
        return np.asarray(self.backend.to_numpy(array), dtype=np.float64)
