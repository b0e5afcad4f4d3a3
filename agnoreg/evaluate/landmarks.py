"""Landmarks from CSV files, in voxels of the images' grid."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agnoreg.evaluate.nifti import InputError, Volume
from agnoreg.files import hidden, one_line
from agnoreg.messages import named

__all__ = ["Landmark", "landmarks_in_voxels", "read_landmarks"]

Array = Any

#: More landmarks than these are no landmarks, but a file that is something else.
MOST = 1_000_000
#: The largest file, in bytes.
LARGEST = 1 << 27
#: How far a landmark of a slice may lie from its plane, in voxels.
PLANE_TOLERANCE = 0.5


@dataclass(frozen=True)
class Landmark:
    """A landmark's error.

    Attributes
    ----------
    fixed, moving
        Where it is in either image, in voxels.
    distance, before
        How far it is from where it belongs, with the field and without, in mm.
    outside
        Whether the fixed landmark lies outside the image. It counts: the field is read at the nearest voxel.
    """

    fixed: tuple[float, ...]
    moving: tuple[float, ...]
    distance: float
    before: float
    outside: bool


def read_landmarks(source: Any, role: str) -> Array:
    """Return landmarks ``(N, columns)`` in float64.

    Parameters
    ----------
    source
        A CSV file with three numbers a line, or two for a slice, separated by commas, semicolons, tabs or blanks, with
        or without a first line of names; or an array.
    role
        What they are, for error messages.

    Raises
    ------
    InputError
        If it cannot be read; the message names the line.
    """
    if not isinstance(source, str | Path):
        points = np.asarray(source)
        if points.ndim != 2 or points.dtype.kind not in "iuf":
            raise InputError(f"{role} must be numbers of shape (N, 3), got {points.dtype} of shape {points.shape}.")
        return points.astype(np.float64)
    path = Path(source)
    if why := hidden(path):
        raise InputError(f"{role} {named(path)} cannot be read: {why}.")
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{role} {path} has {path.stat().st_size} bytes: that is no file of landmarks.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{role} {path} cannot be read: {one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{role} {path} cannot be read as CSV: it is not UTF-8 text.") from error
    return _parsed(text, f"{role} {path}")


def _parsed(text: str, what: str) -> Array:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if len(lines) > MOST:
        raise InputError(f"{what} has {len(lines)} lines: that is no file of landmarks.")
    points: list[list[float]] = []
    for place, (number, line) in enumerate(lines):
        cells = _cells(line)
        values = [_number(cell) for cell in cells]
        if place == 0 and all(value is None for value in values):
            continue  # Names of columns.
        for cell, value in zip(cells, values, strict=True):
            if value is None or not math.isfinite(value):
                raise InputError(f"{what}, line {number}: {cell[:40]!r} is no number.")
        if len(values) not in (2, 3):
            raise InputError(f"{what}, line {number}: {len(values)} numbers, where a landmark has 3, or 2 in a slice.")
        if points and len(values) != len(points[0]):
            raise InputError(
                f"{what}, line {number}: {len(values)} numbers, where the lines above have {len(points[0])}."
            )
        points.append([value for value in values if value is not None])
    if not points:
        raise InputError(f"{what} holds no landmark: it has three numbers a line, separated by commas.")
    return np.asarray(points, dtype=np.float64)


def _cells(line: str) -> list[str]:
    separator = next((one for one in ",;\t" if one in line), None)
    if separator is None:
        return line.split()
    try:
        cells = next(csv.reader([line], delimiter=separator))
    except csv.Error:
        cells = line.split(separator)
    return [cell.strip() for cell in cells]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def landmarks_in_voxels(points: Array, volume: Volume, in_mm: bool, role: str) -> Array:
    """Return landmarks in voxels, ``(N, axes)``: along the axes of the image that have more than one voxel.

    Parameters
    ----------
    points
        From `read_landmarks`.
    volume
        The image on whose grid they lie.
    in_mm
        Whether they are in mm, as the header's affine has it (to the right, to the front, upwards), rather than in
        voxels, the first of which is 0.
    role
        What they are, for error messages.

    Raises
    ------
    InputError
        If they have another number of coordinates than the image has axes, or lie beside the slice.
    """
    axes = volume.axes
    columns = points.shape[1]
    if columns != 3 and (in_mm or columns != len(axes)):
        why = "in mm have three coordinates" if in_mm else f"of an image of {len(axes)} axes have as many coordinates"
        raise InputError(f"{role} have {columns} coordinates a line, and landmarks {why}.")
    if in_mm:
        points = (points - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T
    if columns == 3 and len(axes) < 3:
        across = [axis for axis in range(3) if axis not in axes]
        if (beside := np.abs(points[:, across]).max()) > PLANE_TOLERANCE:
            raise InputError(f"{role} lie up to {beside:.3g} voxels beside the slice that is evaluated.")
        points = points[:, list(axes)]
    return points
