"""Images, label maps and displacement fields from NIfTI files, and whether they lie on one grid.

Data are read in their stored dtype and converted a few planes at a time, so that no volume is ever held in float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.nifti_grids import GridDifference, grid_difference
from agnoreg.evaluate.nifti_header import InputError
from agnoreg.evaluate.nifti_volume import MAX_VOXELS, Volume, open_volume, unreadable

__all__ = [
    "MAX_VOXELS",
    "GridDifference",
    "InputError",
    "Intensities",
    "Volume",
    "grid_difference",
    "open_volume",
    "read_field",
    "read_image",
    "read_labels",
]

Array = Any

#: Voxels that are converted at a time.
SLAB = 1 << 20
#: How far a label may lie from an integer, to be rounded to it.
LABEL_TOLERANCE = 1e-3
#: How far a field of a slice may lead out of it, in voxels.
PLANE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Stored:
    """A volume's data as they are stored, and the line that turns them into values."""

    array: Array
    slope: float
    inter: float

    def slabs(self) -> Iterator[tuple[slice, ...]]:
        """Cut the last spatial axis that has voxels, the file's slowest, into pieces of about `SLAB` voxels."""
        shape = self.array.shape
        axis = max((axis for axis in range(3) if shape[axis] > 1), default=0)
        count = max(1, SLAB * shape[axis] // math.prod(shape))
        for start in range(0, shape[axis], count):
            yield (*[slice(None)] * axis, slice(start, start + count))

    def values(self, slab: tuple[slice, ...]) -> Array:
        """Return the values of a slab as float64, in an array of its own."""
        with np.errstate(invalid="ignore", over="ignore"):  # What is not finite stays so.
            x = np.array(self.array[slab], dtype=np.float64)
            if self.slope != 1.0:
                x *= self.slope
            if self.inter != 0.0:
                x += self.inter
        return x


def _stored(volume: Volume, shape: tuple[int, ...]) -> _Stored:
    try:
        array = volume.data.read()
    except Exception as error:  # A truncated stream is an EOFError, an OSError or a zlib.error.
        raise unreadable(str(volume), error) from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{volume} holds voxels of type {volume.data.dtype}, where real numbers belong.")
    return _Stored(array.reshape(shape), volume.data.slope, volume.data.inter)


@dataclass(frozen=True)
class Intensities:
    """An image's range, over the finite ones of the voxels that count.

    Attributes
    ----------
    minimum, maximum
        As in the file; NaN where no voxel is finite.
    scaled
        Whether the image was scaled from them to [0, 1].
    not_finite
        How many of the voxels that count are NaN or infinite.
    """

    minimum: float
    maximum: float
    scaled: bool
    not_finite: int


def read_image(volume: Volume, scale: bool = True, where: Array | None = None) -> tuple[Array, Intensities]:
    """Read an image as float32.

    Parameters
    ----------
    volume
        The image.
    scale
        Scale it to [0, 1] by its finite minimum and maximum, a constant one to 0; what is not finite stays so.
    where
        Which voxels count, bools of shape ``volume.shape``; the range is theirs. None: all.

    Returns
    -------
    array
        float32, the sizes of ``volume.axes``: two of a slice.
    Intensities
        The range that it was scaled by.

    Raises
    ------
    InputError
        If the data cannot be read or are not real numbers.
    """
    stored = _stored(volume, volume.shape)
    low, high, not_finite = math.inf, -math.inf, 0
    for slab in stored.slabs():
        x = stored.values(slab)
        if where is not None:
            x = x[where[slab]]
        finite = np.isfinite(x)
        if not finite.all():
            x = x[finite]
            not_finite += finite.size - x.size
        if x.size:
            low, high = min(low, float(x.min())), max(high, float(x.max()))
    any_finite = low <= high
    image = np.empty(volume.shape, dtype=np.float32)
    with np.errstate(over="ignore"):
        for slab in stored.slabs():
            x = stored.values(slab)
            if scale and any_finite:
                x -= low
                if high > low:
                    x /= high - low
            image[slab] = x
    if not any_finite:
        low = high = math.nan
    return image.reshape(volume.along(volume.shape)), Intensities(low, high, scale and any_finite, not_finite)


def read_labels(volume: Volume) -> tuple[Array, tuple[int, ...], str]:
    """Read a label map as the integers that it stores.

    Values that are not integers, because the file scales them (``scl_slope``) or stores floating-point numbers, are
    rounded where they lie within 1e-3 of one, and refused elsewhere.

    Returns
    -------
    array
        Integers, the sizes of ``volume.axes``: two of a slice.
    tuple of int
        The values that occur, in order.
    str
        A warning, empty where nothing was rounded.

    Raises
    ------
    InputError
        If the data cannot be read or are no labels; the message lists values that are not.
    """
    stored = _stored(volume, volume.shape)
    warning = ""
    if stored.array.dtype.kind != "f" and (stored.slope, stored.inter) == (1.0, 0.0):
        labels = np.array(stored.array, dtype=stored.array.dtype.newbyteorder("="), order="C")
    else:
        labels, warning = _rounded(volume, stored)
    values: set[int] = set()
    for slab in stored.slabs():
        values.update(int(value) for value in np.unique(labels[slab]))
    return labels.reshape(volume.along(volume.shape)), tuple(sorted(values)), warning


def _rounded(volume: Volume, stored: _Stored) -> tuple[Array, str]:
    labels = np.empty(volume.shape, dtype=np.int32)
    farthest = 0.0
    for slab in stored.slabs():
        x = stored.values(slab)
        nearest = np.rint(x)
        with np.errstate(invalid="ignore"):
            distance = np.abs(x - nearest)
            wrong = ~((distance <= LABEL_TOLERANCE) & (np.abs(nearest) < 2**31))
        if wrong.any():
            raise InputError(
                f"{volume} is no label map: it holds values that are not integers ({_examples(x[wrong])}). "
                "Threshold or round it first."
            )
        farthest = max(farthest, float(distance.max()))
        labels[slab] = nearest
    if stored.slope != 1.0:
        how = f"is stored with scl_slope {stored.slope:.9g}"
    elif farthest > 0:
        how = "stores values that are not integers"
    else:
        return labels, ""
    return labels, f"{volume} {how}: labels were rounded to the nearest integer, at most {farthest:.1g} away."


def _examples(values: Array) -> str:
    distinct = np.unique(values)
    listed = ", ".join(f"{value:.6g}" for value in distinct[:5])
    return listed if distinct.size <= 5 else f"{listed} and {distinct.size - 5} more"


def read_field(volume: Volume, in_mm: bool = False, frame: str = "array") -> Array:
    """Read a displacement field, component i along array axis i, in voxels.

    Parameters
    ----------
    volume
        The field, opened with ``components=3``.
    in_mm
        Whether it is stored in mm, whatever the header's unit of length is: component i is then divided by the voxel
        size along axis i.
    frame
        ``"array"``; or ``"itk"``: vectors are in mm along the patient's axes, to the left, to the back and upwards
        (LPS), as ITK and ANTs write them. The affine turns them into voxels.

    Returns
    -------
    array
        float32, shape ``(*volume.shape, 3)``; of a slice the sizes of its two axes and the two components along them.

    Raises
    ------
    InputError
        If the data cannot be read or are not real numbers, or if the field of a slice leads out of it.
    """
    stored = _stored(volume, (*volume.shape, volume.components))
    axes = volume.axes
    # A field of a slice has a component for each of its axes, or three, of which one must be 0.
    across = [axis for axis in range(3) if axis not in axes] if volume.components == 3 else []
    within = list(axes) if across else slice(None)
    matrix = _from_itk(volume) if frame == "itk" else None
    field = np.empty((*volume.shape, len(axes)), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for slab in stored.slabs():
            x = stored.values(slab)
            if matrix is not None:
                x = x @ matrix.T
            elif in_mm:
                x /= volume.voxel_size if volume.components == 3 else volume.along(volume.voxel_size)
            if across:
                known = np.isfinite(x[..., within]).all(-1, keepdims=True)
                leads = known & ~(np.abs(x[..., across]) <= PLANE_TOLERANCE)
                if leads.any():
                    farthest = np.max(np.abs(x[..., across][leads]))
                    raise InputError(
                        f"{volume} leads out of its slice, by {farthest:.3g} voxels: what is evaluated in 2-D has a "
                        "component of 0 across the slice."
                    )
            field[slab] = x[..., within]
    return field.reshape(*volume.along(volume.shape), len(axes))


def _from_itk(volume: Volume) -> Array:
    """Return the matrix from vectors in mm, to the left and to the back, to voxels of the grid."""
    matrix = np.linalg.inv(volume.affine[:3, :3]) * (-1.0, -1.0, 1.0)
    if volume.components == 3:
        return matrix
    axes = list(volume.axes)
    # Two components lie in the plane of the patient's first two axes, as ITK has images of two axes.
    if np.abs(matrix[axes, 2]).max() > PLANE_TOLERANCE * np.abs(matrix[axes]).max():
        raise InputError(f"{volume} has two components, and its slice does not lie across the patient's third axis.")
    return matrix[np.ix_(axes, [0, 1])]


# --- which voxels count -----------------------------------------------------------------------------------------------


def read_mask(volume: Volume) -> Array:
    """Read a mask: a voxel counts where it is neither 0 nor NaN.

    Returns
    -------
    array
        Bools, shape ``volume.shape``.

    Raises
    ------
    InputError
        If the data cannot be read or are not real numbers, or no voxel counts.
    """
    stored = _stored(volume, volume.shape)
    mask = np.empty(volume.shape, dtype=np.bool_)
    for slab in stored.slabs():
        x = stored.values(slab)
        mask[slab] = (x != 0) & ~np.isnan(x)
    if not mask.any():
        raise InputError(f"{volume} leaves no voxel: it holds nothing but 0.")
    return mask


def finite_voxels(volume: Volume) -> Array:
    """Return where an image, or every component of a field, is neither NaN nor infinite.

    Returns
    -------
    array
        Bools, shape ``volume.shape``.

    Raises
    ------
    InputError
        If the data cannot be read or are not real numbers.
    """
    stored = _stored(volume, (*volume.shape, volume.components) if volume.components else volume.shape)
    finite = np.empty(volume.shape, dtype=np.bool_)
    for slab in stored.slabs():
        there = np.isfinite(stored.values(slab))
        finite[slab] = there.all(axis=-1) if volume.components else there
    return finite
