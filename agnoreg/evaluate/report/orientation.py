"""From array axes to the patient: volumes in RAS order, and the planes that are looked at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any

#: How far an axis may lie from the patient's before a reader is told, in degrees.
OBLIQUE = 1.0


@dataclass(frozen=True)
class Plane:
    """A plane across one axis of a volume in RAS order.

    Attributes
    ----------
    name
        ``"sagittal"``, ``"coronal"`` or ``"axial"``.
    normal, across, up
        The axis that it lies across, and the axes that run from left to right and from bottom to top of a picture.
    letters
        What is at the left, the right, the bottom and the top of a picture: ``"L"``, ``"R"``, ...
    """

    name: str
    normal: int
    across: int
    up: int
    letters: tuple[str, str, str, str]

    def cut(self, volume: Array, index: int) -> Array:
        """Return a slice ``(up, across, ...)`` of a volume in RAS order; components stay last."""
        return np.swapaxes(np.take(volume, index, axis=self.normal), 0, 1)

    def along(self, values: Sequence[float]) -> tuple[float, float]:
        """Return those of three values, one an axis, that belong to the picture's width and height."""
        return values[self.across], values[self.up]


#: The planes of a volume, in the order in which they are shown.
PLANES = (
    Plane("sagittal", 0, 1, 2, ("P", "A", "I", "S")),
    Plane("coronal", 1, 0, 2, ("L", "R", "I", "S")),
    Plane("axial", 2, 0, 1, ("L", "R", "P", "A")),
)


def planes_of(shape: Sequence[int]) -> tuple[Plane, ...]:
    """Return the planes in which there is something to see: three of a volume, one of a slice, none of a line."""
    return tuple(plane for plane in PLANES if min(shape[plane.across], shape[plane.up]) > 1)


class Orientation:
    """How an array's axes lie in the patient.

    Parameters
    ----------
    affine
        From voxel indices to mm, ``(4, 4)``, to the right, to the front and upwards.
    """

    def __init__(self, affine: Array) -> None:
        from nibabel.orientations import io_orientation

        #: For each array axis the RAS axis that lies nearest, and 1 or -1.
        self.axes = [(int(axis), int(sign)) for axis, sign in io_orientation(affine)]
        directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        cosines = [abs(float(directions[ras, axis])) for axis, (ras, _) in enumerate(self.axes)]
        #: The largest angle between an array axis and the patient's, in degrees.
        self.oblique = max(math.degrees(math.acos(min(1.0, cosine))) for cosine in cosines)

    def volume(self, array: Array) -> Array:
        """Return a volume ``(X, Y, Z, ...)`` in RAS order, as a view."""
        flipped = array[tuple(slice(None, None, sign) for _, sign in self.axes)]
        order = [0, 0, 0]
        for axis, (ras, _) in enumerate(self.axes):
            order[ras] = axis
        return np.transpose(flipped, (*order, *range(3, array.ndim)))

    def values(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Return one value an axis in RAS order."""
        ordered = [0.0, 0.0, 0.0]
        for axis, (ras, _) in enumerate(self.axes):
            ordered[ras] = values[axis]
        return ordered[0], ordered[1], ordered[2]

    def place(self, voxel: Sequence[float], shape: Sequence[int]) -> tuple[float, float, float]:
        """Return a voxel's indices in a volume in RAS order, of that shape, from those in the file."""
        ordered = [0.0, 0.0, 0.0]
        for axis, (ras, sign) in enumerate(self.axes):
            ordered[ras] = voxel[axis] if sign > 0 else shape[ras] - 1 - voxel[axis]
        return ordered[0], ordered[1], ordered[2]

    def file_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that a volume has in the file, from that in RAS order."""
        return tuple(shape[ras] for ras, _ in self.axes)

    def field(self, field: Array) -> Array:
        """Return displacements ``(X, Y, Z, 3)`` in RAS order, component i along RAS axis i."""
        turned = self.volume(field)
        components: list[Array] = [None, None, None]
        for axis, (ras, sign) in enumerate(self.axes):
            components[ras] = turned[..., axis] * sign
        return np.stack(components, axis=-1)

    def file_field(self, field: Array) -> Array:
        """Return displacements in RAS order as the file has them: what `field` undoes."""
        order = [ras for ras, _ in self.axes]
        turned = np.transpose(field, (*order, 3))
        flipped = turned[tuple(slice(None, None, sign) for _, sign in self.axes)]
        return np.stack([flipped[..., ras] * sign for ras, sign in self.axes], axis=-1)
