"""Compiled kernels for arrays in the host's memory: NumPy's, PyTorch's, TensorFlow's and JAX's.

Numba compiles them on first use, for float32 or float64, and caches them on disk. It is optional: without it, and for
everything that the kernels do not support, the core's implementation runs, which is their reference in tests.

- Local correlation, `LocalCorrelation`: of float32 images in rectangular windows by running sums of integers, which are
  exact; otherwise by windows that are merged as in the core. Offsets cost no digits, and flat windows have moments of
  exactly 0.
- Mutual information, `ParzenInformation`, in float32, with masks, too: of a voxel's weights in the bins only those that
  count.
- The regularisers, bending energy and gradient norm, with masks: value and gradient in one pass, by a table of
  differences.
- Dice, Jaccard and the global correlation: one pass for their sums, one for a gradient; the core makes the value and
  the coefficients. The mean squared difference and, in float32, cross-entropy: both in one pass.

The core's path serves other masks, thresholded labels, images that do not lie in memory one number after the other,
other dtypes, and whatever a framework traces or differentiates itself. Threads are Python's own, as many as the
framework uses; how many they are changes no digit of float32.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

__all__ = ["HostKernels", "accelerator", "compile_all", "usable"]

SLOWER = "several times slower"


@lru_cache(maxsize=1)
def missing() -> str:
    """Return why Numba cannot compile here (absent, broken, disabled or too old for this NumPy), or ``""``."""
    try:
        import filelock  # noqa: F401
        import numba
    except ModuleNotFoundError as error:
        if error.name in ("filelock", "numba"):
            return f"without {error.name.capitalize()}: {SLOWER}; pip install numba filelock"
        return f"Numba is broken, {error}: {SLOWER}"
    except Exception as error:  # A broken library raises what it likes.
        return f"Numba is broken, {' '.join(str(error).split())}: {SLOWER}"
    return f"Numba is told not to compile: {SLOWER}" if getattr(numba.config, "DISABLE_JIT", False) else ""


def usable() -> bool:
    """Return whether kernels can be compiled here."""
    return not missing()


class HostKernels:
    """The accelerator of arrays in the host's memory."""

    def missing(self) -> str:
        """Return what is missing and what it would bring, or ``""``."""
        return missing()

    def evaluation(self, measure: Any, backend: Any, memory: Any, arrays: tuple[Any, ...], otherwise: Any) -> Any:
        """Return the evaluation of a measure by kernels; None if they do not support such arrays."""
        if not usable():
            return None
        from agnoreg_cpu.kinds import evaluation

        return evaluation(measure, backend, memory, arrays, otherwise)

    def compile_all(self, dtypes: Sequence[str] = ("float32",)) -> None:
        """Compile what the kernels' measures need with images of these dtypes, or read it from disk."""
        compile_all(dtypes)


def compile_all(dtypes: Sequence[str] = ("float32",)) -> None:
    """Compile the kernels of all measures for images of these dtypes, so that no later call waits for it.

    What was compiled before, for the same versions and the same kind of processor, is read from disk. Without a usable
    Numba there is nothing to do.

    Parameters
    ----------
    dtypes
        ``"float32"``, ``"float64"`` or both.
    """
    if usable():
        from agnoreg_cpu.kinds import compile_kernels

        compile_kernels(dtypes)


accelerator = HostKernels()
