"""The page of many pairs: how each metric is spread, who lies outside, and a table that links to the pairs' pages."""

import base64
import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from agnoreg.evaluate.found import FoundMean, mean_of_found
from agnoreg.evaluate.report.explanations import measures
from agnoreg.evaluate.report.page import POLICY, data_uri, render
from agnoreg.evaluate.report.strips import Dot, Strip, outliers, strip_plot
from agnoreg.evaluate.report.verdicts import unit_text

#: Labels whose strips are drawn, the worst ones.
DRAWN = 16
#: What the value of a metric has for its label that is of all labels, or of none.
OVERALL = (None, "mean")
#: What sorts the table where scripts run; without it the table is as it is.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("thead th").forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)], numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return numbers ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true});
      };
      const rows = [...table.tBodies[0].rows].sort(order);
      table.tBodies[0].append(...(down ? rows.reverse() : rows));
    });
  });
}
"""


@dataclass(frozen=True)
class Column:
    """A metric: its title, unit (printed and plain), better direction, arguments; whether it lies within [-1, 1]."""

    key: tuple[str, str, str]
    title: str
    unit: str
    plain_unit: str
    direction: str
    bounded: bool
    arguments: str


@dataclass(frozen=True)
class Member:
    """One pair of a group.

    Attributes
    ----------
    name
        Its id.
    link
        Its page, relative to that of the group; empty where it has none.
    values
        By column and label, which is None or ``"mean"`` of all; NaN where a value is undefined.
    found
        Of means over labels, some of which have no finite value, what they are of the others.
    fixed, moved
        The labels of both maps; None where there are none.
    error
        Why it has no page; empty where it has one.
    """

    name: str
    link: str = ""
    values: Mapping[tuple[Column, Any], float] = field(default_factory=dict)
    found: Mapping[Column, FoundMean] = field(default_factory=dict)
    fixed: frozenset[int] | None = None
    moved: frozenset[int] | None = None
    error: str = ""

    def value(self, column: Column) -> float:
        """Return a value over all labels, NaN where there is none: of labels the mean of those that were found."""
        if column in self.found:
            return self.found[column].value
        return next(
            (self.values[column, label] for label in (None, "mean") if (column, label) in self.values), math.nan
        )

    def state(self, label: int) -> str:
        """Return what became of a label: ``"both"``, ``"missed"``, ``"false alarm"``, ``"neither"``; or nothing."""
        if self.fixed is None or self.moved is None:
            return ""
        if label in self.fixed:
            return "both" if label in self.moved else "missed"
        return "false alarm" if label in self.moved else "neither"

    @property
    def missed(self) -> int:
        """How many labels the moved map lacks."""
        return len((self.fixed or frozenset()) - (self.moved or frozenset()) - {0})


class Members:
    """The pairs of a group: of each what the page of all needs, and what they have in common once.

    Attributes
    ----------
    all
        The pairs.
    names
        The labels, and their names.
    """

    def __init__(self, members: Sequence[Member] = ()) -> None:
        self.all = list(members)
        self.names: dict[int, str] = {}
        self._columns: dict[Column, Column] = {}

    def add(self, member: Member) -> None:
        """Add a pair."""
        self.all.append(member)

    def read(self, name: str, link: str, content: Mapping[str, Any]) -> Member:
        """Return a pair by its evaluation as JSON has it."""
        values: dict[tuple[Column, Any], float] = {}
        labels: dict[Column, list[float]] = {}
        for record in content["metrics"]:
            column = self._column(record)
            value = values[column, record["label"]] = _number(record)
            if isinstance(label := record["label"], int):
                labels.setdefault(column, []).append(value)
                self.names[label] = self.names.get(label) or record["label_name"]
        means = {column: mean_of_found(values[column, "mean"], own) for column, own in labels.items()}
        found = {column: mean for column, mean in means.items() if mean is not None}
        maps = {entry["role"]: frozenset(entry["labels"]) for entry in content["inputs"] if "labels" in entry}
        return Member(name, link, values, found, maps.get("fixed label"), maps.get("moved label"))

    def _column(self, record: Mapping[str, Any]) -> Column:
        low, high = record["value_range"]
        found = Column(
            (record["metric"], str(record["arguments"]), record["measured"]),
            record["title"] or record["metric"],
            unit_text(record["unit"]),
            record["unit"],
            record["direction"],
            low is not None and high is not None and low >= -1 and high <= 1,
            ", ".join(f"{name}={value}" for name, value in record["arguments"].items()),
        )
        return self._columns.setdefault(found, found)


def group_html(members: Members, title: str) -> str:
    """Return the page of many pairs, which needs no network and no other file, and links to the pairs' pages.

    Parameters
    ----------
    members
        The pairs, in their order.
    title
        What the page is called.
    """
    there = [member for member in members.all if not member.error]
    names = {label: members.names[label] for label in sorted(members.names)}
    columns = list(dict.fromkeys(column for member in there for column, label in member.values if label in OVERALL))
    strips = [_strip(column, there) for column in columns]
    labelled = {column for member in there for column, label in member.values if label not in OVERALL}
    by_label = [_by_label(column, there, names) for column in columns if column in labelled]
    script = hashlib.sha256(SCRIPT.encode()).digest()
    view = {
        "title": title,
        "policy": f"{POLICY}; script-src 'sha256-{base64.b64encode(script).decode()}'",
        "script": SCRIPT,
        "members": there,
        "failed": [member for member in members.all if member.error],
        "columns": columns,
        "rows": [_row(member, columns, strips) for member in there],
        "strips": [strip_plot([strip]) for strip in strips],
        "explained": [(column, measures(column.title), _incomplete(column, there)) for column in columns],
        "by_label": [(column, strip_plot(shown), left_out) for column, shown, left_out in by_label],
        "counts": _counts(there, names),
        "csv": data_uri(_csv(there, names), "text/csv"),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": version("agnoreg"),
    }
    return render("group.html", view)


# --- what the members have --------------------------------------------------------------------------------------------


def _number(record: Mapping[str, Any]) -> float:
    """Return a record's value: JSON has no infinity, and says beside which values are infinite."""
    if record["value"] is not None:
        return float(record["value"])
    return math.inf if "value" in record.get("infinite", ()) else math.nan


def _strip(column: Column, members: Sequence[Member], label: int | None = None, name: str = "") -> Strip:
    """Return a metric's values over the pairs, of one label or of all."""
    dots = []
    for member in members:
        value = member.value(column) if label is None else member.values.get((column, label), math.nan)
        if math.isfinite(value):
            dots.append(Dot(member.name, member.link, value, _printed(column, value)))
    return Strip(name, dots, column.direction)


def _incomplete(column: Column, members: Sequence[Member]) -> str:
    """Return what the strip of a metric leaves out, in words; empty where it is nothing."""
    parts = []
    if some := sum(column in member.found for member in members):
        parts.append(f"{some} of {len(members)} pairs: the mean of the structures that were found")
    if none := sum(not math.isfinite(member.value(column)) for member in members):
        parts.append(f"{none} of {len(members)} pairs: no value")
    return "; ".join(parts)


def _by_label(column: Column, members: Sequence[Member], names: Mapping[int, str]) -> tuple[Column, list[Strip], int]:
    strips = [_strip(column, members, label, f"{label} {name}".strip()) for label, name in names.items()]
    strips = [strip for strip in strips if strip.dots]
    sign = 1 if column.direction == "higher" else -1
    strips.sort(key=lambda strip: sign * float(np.median([dot.value for dot in strip.dots])))
    return column, strips[:DRAWN], max(0, len(strips) - DRAWN)


def _printed(column: Column, value: float) -> str:
    if not math.isfinite(value):
        return "—" if math.isnan(value) else "∞"
    return f"{round(value, 5) + 0.0:#.3g}" if column.bounded else f"{value + 0.0:.4g}"


def _row(member: Member, columns: Sequence[Column], strips: Sequence[Strip]) -> dict[str, Any]:
    cells = []
    for column, strip in zip(columns, strips, strict=True):
        value, part = member.value(column), member.found.get(column)
        outside = member.name in outliers(strip) or math.isinf(value)
        sorted_by = "" if math.isnan(value) else "Infinity" if math.isinf(value) else repr(value)
        of = f"{part.found} of {part.of}" if part is not None and part.found else ""
        cells.append({"text": _printed(column, value), "value": sorted_by, "outside": outside, "of": of})
    return {"member": member, "cells": cells, "missed": member.missed}


# --- structures -------------------------------------------------------------------------------------------------------


def _counts(members: Sequence[Member], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return for each label N, N+, N0, missed and false alarms, and the pairs that missed it."""
    rows = []
    for label, name in names.items():
        states = [(state, member) for member in members if (state := member.state(label))]
        listed = [state for state, _ in states]
        rows.append(
            {
                "title": f"{label} {name}".strip(),
                "n": len(states),
                "positives": listed.count("both") + listed.count("missed"),
                "negatives": listed.count("neither") + listed.count("false alarm"),
                "missed": listed.count("missed"),
                "false_alarms": listed.count("false alarm"),
                "by": [member for state, member in states if state == "missed"][:5],
            }
        )
    return rows


def _csv(members: Sequence[Member], names: Mapping[int, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = ("metric", "title", "arguments", "measured", "label", "label_name", "value", "unit", "direction")
    writer.writerow(("id", *heads))
    for member in members:
        for (column, label), value in member.values.items():
            metric, arguments, measured = column.key
            shown = "" if label is None else label
            said = (metric, column.title, arguments, measured, shown, names.get(label, ""), value, column.plain_unit)
            writer.writerow((member.name, *said, column.direction))
    return text.getvalue()
