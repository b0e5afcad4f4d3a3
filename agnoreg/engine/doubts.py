"""Warnings about inputs that are very probably a mistake and cheap to detect.

Shapes are checked in every call. Values are checked on a coarse grid of voxels, only if that needs no device sync, and
once for each loss, shape and dtype: a training loop pays in its first step only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from agnoreg.backend import Backend

Array = Any

#: Distance outside [0, 1], on either side, that interpolation alone does not explain.
MARGIN = 0.5


#: Fraction of voxels so far outside that marks an image as never scaled; scaling by percentiles leaves fewer.
SHARE = 0.1


#: Approximate number of voxels checked along each axis.
GRID = 64


#: Maximum number of remembered combinations of loss, shape and dtype.
MOST = 4096


_looked_at: set[Any] = set()


def forget() -> None:
    """Forget which inputs were checked, so that all are checked again."""
    _looked_at.clear()


def first_look(backend: Backend, arrays: Sequence[Array], reason: Any) -> bool:
    """Return whether values can be read, and arrays of this shape and dtype were not yet checked for ``reason``."""
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
    """Return a coarse grid of an array's voxels."""
    steps = [max(1, size // GRID) for size in array.shape[1:]]
    return array[(slice(None), *(slice(step // 2, None, step) for step in steps))]


def beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> list[Array]:
    """Return where the values are far outside [0, 1], on a coarse grid inside the mask; bool arrays are skipped."""
    xp, found = backend.xp, []
    if mask is not None:
        mask = _sparse(mask)
        mask = mask if mask.dtype == xp.bool else mask != 0
    for array in arrays:
        if array.dtype == xp.bool:
            continue
        numbers = _sparse(backend.autodiff.detach(array))
        numbers = xp.astype(numbers, backend.dtypes.compute(numbers))
        # NaN counts as inside: both comparisons fail.
        outside = (numbers > 1.0 + MARGIN) | (numbers < -MARGIN)
        found.append(outside if mask is None else outside & mask)
    return found


def any_beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> bool:
    """Return whether any value is far outside [0, 1]."""
    xp = backend.xp
    return any(backend.autodiff.known(partial(xp.logical_not, x)) is False for x in beyond(backend, arrays, mask))


def many_beyond(backend: Backend, arrays: Sequence[Array], mask: Array | None = None) -> bool:
    """Return whether at least a fraction `SHARE` of the values of one of the arrays is far outside [0, 1]."""
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
    """Return whether an axis of a single voxel has a window wider than 1; False for one-dimensional images."""
    if 1 not in shape[1:] or len(axes) < 2:
        return False
    return any(shape[axis] == 1 and width > 1 for axis, width in zip(axes, widths(), strict=True))
