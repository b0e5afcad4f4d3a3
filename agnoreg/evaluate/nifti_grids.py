"""How far the grids of two volumes lie apart, in voxels and in mm."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agnoreg.evaluate.nifti_header import InputError

if TYPE_CHECKING:
    from agnoreg.evaluate.nifti_volume import Volume

Array = Any

#: Of what an affine holds, in mm, and of the inverse of a voxel's volume.
LARGEST = 1e60


@dataclass(frozen=True)
class GridDifference:
    """How far two grids of one shape lie apart at the corners of the image.

    Attributes
    ----------
    voxels
        The largest displacement of a corner along an axis, in voxels of the first grid.
    mm
        The largest displacement of a corner.
    fields
        What differs, with both values; empty where nothing does.
    """

    voxels: float
    mm: float
    fields: str


def grid_difference(first: "Volume", second: "Volume") -> GridDifference:
    """Compare the grids of two volumes.

    Raises
    ------
    InputError
        If their shapes differ.
    """
    if first.shape != second.shape:
        raise InputError(
            f"{first} and {second} have different shapes: {first.shape} and {second.shape}. "
            "Resample one onto the other's grid."
        )
    voxels, mm = displacement(first.affine, second.affine, first.shape)
    if voxels == 0:
        return GridDifference(0.0, 0.0, "")
    differing = []
    a, b = _parts(first.affine), _parts(second.affine)
    for field in a:
        changed = _affine({**a, field: b[field]})
        # A part is named where it moves a corner on its own, by more than a tenth of what the whole does.
        if displacement(first.affine, changed, first.shape)[0] > 0.1 * voxels:
            differing.append(f"{field} {_numbers(a[field])} and {_numbers(b[field])}")
    return GridDifference(voxels, mm, ", ".join(differing) or "affines")


def is_grid(affine: Array) -> bool:
    """Return whether an affine can be inverted, and its numbers are of a size that can be worked with."""
    with np.errstate(all="ignore"):
        volume = np.linalg.det(affine[:3, :3])
    return bool(np.all(np.abs(affine) < LARGEST) and abs(volume) > 1 / LARGEST)


def displacement(first: Array, second: Array, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Return the largest displacement of a corner of the image between two affines.

    Parameters
    ----------
    first, second
        From voxel indices to mm, ``(4, 4)``.
    shape
        The three spatial sizes.

    Returns
    -------
    float
        Along an axis, in voxels of the first.
    float
        In mm.
    """
    corners = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in shape))))
    moved = corners @ (second - first)[:3, :3].T + (second - first)[:3, 3]
    in_voxels = moved @ np.linalg.inv(first[:3, :3]).T
    return float(np.max(np.abs(in_voxels))), float(np.max(np.linalg.norm(moved, axis=1)))


def _parts(affine: Array) -> dict[str, Array]:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return {"origin": affine[:3, 3], "voxel size": sizes, "direction": affine[:3, :3] / sizes}


def _affine(parts: dict[str, Array]) -> Array:
    affine = np.eye(4)
    affine[:3, :3] = parts["direction"] * parts["voxel size"]
    affine[:3, 3] = parts["origin"]
    return affine


def _numbers(values: Array) -> str:
    if values.ndim == 2:
        return "[" + ", ".join(_numbers(row) for row in values) + "]"
    # Nine digits: all that a header's float32 holds.
    return "(" + ", ".join(f"{value + 0.0:.9g}" for value in values) + ")"
