"""What an evaluation returns: plain records, and how they are written to files."""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnoreg.evaluate.landmarks import Landmark
from agnoreg.evaluate.nifti import GridDifference, InputError, Intensities
from agnoreg.files import hidden, one_line, write_whole
from agnoreg.messages import named

__all__ = ["Evaluation", "Input", "Record", "check_outputs", "to_csv", "to_json", "write_files"]


@dataclass(frozen=True)
class Record:
    """One metric's value.

    Attributes
    ----------
    metric
        The class's name, or the function's.
    arguments
        The arguments that were asked for, and those of the command's own defaults; the others are the class's.
    measured
        ``"images"``, ``"labels"``, ``"field"`` or ``"landmarks"``.
    label
        The label's value, ``"mean"`` for the mean over labels, None where no label map is measured.
    value
        The value, in its natural sign; NaN where it is undefined.
    unit
        ``"mm"`` for a distance, ``"1/mm^2"`` for a bending energy in mm; empty where the value has none.
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
    title
        What the field calls the metric, for a table: ``"LNCC"``, ``"Pearson's r"``.
    label_name
        The label's name; empty where it has none.
    counted
        Over how many voxels the value was computed: those that the masks leave, for LNCC by the convention
        ``"exact"`` those whose window is not flat. None for a mean over labels.
    before
        The value before the registration, of the moving image, label map or landmarks; None where there is none.
    definition
        What the number is, in a sentence: the formula, and whose definition where a convention was named.
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
    title: str = ""
    label_name: str = ""
    counted: int | None = None
    before: float | None = None
    definition: str = ""


@dataclass(frozen=True)
class Input:
    """What was read from one file.

    Attributes
    ----------
    role
        ``"fixed image"``, ``"moved image"``, ``"fixed label"``, ``"moved label"``, ``"ddf"``, ``"mask"``,
        ``"fixed mask"`` or ``"moving mask"``; ``"moved image before"`` or ``"moved label before"``.
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
    landmarks
        The error of each landmark; empty where none were given.
    """

    records: tuple[Record, ...]
    inputs: tuple[Input, ...]
    backend: str
    device: str
    versions: Mapping[str, str]
    affine_tolerance: float | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    landmarks: tuple[Landmark, ...] = ()

    def _repr_html_(self) -> str:
        """Return a plain table, which notebooks show."""
        from agnoreg.evaluate.report.notebook import plain_table

        return plain_table(self)


# --- files ------------------------------------------------------------------------------------------------------------


def to_json(evaluation: Evaluation) -> str:
    """Return an evaluation as JSON text.

    JSON has no NaN and no infinity: both are null. ``infinite`` lists which of ``value`` and ``before`` are infinite;
    another null value is undefined, and a null end of a range is unbounded.
    """
    content = {
        "versions": dict(evaluation.versions),
        "backend": evaluation.backend,
        "device": evaluation.device,
        "affine_tolerance": evaluation.affine_tolerance,
        "inputs": [_input_entry(entry) for entry in evaluation.inputs],
        "metrics": [_metric_entry(record) for record in evaluation.records],
        "landmarks": [vars(landmark) for landmark in evaluation.landmarks],
        "notes": evaluation.notes,
        "warnings": evaluation.warnings,
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _metric_entry(record: Record) -> dict[str, Any]:
    numbers = {"value": record.value, "before": record.before}
    infinite = [name for name, value in numbers.items() if value is not None and math.isinf(value)]
    return {**vars(record), "arguments": dict(record.arguments), "infinite": infinite}


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
        if reason := hidden(output):
            raise InputError(f"{named(output)} cannot be written: {reason}.")
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
