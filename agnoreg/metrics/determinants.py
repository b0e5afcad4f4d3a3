"""Jacobian determinants of ``p + u(p)`` in a slab: by central differences, at corners, and of the tetrahedra between.

A slab is given as its components, arrays of one shape, in voxels. Displacements are subtracted from each other before
the identity's own difference is added, so that no digits are lost to coordinates.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any

from agnoreg.metrics.field_conventions import SCHEMES

Array = Any
#: A vector of arrays, one for each component.
Vector = Sequence[Array]


def at(part: Array, offset: Sequence[int], reach: tuple[int, int]) -> Array:
    """Return a component at voxels so far from those of which the determinants are, which lack some at each end."""
    before, after = reach
    return part[tuple(slice(before + o, size - after + o) for o, size in zip(offset, part.shape, strict=True))]


def unit(axis: int, dims: int, length: int = 1) -> tuple[int, ...]:
    """Return a step along an axis."""
    return tuple(length if other == axis else 0 for other in range(dims))


def determinant(rows: Sequence[Vector]) -> Array:
    """Return the determinant of one to three rows."""
    if len(rows) == 1:
        return rows[0][0]
    if len(rows) == 2:
        (a, b), (c, d) = rows
        return a * d - b * c
    return dot(rows[0], cross(rows[1], rows[2]))


def cross(a: Vector, b: Vector) -> Vector:
    """Return the cross product of two vectors."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def dot(a: Vector, b: Vector) -> Array:
    """Return the scalar product of two vectors of three components."""
    total = a[0] * b[0]
    total += a[1] * b[1]
    total += a[2] * b[2]
    return total


def of_scheme(parts: Vector, scheme: str) -> Array:
    """Return the determinant by central, forward or backward differences."""
    dims, reach = len(parts), SCHEMES[scheme]
    before, after = int(scheme != "forward"), int(scheme != "backward")
    rows = []
    for axis in range(dims):
        ahead, behind = unit(axis, dims, after), unit(axis, dims, -before)
        row = [at(part, ahead, reach) - at(part, behind, reach) for part in parts]
        row[axis] += float(before + after)
        rows.append(row)
    found = determinant(rows)
    if scheme == "central":
        # Of steps of two voxels; a power of 2, so that nothing is rounded.
        found *= 0.5**dims
    return found


def corners(parts: Vector) -> Iterator[Array]:
    """Yield the determinant at each corner, ``J_abc`` of differences ahead (+) or behind (-): -, then + by axes."""
    dims = len(parts)
    sides = [_both_sides(parts, axis) for axis in range(dims)]
    if dims < 3:
        for signs in product((0, 1), repeat=dims):
            yield determinant([sides[axis][sign] for axis, sign in enumerate(signs)])
        return
    crossed = {(b, c): cross(sides[1][b], sides[2][c]) for b, c in product((0, 1), repeat=2)}
    for a, b, c in product((0, 1), repeat=3):
        yield dot(sides[0][a], crossed[b, c])


def _both_sides(parts: Vector, axis: int) -> tuple[Vector, Vector]:
    """Return the differences behind and ahead along an axis, both views of the same."""
    dims = len(parts)
    behind, ahead = [], []
    for component, part in enumerate(parts):
        there = part[tuple(slice(None) if other == axis else slice(1, -1) for other in range(dims))]
        low, high = (tuple(cut if other == axis else slice(None) for other in range(dims)) for cut in _CUTS)
        between = there[high] - there[low]
        if component == axis:
            between += 1.0
        behind.append(between[low])
        ahead.append(between[high])
    return behind, ahead


_CUTS = (slice(None, -1), slice(1, None))


def inner_tetrahedra(parts: Vector) -> Iterator[Array]:
    """Yield of a volume the determinants of the two tetrahedra in the middle of a voxel's cubes, 2 for the identity."""
    dims, reach = len(parts), SCHEMES["corners"]
    if dims < 3:
        return
    here = [at(part, (0,) * dims, reach) for part in parts]
    # Either order of the last two makes the identity's positive.
    for sign, pairs in ((-1, _PAIRS), (1, (_PAIRS[0], _PAIRS[2], _PAIRS[1]))):
        rows = []
        for pair in pairs:
            step = tuple(sign if axis in pair else 0 for axis in range(dims))
            row = [at(part, step, reach) - own for part, own in zip(parts, here, strict=True)]
            for component in pair:
                row[component] += float(sign)
            rows.append(row)
        yield determinant(rows)


_PAIRS = tuple(combinations(range(3), 2))


def digital(parts: Vector) -> Iterator[Array]:
    """Yield the determinants of which all must be positive where a map is digitally diffeomorphic.

    Of a volume there are ten: eight corners and two tetrahedra between them; of a slice four, of a line two.
    """
    yield from corners(parts)
    yield from inner_tetrahedra(parts)
