"""What is drawn of a pair: its images, label maps and field, read once more, in RAS order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.counted import which_count
from agnoreg.evaluate.field_arrays import is_array_file, open_field_array
from agnoreg.evaluate.nifti import MAX_VOXELS, Volume, open_volume, read_field, read_image, read_labels
from agnoreg.evaluate.report.orientation import Orientation, Plane, planes_of

Array = Any

#: The files by `evaluate_pair`'s arguments, and what they are called there.
IMAGES = {"fixed": "fixed image", "moved": "moved image", "moved_before": "moved image before"}
LABELS = {
    "fixed_label": "fixed label",
    "moved_label": "moved label",
    "moved_label_before": "moved label before",
}
MASKS = {"mask": "mask", "fixed_mask": "fixed mask", "moving_mask": "moving mask"}


@dataclass(frozen=True)
class Case:
    """The voxels of a pair in RAS order.

    Attributes
    ----------
    fixed, moved, before
        Images, float32, scaled to [0, 1] where the evaluation scaled them; not finite ones are 0. None where there is
        no image before the registration.
    fixed_label, moved_label, before_label
        Label maps; None where there are none.
    ddf
        Displacements in voxels, ``(X, Y, Z, 3)``, component i along axis i; None where there are none.
    counts
        From ``"images"``, ``"labels"`` and ``"field"`` to where voxels count, bools, as far as masks say so.
    spacing
        Voxel sizes in mm.
    orientation
        How the files' axes lie in the patient.
    """

    fixed: Array
    moved: Array
    before: Array | None
    fixed_label: Array | None
    moved_label: Array | None
    before_label: Array | None
    ddf: Array | None
    counts: Mapping[str, Array]
    spacing: tuple[float, float, float]
    orientation: Orientation

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes in which there is something to see."""
        return planes_of(self.fixed.shape)

    def counted(self, measured: str, values: Array) -> Array:
        """Return values where voxels count, and 0 elsewhere."""
        return values if measured not in self.counts else np.where(self.counts[measured], values, 0)


def read_case(pair: Mapping[str, Any]) -> Case:
    """Read the files of a pair.

    Parameters
    ----------
    pair
        The arguments of `evaluate_pair`, by name.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    limit, scale = pair.get("max_voxels", MAX_VOXELS), pair.get("scale", True)

    def opened(argument: str, role: str) -> Volume | None:
        source = pair.get(argument)
        return None if source is None else open_volume(source, role, max_voxels=limit)

    volumes = {argument: opened(argument, role) for argument, role in (IMAGES | LABELS | MASKS).items()}
    volumes["ddf"] = _opened_field(pair.get("ddf"), volumes["fixed"], limit)
    given = {argument: volume for argument, volume in volumes.items() if volume is not None}
    counted = which_count({volume.role: volume for volume in given.values()}, pair.get("nan_is_masked", False))
    fixed = given["fixed"]
    orientation = Orientation(fixed.affine)

    def image(argument: str) -> Array | None:
        if argument not in given:
            return None
        array, _ = read_image(given[argument], scale, counted.of("images"))
        return orientation.volume(np.nan_to_num(array, posinf=0.0, neginf=0.0).reshape(fixed.shape))

    def labels(argument: str) -> Array | None:
        return orientation.volume(read_labels(given[argument])[0].reshape(fixed.shape)) if argument in given else None

    first, second = image("fixed"), image("moved")
    assert first is not None
    assert second is not None
    return Case(
        first,
        second,
        image("moved_before"),
        labels("fixed_label"),
        labels("moved_label"),
        labels("moved_label_before"),
        _field(given.get("ddf"), pair, orientation),
        {kind: orientation.volume(mask) for kind, mask in counted.masks.items()},
        orientation.values(fixed.voxel_size),
        orientation,
    )


def _opened_field(source: Any, fixed: Volume | None, limit: int) -> Volume | None:
    if source is None or fixed is None:
        return None
    if is_array_file(source):
        return open_field_array(source, "ddf", fixed, limit)
    return open_volume(source, "ddf", components=3, max_voxels=limit)


def _field(volume: Volume | None, pair: Mapping[str, Any], orientation: Orientation) -> Array | None:
    if volume is None:
        return None
    within = read_field(volume, pair.get("ddf_units", "voxel") == "mm", pair.get("ddf_frame", "array"))
    # That of a slice has the two components along it: the third is 0.
    field = np.zeros((*volume.shape, 3), np.float32)
    field[..., list(volume.axes)] = within.reshape(*volume.shape, within.shape[-1])
    return orientation.field(field)
