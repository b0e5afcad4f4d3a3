"""Offset and scale of an image's intensities: subtracted and divided by before products are formed."""

import math
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.slabs import fill_masked

Array = Any


def centre(backend: Backend, dtype: Any, image: Array, weights: Array | None = None) -> Array:
    """Return a rough centre of each sample's intensities, ``(B,)``, which can be subtracted without rounding.

    It is the mean over a coarse grid of voxels, rounded to the spacing of floating-point numbers a little above the
    largest of these voxels. So ``image - centre`` is exact for voxels of that size, and an offset costs no digits.
    """
    xp = backend.xp
    steps = [max(1, size // 16) for size in image.shape[1:]]
    grid = (slice(None), *(slice(step // 2, None, step) if step > 1 else slice(None) for step in steps))
    sparse = xp.astype(image[grid], dtype, copy=False)
    axes = tuple(range(1, len(image.shape)))
    if weights is None:
        mean = xp.mean(sparse, axis=axes)
    else:
        there = weights[grid]
        (sparse,) = fill_masked(backend, (sparse,), there)
        (inside,) = fill_masked(backend, (xp.ones_like(sparse),), there)
        found = xp.sum(inside, axis=axes)
        mean = xp.sum(sparse, axis=axes) / xp.where(found != 0.0, found, xp.ones_like(found))
    large = xp.max(xp.abs(sparse), axis=axes) * 2.0
    return (mean + large) - large


def scale(backend: Backend, dtype: Any, image: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return a centre of each sample's intensities and the largest of their absolute values, ``(B,)`` each.

    Intensities are divided by the second, so that their products stay in the dtype's range in any unit; it is 1 if all
    are 0. The centre lies between the minimum and the maximum, so that a constant image less its centre is exactly 0.
    """
    xp, axes = backend.xp, tuple(range(1, len(image.shape)))
    middle = centre(backend, dtype, image, weights)
    image = xp.astype(image, dtype, copy=False)
    if weights is None:
        least, greatest = xp.min(image, axis=axes), xp.max(image, axis=axes)
    else:
        least = xp.min(fill_masked(backend, (image,), weights, math.inf)[0], axis=axes)
        greatest = xp.max(fill_masked(backend, (image,), weights, -math.inf)[0], axis=axes)
        # With an empty mask, all are infinite.
        least, greatest = (xp.where(least > greatest, xp.zeros_like(x), x) for x in (least, greatest))
    largest = xp.maximum(xp.abs(least), xp.abs(greatest))
    middle = xp.minimum(xp.maximum(middle, least), greatest)
    return middle, xp.where(largest == 0.0, xp.ones_like(largest), largest)


def centres(
    backend: Backend, dtype: Any, images: tuple[Array, ...], weights: Array | None, scaled: bool
) -> tuple[Array, ...]:
    """Return a centre of each image, ``(B,)`` each, followed, if ``scaled``, by the divisor of each image."""
    if not scaled:
        return tuple(centre(backend, dtype, image, weights) for image in images)
    pairs = [scale(backend, dtype, image, weights) for image in images]
    return (*(middle for middle, _ in pairs), *(largest for _, largest in pairs))
