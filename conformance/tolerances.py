"""Every tolerance of the suite, once, and how an error is measured.

A value's error is relative to ``max(|v|, 1e-2)``: a loss near 0 is compared absolutely. A gradient's error is
``max|delta| / max|g|`` over the whole array: one voxel's gradient may be 0.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """The largest errors allowed for a value and for a gradient; None where there is none to check."""

    value: float | None
    gradient: float | None


#: The golden vectors were computed in float32 by sums that lose digits of their own.
GOLDEN = Tolerance(1e-4, 1e-4)
#: float64 against the float64 reference: one formula in two orders of summation.
#: Two backends differ by at most twice that.
FLOAT64 = Tolerance(1e-12, 1e-12)
#: Metrics have no gradient.
METRICS = Tolerance(FLOAT64.value, None)
#: float32 against the float64 reference of the same float32 input: a few roundings, whatever the size of the image.
FLOAT32 = Tolerance(1e-5, 1e-4)
#: Air at -1000 beside tissue near +50 in float32: the edges' variance is 1e6 times that of the tissue.
CT = Tolerance(1e-3, 1e-2)
#: The local correlation of a single voxel, which lies in [0, 1], in float32; the mean is held to FLOAT32.
MAP = 1e-4
#: A central difference in float64 with steps of about 1e-5 is itself no closer than this.
DIFFERENCES = Tolerance(None, 1e-5)
#: Half-precision inputs are computed in float32; the one cast of the gradient to the input's dtype comes last.
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
HALF = {dtype: Tolerance(FLOAT32.value, FLOAT32.gradient + unit) for dtype, unit in UNIT.items()}

#: Below this a value's error is absolute.
FLOOR = 1e-2


def value_error(value, expected) -> float:
    """Return the worst error of ``value`` relative to ``max(|expected|, 1e-2)``; a NaN on one side only is infinite."""
    value, expected = (np.asarray(x, dtype=np.float64) for x in (value, expected))
    assert value.shape == expected.shape, f"shape {value.shape} where {expected.shape} is expected"
    return _finite(np.max(np.abs(value - expected) / np.maximum(np.abs(expected), FLOOR)))


def gradient_error(gradient, expected, scale=0.0) -> float:
    """Return ``max|gradient - expected| / max|expected|``; where ``expected`` is 0 throughout, ``max|gradient|``.

    ``scale`` takes the place of a smaller ``max|expected|``: where a gradient vanishes, as that of two constant images
    does, it says what a gradient of this loss amounts to.
    """
    gradient, expected = (np.asarray(x, dtype=np.float64) for x in (gradient, expected))
    assert gradient.shape == expected.shape, f"shape {gradient.shape} where {expected.shape} is expected"
    return _finite(np.max(np.abs(gradient - expected)) / (max(np.max(np.abs(expected)), scale) or 1.0))


def half_gradient_error(gradient, expected, dtype: str) -> float:
    """Return the gradient's error, less what ``dtype`` cannot tell apart: half the distance of its smallest numbers.

    The gradient of a mean over many voxels reaches the subnormal numbers of float16, where roundings are absolute.
    """
    smallest = {"float16": 2.0**-24, "bfloat16": 2.0**-133}[dtype]
    expected = np.asarray(expected, dtype=np.float64)
    return max(0.0, gradient_error(gradient, expected) - smallest / 2 / (np.max(np.abs(expected)) or 1.0))


def _finite(error) -> float:
    return float(error) if np.isfinite(error) else float("inf")
