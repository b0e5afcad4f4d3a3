"""Displacement fields in NumPy's files, as Learn2Reg has them: no more memory than there are data, and no pickles."""

import math
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from agnoreg.evaluate.nifti_data import RATIO, exactly
from agnoreg.evaluate.nifti_header import InputError
from agnoreg.evaluate.nifti_volume import Volume, unreadable
from agnoreg.files import hidden, one_line
from agnoreg.messages import named

__all__ = ["is_array_file", "open_field_array"]

Array = Any

ENDINGS = (".npy", ".npz")
LAYOUT = "(3, X, Y, Z), component i along axis i of the image, as Learn2Reg has it"


def is_array_file(source: Any) -> bool:
    """Return whether a field is an array, or a file of NumPy's by its name."""
    if isinstance(source, np.ndarray):
        return True
    return isinstance(source, str | Path) and str(source).lower().endswith(ENDINGS)


@dataclass(frozen=True)
class ArrayData:
    """A field's numbers, in a file or at hand; attributes and methods are those of `FileData`.

    Attributes
    ----------
    path
        The file; None for an array at hand.
    load
        Returns the array as it is stored.
    stored
        Its shape.
    first
        Whether components come first.
    sizes
        The size of the image along each axis that has more than one voxel.
    """

    path: Path | None
    load: Callable[[], Array]
    stored: tuple[int, ...]
    dtype: np.dtype[Any]
    first: bool
    sizes: tuple[int, ...]
    slope: float = 1.0
    inter: float = 0.0

    @property
    def half(self) -> bool:
        """Whether the field has half the image's resolution."""
        spatial = self.stored[1:] if self.first else self.stored[:-1]
        return spatial != self.sizes

    def check(self) -> None:
        """Find nothing wrong: the claims were compared as the file was opened."""

    def read(self) -> Array:
        """Return the numbers, components last, at the image's resolution."""
        array = np.asarray(self.load()).reshape(self.stored)
        array = np.moveaxis(array, 0, -1) if self.first else array
        return _upsampled(array.astype(np.float32), self.sizes) if self.half else array


def open_field_array(source: Any, role: str, fixed: Volume, max_voxels: int) -> Volume:
    """Read the header of a field in a ``.npy`` or ``.npz`` file, or take an array.

    Parameters
    ----------
    source
        The file or the array: ``(3, X, Y, Z)`` or ``(X, Y, Z, 3)``, of a slice with two axes and components; of the
        image's size, or half of it along every axis. A ``.npz`` file holds one array.
    role
        What it is, for error messages.
    fixed
        The fixed image, whose grid it has.
    max_voxels
        The most voxels that it may have.

    Raises
    ------
    InputError
        If there is no such file, if it is none of NumPy's or holds Python objects, if it claims more than it holds, or
        has another shape.
    """
    if isinstance(source, np.ndarray):
        path, what = None, f"{role} <in memory>"
        shape, dtype, load = source.shape, source.dtype, lambda: source
    else:
        path, what = Path(source), f"{role} {source}"
        shape, dtype, load = _opened(path, role)
    if dtype.kind not in "iuf":
        raise InputError(f"{what} holds values of type {dtype}, where real numbers belong.")
    if len(shape) == len(fixed.axes) + 2 and shape[0] == 1:
        shape = shape[1:]
    first, components = _layout(what, shape, fixed)
    if (voxels := math.prod(shape) // components) > max_voxels:
        raise InputError(f"{what} has {voxels} voxels by its header, where {max_voxels} are allowed: see --max-voxels.")
    sizes = fixed.along(fixed.shape)
    data: Any = ArrayData(path, load, shape, dtype, first, sizes)
    name = "<in memory>" if path is None else str(path)
    return Volume(role, name, data, fixed.shape, components, fixed.affine, True, "")


def _layout(what: str, shape: tuple[int, ...], fixed: Volume) -> tuple[bool, int]:
    """Return whether components come first, and how many they are."""
    sizes = fixed.along(fixed.shape)
    counts = {3, len(sizes)}
    for first in (True, False):
        if len(shape) == len(sizes) + 1 and shape[0 if first else -1] in counts:
            spatial = shape[1:] if first else shape[:-1]
            half = all(size in (n // 2, (n + 1) // 2) for size, n in zip(spatial, sizes, strict=True))
            if spatial == sizes or (half and min(spatial) > 0):
                return first, shape[0 if first else -1]
    raise InputError(
        f"{what} has shape {shape}, where the fixed image has {' x '.join(map(str, sizes))} voxels: a field is "
        f"{LAYOUT}, of the image's size or of half of it along every axis."
    )


def _upsampled(field: Array, sizes: tuple[int, ...]) -> Array:
    """Return a field read linearly between its voxels, the first and last of which are the image's, axis by axis."""
    for axis, size in enumerate(sizes):
        count = field.shape[axis]
        places = np.linspace(0, count - 1, size)
        lowest = np.minimum(places.astype(np.int64), max(count - 2, 0))
        share = (places - lowest).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(field.ndim)])
        low, high = (np.take(field, np.minimum(lowest + step, count - 1), axis=axis) for step in (0, 1))
        high -= low
        high *= share
        high += low
        field = high
    return field


# --- files ------------------------------------------------------------------------------------------------------------


def _opened(path: Path, role: str) -> tuple[tuple[int, ...], np.dtype[Any], Callable[[], Array]]:
    """Return the shape and dtype that a file claims, and what reads it, once both are known to fit the file."""
    what = f"{role} {path}"
    if why := hidden(path):
        raise InputError(f"{role} {named(path)} cannot be read: {why}.")
    if not path.exists():
        raise InputError(f"{what} does not exist.")
    if not path.is_file():
        raise InputError(f"{what} is no regular file.")
    try:
        with _stream(path, what) as (stream, size):
            shape, fortran, dtype = _header(stream)
            offset = stream.tell()
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own for what they cannot read.
        raise InputError(f"{what} cannot be read as NumPy's {path.suffix}: {one_line(error)}") from error
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects (a pickle), which are not loaded: save it as numbers.")
    claimed = offset + math.prod(shape) * dtype.itemsize
    if claimed > size:
        raise unreadable(what, ValueError(f"its header claims {claimed} bytes, and there are {size}."))

    def load() -> Array:
        with _stream(path, what) as (stream, _):
            exactly(stream, offset)
            stored = exactly(stream, math.prod(shape) * dtype.itemsize)
            stream.read(1)  # To the checksum.
        return np.frombuffer(stored, dtype).reshape(shape, order="F" if fortran else "C")

    return shape, dtype, load


@contextmanager
def _stream(path: Path, what: str) -> Any:
    """Open the array in a file; yield its bytes and how many there can be."""
    size = path.stat().st_size
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as stream:
            yield stream, size
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        arrays = [entry for entry in entries if entry.filename.endswith(".npy")]
        if len(arrays) != 1:
            names = ", ".join(named(entry.filename) for entry in entries[:5])
            raise InputError(f"{what} holds {len(arrays)} arrays ({names}), where a single field belongs.")
        (entry,) = arrays
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{what} is compressed in a way that NumPy does not write.")
        if entry.file_size > RATIO * min(entry.compress_size, size):
            raise InputError(
                f"{what} claims {entry.file_size} bytes, and {min(entry.compress_size, size)} compressed bytes cannot "
                "hold as many."
            )
        with archive.open(entry) as member:
            yield member, entry.file_size


def _header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return tuple(int(size) for size in shape), bool(fortran), dtype
