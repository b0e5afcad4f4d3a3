"""The table of structures: each label's values before and after, how many there are, and which are missed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.records import Evaluation, Record
from agnoreg.evaluate.report.case import Case
from agnoreg.evaluate.report.drawing import BEFORE, FIXED, MOVED, Picture
from agnoreg.evaluate.report.orientation import Plane
from agnoreg.evaluate.report.pictures import Slices
from agnoreg.evaluate.report.places import worst_slices
from agnoreg.evaluate.report.verdicts import number, unit_text

Array = Any

#: What judges which label is worst, the first of them that is there.
JUDGES = ("Dice", "NSD", "HD95", "MASD", "ASSD", "Jaccard", "centroid distance")


@dataclass(frozen=True)
class Cell:
    """A value of one label.

    Attributes
    ----------
    before, after
        As they are printed; ``before`` may be empty.
    bar, mark
        The shares of a bar that are filled and marked, after and before; None where the metric has no greatest value.
    """

    before: str
    after: str
    bar: float | None
    mark: float | None


@dataclass(frozen=True)
class Structure:
    """A label: number, name, voxels in the fixed map, state (``"missed"``, ``"false alarm"`` or empty), cells."""

    label: int
    name: str
    voxels: int
    state: str
    cells: list[Cell | None]

    @property
    def title(self) -> str:
        """Its number and its name."""
        return f"{self.label} {self.name}".strip()


@dataclass(frozen=True)
class Structures:
    """All labels.

    Attributes
    ----------
    columns
        Titles and units of what was measured.
    rows
        The labels, the worst one first.
    judge
        By which column that is.
    positives, negatives, missed, false_alarms
        N+, how many labels the fixed map has; N0, how many it lacks; of those how many the moved map lacks, or has.
    """

    columns: list[tuple[str, str]]
    rows: list[Structure]
    judge: str
    positives: int
    negatives: int
    missed: int
    false_alarms: int


def structures(evaluation: Evaluation, case: Case) -> Structures | None:
    """Return the labels of an evaluation; None where there are none."""
    single = [record for record in evaluation.records if isinstance(record.label, int)]
    if not single or case.fixed_label is None or case.moved_label is None:
        return None
    # What judges comes first, then the others in their order.
    columns = list(dict.fromkeys(_column(record) for record in single))
    columns.sort(key=lambda column: JUDGES.index(column[0]) if column[0] in JUDGES else len(JUDGES))
    found: dict[int, dict[Any, Record]] = {}
    for record in single:
        assert isinstance(record.label, int)
        found.setdefault(record.label, {})[_column(record)] = record
    fixed, moved = (_voxels(case, labels) for labels in (case.fixed_label, case.moved_label))
    rows = []
    for label, records in found.items():
        state = "" if label in moved and label in fixed else "missed" if label in fixed else "false alarm"
        name = next(iter(records.values())).label_name
        cells = [_cell(records.get(column)) for column in columns]
        rows.append(Structure(label, name, fixed.get(label, 0), state, cells))
    judge = next((column for title in JUDGES for column in columns if column[0] == title), columns[0])
    rows.sort(key=lambda row: _badness(found[row.label].get(judge)), reverse=True)
    states = [row.state for row in rows]
    negatives = states.count("false alarm")
    return Structures(
        [(title, unit_text(unit)) for title, unit, _ in columns],
        rows,
        judge[0],
        len(rows) - negatives,
        negatives,
        states.count("missed"),
        negatives,
    )


def _column(record: Record) -> tuple[str, str, str]:
    return record.title or record.metric, record.unit, str(dict(record.arguments))


def _voxels(case: Case, labels: Array) -> dict[int, int]:
    counts = case.counts.get("labels")
    values, numbers = np.unique(labels if counts is None else labels[counts], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, numbers, strict=True)}


def _badness(record: Record | None) -> float:
    """Return how bad a label is; an undefined value is the worst."""
    if record is None or math.isnan(record.value):
        return math.inf
    return record.value if record.direction == "lower" else -record.value


def _cell(record: Record | None) -> Cell | None:
    if record is None:
        return None
    before = "" if record.before is None else number(record, record.before)
    share = record.value_range == (0.0, 1.0)
    bar = _share(record.value) if share else None
    mark = _share(record.before) if share and record.before is not None else None
    return Cell(before, number(record, record.value), bar, mark)


def _share(value: float) -> float | None:
    return round(100 * value, 1) if math.isfinite(value) else None


# --- the worst one ----------------------------------------------------------------------------------------------------


def worst_label(slices: Slices, label: int, name: str) -> tuple[list[Picture], tuple[int, int, int]]:
    """Return the outlines of a label in each plane, where the two maps differ most, and where that is."""
    case = slices.case
    assert case.fixed_label is not None
    assert case.moved_label is not None
    fixed, moved = (case.counted("labels", labels == label) for labels in (case.fixed_label, case.moved_label))
    apart = fixed != moved
    places = worst_slices(apart if apart.any() else fixed)
    before = None if case.before_label is None else case.before_label == label
    return [
        _outlined(slices, plane, places[plane.normal], (fixed, moved, before), name) for plane in case.planes
    ], places


def _outlined(slices: Slices, plane: Plane, index: int, masks: tuple[Array, Array, Array | None], name: str) -> Picture:
    figure = slices.on_image(plane, index, brightness=0.8)
    fixed, moved, before = masks
    if before is not None:
        figure.outline(_padded(plane.cut(before, index)), 0.5, BEFORE, 1.2, "dotted")
    figure.outline(_padded(plane.cut(fixed, index)), 0.5, FIXED, 1.5)
    figure.outline(_padded(plane.cut(moved, index)), 0.5, MOVED, 1.5)
    return figure.picture(f"Outlines of {name} in the fixed and the moved label map, {slices.where(plane, index)}.")


def _padded(mask: Array) -> Array:
    return mask.astype(np.float32)
