"""What a NIfTI header says: every field that is relied on is checked before it is."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any

#: What the header of either version needs to be read, and where its voxels may begin.
HEADER_BYTES = 544
#: In mm, by the code in the lowest three bits of ``xyzt_units``; the bits above them are of time.
MM = {1: 1e3, 2: 1.0, 3: 1e-3}
#: Real numbers, by their code in ``datatype``.
DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
#: Intents of vectors: those of displacements, and of anything.
VECTORS = (1006, 1007)
#: What is no real number, or none that NumPy has on every machine.
OTHERS = {
    1: "single bits",
    32: "complex64",
    128: "RGB colours",
    1536: "128-bit floating-point numbers",
    1792: "complex128",
    2048: "complex256",
    2304: "RGBA colours",
}


class InputError(ValueError):
    """An input cannot be evaluated; the message is one line that names it and says why."""


@dataclass(frozen=True)
class Header:
    """What a header says about voxels and their grid.

    Attributes
    ----------
    shape
        The size of each axis.
    dtype
        What is stored, with its byte order.
    offset
        Where the voxels begin, in bytes.
    slope, inter
        A stored number x is the value ``slope * x + inter``.
    affine
        From voxel indices to mm, ``(4, 4)``: the sform's; without one the qform's; else the voxel size's alone.
    other
        The affine of what else the header says of the grid: the qform, or the voxel size beside the sform. None where
        it says nothing else.
    other_name
        What that is, ``"qform"`` or ``"pixdim"``.
    has_unit
        Whether the header states the unit of length; mm is taken where it does not.
    vectors
        Whether its intent says that it holds vectors.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: Array
    other: Array | None
    other_name: str
    has_unit: bool
    vectors: bool = False


def parse_header(raw: bytes, what: str) -> Header:
    """Read the header of a NIfTI file, version 1 or 2, of either byte order.

    Parameters
    ----------
    raw
        The first `HEADER_BYTES` of the file, or all that it has.
    what
        Whose they are, for error messages.

    Raises
    ------
    InputError
        If this is no NIfTI header, or says something that cannot be.
    """
    fields = _fields(raw, what)
    first = 352 if fields.dtype.itemsize == 348 else 544
    start = float(fields["vox_offset"])
    if not (math.isfinite(start) and start >= first):
        raise InputError(
            f"{what} has vox_offset {start:g}, which lies inside its header: where its voxels begin is not known. "
            f"In a .nii file it is {first} or more."
        )
    rank = int(fields["dim"][0])
    shape = [int(size) for size in fields["dim"][1 : rank + 1]]
    if min(shape[:3]) < 1:
        raise InputError(f"{what} has no voxels: the sizes in its header are {tuple(shape)}.")
    # A further axis of no size is there in name only, to other readers, too.
    shape[3:] = [max(size, 1) for size in shape[3:]]
    code = int(fields["datatype"])
    if code not in DTYPES:
        kind = f"voxels of type {OTHERS[code]}" if code in OTHERS else f"voxels of the unknown type {code}"
        raise InputError(f"{what} holds {kind}, where real numbers belong.")
    dtype = np.dtype(DTYPES[code]).newbyteorder(fields["dim"].dtype.byteorder)
    slope, inter = _scaling(float(fields["scl_slope"]), float(fields["scl_inter"]), what)
    mm = length_in_mm(fields["xyzt_units"])
    with np.errstate(all="ignore"):  # What comes of numbers beyond all measure is no grid, and refused as none.
        affine, other, name = _affines(fields)
    other = None if other is None else scaled(other, mm)
    vectors = int(fields["intent_code"]) in VECTORS
    return Header(
        tuple(shape), dtype, int(start), slope, inter, scaled(affine, mm), other, name, mm is not None, vectors
    )


def length_in_mm(xyzt_units: Any) -> float | None:
    """Return a header's unit of length in mm, None where it states none that there is."""
    return MM.get(int(xyzt_units) & 7)


def scaled(affine: Array, mm: float | None) -> Array:
    """Return an affine to mm, from one to a unit of so many mm; of 1 where that is not known."""
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= mm or 1.0
    return affine


def _fields(raw: bytes, what: str) -> Any:
    from nibabel import nifti1, nifti2

    if raw[344:348] in (b"n+1\0", b"ni1\0"):
        layout = nifti1.header_dtype
    elif raw[4:8] in (b"n+2\0", b"ni2\0"):
        layout = nifti2.header_dtype
    else:
        raise InputError(f"{what} cannot be read as NIfTI: it does not begin with a NIfTI header.")
    if len(raw) < layout.itemsize:
        raise InputError(f"{what} cannot be read as NIfTI: it is shorter than its header.")
    for ordered in (layout.newbyteorder("<"), layout.newbyteorder(">")):
        fields = np.frombuffer(raw, ordered, count=1)[0]
        if 1 <= fields["dim"][0] <= 7:
            break
    else:
        raise InputError(f"{what} cannot be read as NIfTI: the number of its axes, dim[0], is not from 1 to 7.")
    # Bytes that a transfer as text would have changed.
    if layout.itemsize == 540 and bytes(fields["eol_check"]) not in (b"\r\n\x1a\n", b"\0\0\0\0"):
        raise InputError(f"{what} cannot be read as NIfTI: its line ends were changed, as by a transfer as text.")
    return fields


def _scaling(slope: float, inter: float, what: str) -> tuple[float, float]:
    if slope == 0 or (not math.isfinite(slope) and (inter == 0 or not math.isfinite(inter))):
        return 1.0, 0.0  # The format's way to say that nothing is scaled, and nibabel's.
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise InputError(f"{what} has scl_slope {slope:g} and scl_inter {inter:g}: what its values are is not known.")
    return slope, inter


def _affines(fields: Any) -> tuple[Array, Array | None, str]:
    """Return the affine in the header's unit, the one that is not used, and the name of that."""
    sizes = np.abs(fields["pixdim"][1:4].astype(np.float64))
    sizes[sizes == 0] = 1.0
    sizes[np.isinf(sizes)] = math.nan
    sform = np.eye(4)
    sform[:3] = [fields["srow_x"], fields["srow_y"], fields["srow_z"]]
    if fields["qform_code"] > 0:
        qform = _qform(fields, sizes)
        return (sform, qform, "qform") if fields["sform_code"] > 0 else (qform, None, "")
    if fields["sform_code"] > 0:
        lengths = np.linalg.norm(sform[:3, :3], axis=0)
        resized = sform.copy()
        resized[:3, :3] *= sizes / np.where(lengths > 0, lengths, 1.0)
        return sform, resized, "pixdim"
    # As nibabel does: the first axis to the left, the centre of the image at 0.
    shape = np.ones(3)
    rank = min(int(fields["dim"][0]), 3)
    shape[:rank] = fields["dim"][1 : rank + 1]
    affine = np.diag([*(sizes * (-1, 1, 1)), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    return affine, None, ""


def _qform(fields: Any, sizes: Array) -> Array:
    from nibabel.quaternions import quat2mat

    vector = np.asarray([fields[f"quatern_{part}"] for part in "bcd"], dtype=np.float64)
    square = float(vector @ vector)
    affine = np.eye(4)
    if not math.isfinite(square):
        affine[:3, :3] = math.nan
    elif 1 - square > 1e-7:
        affine[:3, :3] = quat2mat([math.sqrt(1 - square), *vector]) * sizes
    else:  # Longer than 1 by rounding or by mistake: a half turn about its axis, as the format's own library has it.
        affine[:3, :3] = quat2mat([0.0, *vector]) * sizes
    if fields["pixdim"][0] < 0:
        affine[:3, 2] *= -1
    affine[:3, 3] = [fields[f"qoffset_{axis}"] for axis in "xyz"]
    return affine
