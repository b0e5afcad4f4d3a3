"""The verdict table: each metric before and after, what the field asks of it, and whether somebody should look."""

import math
import re
from dataclasses import dataclass

from agnoreg.evaluate.found import FoundMean, found_means, states
from agnoreg.evaluate.records import Evaluation, Record
from agnoreg.evaluate.report.explanations import Explanation, explanation

PASS, BETTER, LOOK = "pass", "better", "look"
TG132 = "AAPM TG-132"


@dataclass(frozen=True)
class Threshold:
    """What the field asks of a metric.

    Attributes
    ----------
    pattern
        Of the names and titles of metrics that it is for.
    limit
        The largest value that passes.
    unit
        The unit in which the limit is; empty where there is none.
    source
        Who says so.
    """

    pattern: str
    limit: float
    unit: str
    source: str

    @property
    def text(self) -> str:
        """The limit as it is printed."""
        return f"≤ {self.limit:g} {self.unit}".strip() if self.limit else "0"


#: The first whose pattern is found counts. A maximum comes before a mean, and has "max" in its name.
THRESHOLDS = (
    Threshold(r"\b(tre|target.registration.error)\b.*\bmax|\bmax\w*\b.*\btre\b", 5.0, "mm", TG132),
    Threshold(r"\b(tre|target.registration.error)\b(?!.*(median|percentile|worst|within|p75))", 2.0, "mm", TG132),
    Threshold(r"\bfold(s|ing|ed)?\b|non.positive|\bndv\b|non.diffeomorphic", 0.0, "", f"{TG132}: no det J ≤ 0"),
)


@dataclass(frozen=True)
class Row:
    """A row of the table; texts are printed as they are.

    Attributes
    ----------
    title, arguments, of
        The metric, what was asked for of its arguments, and on what it was measured.
    before, after, unit
        Its values; ``before`` is empty where there is none. Of a mean over labels that of those found.
    of_before, of_after
        Of how many structures such a mean is, as ``"2 of 3"``; else empty.
    better
        ``"higher"`` or ``"lower"``.
    threshold, source
        What the field asks for, and who says so; empty where nobody does.
    verdict
        ``"pass"`` or ``"look"`` by a threshold; ``"better"`` or ``"look"`` by the value before; or empty.
    why
        What the verdict is based on.
    best
        The value of a perfect registration; empty where that depends on the image.
    explanation
        What it unfolds to.
    """

    title: str
    arguments: str
    of: str
    before: str
    after: str
    of_before: str
    of_after: str
    unit: str
    better: str
    threshold: str
    source: str
    verdict: str
    why: str
    best: str
    explanation: Explanation


def verdict_rows(evaluation: Evaluation) -> list[Row]:
    """Return a row for each metric: of labels the mean over them."""
    missing = _missing(evaluation)
    return [
        _row(record, found_means(evaluation.records, record), missing)
        for record in evaluation.records
        if not isinstance(record.label, int)
    ]


def _missing(evaluation: Evaluation) -> str:
    """Return how many structures were missed, and how many are false alarms, in words."""
    missed, false_alarms = states(evaluation)
    said = [f"missed: {missed}"] if missed else []
    return ", ".join([*said, *([f"false alarms: {false_alarms}"] if false_alarms else [])])


def threshold_of(record: Record) -> Threshold | None:
    """Return what the field asks of a metric; None where there is nothing."""
    names = f"{record.title} | {record.metric}".lower().replace("_", " ")
    for threshold in THRESHOLDS:
        if re.search(threshold.pattern, names) and (not threshold.unit or record.unit == threshold.unit):
            return threshold
    return None


def _row(record: Record, found: tuple[FoundMean | None, FoundMean | None], missing: str) -> Row:
    threshold = threshold_of(record)
    before, after = found
    verdict, why = _verdict(record, threshold, after is not None, missing)
    was = record.before if before is None else before.value
    arguments = ", ".join(f"{key}={value}" for key, value in record.arguments.items())
    return Row(
        title=record.title or record.metric,
        arguments=arguments,
        of="mean over labels" if record.label == "mean" else record.measured,
        before="" if was is None else number(record, was),
        after=number(record, record.value if after is None else after.value),
        of_before=_of(before),
        of_after=_of(after),
        unit=unit_text(record.unit),
        better=record.direction,
        threshold=threshold.text if threshold else "",
        source=threshold.source if threshold else "",
        verdict=verdict,
        why=why,
        best="" if record.identity_value is None else f"{record.identity_value + 0.0:.4g}",
        explanation=explanation(record),
    )


def _of(found: FoundMean | None) -> str:
    return f"{found.found} of {found.of}" if found is not None and found.found else ""


def _verdict(record: Record, threshold: Threshold | None, incomplete: bool, missing: str) -> tuple[str, str]:
    if math.isnan(record.value):
        return LOOK, "undefined"
    if threshold is not None:
        passed = record.value <= threshold.limit
        return (PASS, "") if passed else (LOOK, "beyond the threshold")
    if math.isinf(record.value) or incomplete:
        return LOOK, missing or "a structure was missed"
    if record.before is None or math.isnan(record.before) or record.value == record.before:
        return (LOOK, missing) if record.label == "mean" and missing else ("", "")
    better = (record.value > record.before) == (record.direction == "higher")
    return (BETTER, "than before") if better else (LOOK, "worse than before")


def unit_text(unit: str) -> str:
    """Return a unit as it is printed."""
    return unit.replace("^2", "²").replace("^3", "³")


def number(record: Record, value: float) -> str:
    """Return a value of a metric with the digits that say something: three of what is at most 1, else four."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    bounded = record.value_range[0] >= -1 and record.value_range[1] <= 1
    value = round(value, 5) + 0.0 if bounded else value + 0.0
    return f"{value:#.3g}" if bounded else f"{value:.4g}"
