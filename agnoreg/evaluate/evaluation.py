"""How similar two images, two label maps are, and how smooth a field is: from NIfTI files to plain records.

`evaluate_pair` is what ``agnoreg evaluate`` prints. Every number comes from the library's public losses and metrics, in
the metric's natural sign; nothing here prints.
"""

import inspect
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from agnoreg.engine.kernels import EvenWindowWarning
from agnoreg.evaluate.inputs import PairInputs
from agnoreg.evaluate.label_names import label_names as names_of_labels
from agnoreg.evaluate.landmarks import read_landmarks
from agnoreg.evaluate.measuring import Computer, compute, with_before
from agnoreg.evaluate.metric import Metric
from agnoreg.evaluate.metrics import Series, asked_metrics, parse_loss, planned, series_of
from agnoreg.evaluate.nifti import (
    MAX_VOXELS,
    InputError,
)
from agnoreg.evaluate.quantity import Quantity
from agnoreg.evaluate.records import Evaluation, Input, Record, check_outputs, to_csv, to_json, write_files
from agnoreg.messages import InputWarning
from agnoreg.objects.loss import Loss

__all__ = [
    "Checked",
    "Evaluation",
    "Input",
    "InputError",
    "Record",
    "Series",
    "check_backend",
    "check_outputs",
    "check_pair",
    "evaluate_pair",
    "parse_loss",
    "planned",
    "to_csv",
    "to_json",
    "write_files",
]

Array = Any

#: The files of a pair that lie on its grid, by what they are called; each is an argument of `evaluate_pair`.
ROLES = {
    "fixed image": "fixed",
    "moved image": "moved",
    "fixed label": "fixed_label",
    "moved label": "moved_label",
    "ddf": "ddf",
    "mask": "mask",
    "fixed mask": "fixed_mask",
    "moving mask": "moving_mask",
}
#: All files of a pair, by `evaluate_pair`'s arguments.
INPUTS = (*ROLES.values(), "moved_before", "moved_label_before", "fixed_landmarks", "moving_landmarks")
#: The arguments, beside the losses, on which it depends what is computed.
PLANNING = ("ddf_units", "affine_tol", "convention", "regulariser_units", "nsd_tolerance")


@contextmanager
def library_warnings(into: list[str]) -> Iterator[None]:
    """Take what the library warns of (a window of even size, inputs whose value means little) as lines."""
    ours = (EvenWindowWarning, InputWarning)
    with warnings.catch_warnings(record=True) as caught:
        for category in ours:
            warnings.simplefilter("always", category)
        yield
    for one in caught:
        if issubclass(one.category, ours):
            into.append(" ".join(str(one.message).split()))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def check_backend(name: str, device: str | None) -> None:
    """Import a backend's framework; raise InputError if it cannot be used here, or not on this device."""
    Computer(name, device)


@dataclass(frozen=True)
class Checked:
    """What `check_pair` found.

    Attributes
    ----------
    inputs
        The files, by their headers.
    series
        What would be computed.
    warnings
        Inputs and options that are probably mistakes.
    """

    inputs: tuple[Input, ...]
    series: tuple[Series, ...]
    warnings: tuple[str, ...]


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
    fixed_landmarks: Any = None,
    moving_landmarks: Any = None,
    landmark_units: str = "voxel",
    ddf_frame: str = "array",
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure how similar two images are, how their label maps overlap, and how smooth a displacement field is.

    Parameters
    ----------
    fixed, moved
        NIfTI files, or images that nibabel holds, of one shape ``(X, Y, Z)`` and one grid. Further axes of size 1 are
        dropped. A slice, ``(X, Y)`` or with one voxel along any axis, is evaluated in 2-D.
    fixed_label, moved_label
        Label maps on that grid; both or neither. Every label except 0 is measured, and the mean over the labels.
    ddf
        A displacement field: NIfTI, ``(X, Y, Z, 3)`` or ``(X, Y, Z, 1, 3)``, with component i along array axis i. The
        field of a slice has two components, or a third one that is 0. Also an array, or a ``.npy`` or ``.npz`` file,
        with the components first, ``(3, X, Y, Z)``, or last, of the image's size or half of it.
    losses
        What to compute: ``"NAME"`` or ``"NAME:key=value,..."`` as in ``--loss``, or loss objects. If empty, every
        metric that fits the inputs. For a slice, ``spatial_dims`` is set to 2, except in loss objects.
    backend
        The framework that computes.
    device
        Its device; the framework's default where None.
    scale
        Scale each image to [0, 1] by its own finite minimum and maximum.
    ddf_units
        Unit of the displacements: ``"voxel"``, or ``"mm"`` whatever unit of length the headers have.
    affine_tol
        How far the corners of two grids may lie apart, in voxels.
    ignore_affine
        Accept any difference between the affines, with a warning.
    convention
        The library or tool whose definitions to use. A metric that it does not define keeps its default. Losses have
        ``"deepreg"``, ``"monai"``, ``"voxelmorph"``, ``"ants"`` and ``"exact"``, which has no smoothing constants.
        The metrics of images use the last one if ``losses`` is empty. Surface distances have the conventions of
        `agnoreg.metrics.surface_distances`. None: the defaults.
    regulariser_units
        Unit in which regularisers without an explicit ``spacing`` measure the field: ``"mm"``, with the voxel size of
        the header, or ``"voxel"``. None: mm, but voxels for another library's convention. Loss objects have their own
        spacing.
    mask, fixed_mask, moving_mask
        NIfTI files, or images that nibabel holds, on the same grid. A voxel that is 0 or NaN in ``mask`` does not count
        in anything; in ``fixed_mask`` and ``moving_mask``, in images and labels. An image's range is that of the voxels
        that count.
    nan_is_masked
        Leave out voxels that are NaN or infinite: for images, in either of them; for the field, in the field.
    label_names
        Names of labels: a mapping, or a file as `agnoreg.evaluate.label_names.label_names` reads it.
    max_voxels
        Maximum number of voxels of an input.
    moved_before, moved_label_before
        The moving image and its label map before the registration, on the same grid: each record of images and labels
        then has its value ``before``, too.
    nsd_tolerance
        Tolerance of the normalised surface Dice in mm. It is computed if this is given.
    fixed_landmarks, moving_landmarks
        The same landmarks in both images, in the same order: CSV files of three numbers a line, or arrays ``(N, 3)``.
        The target registration error is computed with the field, which maps fixed landmarks to moving ones.
    landmark_units
        ``"voxel"``, the first voxel being 0, or ``"mm"``, as the affine in the header has it.
    ddf_frame
        ``"array"``, or ``"itk"``: vectors in mm along the patient's axes, to the left and to the back, as ITK and ANTs
        write them.
    progress
        Called before each step with a short text, such as ``"labels: HD95"``.

    Returns
    -------
    Evaluation
        Plain records.

    Raises
    ------
    InputError
        If the inputs do not fit each other or the options; nothing is computed then.
    """
    request = dict(locals())
    say = progress or (lambda text: None)
    say("reading")
    said: list[str] = []
    with library_warnings(said):
        prepared = _prepared(request, read=True)
    pair, earlier = prepared.pair, prepared.earlier
    # A framework is imported last: what is wrong with the files is said at once, and without what it logs.
    say(f"loading {backend}")
    computer = Computer(backend, device)
    with library_warnings(said):
        records = compute(pair, computer, prepared.metrics, prepared.names, say)
        if earlier is not None:
            before = compute(earlier, computer, prepared.metrics, prepared.names, lambda text: say(f"{text}, before"))
            records = with_before(records, before)
            pair.add_before(earlier)
    pair.warnings += dict.fromkeys(said)
    return Evaluation(
        tuple(records),
        tuple(pair.inputs),
        computer.backend.name,
        computer.device,
        _versions(computer.backend.name),
        prepared.tolerance,
        tuple(pair.notes),
        tuple(pair.warnings),
        pair.errors,
    )


def check_pair(fixed: Any, moved: Any, **options: Any) -> Checked:
    """Check the inputs of `evaluate_pair` by their headers, and say what it would compute; no voxel is read.

    Parameters
    ----------
    fixed, moved, **options
        As `evaluate_pair` takes them.

    Returns
    -------
    Checked
        The inputs, and what would be computed.

    Raises
    ------
    InputError
        If anything about the inputs does not fit that can be seen from headers.
    """
    bound = inspect.signature(evaluate_pair).bind(fixed, moved, **options)
    bound.apply_defaults()
    said: list[str] = []
    with library_warnings(said):
        prepared = _prepared(bound.arguments, read=False)
    prepared.pair.warnings += dict.fromkeys(said)
    before = [] if prepared.earlier is None else prepared.earlier.before_entries()
    return Checked((*prepared.pair.inputs, *before), prepared.series, tuple(prepared.pair.warnings))


@dataclass(frozen=True)
class _Prepared:
    """A pair whose inputs fit, and what is to be computed of it."""

    pair: PairInputs
    earlier: PairInputs | None
    metrics: list[Metric | Quantity]
    series: tuple[Series, ...]
    names: Mapping[int, str]
    tolerance: float | None


def _prepared(request: Mapping[str, Any], read: bool) -> _Prepared:
    """Check the arguments of `evaluate_pair`, and open its files; read them, too, or just their headers."""
    given = _given(request)
    planning = {name: request[name] for name in PLANNING}
    metrics = asked_metrics(request["losses"], given, **planning)
    names = {} if request["label_names"] is None else names_of_labels(request["label_names"])
    max_voxels = request["max_voxels"]
    if isinstance(max_voxels, bool) or not isinstance(max_voxels, int) or max_voxels < 1:
        raise InputError(f"The most voxels of an input must be an integer of 1 or more, got {max_voxels!r}.")
    if request["ddf_frame"] not in ("array", "itk"):
        raise InputError(f"--ddf-frame must be 'array' or 'itk', got {request['ddf_frame']!r}.")
    tolerance = None if request["ignore_affine"] else request["affine_tol"]
    sources = {role: request[name] for role, name in ROLES.items()}

    def opened(**other: Any) -> PairInputs:
        return PairInputs(
            {**sources, **other},
            request["scale"],
            request["ddf_units"] == "mm",
            tolerance,
            request["nan_is_masked"],
            max_voxels,
            request["ddf_frame"],
            read,
        )

    fixed_points, moving_points = (
        None if request[f"{which}_landmarks"] is None else read_landmarks(request[f"{which}_landmarks"], role)
        for which, role in (("fixed", "fixed landmarks"), ("moving", "moving landmarks"))
    )
    pair, earlier = opened(), None
    pair.take_landmarks(fixed_points, moving_points, request["landmark_units"] == "mm")
    if request["moved_before"] is not None:
        label = request["moved_label_before"]
        labels = {"fixed label": None if label is None else request["fixed_label"], "moved label": label}
        earlier = opened(**{"moved image": request["moved_before"], **labels, "ddf": None})
        if label is not None and read:
            pair.unwarped = earlier.unwarped = earlier.labels_of("moved label")
    chosen = [metric.of(pair.fixed) for metric in metrics]
    return _Prepared(pair, earlier, chosen, series_of(chosen, given), names, tolerance)


def _given(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what there is to measure on; raise InputError where one of two that belong together is missing."""
    there = {name for name, value in request.items() if value is not None}
    if len(labels := {"fixed_label", "moved_label"} & there) == 1:
        one, other = ("fixed", "moved") if "fixed_label" in labels else ("moved", "fixed")
        raise InputError(f"A {one} label map was given without a {other} one: pass --fixed-label and --moved-label.")
    if "moved_label_before" in there and not {"fixed_label", "moved_before"} <= there:
        raise InputError(
            "--moved-label-before needs --moved-before, and --fixed-label with --moved-label to compare it with."
        )
    if len({"fixed_landmarks", "moving_landmarks"} & there) == 1:
        raise InputError("Landmarks are of both images: pass --fixed-landmarks and --moving-landmarks.")
    if request["landmark_units"] not in ("voxel", "mm"):
        raise InputError(f"--landmark-units must be 'voxel' or 'mm', got {request['landmark_units']!r}.")
    kinds = {"images": "fixed", "labels": "fixed_label", "field": "ddf", "landmarks": "fixed_landmarks"}
    return tuple(kind for kind, name in kinds.items() if name in there)


def _versions(backend: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("agnoreg", "numpy", "nibabel"):
        found[package] = version(package)
    framework = getattr(sys.modules.get(backend), "__version__", None)
    return found | ({backend: str(framework)} if framework else {})
