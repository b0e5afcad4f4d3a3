"""A NIfTI file, or an image that nibabel holds, whose header was read and whose voxels were not."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agnoreg.evaluate.nifti_data import FileData, HeldData, first_bytes
from agnoreg.evaluate.nifti_grids import displacement, is_grid
from agnoreg.evaluate.nifti_header import HEADER_BYTES, VECTORS, InputError, length_in_mm, parse_header, scaled
from agnoreg.files import hidden, one_line
from agnoreg.messages import named

Array = Any

#: The most voxels that an input may have, unless another number is given.
MAX_VOXELS = 1 << 31


@dataclass(frozen=True)
class Volume:
    """A NIfTI file whose header was read and whose data were not.

    Attributes
    ----------
    role
        What it is evaluated as: ``"fixed image"``, say.
    name
        Its path, or ``"<in memory>"``.
    data
        How its numbers are stored.
    shape
        The three spatial sizes; an axis that the file does not have has one voxel.
    components
        Of a vector at each voxel; 0 for a scalar volume.
    affine
        From voxel indices to mm, ``(4, 4)``, whatever the header's unit is.
    has_unit
        Whether the header states the unit of length; mm is taken where it does not.
    disputed
        What else the header says of the grid, ``"qform"`` or ``"pixdim"``, if that puts a corner of the image elsewhere
        than the affine by more than a tenth of a voxel; else empty.
    vectors
        Whether the header's intent says that it holds vectors, as ITK and ANTs mark displacements.
    """

    role: str
    name: str
    data: FileData | HeldData
    shape: tuple[int, int, int]
    components: int
    affine: Array
    has_unit: bool
    disputed: str
    vectors: bool = False

    def __str__(self) -> str:
        return f"{self.role} {self.name}"

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """The voxel's edges along the three array axes, in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def axes(self) -> tuple[int, ...]:
        """The array axes along which there is more than one voxel: two of a slice. All three of a single voxel."""
        return tuple(axis for axis in range(3) if self.shape[axis] > 1) or (0, 1, 2)

    def along(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return those of three values, one an axis, that belong to `axes`."""
        return tuple(values[axis] for axis in self.axes)


def open_volume(source: Any, role: str, components: int = 0, max_voxels: int = MAX_VOXELS) -> Volume:
    """Read the header of a NIfTI file, or take an image that nibabel holds in memory.

    Parameters
    ----------
    source
        A path that ends in ``.nii`` or ``.nii.gz``, or a nibabel NIfTI image.
    role
        What it is evaluated as, for error messages.
    components
        0 for a scalar volume; for a vector field the number of components, on the last axis, 4th or 5th. A field of a
        slice may have as many as the slice has axes.
    max_voxels
        The most voxels that it may have.

    Raises
    ------
    InputError
        If there is no such file, if it is not NIfTI, if its header says what cannot be or more than the file holds, if
        it has more voxels than allowed, if its rank or its affine do not fit.
    """
    try:
        import nibabel
    except ImportError as error:
        raise InputError("Reading NIfTI needs nibabel: pip install agnoreg[cli]") from error
    other, other_name = None, ""
    data: FileData | HeldData
    if isinstance(source, nibabel.Nifti1Pair):
        name = source.get_filename() or "<in memory>"
        shape = tuple(int(size) for size in source.shape)
        mm = length_in_mm(source.header["xyzt_units"])
        form = source.header.get_best_affine() if source.affine is None else source.affine
        affine = scaled(form, mm)
        data, has_unit = _held(nibabel, source, f"{role} {name}"), mm is not None
        vectors = int(source.header["intent_code"]) in VECTORS
    elif hasattr(source, "dataobj"):
        raise InputError(f"{role}: {type(source).__name__} is not a NIfTI image.")
    else:
        name, path = str(source), Path(source)
        header = parse_header(_header(path, role), f"{role} {path}")
        shape, affine, has_unit = header.shape, header.affine, header.has_unit
        other, other_name, vectors = header.other, header.other_name, header.vectors
        data = FileData(path, header.offset, header.dtype, shape, header.slope, header.inter)
    spatial = _field_shape(shape, components) if components else _scalar_shape(shape)
    if spatial is None:
        wanted = f"(X, Y, Z, {components}) or (X, Y, Z, 1, {components})" if components else "a 3-D volume (X, Y, Z)"
        raise InputError(f"{role} {name} has shape {shape}, {len(shape)}-D, where {wanted} belongs.")
    if 0 in spatial:
        raise InputError(f"{role} {name} has no voxels: shape {shape}.")
    if math.prod(spatial) > max_voxels:
        raise InputError(
            f"{role} {name} has {math.prod(spatial)} voxels by its header, {' x '.join(map(str, spatial))}, where "
            f"{max_voxels} are allowed: see --max-voxels."
        )
    if not is_grid(affine):
        raise InputError(f"{role} {name} has an affine that cannot be inverted: {affine[:3].tolist()}.")
    try:
        data.check()
    except (OSError, ValueError) as error:
        raise unreadable(f"{role} {name}", error) from error
    apart = other is not None and is_grid(other) and displacement(affine, other, spatial)[0] > 0.1
    disputed = other_name if apart else ""
    return Volume(role, name, data, spatial, shape[-1] if components else 0, affine, has_unit, disputed, vectors)


def unreadable(what: str, error: Exception) -> InputError:
    """Return the error of a file whose voxels cannot be read."""
    return InputError(f"{what} cannot be read, it may be truncated or damaged: {one_line(error)}")


def _header(path: Path, role: str) -> bytes:
    if why := hidden(path):
        raise InputError(f"{role} {named(path)} cannot be read: {why}.")
    if path.is_dir():
        raise InputError(f"{role} {path} is a folder, not a file.")
    if not path.exists():
        raise InputError(f"{role} {path} does not exist.")
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{role} {path} is not a NIfTI file: its name must end in .nii or .nii.gz.")
    if not path.is_file():
        raise InputError(f"{role} {path} is no regular file.")
    try:
        return first_bytes(path, HEADER_BYTES)
    except Exception as error:  # gzip, zlib and the file system each have their own for what they cannot read.
        raise InputError(f"{role} {path} cannot be read as NIfTI: {one_line(error)}") from error


def _held(nibabel: Any, image: Any, what: str) -> FileData | HeldData:
    proxy = image.dataobj
    if not nibabel.is_proxy(proxy):
        return HeldData(proxy, np.dtype(image.get_data_dtype()), 1.0, 0.0)
    slope, inter = float(getattr(proxy, "slope", 1.0)), float(getattr(proxy, "inter", 0.0))
    file = getattr(proxy, "file_like", None)
    plain = str(file).lower().endswith((".nii", ".img", ".nii.gz", ".img.gz"))
    if not isinstance(file, str | Path) or not plain or getattr(proxy, "order", "F") != "F":
        return HeldData(proxy, np.dtype(image.get_data_dtype()), slope, inter)
    # Of a file that nibabel opened, the header is not looked at again, but for what would take its bytes for voxels.
    if image.header["magic"] in (b"n+1", b"n+2") and proxy.offset < image.header.single_vox_offset:
        raise InputError(f"{what} has vox_offset {proxy.offset}, which lies inside its header.")
    return FileData(Path(file), int(proxy.offset), np.dtype(proxy.dtype), tuple(proxy.shape), slope, inter)


def _scalar_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    if not shape or any(size != 1 for size in shape[3:]):
        return None
    x, y, z = (*shape, 1, 1)[:3]
    return x, y, z


def _field_shape(shape: tuple[int, ...], components: int) -> tuple[int, int, int] | None:
    if len(shape) not in (4, 5) or (len(shape) == 5 and shape[3] != 1):
        return None
    if shape[-1] not in (components, sum(size > 1 for size in shape[:3])):
        return None
    return shape[0], shape[1], shape[2]
