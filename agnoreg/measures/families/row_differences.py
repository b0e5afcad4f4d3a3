"""Differences of entries in a packed row, and the least of neighbouring weights.

Planes are packed into a row, with gaps of zeros between them and a margin at each end. A difference along axis 2 or 3
is then a difference of entries a line or a voxel apart. Near a border it mixes lines, and is multiplied by 0. The
factor 1/2 of central differences and the spacing along the last axis are left out; `units` applies them at the end.
"""

from typing import Any

from agnoreg.backend.shifts import cut

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


def mixed_with_x(row: Array, twice: Array, line: int, stride: int, by_y: Any, by_z: Any) -> tuple[Array, Array, Array]:
    """Return the mixed differences ``xy`` and ``xz`` from those along axis 1, and half the sum of their squares.

    Each is multiplied by its factor and by ``twice``, twice the mask, so that half a square is twice the true one.
    """
    xy, xz = across(row, line, line), across(row, stride, line)
    xy *= twice
    xz *= twice
    xy, xz = times(xy, by_y), times(xz, by_z)
    halves = xy * xy
    halves += xz * xz
    halves *= 0.5
    return xy, xz, halves


def trim(row: Array, entries: int) -> Array:
    """Drop ``entries`` entries at each end."""
    return row[entries:-entries]


def eroded(xp: Any, padded: Array, axis: int, reach: int) -> Array:
    """Return the minimum over entries up to ``reach`` away along an axis; the mask is padded by as many at each end."""
    size = padded.shape[axis] - 2 * reach
    least = cut(padded, axis, reach, reach + size)
    for shift in range(2 * reach + 1):
        if shift != reach:
            least = lesser(xp, least, cut(padded, axis, shift, shift + size))
    return least


def lesser(xp: Any, a: Array, b: Array) -> Array:
    """Return the elementwise minimum of two weights; of bools, the logical and."""
    return a & b if a.dtype == xp.bool else xp.minimum(a, b)
