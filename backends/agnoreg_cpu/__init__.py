"""Compiled kernels for arrays in the host's memory: NumPy's, PyTorch's, and TensorFlow's where it runs eagerly.

Numba compiles them when they are first used, for float32 or float64, and keeps what it compiled on disk. It is
optional: without it, and for all that the kernels do not know, the core's path is taken, which is their oracle.

- Local correlation, `LocalCorrelation`, with masks where windows are rectangular or triangular: rows of voxels that
  stay in cache are joined to windows as in the core, so that offsets cost no digits and flat windows have moments of
  exactly 0.
- Mutual information, `ParzenInformation`, in float32, with masks, too: of a voxel's weights in the bins only those that
  count.
- Dice, Jaccard and the global correlation: one pass for their sums, one for a gradient; the core makes the value and
  the coefficients. The mean squared difference and, in float32, cross-entropy: both in one pass.

The core's path serves other masks, thresholded labels, images that do not lie in memory one number after the other,
other dtypes, and whatever a framework traces or differentiates itself. Threads are Python's own, as many as the
framework uses; how many they are changes no digit of float32.
"""

from functools import lru_cache
from typing import Any

from agnoreg.engine.measure import Measure
from agnoreg.engine.native import natively_differentiated

__all__ = ["ALIGNED", "fused", "usable"]

#: Gradients' memory begins at multiples of so many bytes, so that any framework takes it for its own.
ALIGNED = 64


@lru_cache(maxsize=1)
def usable() -> bool:
    """Say whether Numba compiles: it may be absent, broken, told not to, or not know this NumPy yet."""
    try:
        import numba
    except Exception:  # A broken library raises what it likes.
        return False
    return not getattr(numba.config, "DISABLE_JIT", False)


def fused(measure: Measure, backend: Any, arrays: tuple[Any, ...], otherwise: Any) -> Any:
    """Return the evaluation of a measure by kernels, where they can do it with such arrays; or what else there is."""
    if natively_differentiated() or not usable():
        return otherwise
    from agnoreg_cpu.measures import of_kernels

    return of_kernels(measure, backend, arrays, otherwise)
