"""How similar two images, two label maps are, and how smooth a field is: from NIfTI files to plain records.

`evaluate_pair` is what ``agnoreg evaluate`` prints. Every number comes from the library's public losses and metrics, in
the metric's natural sign; nothing here prints.
"""

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from agnoreg.evaluate.inputs import PairInputs
from agnoreg.evaluate.label_names import label_names as names_of_labels
from agnoreg.evaluate.measuring import Computer, compute, with_before
from agnoreg.evaluate.metrics import Series, asked_metrics, parse_loss, planned
from agnoreg.evaluate.nifti import (
    MAX_VOXELS,
    InputError,
)
from agnoreg.evaluate.records import Evaluation, Input, Record, check_outputs, to_csv, to_json, write_files
from agnoreg.objects.loss import Loss

__all__ = [
    "Evaluation",
    "Input",
    "InputError",
    "Record",
    "Series",
    "check_backend",
    "check_outputs",
    "evaluate_pair",
    "parse_loss",
    "planned",
    "to_csv",
    "to_json",
    "write_files",
]

Array = Any

#: The files of a pair, by `evaluate_pair`'s arguments.
INPUTS = ("fixed", "moved", "fixed_label", "moved_label", "ddf", "mask", "fixed_mask", "moving_mask")


def check_backend(name: str, device: str | None) -> None:
    """Raise InputError where a backend cannot be used here, or not on this device; its framework is imported."""
    Computer(name, device)


def evaluate_pair(
    fixed: Any,
    moved: Any,
    *,
    fixed_label: Any = None,
    moved_label: Any = None,
    ddf: Any = None,
    losses: Sequence[str | Loss] = (),
    backend: str = "numpy",
    device: str | None = None,
    scale: bool = True,
    ddf_units: str = "voxel",
    affine_tol: float = 1e-3,
    ignore_affine: bool = False,
    convention: str | None = None,
    regulariser_units: str | None = None,
    mask: Any = None,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    nan_is_masked: bool = False,
    label_names: Any = None,
    max_voxels: int = MAX_VOXELS,
    moved_before: Any = None,
    moved_label_before: Any = None,
    nsd_tolerance: float | None = None,
) -> Evaluation:
    """Measure how similar two images are, how their label maps overlap, and how smooth a displacement field is.

    Parameters
    ----------
    fixed, moved
        NIfTI files, or images that nibabel holds, of one shape ``(X, Y, Z)`` and one grid. Further axes of size 1 are
        dropped. A slice, ``(X, Y)`` or with one voxel along any axis, is evaluated in 2-D.
    fixed_label, moved_label
        Label maps of that grid; both or neither. Each label but 0 is measured on its own, and the mean over labels.
    ddf
        A displacement field ``(X, Y, Z, 3)`` or ``(X, Y, Z, 1, 3)``, component i along array axis i. That of a slice
        may have two components; a third one must be 0.
    losses
        What to compute: ``"NAME"`` or ``"NAME:key=value,..."`` as in ``--loss``, or loss objects. Where empty, every
        metric that fits. For a slice ``spatial_dims`` is set to 2, but not that of a loss object.
    backend
        The framework that computes.
    device
        Its device; the framework's default where None.
    scale
        Scale each image to [0, 1] by its own finite minimum and maximum.
    ddf_units
        ``"voxel"`` or ``"mm"``, which is mm whatever unit of length the headers have.
    affine_tol
        The largest displacement of a corner of the image between two grids that passes, in voxels.
    ignore_affine
        Let any difference of the affines pass, with a warning.
    convention
        Whose definitions, of a library's losses or a tool's metrics; a metric for which that library or tool has none
        is computed as without it. Of losses: ``"deepreg"``, ``"monai"``, ``"voxelmorph"``, ``"ants"``, or ``"exact"``,
        without constants, which those metrics have that are computed where ``losses`` is empty. Of distances between
        surfaces: those of `agnoreg.metrics.surface_distances`. None: each loss's own, and agnoreg's.
    regulariser_units
        In what a field is measured where a loss does not say its ``spacing``: ``"mm"``, by the voxel size in the
        header, or ``"voxel"``. None: mm, and voxels by another library's convention. A loss object says its own.
    mask, fixed_mask, moving_mask
        NIfTI files, or images that nibabel holds, on the same grid. A voxel that is 0 or NaN in ``mask`` does not count
        in anything; in ``fixed_mask`` and ``moving_mask``, in images and labels. An image's range is that of the voxels
        that count.
    nan_is_masked
        Leave out voxels that are NaN or infinite: of the images where either is, of the field where it is.
    label_names
        Names of labels: a mapping, or a file as `agnoreg.evaluate.label_names.label_names` reads it.
    max_voxels
        The most voxels that an input may have.
    moved_before, moved_label_before
        The moving image and its label map before the registration, on the same grid: each record of images and labels
        then has its value ``before``, too.
    nsd_tolerance
        The tolerance of the normalised surface Dice in mm, which is computed of labels where this is given.

    Returns
    -------
    Evaluation
        Plain records.

    Raises
    ------
    InputError
        If anything about the inputs does not fit; nothing is computed then.
    """
    if (fixed_label is None) != (moved_label is None):
        one, other = ("fixed", "moved") if moved_label is None else ("moved", "fixed")
        raise InputError(f"A {one} label map was given without a {other} one: pass --fixed-label and --moved-label.")
    if moved_label_before is not None and (fixed_label is None or moved_before is None):
        raise InputError(
            "--moved-label-before needs --moved-before, and --fixed-label with --moved-label to compare it with."
        )
    given = ("images",) + ("labels",) * (fixed_label is not None) + ("field",) * (ddf is not None)
    metrics = asked_metrics(
        losses,
        given,
        ddf_units=ddf_units,
        affine_tol=affine_tol,
        convention=convention,
        regulariser_units=regulariser_units,
        nsd_tolerance=nsd_tolerance,
    )
    names = {} if label_names is None else names_of_labels(label_names)
    sources = {
        "fixed image": fixed,
        "moved image": moved,
        "fixed label": fixed_label,
        "moved label": moved_label,
        "ddf": ddf,
        "mask": mask,
        "fixed mask": fixed_mask,
        "moving mask": moving_mask,
    }
    if isinstance(max_voxels, bool) or not isinstance(max_voxels, int) or max_voxels < 1:
        raise InputError(f"The most voxels of an input must be an integer of 1 or more, got {max_voxels!r}.")
    tolerance = None if ignore_affine else affine_tol

    def opened(**other: Any) -> PairInputs:
        return PairInputs({**sources, **other}, scale, ddf_units == "mm", tolerance, nan_is_masked, max_voxels)

    pair, earlier = opened(), None
    if moved_before is not None:
        labels = {
            "fixed label": fixed_label if moved_label_before is not None else None,
            "moved label": moved_label_before,
        }
        earlier = opened(**{"moved image": moved_before, **labels, "ddf": None})
        if moved_label_before is not None:
            pair.unwarped = earlier.unwarped = earlier.labels_of("moved label")
    chosen = [metric.of(pair.fixed) for metric in metrics]
    # A framework is imported last: what is wrong with the files is said at once, and without what it logs.
    computer = Computer(backend, device)
    records = compute(pair, computer, chosen, names)
    if earlier is not None:
        records = with_before(records, compute(earlier, computer, chosen, names))
        pair.add_before(earlier)
    return Evaluation(
        tuple(records),
        tuple(pair.inputs),
        computer.backend.name,
        computer.device,
        _versions(computer.backend.name),
        tolerance,
        tuple(pair.notes),
        tuple(pair.warnings),
    )


def _versions(backend: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("agnoreg", "numpy", "nibabel"):
        found[package] = version(package)
    framework = getattr(sys.modules.get(backend), "__version__", None)
    return found | ({backend: str(framework)} if framework else {})
