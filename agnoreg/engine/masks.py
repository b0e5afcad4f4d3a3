"""Masks: the weights of voxels. The masks of a call are multiplied to one array."""

import warnings
from collections.abc import Mapping
from typing import Any

from agnoreg.backend import Backend

Array = Any

#: Keyword names of masks: for both inputs, for the fixed image (y_true) and for the moving one (y_pred).
MASKS = ("mask", "fixed_mask", "moving_mask")


class EmptyMaskWarning(RuntimeWarning):
    """A sample's mask is empty: its value is NaN and its gradient is 0."""


def combined(backend: Backend, masks: Mapping[str, Array], shape: tuple[int | None, ...], channel_axis: int) -> Array:
    """Return the product of masks, with as many axes as an input of that shape.

    Raises
    ------
    ValueError
        If a mask does not fit the input.
    TypeError
        If a mask is complex.
    """
    xp, product = backend.xp, None
    for name, mask in masks.items():
        mask = _fitted(backend, name, backend.autodiff.detach(backend.prepare(mask)), shape, channel_axis)
        if product is None:
            product = mask
        elif mask.dtype == xp.bool and product.dtype == xp.bool:
            product = product & mask
        else:
            dtype = backend.dtypes.compute(product, mask)
            product = xp.astype(product, dtype) * xp.astype(mask, dtype)
    assert product is not None
    if _leaves_nothing(backend, product):
        warnings.warn(
            f"{' and '.join(masks)} leaves no voxel of a sample: its value is NaN, and its gradient is 0.",
            EmptyMaskWarning,
            stacklevel=2,
        )
    return product


def _leaves_nothing(backend: Backend, mask: Array) -> bool:
    """Return whether a sample's mask is known to be empty; the middle plane is checked first, as it mostly decides."""
    xp = backend.xp
    there = mask if mask.dtype == xp.bool else mask != 0
    samples, planes = backend.shape(mask)[:2]
    if samples == 0:
        return False

    def empty(part: Array) -> bool:
        return backend.autodiff.known(lambda: xp.any(xp.reshape(part, (samples or 1, -1)), axis=1)) is False

    return empty(there[:, (planes or 1) // 2, ...]) and empty(there)


def _fitted(backend: Backend, name: str, mask: Array, shape: tuple[int | None, ...], channel_axis: int) -> Array:
    """Return a mask with as many axes as the input; integers become bool."""
    xp, given = backend.xp, backend.shape(mask)
    if not xp.isdtype(mask.dtype, ("bool", "integral", "real floating")):
        raise TypeError(
            f"{name} must hold real numbers: bools, integers, or weights of at least 0; got dtype {mask.dtype}."
        )
    if xp.isdtype(mask.dtype, "integral"):
        # Integer masks may hold 0 and 255, or labels: every nonzero voxel is inside.
        mask = mask != 0
    own = given
    if len(own) == len(shape) - 1:
        own = (*own[:channel_axis], 1, *own[channel_axis:])
    elif len(own) == len(shape) + 1 and own[-1] == 1:
        own = own[:-1]
    fits = len(own) == len(shape) and all(
        a is None or b is None or a in (1, b) for a, b in zip(own, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must have the input's shape {shape}, with or without the axis of its channels or components, and "
            f"may have size 1 along any axis; got {given}."
        )
    return mask if own == given else xp.reshape(mask, tuple(-1 if size is None else size for size in own))
