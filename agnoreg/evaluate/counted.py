"""Which voxels count in an evaluation: those of masks, and those that are numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.nifti import InputError, Volume, finite_voxels, read_mask

Array = Any

#: The masks by their role, and what each leaves voxels out of.
MASKS = {
    "mask": ("images", "labels", "field"),
    "fixed mask": ("images", "labels"),
    "moving mask": ("images", "labels"),
}
#: What is measured on which files.
_SOURCES = {"images": ("fixed image", "moved image"), "labels": ("fixed label", "moved label"), "field": ("ddf",)}


@dataclass(frozen=True)
class Counted:
    """Which voxels count: bools of the volumes' shape for what is measured, without what all voxels count in.

    Attributes
    ----------
    masks
        From ``"images"``, ``"labels"`` or ``"field"`` to the voxels that count there.
    notes
        How many count, of how many.
    """

    masks: Mapping[str, Array]
    notes: tuple[str, ...]

    def of(self, measured: str) -> Array | None:
        """Return where voxels count, None where all do."""
        return self.masks.get(measured)


def which_count(volumes: Mapping[str, Volume], nan_is_masked: bool) -> Counted:
    """Read the masks among a pair's files, and see where its images and its field are numbers.

    Parameters
    ----------
    volumes
        The files by role. What a mask is 0 or NaN at does not count: ``"mask"`` in anything, ``"fixed mask"`` and
        ``"moving mask"`` in images and labels.
    nan_is_masked
        Leave out voxels that are not finite: of the images those of either, of the field those of the field.

    Raises
    ------
    InputError
        If a mask cannot be read, or no voxel is left.
    """
    masks: dict[str, Array] = {}
    reasons: dict[str, list[str]] = {}

    def leave_out(measured: str, counts: Array, why: str) -> None:
        masks[measured] = masks[measured] & counts if measured in masks else counts
        reasons.setdefault(measured, []).append(why)

    for role in MASKS:
        if role in volumes:
            mask = read_mask(volumes[role])
            for measured in MASKS[role]:
                if _SOURCES[measured][0] in volumes:
                    leave_out(measured, mask, str(volumes[role]))
    for measured in ("images", "field") if nan_is_masked else ():
        for role in _SOURCES[measured]:
            if role in volumes:
                finite = finite_voxels(volumes[role])
                if not finite.all():
                    count = finite.size - np.count_nonzero(finite)
                    leave_out(measured, finite, f"{count} of {volumes[role]} are NaN or infinite")
    for measured, mask in masks.items():
        if not mask.any():
            raise InputError(f"No voxel counts in the {measured}: {', '.join(reasons[measured])}.")
    notes: dict[str, list[str]] = {}
    for measured, mask in masks.items():
        said = f"{np.count_nonzero(mask)} of {mask.size} voxels count ({', '.join(reasons[measured])})."
        notes.setdefault(said, []).append(measured)
    if nan_is_masked and "images" not in masks:
        notes["all voxels count: none is NaN or infinite."] = ["images"]
    return Counted(masks, tuple(f"{', '.join(kinds)}: {said}" for said, kinds in notes.items()))
