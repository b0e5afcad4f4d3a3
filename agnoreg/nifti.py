"""Images, label maps and displacement fields from NIfTI files, and whether they lie on one grid.

Data are read in their stored dtype and converted a few planes at a time, so that no volume is ever held in float64.
"""

import gzip
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agnoreg.files import one_line

Array = Any

#: Voxels that are converted at a time.
SLAB = 1 << 20
#: How far a label may lie from an integer, to be rounded to it.
LABEL_TOLERANCE = 1e-3


class InputError(ValueError):
    """An input cannot be evaluated; the message is one line that names it and says why."""


# --- opening ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Volume:
    """A NIfTI file whose header was read and whose data were not.

    Attributes
    ----------
    role
        What it is evaluated as: ``"fixed image"``, say.
    name
        Its path, or ``"<in memory>"``.
    image
        The nibabel image.
    shape
        The three spatial sizes.
    affine
        From voxel indices to mm, ``(4, 4)``.
    """

    role: str
    name: str
    image: Any
    shape: tuple[int, int, int]
    affine: Any

    def __str__(self) -> str:
        return f"{self.role} {self.name}"

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """The voxel's edges along the three array axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def open_volume(source: Any, role: str, components: int = 0) -> Volume:
    """Read the header of a NIfTI file, or take an image that nibabel holds in memory.

    Parameters
    ----------
    source
        A path that ends in ``.nii`` or ``.nii.gz``, or a nibabel NIfTI image.
    role
        What it is evaluated as, for error messages.
    components
        0 for a scalar volume; for a vector field the number of components, on the last axis, 4th or 5th.

    Raises
    ------
    InputError
        If there is no such file, if it is not NIfTI, if its rank or its affine do not fit.
    """
    try:
        import nibabel
    except ImportError as error:
        raise InputError("Reading NIfTI needs nibabel: pip install agnoreg[cli]") from error
    if isinstance(source, nibabel.Nifti1Pair):
        image, name = source, source.get_filename() or "<in memory>"
    elif hasattr(source, "dataobj"):
        raise InputError(f"{role}: {type(source).__name__} is not a NIfTI image.")
    else:
        image, name = _load(nibabel, Path(source), role), str(source)
    shape = tuple(int(size) for size in image.shape)
    affine = np.asarray(image.affine, dtype=np.float64)
    spatial = _field_shape(shape, components) if components else _scalar_shape(shape)
    if spatial is None:
        wanted = f"(X, Y, Z, {components}) or (X, Y, Z, 1, {components})" if components else "a 3-D volume (X, Y, Z)"
        raise InputError(f"{role} {name} has shape {shape}, {len(shape)}-D, where {wanted} belongs.")
    if 0 in spatial:
        raise InputError(f"{role} {name} has no voxels: shape {shape}.")
    if not np.all(np.isfinite(affine)) or np.linalg.det(affine[:3, :3]) == 0:
        raise InputError(f"{role} {name} has an affine that cannot be inverted: {affine[:3].tolist()}.")
    return Volume(role, name, image, spatial, affine)


def _load(nibabel: Any, path: Path, role: str) -> Any:
    if path.is_dir():
        raise InputError(f"{role} {path} is a folder, not a file.")
    if not path.exists():
        raise InputError(f"{role} {path} does not exist.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{role} {path} is not a NIfTI file: its name must end in .nii or .nii.gz.")
    logger = nibabel.imageglobals.logger
    disabled, logger.disabled = logger.disabled, True  # It would print each oddity of a header on a line of its own.
    try:
        image = nibabel.load(path)
    except Exception as error:  # nibabel, gzip and zlib each have their own for a file that they cannot make sense of.
        raise InputError(f"{role} {path} cannot be read as NIfTI: {one_line(error)}") from error
    finally:
        logger.disabled = disabled
    if not isinstance(image, nibabel.Nifti1Pair):
        raise InputError(f"{role} {path} is not a NIfTI volume: nibabel reads it as {type(image).__name__}.")
    return image


def _scalar_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        return None
    return shape[0], shape[1], shape[2]


def _field_shape(shape: tuple[int, ...], components: int) -> tuple[int, int, int] | None:
    if len(shape) not in (4, 5) or shape[-1] != components or (len(shape) == 5 and shape[3] != 1):
        return None
    return shape[0], shape[1], shape[2]


# --- grids ------------------------------------------------------------------------------------------------------------


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


def grid_difference(first: Volume, second: Volume) -> GridDifference:
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
    corners = np.array(list(itertools.product(*((-0.5, size - 0.5) for size in first.shape))))
    voxels, mm = _displacement(first.affine, second.affine, corners)
    if voxels == 0:
        return GridDifference(0.0, 0.0, "")
    differing = []
    a, b = _parts(first.affine), _parts(second.affine)
    for field in a:
        changed = _affine({**a, field: b[field]})
        # A part is named where it moves a corner on its own, by more than a tenth of what the whole does.
        if _displacement(first.affine, changed, corners)[0] > 0.1 * voxels:
            differing.append(f"{field} {_numbers(a[field])} and {_numbers(b[field])}")
    return GridDifference(voxels, mm, ", ".join(differing) or "affines")


def _displacement(first: Array, second: Array, corners: Array) -> tuple[float, float]:
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


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """A volume's data as they are stored, and the line that turns them into values."""

    array: Array
    slope: float
    inter: float

    def slabs(self) -> Iterator[tuple[slice, ...]]:
        """Cut the third axis, the file's slowest, into pieces of about `SLAB` voxels."""
        shape = self.array.shape
        count = max(1, SLAB * shape[2] // math.prod(shape))
        for start in range(0, shape[2], count):
            yield (slice(None), slice(None), slice(start, start + count))

    def values(self, slab: tuple[slice, ...]) -> Array:
        """Return the values of a slab as float64, in an array of its own."""
        with np.errstate(invalid="ignore", over="ignore"):  # What is not finite stays so.
            x = np.array(self.array[slab], dtype=np.float64)
            if self.slope != 1.0:
                x *= self.slope
            if self.inter != 0.0:
                x += self.inter
        return x


def _check_stream(path: Any) -> None:
    """Read a compressed file to its end, where its checksum is: nibabel stops after the last voxel."""
    if str(path).lower().endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(SLAB):
                pass


def _stored(volume: Volume, shape: tuple[int, ...]) -> _Stored:
    proxy = volume.image.dataobj
    try:
        if hasattr(proxy, "get_unscaled"):
            array, slope, inter = proxy.get_unscaled(), float(proxy.slope), float(proxy.inter)
            _check_stream(volume.image.get_filename())
        else:
            array, slope, inter = np.asanyarray(proxy), 1.0, 0.0
    except Exception as error:  # As above: a truncated stream is an EOFError, an OSError or a zlib.error.
        raise InputError(f"{volume} cannot be read, it may be truncated or damaged: {one_line(error)}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"{volume} holds voxels of type {volume.image.get_data_dtype()}, where real numbers belong.")
    return _Stored(array.reshape(shape), slope, inter)


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
        float32, shape ``volume.shape``.
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
    return image, Intensities(low, high, scale and any_finite, not_finite)


def read_labels(volume: Volume) -> tuple[Array, tuple[int, ...], str]:
    """Read a label map as the integers that it stores.

    Values that are not integers, because the file scales them (``scl_slope``) or stores floating-point numbers, are
    rounded where they lie within 1e-3 of one, and refused elsewhere.

    Returns
    -------
    array
        Integers, shape ``volume.shape``.
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
    return labels, tuple(sorted(values)), warning


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


def read_field(volume: Volume, in_mm: bool = False) -> Array:
    """Read a displacement field, component i along array axis i, in voxels.

    Parameters
    ----------
    volume
        The field, opened with ``components=3``.
    in_mm
        Whether it is stored in mm: component i is then divided by the voxel size along axis i.

    Returns
    -------
    array
        float32, shape ``(*volume.shape, 3)``.

    Raises
    ------
    InputError
        If the data cannot be read or are not real numbers.
    """
    stored = _stored(volume, (*volume.shape, 3))
    field = np.empty((*volume.shape, 3), dtype=np.float32)
    with np.errstate(over="ignore"):
        for slab in stored.slabs():
            x = stored.values(slab)
            if in_mm:
                x /= volume.voxel_size
            field[slab] = x
    return field


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


def finite_voxels(volume: Volume, components: int = 0) -> Array:
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
    stored = _stored(volume, (*volume.shape, components) if components else volume.shape)
    finite = np.empty(volume.shape, dtype=np.bool_)
    for slab in stored.slabs():
        there = np.isfinite(stored.values(slab))
        finite[slab] = there.all(axis=-1) if components else there
    return finite
