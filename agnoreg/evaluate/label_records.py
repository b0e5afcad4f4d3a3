"""The records of label maps: each metric of every label, the mean over labels, and what a mean leaves out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agnoreg.evaluate.label_quantities import LabelQuantities
from agnoreg.evaluate.metric import CENTROID_DISTANCE, Metric
from agnoreg.evaluate.quantities import QUANTITIES
from agnoreg.evaluate.quantity import Quantity
from agnoreg.evaluate.records import Record

if TYPE_CHECKING:
    from agnoreg.evaluate.inputs import PairInputs
    from agnoreg.evaluate.measuring import Measuring


def label_records(
    pair: "PairInputs", measuring: "Measuring", metrics: Sequence[Metric | Quantity], names: Mapping[int, str]
) -> list[Record]:
    """Return the records of metrics of labels, each with a mean, and note what there is to know of these."""
    labels = pair.labels()
    if names and not set(labels) & set(names):
        pair.warnings.append("--label-names has no name for any of the labels.")
    # One label at a time: two masks are held, never one for each label.
    by_loss = [metric for metric in metrics if isinstance(metric, Metric)]
    rows = [_of_label(pair, measuring, by_loss, which) for which in labels]
    quantities = LabelQuantities(pair, measuring.computer, labels)
    records: list[Record] = []
    for metric in metrics:
        if isinstance(metric, Metric):
            place = by_loss.index(metric)
            column = [record for row in rows if (record := row[place]) is not None]
        else:
            column = _of_quantity(quantities, measuring, metric)
        column = [
            replace(one, label_name=names.get(which, "")) for one in column if isinstance(which := one.label, int)
        ]
        records += [*column, _mean(column)] if column else []
    _note_missing(pair, records)
    _compare_definitions(quantities, [one for one in metrics if isinstance(one, Quantity)], records)
    return records


def _of_label(pair: "PairInputs", measuring: "Measuring", metrics: Sequence[Metric], which: int) -> list[Record | None]:
    """Return the record of one label by each loss; None for one that does not fit."""
    computer, counts = measuring.computer, pair.counts("labels")
    fixed, moved = pair.data["fixed label"] == which, pair.data["moved label"] == which
    arrays = [computer.take(mask[None]) for mask in (fixed, moved)] if metrics else []
    row: list[Record | None] = []
    for metric in metrics:
        if metric.loss is not None:
            row.append(next(iter(measuring.records(metric, *arrays, label=which)), None))
            continue
        inside = (fixed, moved) if counts is None else (fixed & counts, moved & counts)
        found = computer.centroid_distance(*inside, pair.fixed.along(pair.fixed.voxel_size))
        row.append(measuring.record(metric, *found, which))
    return row


def _of_quantity(quantities: LabelQuantities, measuring: "Measuring", quantity: Quantity) -> list[Record]:
    """Return the records of all labels; none where it does not fit, or lacks a package, and nobody asked for it."""
    try:
        values, seconds = quantities.values(quantity)
    except (ImportError, ValueError) as error:
        measuring.left_out(quantity, error)
        return []
    except Exception as error:
        raise measuring.failed(quantity, error) from error
    return [
        measuring.record(quantity, value, seconds, which)
        for which, value in zip(quantities.labels, values, strict=True)
    ]


def _note_missing(pair: "PairInputs", records: Sequence[Record]) -> None:
    """Note what means over labels are of, where some have no value, or none that is finite; alike ones in one line."""
    notes: dict[tuple[int, int, int], list[str]] = {}
    for mean in records:
        if mean.label == "mean" and mean.metric in QUANTITIES:
            own = [
                record.value for record in records if record.label != "mean" and series_of(record) == series_of(mean)
            ]
            finite = [value for value in own if math.isfinite(value)]
            infinite = sum(math.isinf(value) for value in own)
            if len(finite) < len(own):
                rest = f" (mean of the others {math.fsum(finite) / len(finite):.4g})" if infinite and finite else ""
                notes.setdefault((len(own), infinite, len(finite)), []).append(mean.title + rest)
    for (count, missed, defined), titles in notes.items():
        parts = [f"inf in {missed} of {count} labels"] if missed else []
        left_out = count - missed - defined
        parts += [f"undefined in {left_out} of {count} labels, which the mean leaves out"] if left_out else []
        pair.notes.append(f"{', '.join(titles)}: {', '.join(parts)}.")


def _compare_definitions(quantities: LabelQuantities, metrics: Sequence[Quantity], records: Sequence[Record]) -> None:
    """Compute what has a convention by agnoreg's own definition, too, for the line that says where they differ."""
    for metric in metrics:
        series = metric.name, str(metric.arguments), "labels"
        column = [record for record in records if record.label != "mean" and series_of(record) == series]
        if metric.convention is not None and column:
            quantities.pair.compared.append((metric, column, quantities.values(metric.own)[0]))


def _mean(records: Sequence[Record]) -> Record:
    values = [record.value for record in records]
    # The distance of centroids is undefined where a label is absent from one map, other numbers where it is from both.
    if records[0].metric == CENTROID_DISTANCE or records[0].metric in QUANTITIES:
        values = [value for value in values if not math.isnan(value)]
    mean = math.fsum(values) / len(values) if values else math.nan
    return replace(records[0], label="mean", label_name="", value=mean, seconds=None, counted=None)


def series_of(record: Record) -> tuple[Any, ...]:
    """Return what tells the records of one metric from those of another."""
    return record.metric, str(record.arguments), record.measured
