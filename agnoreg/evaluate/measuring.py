"""Metrics of images, labels and a field that were read, on one backend, over the voxels that count."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agnoreg.backend import Backend, BackendNotAvailableError, get_backend
from agnoreg.evaluate.field_quantities import FieldQuantities
from agnoreg.evaluate.label_records import label_records, series_of
from agnoreg.evaluate.landmarks import Landmark
from agnoreg.evaluate.metric import HEADER, Metric
from agnoreg.evaluate.metrics import EXACT
from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.own_definitions import differing
from agnoreg.evaluate.quantity import Quantity
from agnoreg.evaluate.records import Record
from agnoreg.files import one_line
from agnoreg.loss import image, label
from agnoreg.objects.loss import Loss

if TYPE_CHECKING:
    from agnoreg.evaluate.inputs import PairInputs

Array = Any


class Computer:
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

    def value(self, function: Callable[..., Array], *arrays: Array, **keywords: Array) -> tuple[float, float]:
        """Return the value for the one sample in ``arrays``, and the seconds that it took."""
        start = time.perf_counter()
        with np.errstate(all="ignore"):  # NaN in, NaN out: the value says it.
            result = np.asarray(self.backend.to_numpy(function(*arrays, **keywords)))
        return float(result.reshape(-1)[0]), time.perf_counter() - start

    def centroid_distance(self, fixed: Array, moved: Array, spacing: Sequence[float]) -> tuple[float, float]:
        """Return the distance of a label's centroids in mm, NaN where it is absent from one map, and the seconds."""
        if not (fixed.any() and moved.any()):
            return math.nan, 0.0
        box = _bounding_box(fixed | moved)
        ticks = (np.arange(part.start, part.stop) * size for part, size in zip(box, spacing, strict=True))
        grid = np.stack(np.meshgrid(*(tick.astype(np.float32) for tick in ticks), indexing="ij"), axis=-1)
        arrays = (self.take(np.ascontiguousarray(x)[None]) for x in (fixed[box], moved[box], grid))
        return self.value(label.compute_centroid_distance, *arrays)


def _bounding_box(mask: Array) -> tuple[slice, ...]:
    axes = range(mask.ndim)
    ranges = (np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(hit[0]), int(hit[-1]) + 1) for hit in ranges)


def compute(
    pair: "PairInputs",
    computer: Computer,
    metrics: Sequence[Metric | Quantity],
    names: Mapping[int, str],
    say: Callable[[str], None] = lambda text: None,
) -> list[Record]:
    """Compute metrics of a pair, images first, then labels, each by its name, the field, and landmarks."""

    def on(kind: str) -> list[Metric]:
        return [one for one in metrics if kind in one.measures and isinstance(one, Metric)]

    records: list[Record] = []
    if images := on("images"):
        say("images")
        _note_clipping(pair, images)
        records += _image_records(pair, computer, images)
    labels = [one for one in metrics if "labels" in one.measures]
    if labels and "fixed label" in pair.data:
        say("labels")
        records += label_records(pair, Measuring(pair, computer, "labels"), labels, names)
    field = [one for one in metrics if "field" in one.measures]
    landmarks = [one for one in metrics if "landmarks" in one.measures]
    quantities = FieldQuantities(pair, computer)
    if field and "ddf" in pair.data:
        say("field")
        records += _field_records(pair, quantities, field)
    if landmarks and pair.landmarks is not None:
        records += _landmark_records(pair, quantities, landmarks)
    pair.notes += differing(pair.compared)
    return records


def with_before(records: Sequence[Record], before: Sequence[Record]) -> list[Record]:
    """Return records with the values of the same metrics and labels before the registration."""
    values = {_key(record): record.value for record in before}
    return [replace(record, before=values.get(_key(record), record.before)) for record in records]


def _key(record: Record) -> tuple[Any, ...]:
    return *series_of(record), record.label


class Measuring:
    """Measures images, labels or a field over the voxels that count there."""

    def __init__(self, pair: "PairInputs", computer: Computer, measured: str) -> None:
        self.pair, self.computer, self.measured = pair, computer, measured
        counts = pair.counts(measured)
        self.counted = math.prod(pair.fixed.shape) if counts is None else int(np.count_nonzero(counts))
        self.mask = {} if counts is None else {"mask": computer.take(counts[None])}

    def records(self, metric: Metric, *arrays: Array, **said: Any) -> list[Record]:
        """Compute one metric: its record, or none where it does not fit and nobody asked for it."""
        assert metric.loss is not None
        try:
            value, seconds = self.computer.value(metric.loss.call, *arrays, **self.mask)
        except ValueError as error:
            self.left_out(metric, error)
            return []
        except Exception as error:  # A device that runs out of memory, say: each framework has its own class for it.
            raise self.failed(metric, error) from error
        return [self.record(metric, value, seconds, **said)]

    def of_quantity(self, quantities: FieldQuantities, quantity: Quantity) -> list[Record]:
        """Return the record of a field or of landmarks; none where it does not fit and nobody asked for it."""
        try:
            value, seconds = quantities.value(quantity)
            before, found = quantities.before(quantity), quantities.found(quantity)[0]
        except (ImportError, ValueError) as error:
            self.left_out(quantity, error)
            return []
        except Exception as error:
            raise self.failed(quantity, error) from error
        counted = quantities.count(getattr(found, "voxels", None))
        return [replace(self.record(quantity, value, seconds), before=before, counted=counted)]

    def left_out(self, metric: Metric | Quantity, error: Exception) -> None:
        """Note that a metric does not fit, once for all that have the same reason; raise where it was asked for."""
        if metric.required:
            raise InputError(f"{metric.name}: {one_line(error)}") from error
        why = f" left out: {one_line(error)}"
        name = metric.title if isinstance(metric, Quantity) else metric.name
        notes = self.pair.notes
        same = next((place for place, note in enumerate(notes) if note.endswith(why)), None)
        if same is None:
            notes.append(f"{name}{why}")
        else:
            notes[same] = f"{notes[same].removesuffix(why)}, {name}{why}"

    def failed(self, metric: Metric | Quantity, error: Exception) -> InputError:
        """Return the error of a metric that could not be computed."""
        why = f"{type(error).__name__}: {one_line(error)}"
        return InputError(f"{metric.name} failed on {self.computer.backend.name}: {why}")

    def flat(self, loss: Loss | None, *arrays: Array) -> int:
        """Return how many windows do not count in local correlation, as one of the images is flat there."""
        if not (isinstance(loss, image.LocalNormalizedCrossCorrelation) and loss.convention == EXACT):
            return 0
        if loss.flat_value is not None:
            return 0
        with np.errstate(all="ignore"):
            values = self.computer.backend.to_numpy(loss.calc_ncc(*arrays, **self.mask))
        return self.counted - int(np.count_nonzero(~np.isnan(values)))

    def record(
        self, metric: Metric | Quantity, value: float, seconds: float, label: int | None = None, label_name: str = ""
    ) -> Record:
        """Return what is said of a value."""
        return Record(
            metric=metric.name,
            arguments=metric.arguments,
            measured=self.measured,
            label=label,
            value=value,
            unit=metric.unit,
            value_range=metric.value_range,
            direction=metric.direction,
            identity_value=metric.identity_value,
            seconds=seconds,
            backend=self.computer.backend.name,
            title=metric.title,
            label_name=label_name,
            counted=self.counted,
            definition=metric.definition,
        )


def _note_clipping(pair: "PairInputs", metrics: Sequence[Metric]) -> None:
    ranges = [entry.intensities for entry in pair.inputs if entry.intensities is not None]
    beyond = any(not found.scaled and (found.minimum < 0 or found.maximum > 1) for found in ranges)
    for metric in metrics:
        if metric.rescale and not pair.scaled:
            pair.notes.append(f"{metric.name}: each image scaled from its range to [0, 1].")
        elif beyond and isinstance(metric.loss, image.GlobalMutualInformation):
            pair.warnings.append(
                f"{metric.name} clips intensities to [0, 1], and these reach beyond: rescale=true scales them."
            )


def _image_records(pair: "PairInputs", computer: Computer, metrics: Sequence[Metric]) -> list[Record]:
    images = Measuring(pair, computer, "images")
    arrays: dict[bool, list[Array]] = {}
    records = []
    for metric in metrics:
        rescale = metric.rescale and not pair.scaled
        if rescale not in arrays:
            arrays[rescale] = [computer.take(array[None]) for array in pair.images(rescale)]
        found = images.records(metric, *arrays[rescale])
        if found and math.isfinite(found[0].value) and (flat := images.flat(metric.loss, *arrays[rescale])):
            found = [replace(found[0], counted=images.counted - flat)]
            pair.notes.append(f"{metric.title}: {flat} of {images.counted} windows are flat in an image and left out.")
        records += found
    for role in ("fixed image", "moved image"):
        del pair.data[role]
    return records


def _field_records(
    pair: "PairInputs", quantities: FieldQuantities, metrics: Sequence[Metric | Quantity]
) -> list[Record]:
    computer = quantities.computer
    field = Measuring(pair, computer, "field")
    ddf, sizes = pair.data["ddf"], pair.fixed.voxel_size
    records: list[Record] = []
    units, array = None, None
    for metric in metrics:
        if isinstance(metric, Quantity):
            records += field.of_quantity(quantities, metric)
            continue
        # Displacements are in the unit of the spacing: voxels where that is 1.
        if metric.spacing != units:
            units = metric.spacing
            array = computer.take((ddf if set(units) == {1.0} else ddf * np.asarray(units, np.float32))[None])
        records += field.records(metric, array)
    _note_fields(quantities, [one for one in metrics if isinstance(one, Quantity)], records)
    if any(metric.in_mm for metric in metrics if isinstance(metric, Metric)):
        by = " x ".join(f"{size:.4g}" for size in sizes)
        pair.notes.append(f"spacing={HEADER}: displacements in mm, voxels of {by} mm; spacing=1 is for voxels.")
    return records


def _note_fields(quantities: FieldQuantities, metrics: Sequence[Quantity], records: Sequence[Record]) -> None:
    """Note how many voxels a logarithm leaves out; compute what has a convention by agnoreg's own definition, too."""
    there = {(record.metric, str(record.arguments)): record for record in records}
    for metric in metrics:
        record = there.get((metric.name, str(metric.arguments)))
        if record is None:
            continue
        if metric.name == "sdlogj" and (count := quantities.count(quantities.found(metric)[0].left_out)):
            text = f"SDlogJ: {count} of {record.counted} voxels left out, where det(J) is at most 0."
            quantities.pair.notes.append(text)
        if metric.convention is not None:
            quantities.pair.compared.append((metric, [record], [quantities.value(metric.own)[0]]))


def _landmark_records(
    pair: "PairInputs", quantities: FieldQuantities, metrics: Sequence[Metric | Quantity]
) -> list[Record]:
    measuring = Measuring(pair, quantities.computer, "landmarks")
    wanted = [metric for metric in metrics if isinstance(metric, Quantity)]
    records = [record for metric in wanted for record in measuring.of_quantity(quantities, metric)]
    assert pair.landmarks is not None
    records = [replace(record, counted=len(pair.landmarks[0])) for record in records]
    if not records:
        return []
    _note_fields(quantities, wanted, records)
    found = quantities.found(wanted[0])[0]
    distances, before, outside = (
        np.asarray(quantities.computer.backend.to_numpy(values)).reshape(-1)
        for values in (found.distances, found.before.distances, found.outside)
    )
    pair.errors = tuple(
        Landmark(tuple(map(float, fixed)), tuple(map(float, moving)), float(after), float(first), bool(out))
        for fixed, moving, after, first, out in zip(*pair.landmarks, distances, before, outside, strict=True)
    )
    if "ddf" not in pair.data:
        pair.notes.append("TRE: there is no field, so that landmarks are compared as they are.")
    if count := int(np.count_nonzero(outside)):
        first = ", ".join(str(place + 1) for place in np.flatnonzero(outside)[:5])
        pair.warnings.append(
            f"{count} of {len(outside)} fixed landmarks lie outside the image (number {first}). They count, by the "
            "field at the nearest voxel; landmarks in mm need --landmark-units mm."
        )
    return records
