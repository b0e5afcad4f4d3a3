"""Cutting and padding along one axis, in Array API calls only."""

from typing import Any

Array = Any


def cut(x: Array, axis: int, start: int | None, stop: int | None) -> Array:
    """Return ``x[start:stop]`` along ``axis``."""
    return x[(slice(None),) * axis + (slice(start, stop), ...)]


def pad(xp: Any, x: Array, axis: int, before: int, after: int, value: Array | None = None) -> Array:
    """Pad ``x`` with ``before`` and ``after`` constant planes along ``axis``.

    ``value`` is an array that broadcasts against ``x``; by default the planes are 0.
    """
    if before == 0 and after == 0:
        return x
    # Made from x's own shape, so that a batch size unknown during tracing is never written out.
    planes = xp.zeros_like(cut(x, axis, 0, min(max(before, after), x.shape[axis])))
    missing = max(before, after) - planes.shape[axis]
    if missing > 0:
        planes = xp.concat([planes] + [xp.zeros_like(cut(x, axis, 0, 1))] * missing, axis=axis)
    if value is not None:
        planes = planes + value
    parts = [cut(planes, axis, 0, before), x, cut(planes, axis, 0, after)]
    return xp.concat([part for part, count in zip(parts, (before, 1, after), strict=True) if count], axis=axis)
