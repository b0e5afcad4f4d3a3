"""How similar two images, two label maps are, and how smooth a field is: from NIfTI files to plain records.

`evaluate_pair` is what ``agnoreg evaluate`` prints. Every number comes from the library's public losses and metrics, in
the metric's natural sign; nothing here prints.
"""

import csv
import inspect
import io
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agnoreg.backend import Backend, BackendNotAvailableError, get_backend
from agnoreg.files import one_line, write_whole
from agnoreg.loss import deform, image, label, util
from agnoreg.loss.base import Loss
from agnoreg.loss.composite import RegistrationLoss, WeightedLoss
from agnoreg.loss.names import loss_class, registered_losses
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin
from agnoreg.nifti import (
    MAX_VOXELS,
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
from agnoreg.registry import build_loss

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
INPUTS = ("fixed", "moved", "fixed_label", "moved_label", "ddf")

BACKGROUND = 0
#: More labels than this are computed, with a warning: a probability map scaled to 0..255 is stored as integers, too.
MANY_LABELS = 200
CENTROID_DISTANCE = "compute_centroid_distance"

_MODULES = {"images": image, "labels": label, "field": deform}


@dataclass(frozen=True)
class Record:
    """One metric's value.

    Attributes
    ----------
    metric
        The class's name, or the function's.
    arguments
        The arguments that were given; the others have their defaults.
    measured
        ``"images"``, ``"labels"`` or ``"field"``.
    label
        The label's value, ``"mean"`` for the mean over labels, None where no label map is measured.
    value
        The value, in its natural sign; NaN where it is undefined.
    unit
        ``"mm"`` for a distance, else empty.
    value_range
        The least and the largest value possible.
    direction
        ``"lower"`` or ``"higher"``: which is better.
    identity_value
        The value of two equal images or labels, or of a displacement of zero; None where that depends on the image.
    seconds
        How long the computation took, without reading; None for a mean.
    backend
        The backend's name.
    """

    metric: str
    arguments: Mapping[str, Any]
    measured: str
    label: int | str | None
    value: float
    unit: str
    value_range: tuple[float, float]
    direction: str
    identity_value: float | None
    seconds: float | None
    backend: str


@dataclass(frozen=True)
class Input:
    """What was read from one file.

    Attributes
    ----------
    role
        ``"fixed image"``, ``"moved image"``, ``"fixed label"``, ``"moved label"`` or ``"ddf"``.
    path
        The file.
    shape
        Its three spatial sizes.
    voxel_size
        In mm.
    stored_as
        The dtype of the file.
    grid_difference
        How far its grid lies from the fixed image's.
    intensities
        The range of an image, and whether it was scaled.
    labels
        The values of a label map.
    """

    role: str
    path: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    stored_as: str
    grid_difference: GridDifference
    intensities: Intensities | None = None
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Evaluation:
    """The records of one pair, and what they were computed from.

    Attributes
    ----------
    records
        The values, in the order of the metrics asked for.
    inputs
        What was read.
    backend, device
        What computed them.
    versions
        Of Python, agnoreg, NumPy, nibabel and the backend's framework.
    affine_tolerance
        The largest difference of two grids that passes, in voxels; None where any does.
    notes
        What a reader of the values has to know: how images were scaled, that the background is left out.
    warnings
        What is probably not meant: labels that were rounded, grids that differ.
    """

    records: tuple[Record, ...]
    inputs: tuple[Input, ...]
    backend: str
    device: str
    versions: Mapping[str, str]
    affine_tolerance: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


# --- which metrics ----------------------------------------------------------------------------------------------------


#: Arguments of every loss that say nothing about one sample's value.
_ASIDE = ("name", "reduction", "native")
#: Arguments that may have a value for each axis.
_PER_AXIS = ("kernel_size", "spacing")
#: What a volume is called that has more than one voxel along one axis, or along two.
_FLAT = {1: "line", 2: "slice"}


def metric_of(kind: type[Loss]) -> type[Loss]:
    """Return the metric whose sign a loss reverses, or which it averages over scales; else the class itself."""
    changed = (NegativeLossMixin, MultiScaleMixin)
    plain = (base for base in kind.__mro__ if not issubclass(base, changed) and base.__module__ != util.__name__)
    return next(base for base in plain if issubclass(base, Loss))


def parse_loss(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME[:key=value,...]``; a value is JSON where it parses as JSON, else a string.

    Raises
    ------
    InputError
        If an argument has no ``=`` or occurs twice, or no colon comes before the first.

    Examples
    --------
    >>> parse_loss("lncc:kernel_size=7,kernel_type=gaussian")
    ('lncc', {'kernel_size': 7, 'kernel_type': 'gaussian'})
    >>> parse_loss("DiceLoss:scales=[0,1,2]")
    ('DiceLoss', {'scales': [0, 1, 2]})
    """
    name, _, rest = text.partition(":")
    if "=" in name:
        raise InputError(f"--loss {text}: arguments follow a colon, NAME:key=value,key=value.")
    arguments: dict[str, Any] = {}
    # A comma ends a value only where another key follows, so that a list needs no quotes.
    for part in re.split(r",(?=\s*\w+\s*=)", rest) if rest.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise InputError(f"--loss {text}: expected NAME:key=value,key=value, got {part.strip()!r}.")
        if key in arguments:
            raise InputError(f"--loss {text}: the argument {key!r} occurs twice.")
        arguments[key] = _json_or_text(value)
    return name.strip(), arguments


def _json_or_text(value: str) -> Any:
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
    except ValueError:
        return value


def measured_on(kind: type[Loss]) -> tuple[str, ...]:
    """Return what a loss can be computed on: ``"images"``, ``"labels"``, ``"field"``."""
    if issubclass(kind, label.SumSquaredDifference):
        return ("images", "labels")
    for base in kind.__mro__:
        for measured, module in _MODULES.items():
            if base.__module__ == module.__name__:
                return (measured,)
    return ("field",) if kind.inputs == 1 else ("images",)


@dataclass(frozen=True)
class _Metric:
    """A metric to compute: its object, the arguments that were given, and on what."""

    loss: Loss
    arguments: Mapping[str, Any]
    measures: tuple[str, ...]
    #: Whether somebody asked for it, so that an input it does not fit is an error.
    required: bool = True
    #: Whether somebody chose its number of axes, so that it stays.
    settled: bool = False

    @property
    def name(self) -> str:
        """Its class's name."""
        return type(self.loss).__name__

    def of(self, volume: Volume) -> "_Metric":
        """Return the metric as it fits a volume's axes: a single slice is 2-D.

        Raises
        ------
        InputError
            If somebody chose another number of axes for it, or its arguments do not fit this one.
        """
        dims = getattr(self.loss, "spatial_dims", None)
        if len(volume.axes) == 3 or dims is None or dims == len(volume.axes):
            return self
        if self.settled:
            raise InputError(
                f"{self.name} has spatial_dims={dims}, and a {_FLAT[len(volume.axes)]} is evaluated in "
                f"{len(volume.axes)}-D: give it spatial_dims={len(volume.axes)}."
            )
        changed: dict[str, Any] = {"spatial_dims": len(volume.axes)}
        for name in _PER_AXIS:
            value = getattr(self.loss, name, None)
            if isinstance(value, tuple) and len(value) == 3:
                changed[name] = volume.along(value)
        try:
            return replace(self, loss=replace(self.loss, **changed))
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.name} of a {_FLAT[len(volume.axes)]}: {one_line(error)}") from error


def _build(asked: str | Loss) -> _Metric:
    if isinstance(asked, Loss):
        defaults = arguments_of(type(asked))
        given = {key: value for key, value in asked.get_config().items() if key in defaults and value != defaults[key]}
        return _Metric(asked, given, measured_on(type(asked)), settled=True)
    name, given = parse_loss(asked)
    for key in ("name", "weight"):
        if key in given:
            raise InputError(f"--loss {asked}: the argument {key!r} has no place in an evaluation.")
    try:
        kind = loss_class(name)
        if issubclass(kind, WeightedLoss | RegistrationLoss):
            raise ValueError("it combines losses: give each of them as a --loss of its own.")
        natural = name in registered_losses()
        kind = metric_of(kind) if natural else kind
        _check_types(given, arguments_of(kind))
        # A label's masks are binary, and only a thresholded score states its value for equal labels.
        binary = {"binary": True} if natural and "binary" in arguments_of(kind) else {}
        loss = build_loss({"name": kind.__name__, **binary, **given})
        return _Metric(loss, given, measured_on(kind), settled="spatial_dims" in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"--loss {asked}: {one_line(error)}") from error


def _check_types(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    # A shell has only words: "l1=maybe" must not pass for true.
    for key, value in given.items():
        if isinstance(defaults.get(key), bool):
            fits, wanted = isinstance(value, bool), "true or false"
        elif isinstance(defaults.get(key), int | float):
            fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        else:
            continue
        if not fits:
            raise ValueError(f"{key} must be {wanted}, got {value!r}.")


def arguments_of(kind: type[Loss]) -> dict[str, Any]:
    """Return the arguments of a loss that change one sample's value, with their defaults."""
    config = kind().get_config()
    return {key: config[key] for key in inspect.signature(kind).parameters if key not in _ASIDE}


def _defaults(measured: Iterable[str]) -> list[_Metric]:
    losses: dict[str, list[Loss]] = {
        "images": [
            label.SumSquaredDifference(),
            image.GlobalNormalizedCrossCorrelation(),
            image.LocalNormalizedCrossCorrelation(),
            image.GlobalMutualInformation(),
        ],
        "labels": [label.DiceScore(binary=True), label.JaccardIndex(binary=True)],
        "field": [deform.GradientNorm(), deform.BendingEnergy()],
    }
    return [_Metric(loss, {}, (group,), required=False) for group in measured for loss in losses[group]]


@dataclass(frozen=True)
class Series:
    """What `evaluate_pair` computes by one metric: a value, or one for each label and their mean.

    Attributes
    ----------
    metric, arguments, measured, unit
        As in `Record`.
    """

    metric: str
    arguments: Mapping[str, Any]
    measured: str
    unit: str


def planned(
    losses: Sequence[str | Loss], given: Sequence[str], *, ddf_units: str = "voxel", affine_tol: float = 1e-3
) -> tuple[Series, ...]:
    """Return what `evaluate_pair` would compute, in its order, without reading a file.

    Parameters
    ----------
    losses, ddf_units, affine_tol
        As `evaluate_pair` takes them.
    given
        What there is: ``"images"``, then ``"labels"`` and ``"field"`` or either.

    Raises
    ------
    InputError
        If an option is wrong, or a loss does not fit what is given.
    """
    asked = _asked(losses, given, ddf_units, affine_tol)
    chosen = asked or _defaults(given)
    series = []
    for measured in given:
        series += [Series(one.name, one.arguments, measured, "") for one in chosen if measured in one.measures]
        if measured == "labels" and not asked:
            series.append(Series(CENTROID_DISTANCE, {}, measured, "mm"))
    return tuple(series)


def _asked(losses: Sequence[str | Loss], given: Sequence[str], ddf_units: str, affine_tol: float) -> list[_Metric]:
    if ddf_units not in ("voxel", "mm"):
        raise InputError(f"The units of a ddf are 'voxel' or 'mm', got {ddf_units!r}.")
    if not affine_tol >= 0:
        raise InputError(f"The tolerance of affines must be 0 or more voxels, got {affine_tol}.")
    metrics = [_build(asked) for asked in losses]
    _check_fit(metrics, given)
    return metrics


# --- inputs -----------------------------------------------------------------------------------------------------------


class _Pair:
    """The files of one evaluation: opened, compared, then read."""

    def __init__(
        self, sources: Mapping[str, Any], scale: bool, in_mm: bool, tolerance: float | None, max_voxels: int
    ) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.inputs: list[Input] = []
        self.data: dict[str, Array] = {}
        volumes = [
            open_volume(source, role, components=3 if role == "ddf" else 0, max_voxels=max_voxels)
            for role, source in sources.items()
            if source is not None
        ]
        # Every header is compared before the first voxel is read.
        self.fixed = volumes[0]
        differences = [self._compare(volume, tolerance) for volume in volumes]
        for volume, difference in zip(volumes, differences, strict=True):
            self._read(volume, difference, scale, in_mm)
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
            self.notes.append(f"one {_FLAT[dims]}: evaluated as {dims}-D.")

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

    def _read(self, volume: Volume, difference: GridDifference, scale: bool, in_mm: bool) -> None:
        intensities, labels = None, None
        if volume.role.endswith("image"):
            self.data[volume.role], intensities = read_image(volume, scale)
            self._describe(volume, intensities)
        elif volume.role.endswith("label"):
            self.data[volume.role], labels, warning = read_labels(volume)
            self.warnings += [warning] if warning else []
            if len(labels) > MANY_LABELS:
                self.warnings.append(
                    f"{volume} holds {len(labels)} values, each taken for a label; an image or a probability map looks "
                    "like this: threshold it first if it is one."
                )
        else:
            self.data[volume.role] = read_field(volume, in_mm)
            self.notes.append(f"ddf read in {'mm, divided by the voxel size of each axis' if in_mm else 'voxels'}.")
            if len(volume.axes) < volume.components:
                along = " and ".join(str(axis) for axis in volume.axes)
                self.notes.append(f"ddf: its components along the array axes {along} count; across them it is 0.")
        stored_as = str(volume.data.dtype)
        self.inputs.append(
            Input(volume.role, volume.name, volume.shape, volume.voxel_size, stored_as, difference, intensities, labels)
        )

    def _describe(self, volume: Volume, found: Intensities) -> None:
        low, high = f"{found.minimum:.9g}", f"{found.maximum:.9g}"
        if not found.scaled:
            how = f"not scaled; its range is [{low}, {high}]."
        elif found.minimum == found.maximum:
            how = f"constant, {low}: set to 0."
        else:
            how = f"scaled from [{low}, {high}] to [0, 1]."
        self.notes.append(f"{volume.role} {how}")
        if found.not_finite:
            self.warnings.append(f"{volume} has {found.not_finite} voxels that are NaN or infinite; they stay so.")

    def labels(self) -> tuple[int, ...]:
        """Return every label of either map but the background, and note what is left out and what is absent."""
        values = {entry.role: set(entry.labels or ()) for entry in self.inputs}
        fixed, moved = values["fixed label"] - {BACKGROUND}, values["moved label"] - {BACKGROUND}
        if not fixed | moved:
            raise InputError(f"The label maps hold nothing but the background, {BACKGROUND}.")
        self.notes.append(f"background label {BACKGROUND} left out.")
        for absent, role in ((moved - fixed, "fixed"), (fixed - moved, "moved")):
            if absent:
                listed = ", ".join(str(value) for value in sorted(absent)[:10])
                more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
                self.warnings.append(
                    f"absent from the {role} label map: {listed}{more}. Overlap there is 0 but for smoothing; a "
                    "distance of centroids is undefined and left out of the mean."
                )
        return tuple(sorted(fixed | moved))


# --- computing --------------------------------------------------------------------------------------------------------


class _Computer:
    """Computes metrics on one backend and device, and times them."""

    def __init__(self, name: str, device: str | None) -> None:
        try:
            self.backend: Backend = get_backend(name)
        except (BackendNotAvailableError, ValueError) as error:
            raise InputError(one_line(error)) from error
        self.wanted = device
        try:
            probe = self.take(np.zeros((1,), dtype=np.float32))
        except Exception as error:  # Each framework has its own for a device that it does not know or have.
            cannot = "cannot be used here" if device is None else f"cannot use the device {device!r}"
            raise InputError(f"The backend {name} {cannot}: {one_line(error)}") from error
        self.device = str(self.backend.device(probe))

    def take(self, array: Array) -> Array:
        """Return a NumPy array as one of the backend, on the device."""
        return self.backend.from_numpy(array, device=self.wanted)

    def value(self, function: Callable[..., Array], *arrays: Array) -> tuple[float, float]:
        """Return the value for the one sample in ``arrays``, and the seconds that it took."""
        start = time.perf_counter()
        with np.errstate(all="ignore"):  # NaN in, NaN out: the value says it.
            result = np.asarray(self.backend.to_numpy(function(*arrays)))
        return float(result.reshape(-1)[0]), time.perf_counter() - start

    def record(self, metric: _Metric, measured: str, which: int | None, *arrays: Array) -> Record:
        """Compute one metric."""
        loss = metric.loss
        value, seconds = self.value(loss.call, *arrays)
        return Record(
            metric.name,
            metric.arguments,
            measured,
            which,
            value,
            "",
            (loss.value_range[0] + 0.0, loss.value_range[1] + 0.0),  # No negative zeros.
            loss.direction,
            loss.identity_value,
            seconds,
            self.backend.name,
        )

    def centroid_distance(self, fixed: Array, moved: Array, which: int, spacing: Sequence[float]) -> Record:
        """Compute the distance of a label's centroids in mm, NaN where it is absent from one map."""
        value, seconds = math.nan, 0.0
        if fixed.any() and moved.any():
            box = _bounding_box(fixed | moved)
            ticks = (np.arange(part.start, part.stop) * size for part, size in zip(box, spacing, strict=True))
            grid = np.stack(np.meshgrid(*(tick.astype(np.float32) for tick in ticks), indexing="ij"), axis=-1)
            arrays = (self.take(np.ascontiguousarray(x)[None]) for x in (fixed[box], moved[box], grid))
            value, seconds = self.value(label.compute_centroid_distance, *arrays)
        stated = ("mm", (0.0, math.inf), "lower", 0.0)
        return Record(CENTROID_DISTANCE, {}, "labels", which, value, *stated, seconds, self.backend.name)


def _bounding_box(mask: Array) -> tuple[slice, ...]:
    axes = range(mask.ndim)
    ranges = (np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in ranges)


def _mean(records: Sequence[Record]) -> Record:
    values = [record.value for record in records]
    if records[0].metric == CENTROID_DISTANCE:  # Undefined where a label is absent from one map.
        values = [value for value in values if not math.isnan(value)]
    mean = math.fsum(values) / len(values) if values else math.nan
    return Record(**{**vars(records[0]), "label": "mean", "value": mean, "seconds": None})


def check_backend(name: str, device: str | None) -> None:
    """Raise InputError where a backend cannot be used here, or not on this device; its framework is imported."""
    _Computer(name, device)


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
    max_voxels: int = MAX_VOXELS,
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
    max_voxels
        The most voxels that an input may have.

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
    given = ("images",) + ("labels",) * (fixed_label is not None) + ("field",) * (ddf is not None)
    metrics = _asked(losses, given, ddf_units, affine_tol)
    sources = {
        "fixed image": fixed,
        "moved image": moved,
        "fixed label": fixed_label,
        "moved label": moved_label,
        "ddf": ddf,
    }
    if isinstance(max_voxels, bool) or not isinstance(max_voxels, int) or max_voxels < 1:
        raise InputError(f"The most voxels of an input must be an integer of 1 or more, got {max_voxels!r}.")
    pair = _Pair(sources, scale, ddf_units == "mm", None if ignore_affine else affine_tol, max_voxels)
    chosen = [metric.of(pair.fixed) for metric in metrics or _defaults(given)]
    # A framework is imported last: what is wrong with the files is said at once, and without what it logs.
    computer = _Computer(backend, device)
    records = _compute(pair, computer, chosen, centroids=not metrics)
    return Evaluation(
        tuple(records),
        tuple(pair.inputs),
        computer.backend.name,
        computer.device,
        _versions(computer.backend.name),
        None if ignore_affine else affine_tol,
        tuple(pair.notes),
        tuple(pair.warnings),
    )


def _check_fit(metrics: Sequence[_Metric], given: Sequence[str]) -> None:
    needs = {"labels": "--fixed-label and --moved-label", "field": "--ddf"}
    for metric in metrics:
        if not set(metric.measures) & set(given):
            raise InputError(f"{metric.name} needs {' or '.join(needs[kind] for kind in metric.measures)}.")


def _compute(pair: _Pair, computer: _Computer, metrics: Sequence[_Metric], centroids: bool) -> list[Record]:
    records: list[Record] = []
    if any("images" in metric.measures for metric in metrics):
        arrays = [computer.take(pair.data.pop(f"{which} image")[None]) for which in ("fixed", "moved")]
        _note_clipping(pair, metrics)
        records += _each(pair, computer, metrics, "images", None, *arrays)
        del arrays
    if "fixed label" in pair.data and any("labels" in metric.measures for metric in metrics):
        records += _label_records(pair, computer, metrics, centroids)
    if "ddf" in pair.data and any("field" in metric.measures for metric in metrics):
        records += _each(pair, computer, metrics, "field", None, computer.take(pair.data.pop("ddf")[None]))
    return records


def _note_clipping(pair: _Pair, metrics: Sequence[_Metric]) -> None:
    ranges = [entry.intensities for entry in pair.inputs if entry.intensities is not None]
    beyond = any(not found.scaled and (found.minimum < 0 or found.maximum > 1) for found in ranges)
    for metric in metrics:
        if beyond and isinstance(metric.loss, image.GlobalMutualInformation):
            pair.warnings.append(f"{metric.name} clips intensities to [0, 1], and these reach beyond.")


def _each(
    pair: _Pair, computer: _Computer, metrics: Sequence[_Metric], measured: str, which: int | None, *arrays: Array
) -> list[Record]:
    records = []
    for metric in metrics:
        if measured not in metric.measures:
            continue
        try:
            records.append(computer.record(metric, measured, which, *arrays))
        except ValueError as error:
            if metric.required:
                raise InputError(f"{metric.name}: {one_line(error)}") from error
            pair.notes.append(f"{metric.name} left out: {one_line(error)}")
        except Exception as error:  # A device that runs out of memory, say: each framework has its own class for it.
            why = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"{metric.name} failed on {computer.backend.name}: {why}") from error
    return records


def _label_records(pair: _Pair, computer: _Computer, metrics: Sequence[_Metric], centroids: bool) -> list[Record]:
    columns: list[list[Record]] = []
    for which in pair.labels():
        # One label at a time: two masks are held, never one for each label.
        fixed, moved = pair.data["fixed label"] == which, pair.data["moved label"] == which
        row = _each(pair, computer, metrics, "labels", which, *(computer.take(mask[None]) for mask in (fixed, moved)))
        if centroids:
            row.append(computer.centroid_distance(fixed, moved, which, pair.fixed.along(pair.fixed.voxel_size)))
        columns.append(row)
    return [record for column in zip(*columns, strict=True) for record in (*column, _mean(column))]


def _versions(backend: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("agnoreg", "numpy", "nibabel"):
        found[package] = version(package)
    framework = getattr(sys.modules.get(backend), "__version__", None)
    return found | ({backend: str(framework)} if framework else {})


# --- files ------------------------------------------------------------------------------------------------------------


def to_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON text.

    JSON has no NaN and no infinity: both are null, so that a null value is undefined and a null end of a range is
    unbounded.
    """
    content = {
        "versions": dict(evaluation.versions),
        "backend": evaluation.backend,
        "device": evaluation.device,
        "affine_tolerance": evaluation.affine_tolerance,
        "inputs": [_input_entry(entry) for entry in evaluation.inputs],
        "metrics": [{**vars(record), "arguments": dict(record.arguments)} for record in evaluation.records],
        "notes": evaluation.notes,
        "warnings": evaluation.warnings,
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _input_entry(entry: Input) -> dict[str, Any]:
    content = {**vars(entry), "grid_difference": vars(entry.grid_difference)}
    for name in ("intensities", "labels"):
        found = content.pop(name)
        if found is not None:
            content[name] = vars(found) if isinstance(found, Intensities) else found
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def to_csv(evaluation: Evaluation) -> str:
    """Return the records as CSV text, one row each, after a row of names; NaN and infinity are ``nan`` and ``inf``."""
    text = io.StringIO()
    rows = [_row(record) for record in evaluation.records]
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(record: Record) -> dict[str, Any]:
    row = {**vars(record), "arguments": json.dumps(dict(record.arguments)) if record.arguments else ""}
    low, high = row.pop("value_range")
    return {**row, "range_low": low, "range_high": high}


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise InputError where a file could not be written, or would take the place of an input or of another output."""
    for index, output in enumerate(outputs):
        taken = {path.resolve(): "an input" for path in inputs} | {
            path.resolve(): "written twice" for path in outputs[:index]
        }
        why = taken.get(output.resolve(), "")
        if output.exists() and not output.is_file():
            why = "a folder" if output.is_dir() else "no regular file"
        elif not output.parent.is_dir():
            why = f"in a folder that does not exist, {output.parent}"
        elif not os.access(output.parent, os.W_OK):
            why = f"in a folder that is read-only, {output.parent}"
        if why:
            raise InputError(f"{output} cannot be written: it is {why}.")


def write_files(contents: Mapping[Path, str]) -> None:
    """Write text files, each whole or not at all.

    Raises
    ------
    InputError
        If one cannot be written; files that exist are as they were.
    """
    try:
        write_whole(contents)
    except OSError as error:
        raise InputError(f"Cannot write {', '.join(str(path) for path in contents)}: {one_line(error)}") from error
