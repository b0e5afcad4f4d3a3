"""Differences of entries in a packed row, and the least of neighbouring weights.

Planes are packed into a row, with gaps of zeros between them and a margin at each end. A difference along axis 2 or 3
is then a difference of entries a line or a voxel apart. Near a border it mixes lines, and is multiplied by 0. The
factor 1/2 of central differences and the spacing along the last axis are left out; `units` applies them at the end.
"""

from typing import Any

from agnoreg.backend.shifts import cut, pad

Array = Any


def across(row: Array, stride: int, line: int, behind: int | None = None) -> Array:
    """Return ``row[i + stride] - row[i - behind]``, one line shorter at each end; ``behind`` defaults to ``stride``."""
    behind = stride if behind is None else behind
    return row[line + stride : stride - line or None] - row[line - behind : -line - behind]


def plus_across(total: Array | None, row: Array, stride: int, line: int, behind: int | None = None) -> Array:
    """Add `across` to ``total``, in place where arrays can be written to."""
    if total is None:
        return across(row, stride, line, behind)
    behind = stride if behind is None else behind
    total += row[line + stride : stride - line or None]
    total -= row[line - behind : -line - behind]
    return total


def times(x: Array, factor: Any) -> Array:
    """Return ``factor * x``, in place where arrays can be written to; the factor may be a 0-d array."""
    if not isinstance(factor, float) or factor != 1.0:
        x *= factor
    return x


def trim(row: Array, entries: int) -> Array:
    """Drop ``entries`` entries at each end."""
    return row[entries:-entries]


def eroded(xp: Any, mask: Array, axis: int, reach: int) -> Array:
    """Return the minimum over the entries up to ``reach`` away along an axis; zeros lie beyond the border."""
    size = mask.shape[axis]
    padded, least = pad(xp, mask, axis, reach, reach), mask
    for shift in range(2 * reach + 1):
        if shift != reach:
            least = lesser(xp, least, cut(padded, axis, shift, shift + size))
    return least


def lesser(xp: Any, a: Array, b: Array) -> Array:
    """Return the elementwise minimum of two weights; of bools, the logical and."""
    return a & b if a.dtype == xp.bool else xp.minimum(a, b)
