"""The files of one evaluation: opened, compared, then read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agnoreg.evaluate.counted import which_count
from agnoreg.evaluate.field_arrays import ArrayData, is_array_file, open_field_array
from agnoreg.evaluate.landmarks import Landmark, landmarks_in_voxels
from agnoreg.evaluate.metric import FLAT
from agnoreg.evaluate.nifti import (
    GridDifference,
    InputError,
    Intensities,
    Volume,
    grid_difference,
    open_volume,
    read_field,
    read_image,
    read_labels,
)
from agnoreg.evaluate.quantity import Quantity
from agnoreg.evaluate.records import Input, Record

Array = Any

BACKGROUND = 0
#: More labels than this are computed, with a warning: a probability map scaled to 0..255 is stored as integers, too.
MANY_LABELS = 200
LEAVE_OUT = "--nan-is-masked leaves them out, as --mask FILE, --fixed-mask FILE and --moving-mask FILE do"


class PairInputs:
    """The files of one evaluation: opened, compared, then read."""

    def __init__(
        self,
        sources: Mapping[str, Any],
        scale: bool,
        in_mm: bool,
        tolerance: float | None,
        nan_is_masked: bool,
        max_voxels: int,
        frame: str = "array",
        read: bool = True,
    ) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.inputs: list[Input] = []
        self.data: dict[str, Array] = {}
        #: What was computed by a convention: the metric, its records, and the values by agnoreg's own definition.
        self.compared: list[tuple[Quantity, list[Record], list[float]]] = []
        #: Landmarks in voxels of the fixed and the moving image, and the error of each once it is known.
        self.landmarks: tuple[Array, Array] | None = None
        self.errors: tuple[Landmark, ...] = ()
        #: The labels of the moving map before the registration, None where that was not given.
        self.unwarped: set[int] | None = None
        volumes: list[Volume] = []
        for role, source in sources.items():
            if source is None:
                continue
            if role == "ddf" and is_array_file(source):
                volumes.append(open_field_array(source, role, volumes[0], max_voxels))
            else:
                components = 3 if role == "ddf" else 0
                volumes.append(open_volume(source, role, components=components, max_voxels=max_voxels))
        # Every header is compared before the first voxel is read.
        self.fixed = volumes[0]
        differences = [self._compare(volume, tolerance) for volume in volumes]
        if not read:
            self.inputs = [_entry(*one) for one in zip(volumes, differences, strict=True)]
            return
        self.counted = which_count({volume.role: volume for volume in volumes}, nan_is_masked)
        self.notes += self.counted.notes
        for volume, difference in zip(volumes, differences, strict=True):
            self._read(volume, difference, scale, in_mm, frame)
        self._note_headers(volumes)

    def _note_headers(self, volumes: Sequence[Volume]) -> None:
        """Note what headers leave open, once for all files."""
        if unknown := [volume.role for volume in volumes if not volume.has_unit]:
            self.notes.append(f"no unit of length in the header of {', '.join(unknown)}: taken as mm.")
        for other in ("qform", "pixdim"):
            if disputed := [volume.role for volume in volumes if volume.disputed == other]:
                self.notes.append(f"sform and {other} differ in {', '.join(disputed)}: the sform counts.")
        dims = len(self.fixed.axes)
        if dims < 3:
            self.notes.append(f"one {FLAT[dims]}: evaluated as {dims}-D.")

    def counts(self, measured: str) -> Array | None:
        """Return where voxels count, of the shape of what was read; None where all do."""
        mask = self.counted.of(measured)
        return None if mask is None else mask.reshape(self.fixed.along(self.fixed.shape))

    def _compare(self, volume: Volume, tolerance: float | None) -> GridDifference:
        difference = grid_difference(self.fixed, volume)
        said = (
            f"{self.fixed} and {volume} lie on different grids: {difference.fields}; corners of the image are up to "
            f"{difference.mm:.4g} mm, {difference.voxels:.4g} voxels apart"
        )
        if tolerance is None:
            if difference.voxels > 0:
                self.warnings.append(f"{said}; ignored, as asked.")
        elif not difference.voxels <= tolerance:
            raise InputError(
                f"{said}, where {tolerance:g} voxels are tolerated. Resample one onto the other's grid, or pass "
                "--affine-tol or --ignore-affine."
            )
        return difference

    def _read(self, volume: Volume, difference: GridDifference, scale: bool, in_mm: bool, frame: str) -> None:
        intensities, labels = None, None
        if volume.role.endswith("image"):
            self.data[volume.role], intensities = read_image(volume, scale, self.counted.of("images"))
            self._describe(volume, intensities)
        elif volume.role.endswith("label"):
            self.data[volume.role], labels, warning = read_labels(volume)
            self.warnings += [warning] if warning else []
            if len(labels) > MANY_LABELS:
                self.warnings.append(
                    f"{volume} holds {len(labels)} values, each taken for a label; an image or a probability map looks "
                    "like this: threshold it first if it is one."
                )
        elif volume.role == "ddf":
            self.data[volume.role] = read_field(volume, in_mm, frame)
            if frame == "itk":
                self.notes.append("ddf read in mm along the patient's axes (LPS), turned into voxels by the affine.")
            else:
                self.notes.append(f"ddf read in {'mm, divided by the voxel size of each axis' if in_mm else 'voxels'}.")
                if volume.vectors:
                    self.warnings.append(
                        f"{volume} is marked as vectors (NIfTI's intent), as ITK and ANTs mark theirs, in mm along "
                        "the patient's axes: if it is one, pass --ddf-frame itk."
                    )
            if isinstance(volume.data, ArrayData):
                self._note_array(volume.data)
            if len(volume.axes) < volume.components:
                along = " and ".join(str(axis) for axis in volume.axes)
                self.notes.append(f"ddf: its components along the array axes {along} count; across them it is 0.")
            finite, counts = np.isfinite(self.data[volume.role]).all(axis=-1), self.counts("field")
            self._warn_of_nan(volume, int(np.count_nonzero(~finite if counts is None else counts & ~finite)))
        self.inputs.append(_entry(volume, difference, intensities, labels))

    def _note_array(self, data: ArrayData) -> None:
        """Note what an array without a header leaves open."""
        half = ""
        if data.half:
            spatial = data.stored[1:] if data.first else data.stored[:-1]
            half = f" It has {' x '.join(map(str, spatial))} voxels, and was read linearly between them."
        self.notes.append(f"ddf has no header: its grid is the fixed image's.{half}")

    def _describe(self, volume: Volume, found: Intensities) -> None:
        low, high = f"{found.minimum:.6g}", f"{found.maximum:.6g}"
        if not found.scaled:
            how = f"not scaled; its range is [{low}, {high}]."
        elif found.minimum == found.maximum:
            how = f"constant, {low}: set to 0."
        else:
            how = f"scaled from [{low}, {high}] to [0, 1]."
        self.notes.append(f"{volume.role} {how}")
        self._warn_of_nan(volume, found.not_finite)

    def _warn_of_nan(self, volume: Volume, count: int) -> None:
        if count:
            self.warnings.append(
                f"{volume} has {count} voxels that are NaN or infinite; what they count in is undefined. {LEAVE_OUT}."
            )

    def labels(self) -> tuple[int, ...]:
        """Return every label of either map but the background, and note what is left out and what is absent."""
        fixed, moved = (self.labels_of(f"{which} label") - {BACKGROUND} for which in ("fixed", "moved"))
        if not fixed | moved:
            where = " where voxels count" if self.counts("labels") is not None else ""
            raise InputError(f"The label maps hold nothing but the background, {BACKGROUND}{where}.")
        self.notes.append(f"background label {BACKGROUND} left out.")
        for absent, role in ((moved - fixed, "fixed"), (fixed - moved, "moved")):
            if absent:
                listed = ", ".join(str(value) for value in sorted(absent)[:10])
                more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
                self.warnings.append(
                    f"absent from the {role} label map: {listed}{more}. Overlap there is 0 but for smoothing; a "
                    "distance of surfaces is inf; one of centroids is undefined and left out of the mean."
                )
        return tuple(sorted(fixed | moved))

    def labels_of(self, role: str) -> set[int]:
        """Return the labels of a map that occur where voxels count."""
        mask = self.counts("labels")
        if mask is None:
            return {value for entry in self.inputs if entry.role == role for value in entry.labels or ()}
        return {int(value) for value in np.unique(self.data[role][mask])}

    def take_landmarks(self, fixed: Array | None, moving: Array | None, in_mm: bool) -> None:
        """Take the landmarks of both images, in voxels or in mm."""
        if fixed is None or moving is None:
            return
        if len(fixed) != len(moving):
            raise InputError(
                f"There are {len(fixed)} fixed landmarks and {len(moving)} moving ones: both files name the same "
                "landmarks, in the same order."
            )
        sets = ((fixed, "fixed landmarks"), (moving, "moving landmarks"))
        first, second = (landmarks_in_voxels(points, self.fixed, in_mm, role) for points, role in sets)
        self.landmarks = first, second
        self.notes.append(f"{len(fixed)} landmarks read in {'mm' if in_mm else 'voxels, the first of which is 0'}.")

    def add_before(self, earlier: "PairInputs") -> None:
        """Add what was read of the moved image before the registration, and what there is to say of it."""
        self.inputs += earlier.before_entries()
        self.notes += [f"before: {note}" for note in earlier.notes if note not in self.notes]
        self.warnings += [f"before: {warning}" for warning in earlier.warnings if warning not in self.warnings]

    def before_entries(self) -> list[Input]:
        """Return what is said of the moved image and label map, as those before the registration."""
        moved = (entry for entry in self.inputs if entry.role.startswith("moved"))
        return [replace(entry, role=f"{entry.role} before") for entry in moved]

    @property
    def scaled(self) -> bool:
        """Whether images were scaled to [0, 1] as they were read."""
        return all(entry.intensities.scaled for entry in self.inputs if entry.intensities is not None)

    def images(self, rescale: bool) -> list[Array]:
        """Return both images as they are, or scaled to [0, 1] where they are not."""
        ranges = [entry.intensities for entry in self.inputs if entry.intensities is not None]
        arrays = [self.data[f"{which} image"] for which in ("fixed", "moved")]
        return [_rescaled(*one) for one in zip(arrays, ranges, strict=True)] if rescale else arrays


def _entry(
    volume: Volume,
    difference: GridDifference,
    intensities: Intensities | None = None,
    labels: tuple[int, ...] | None = None,
) -> Input:
    """Return what is said of a file."""
    stored_as = str(volume.data.dtype)
    return Input(volume.role, volume.name, volume.shape, volume.voxel_size, stored_as, difference, intensities, labels)


def _rescaled(array: Array, found: Intensities) -> Array:
    """Return an image scaled to [0, 1] by its range, a constant one as 0."""
    if found.scaled or not math.isfinite(found.minimum):
        return array
    with np.errstate(all="ignore"):
        array = array - np.float32(found.minimum)
        return array / np.float32(found.maximum - found.minimum) if found.maximum > found.minimum else array
