"""One-dimensional kernels of windows and of smoothing."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from agnoreg.engine.validate import check_integer, check_number
from agnoreg.messages import shown

Array = Any


class EvenWindowWarning(UserWarning):
    """A window of even size is off-centre by half a voxel."""


#: The even size that was warned of, if any: Python itself would warn again after every change of the warning filters.
_warned: list[int] = []

#: Largest size of a window and largest sigma, in voxels: a typing error must not fill the memory.
LARGEST = 1000


#: The windows that were made so far: each is made with the first loss that has it, before a compiler traces a call.
_taps: dict[tuple[str, int], tuple[float, ...]] = {}


def check_kernel_size(kernel_size: int) -> int:
    """Return the size as an int, or raise ValueError where it is not an integer of at least 1."""
    kernel_size = check_integer("kernel_size", kernel_size, 1)
    if kernel_size > LARGEST:
        raise ValueError(f"kernel_size must be at most {LARGEST}, got {shown(kernel_size)}.")
    return kernel_size


def warn_of_even(sizes: Sequence[int]) -> None:
    """Warn, once in a process, if one of the sizes is even: such a window has no middle voxel."""
    even = [size for size in sizes if size % 2 == 0]
    if not even or _warned:
        return
    warnings.warn(
        f"An even kernel_size, here {even[0]}, puts windows off-centre: they reach a voxel further ahead than back. "
        "Windows of odd sizes are symmetric.",
        EvenWindowWarning,
        stacklevel=2,
    )
    # Only now: if the warning is an error, the next call must raise it again.
    _warned.append(even[0])


def check_sigma(sigma: float) -> float:
    """Return sigma as a float, or raise ValueError where it is not positive and finite."""
    sigma = check_number("sigma", sigma, above=True)
    if sigma > LARGEST:
        raise ValueError(f"sigma must be at most {LARGEST} voxels, got {sigma}.")
    return sigma


def window_taps(kernel_type: str, kernel_size: int) -> tuple[float, ...]:
    """Return the taps of a rectangular, triangular or gaussian window along one axis, as Python floats."""
    # Kept, since making them takes time that a small image's loss would notice; 3.0 and True hash like 3 and 1.
    key = kernel_type, kernel_size
    if type(kernel_size) is not int:
        return _window_taps(*key)
    if key not in _taps:
        _taps[key] = _window_taps(*key)
    return _taps[key]


def _window_taps(kernel_type: str, kernel_size: int) -> tuple[float, ...]:
    size = check_kernel_size(kernel_size)
    offsets = [i - (size - 1) / 2 for i in range(size)]
    if kernel_type == "rectangular":
        return (1.0,) * size
    if kernel_type == "gaussian":
        return tuple([math.exp(-(offset**2) / (2 * (size / 3) ** 2)) for offset in offsets])
    if size < 3 or size % 2 == 0:
        raise ValueError(f"A triangular kernel's kernel_size must be odd and at least 3, got {size}.")
    return tuple([(size + 1) / 2 - abs(offset) for offset in offsets])


def narrow_triangle(size: int) -> tuple[float, ...]:
    """Return MONAI's triangular window, of sum 1: a box of ``(size + 1) // 2`` taps, or one less, with itself."""
    side = (size + 1) // 2
    side -= 1 - side % 2
    middle = size // 2
    return tuple([max(0.0, side - abs(i - middle)) / side**2 for i in range(size)])


def sampled_gaussian(sigma: float) -> tuple[float, ...]:
    """Return MONAI's Gaussian kernel: samples of the density up to 3 sigma, not normalised."""
    sigma = check_sigma(sigma)
    tail = int(max(3 * sigma, 0.5) + 0.5)
    height = 1 / (math.sqrt(2 * math.pi) * sigma)
    return tuple([height * math.exp(-0.5 * (x / sigma) ** 2) for x in range(-tail, tail + 1)])


def rectangular(kernel_size: int) -> Array:
    """Return ``kernel_size`` ones.

    Parameters
    ----------
    kernel_size
        At least 1.

    Returns
    -------
    numpy.ndarray
        Shape ``(kernel_size,)``, float64.

    Raises
    ------
    ValueError
        If the size is not an integer from 1 to 1000.

    Examples
    --------
    >>> rectangular(3)
    array([1., 1., 1.])
    """
    return np.asarray(window_taps("rectangular", kernel_size))


def triangular(kernel_size: int) -> Array:
    """Return a triangle, ``1, 2, ..., (k + 1) / 2, ..., 2, 1``.

    Parameters
    ----------
    kernel_size
        Odd, at least 3.

    Returns
    -------
    numpy.ndarray
        Shape ``(kernel_size,)``, float64.

    Raises
    ------
    ValueError
        If the size is even, below 3 or above 1000.

    Examples
    --------
    >>> triangular(5)
    array([1., 2., 3., 2., 1.])
    """
    return np.asarray(window_taps("triangular", kernel_size))


def gaussian_kernel1d_size(kernel_size: int) -> Array:
    """Return a Gaussian of a given length with a standard deviation of a third of it, not normalised.

    ``exp(-(i - (k - 1) / 2)^2 / (2 s^2))`` with ``s = k / 3``.

    Parameters
    ----------
    kernel_size
        At least 1.

    Returns
    -------
    numpy.ndarray
        Shape ``(kernel_size,)``, float64.

    Raises
    ------
    ValueError
        If the size is not an integer from 1 to 1000.

    Examples
    --------
    >>> gaussian_kernel1d_size(3).round(4)
    array([0.6065, 1.    , 0.6065])
    """
    return np.asarray(window_taps("gaussian", kernel_size))


def gaussian_kernel1d_sigma(sigma: float) -> Array:
    """Return a Gaussian over the offsets ``-floor(3 sigma)`` to ``floor(3 sigma)``, normalised to sum 1.

    Parameters
    ----------
    sigma
        Standard deviation in voxels, positive.

    Returns
    -------
    numpy.ndarray
        Shape ``(2 floor(3 sigma) + 1,)``, float64.

    Raises
    ------
    ValueError
        If sigma is not above 0 and at most 1000.

    Examples
    --------
    >>> gaussian_kernel1d_sigma(1).round(3)
    array([0.004, 0.054, 0.242, 0.399, 0.242, 0.054, 0.004])
    """
    sigma = check_sigma(sigma)
    tail = math.floor(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-tail, tail + 1) / sigma) ** 2)
    return kernel / kernel.sum()


def cauchy_kernel1d(sigma: float) -> Array:
    """Return a Cauchy kernel over the offsets ``-floor(5 sigma)`` to ``floor(5 sigma)``, normalised to sum 1.

    ``1 / ((x / sigma)^2 + 1)``.

    Parameters
    ----------
    sigma
        Half width at half height in voxels, positive.

    Returns
    -------
    numpy.ndarray
        Shape ``(2 floor(5 sigma) + 1,)``, float64.

    Raises
    ------
    ValueError
        If sigma is not above 0 and at most 1000.

    Examples
    --------
    >>> cauchy_kernel1d(0.2).round(3)
    array([0.036, 0.929, 0.036])
    """
    sigma = check_sigma(sigma)
    tail = math.floor(5 * sigma)
    kernel = 1 / ((np.arange(-tail, tail + 1) / sigma) ** 2 + 1)
    return kernel / kernel.sum()
