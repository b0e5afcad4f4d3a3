"""Where to look: the slices and the place in which two images or labels differ most."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.report.case import Case
from agnoreg.functional import lncc_map, separable_filter

Array = Any

#: The window of local correlation, in voxels along each axis.
WINDOW = 9
#: The window of a voxel and its neighbours.
NEIGHBOURS = 3
#: A slice must have this part of the contrast of the slice that has most: the tip of an organ shows little.
LEAST_SHOWN = 0.4


@dataclass(frozen=True)
class Agreement:
    """How alike two images are at each voxel.

    Attributes
    ----------
    correlation
        Squared local correlation in [0, 1]; 0 where a window is flat in an image, 1 where a voxel does not count.
    contrast
        The fixed image's local standard deviation, in the same window.
    disagreement
        ``(1 - correlation)`` times the deviation of the fixed image among a voxel's neighbours alone: it lies at edges,
        and not half a window beside them.
    """

    correlation: Array
    contrast: Array
    disagreement: Array


def agreement(case: Case, moved: Array) -> Agreement:
    """Return how alike the fixed image and another one are at each voxel that counts."""
    shape = case.fixed.shape
    axes = [axis for axis in range(3) if shape[axis] > 1] or [0]
    flat = tuple(shape[axis] for axis in axes)
    fixed, moved = (np.ascontiguousarray(x, dtype=np.float32).reshape(1, *flat) for x in (case.fixed, moved))
    size = tuple(min(WINDOW, 2 * ((n - 1) // 2) + 1) for n in flat)
    with np.errstate(all="ignore"):
        found = lncc_map(fixed, moved, kernel_size=size, convention="exact", spatial_dims=len(axes))
    # What is flat in one image alone is not alike. Where it is so in the fixed image, there is no contrast to lose.
    correlation = np.nan_to_num(np.asarray(found).reshape(shape), nan=0.0)
    if "images" in case.counts:
        correlation = np.where(case.counts["images"], correlation, 1.0)
    contrast, near = (_deviation(fixed, len(axes), size).reshape(shape) for size in (WINDOW, NEIGHBOURS))
    return Agreement(correlation, contrast, (1 - correlation) * near)


def _deviation(image: Array, dims: int, window: int) -> Array:
    """Return the standard deviation in a window around each voxel, ``(1, ...)``; a window ends at the border."""
    taps = np.ones(window)
    centred = image - image.mean()
    sums, squares = (np.asarray(separable_filter(x, taps, spatial_dims=dims)) for x in (centred, centred * centred))
    for axis in range(1, dims + 1):
        inside = np.convolve(
            np.ones(image.shape[axis], np.float32), taps, "same" if image.shape[axis] >= window else "full"
        )
        inside = inside[(len(inside) - image.shape[axis]) // 2 :][: image.shape[axis]]
        across = inside.reshape([-1 if other == axis else 1 for other in range(image.ndim)]).astype(np.float32)
        sums, squares = sums / across, squares / across
    return np.sqrt(np.maximum(squares - sums * sums, 0))


def worst_slices(difference: Array, shown: Array | None = None) -> tuple[int, int, int]:
    """Return the index along each axis of the slice that holds most of a difference, which is nowhere negative.

    Where nothing differs they are the middle ones. Slices with little of what is to be ``shown`` are left out.
    """
    if not difference.any():
        middle = [size // 2 for size in difference.shape]
        return middle[0], middle[1], middle[2]

    def worst(axis: int) -> int:
        others = tuple(other for other in range(3) if other != axis)
        held = np.sum(difference, axis=others, dtype=np.float64)
        if shown is not None:
            there = np.sum(shown, axis=others, dtype=np.float64)
            held = np.where(there >= LEAST_SHOWN * there.max(), held, -1.0)
        return int(np.argmax(held))

    return worst(0), worst(1), worst(2)


def worst_place(difference: Array) -> tuple[int, int, int]:
    """Return the voxel with the largest difference."""
    x, y, z = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return int(x), int(y), int(z)
