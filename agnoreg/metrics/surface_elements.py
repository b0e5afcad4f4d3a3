"""The surface of a mask as elements on a grid: where they are, and the area that each stands for.

Three ways to draw it. ``surfels``: the corners that voxels of both kinds share, each with the area of the surface that
marching cubes puts there. ``voxels``: the mask's voxels that touch the background by a face, each for one. ``volume``:
all voxels of the mask, which is no surface at all, but what some tools take for one. Beyond the image is background.
"""

import itertools
import math
from functools import lru_cache
from typing import Any

import numpy as np

from agnoreg.backend import Backend

Array = Any

#: How a surface may be drawn; of a mesh the elements are triangles, see `agnoreg.metrics.surface_mesh`.
SURFACES = ("surfels", "voxels", "mesh", "volume")


def elements(backend: Backend, mask: Array, surface: str) -> tuple[Array, Array | None]:
    """Return which places of a grid are elements of a mask's surface, and the codes of `surfel_areas` of those places.

    The mask is cropped to a box that holds it; the grid of ``surfels`` has one place more along each axis.
    """
    if surface == "volume":
        return mask, None
    if surface == "voxels":
        return mask & ~_eroded(backend, mask), None
    codes = _codes(backend, mask)
    return (codes != 0) & (codes != (1 << (1 << len(mask.shape))) - 1), codes


def counted_places(backend: Backend, mask: Array, surface: str) -> Array:
    """Return which places of the grid count where those voxels do: a corner does if one of its voxels does."""
    return _codes(backend, mask) != 0 if surface == "surfels" else mask


def _eroded(backend: Backend, mask: Array) -> Array:
    """Return the voxels whose neighbours by faces are all in the mask."""
    kept = backend.xp.astype(mask, mask.dtype, copy=True)
    for axis in range(len(mask.shape)):
        low, high = _lower(len(mask.shape), axis), _upper(len(mask.shape), axis)
        kept[low] &= mask[high]
        kept[high] &= mask[low]
        # Beyond the first and the last one is background.
        kept[_at(len(mask.shape), axis, 0)] = False
        kept[_at(len(mask.shape), axis, -1)] = False
    return kept


def _codes(backend: Backend, mask: Array) -> Array:
    """Return for each corner which of the voxels around it are in the mask, a bit each.

    Along axis ``i`` the voxel after the corner has the bit of the one before it, times ``2 ** (2 ** i)``.
    """
    xp = backend.xp
    codes = xp.astype(mask, xp.uint8)
    for axis in range(len(mask.shape)):
        shape = tuple(size + (k == axis) for k, size in enumerate(codes.shape))
        wider = xp.zeros(shape, dtype=xp.uint8, device=backend.device(codes))
        wider[_upper(len(shape), axis)] = codes
        wider[_lower(len(shape), axis)] += codes * (1 << (1 << axis))
        codes = wider
    return codes


def _lower(rank: int, axis: int) -> tuple[slice, ...]:
    return tuple(slice(0, -1) if k == axis else slice(None) for k in range(rank))


def _upper(rank: int, axis: int) -> tuple[slice, ...]:
    return tuple(slice(1, None) if k == axis else slice(None) for k in range(rank))


def _at(rank: int, axis: int, index: int) -> tuple[Any, ...]:
    return tuple(index if k == axis else slice(None) for k in range(rank))


# --- areas ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def surfel_areas(spacing: tuple[float, ...]) -> Any:
    """Return the area (length, in two dimensions; one, in one) of the surface at a corner, for each of its codes.

    It is the area of the polygons that marching cubes puts among the midpoints of the edges between the eight voxels'
    centres, with voxels that touch by an edge or a corner alone kept apart; the two halves of a code and its complement
    are the same. Those areas are the ones of Nikolov et al. (arXiv 1809.04430).
    """
    dims = len(spacing)
    corners = list(itertools.product((0, 1), repeat=dims))
    faces = [math.prod(spacing[:axis] + spacing[axis + 1 :]) for axis in range(dims)]
    areas = np.zeros(1 << len(corners))
    for code in range(1, len(areas) - 1):
        inside = {c for c in corners if code >> sum(bit << axis for axis, bit in enumerate(c)) & 1}
        smaller = inside if 2 * len(inside) <= len(corners) else set(corners) - inside
        for part in _parts(smaller):
            for normal in _normals(part, dims):
                areas[code] += math.hypot(*(n * face for n, face in zip(normal, faces, strict=True)))
    areas.flags.writeable = False
    return areas


def _parts(corners: set[tuple[int, ...]]) -> list[set[tuple[int, ...]]]:
    """Return the corners in parts that hang together by edges of the cube."""
    left, parts = set(corners), []
    while left:
        part, new = set(), {min(left)}
        while new:
            part |= new
            new = {c for c in left - part if any(_apart(c, other) == 1 for other in new)}
        left -= part
        parts.append(part)
    return parts


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def _normals(part: set[tuple[int, ...]], dims: int) -> list[tuple[float, ...]]:
    """Return vectors of the polygons' areas, at unit spacing and up to signs, that cut a part of the cube off.

    In two dimensions they are halves of lengths, in one a point.
    """
    flat = [axis for axis in range(dims) if len({corner[axis] for corner in part}) == 1]

    def along(*axes: int, size: float) -> tuple[float, ...]:
        return tuple(size if axis in axes else 0.0 for axis in range(dims))

    everywhere = range(dims)
    if dims < 3:
        if len(part) == 1:
            return [along(*everywhere, size=1.0 / dims)]
        return [along(*flat, size=1.0)]
    if len(part) == 1:  # a triangle
        return [along(*everywhere, size=1 / 8)]
    if len(part) == 2:  # a rectangle
        return [along(*flat, size=1 / 2)]
    if len(part) == 3:  # three of a face: a pentagon
        return [along(*flat, size=1 / 2), along(*everywhere, size=1 / 4), along(*everywhere, size=1 / 8)]
    if flat:  # a face
        return [along(*flat, size=1.0)]
    ends = sorted(part, key=lambda corner: sum(_apart(corner, other) == 1 for other in part))
    if sum(_apart(ends[-1], other) == 1 for other in part) == 3:  # a corner and its three neighbours: a flat hexagon
        return [along(*everywhere, size=3 / 4)]
    # A chain of three edges, one along each axis: a hexagon that is not flat, of which the middle edge's axis differs.
    (middle,) = (axis for axis in everywhere if ends[2][axis] != ends[3][axis])
    rest = [axis for axis in everywhere if axis != middle]
    sides = [along(axis, middle, size=1 / 4) for axis in rest]
    return [along(*everywhere, size=1 / 8), along(*everywhere, size=3 / 8), *sides]
