"""The page of many pairs: how each metric is spread, who lies outside, and a table that links to the pairs' pages."""

import base64
import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from agnoreg.evaluate.report.explanations import measures
from agnoreg.evaluate.report.page import POLICY, data_uri, render
from agnoreg.evaluate.report.strips import Dot, Strip, outliers, strip_plot
from agnoreg.evaluate.report.verdicts import unit_text

#: Labels whose strips are drawn, the worst ones.
DRAWN = 16
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
class Member:
    """One pair of a group.

    Attributes
    ----------
    name
        Its id.
    link
        Its page, relative to that of the group; empty where it has none.
    content
        Its evaluation as JSON has it; empty where it failed.
    error
        Why it failed; empty where it did not.
    """

    name: str
    link: str
    content: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True)
class Column:
    """A metric: its title, unit and arguments, which direction is better, and whether it lies within [-1, 1]."""

    key: tuple[str, str, str]
    title: str
    unit: str
    direction: str
    bounded: bool
    arguments: str


def group_html(members: Sequence[Member], title: str) -> str:
    """Return the page of many pairs, which needs no network and no other file, and links to the pairs' pages.

    Parameters
    ----------
    members
        The pairs, in their order.
    title
        What the page is called.
    """
    there = [member for member in members if not member.error]
    columns = _columns(there)
    values = [_values(member) for member in there]
    strips = [_strip(column, there, values, None) for column in columns]
    labelled = [
        column
        for column in columns
        if any(key[0] == column.key and key[1] not in (None, "mean") for v in values for key in v)
    ]
    names = _label_names(there)
    by_label = [_by_label(column, there, values, names) for column in labelled]
    script = hashlib.sha256(SCRIPT.encode()).digest()
    view = {
        "title": title,
        "policy": f"{POLICY}; script-src 'sha256-{base64.b64encode(script).decode()}'",
        "script": SCRIPT,
        "members": there,
        "failed": [member for member in members if member.error],
        "columns": columns,
        "rows": [_row(member, columns, found, strips) for member, found in zip(there, values, strict=True)],
        "strips": [strip_plot([strip]) for strip in strips],
        "explained": [(column, measures(column.title)) for column in columns],
        "by_label": [(column, strip_plot(shown), left_out) for column, shown, left_out in by_label],
        "counts": _counts(there, names),
        "csv": data_uri(_csv(there), "text/csv"),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": version("agnoreg"),
    }
    return render("group.html", view)


# --- what the members have --------------------------------------------------------------------------------------------


def _key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["metric"], str(record["arguments"]), record["measured"]


def _columns(members: Sequence[Member]) -> list[Column]:
    found: dict[Any, Column] = {}
    for member in members:
        for record in member.content["metrics"]:
            if record["label"] is None or record["label"] == "mean":
                low, high = record["value_range"]
                bounded = low is not None and high is not None and low >= -1 and high <= 1
                arguments = ", ".join(f"{name}={value}" for name, value in record["arguments"].items())
                title = record["title"] or record["metric"]
                found.setdefault(
                    _key(record),
                    Column(_key(record), title, unit_text(record["unit"]), record["direction"], bounded, arguments),
                )
    return list(found.values())


def _values(member: Member) -> dict[tuple[Any, Any], float]:
    """Return a pair's values by metric and label; undefined ones are NaN."""
    return {(_key(record), record["label"]): _number(record) for record in member.content["metrics"]}


def _number(record: Mapping[str, Any]) -> float:
    """Return a record's value: JSON has no infinity, and says beside which values are infinite."""
    if record["value"] is not None:
        return float(record["value"])
    return math.inf if "value" in record.get("infinite", ()) else math.nan


def _label_names(members: Sequence[Member]) -> dict[int, str]:
    names: dict[int, str] = {}
    for member in members:
        for record in member.content["metrics"]:
            if isinstance(record["label"], int):
                names[record["label"]] = names.get(record["label"]) or record["label_name"]
    return {label: names[label] for label in sorted(names)}


def _strip(
    column: Column, members: Sequence[Member], values: Sequence[Any], label: int | None, name: str = ""
) -> Strip:
    """Return a metric's values over the pairs, of one label or of all."""
    dots = []
    for member, found in zip(members, values, strict=True):
        keys = [(column.key, label)] if label is not None else [(column.key, None), (column.key, "mean")]
        value = next((found[key] for key in keys if key in found), math.nan)
        if math.isfinite(value):
            dots.append(Dot(member.name, member.link, value, _printed(column, value)))
    return Strip(name, dots, column.direction)


def _by_label(
    column: Column, members: Sequence[Member], values: Sequence[Any], names: Mapping[int, str]
) -> tuple[Column, list[Strip], int]:
    strips = [_strip(column, members, values, label, f"{label} {name}".strip()) for label, name in names.items()]
    strips = [strip for strip in strips if strip.dots]
    sign = 1 if column.direction == "higher" else -1
    strips.sort(key=lambda strip: sign * float(np.median([dot.value for dot in strip.dots])))
    return column, strips[:DRAWN], max(0, len(strips) - DRAWN)


def _printed(column: Column, value: float) -> str:
    if not math.isfinite(value):
        return "—" if math.isnan(value) else "∞"
    return f"{round(value, 5) + 0.0:#.3g}" if column.bounded else f"{value + 0.0:.4g}"


def _row(member: Member, columns: Sequence[Column], found: Any, strips: Sequence[Strip]) -> dict[str, Any]:
    cells = []
    for column, strip in zip(columns, strips, strict=True):
        keys = ((column.key, None), (column.key, "mean"))
        value = next((found[key] for key in keys if key in found), math.nan)
        outside = member.name in outliers(strip) or math.isinf(value)
        sorted_by = "" if math.isnan(value) else "Infinity" if math.isinf(value) else repr(value)
        cells.append({"text": _printed(column, value), "value": sorted_by, "outside": outside})
    missed = _states(member).count("missed")
    return {"member": member, "cells": cells, "missed": missed}


# --- structures -------------------------------------------------------------------------------------------------------


def _labels_of(member: Member, role: str) -> set[int] | None:
    for entry in member.content["inputs"]:
        if entry["role"] == role:
            return set(entry["labels"])
    return None


def _state(member: Member, label: int) -> str:
    """Return what became of a label: ``"both"``, ``"missed"``, ``"false alarm"``, ``"neither"``; empty without maps."""
    fixed, moved = (_labels_of(member, f"{which} label") for which in ("fixed", "moved"))
    if fixed is None or moved is None:
        return ""
    if label in fixed:
        return "both" if label in moved else "missed"
    return "false alarm" if label in moved else "neither"


def _states(member: Member) -> list[str]:
    labels = (_labels_of(member, "fixed label") or set()) | (_labels_of(member, "moved label") or set())
    return [_state(member, label) for label in labels - {0}]


def _counts(members: Sequence[Member], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return for each label N, N+, N0, missed and false alarms, and the pairs that missed it."""
    rows = []
    for label, name in names.items():
        states = [(_state(member, label), member) for member in members]
        states = [(state, member) for state, member in states if state]
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


def _csv(members: Sequence[Member]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("metric", "title", "arguments", "measured", "label", "label_name", "value", "unit", "direction")
    writer.writerow(("id", *names))
    for member in members:
        for record in member.content["metrics"]:
            values = {**record, "value": _number(record)}
            writer.writerow((member.name, *(values[name] for name in names)))
    return text.getvalue()
