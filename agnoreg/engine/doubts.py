"""Inputs that are probably not what is meant, where that is certain and seen at little cost: a warning says so.

Sizes are looked at in every call. Numbers are only where nothing waits for a device, on a grid of voxels, and once for
each loss, shape and dtype: a training loop pays for its first step.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from agnoreg.backend import Backend

Array = Any

#: How far beyond [0, 1] numbers are no mistake of interpolation, on either side.
MARGIN = 0.5


#: Which share of an image lies so far beyond where it was never scaled; an image that was scaled by percentiles has
#: less.
SHARE = 0.1


#: Of each axis about so many voxels are looked at.
GRID = 64


#: So many losses, shapes and dtypes are remembered.
MOST = 4096


_looked_at: set[Any] = set()


def forget() -> None:
    """Look at everything again."""
    _looked_at.clear()


def first_look(backend: Backend, arrays: Sequence[Array], reason: Any) -> bool:
    """Say whether the numbers of arrays can be looked at, and for this reason none of this shape and dtype were."""
    if not backend.autodiff.visible(arrays[0]):
        return False
    key = (reason, tuple(arrays[0].shape), *(array.dtype for array in arrays))
    if key in _looked_at:
        return False
    if len(_looked_at) >= MOST:
        forget()
    _looked_at.add(key)
    return True


def _sparse(array: Array) -> Array:
    """Return a grid of an array's voxels."""
    steps = [max(1, size // GRID) for size in array.shape[1:]]
    return array[(slice(None), *(slice(step // 2, None, step) for step in steps))]


def beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> list[Array]:
    """Return where each array's numbers are far outside [0, 1], on a grid of the voxels that a mask keeps."""
    xp, found = backend.xp, []
    if mask is not None:
        mask = _sparse(mask)
        mask = mask if mask.dtype == xp.bool else mask != 0
    for array in arrays:
        if array.dtype == xp.bool:
            continue
        numbers = _sparse(backend.autodiff.detach(array))
        numbers = xp.astype(numbers, backend.dtypes.compute(numbers))
        # NaN is neither.
        outside = (numbers > 1.0 + MARGIN) | (numbers < -MARGIN)
        found.append(outside if mask is None else outside & mask)
    return found


def any_beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> bool:
    """Say whether a number is far outside [0, 1]."""
    xp = backend.xp
    return any(backend.autodiff.known(partial(xp.logical_not, x)) is False for x in beyond(backend, arrays, mask))


def many_beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> bool:
    """Say whether a good share of an array's numbers is far outside [0, 1]."""
    xp = backend.xp

    def few(outside: Array) -> Array:
        return xp.mean(xp.astype(outside, xp.float32)) < SHARE

    return any(backend.autodiff.known(partial(few, x)) is False for x in beyond(backend, arrays, mask))


LABELS = (
    "{} is of labels in [0, 1], one mask for each label, and was given others, as a map of several labels, a mask of 0 "
    "and 255, or logits have: its value means nothing. Pass one label at a time, such as labels == 3, or a channel for "
    "each, or probabilities."
)


IMAGES = (
    "Mutual information clips intensities to [0, 1], and much of an image lies far beyond: its value means little. "
    "Scale both images to [0, 1] first."
)


THIN = (
    "An axis of the image has one voxel, beside which {} zeros beyond the border, and nearly nothing else. For images "
    "of fewer axes pass spatial_dims, 2 for (batch, dim1, dim2) or (batch, dim1, dim2, 1), and data_format where "
    "channels come first; {}."
)


def thin(shape: Sequence[int | None], axes: Sequence[int], widths: Callable[[], Sequence[int]]) -> bool:
    """Say whether windows of these widths along these axes meet one of a single voxel; of one axis that is no image."""
    if 1 not in shape[1:] or len(axes) < 2:
        return False
    return any(shape[axis] == 1 and width > 1 for axis, width in zip(axes, widths(), strict=True))
