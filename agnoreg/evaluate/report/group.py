"""The page of many pairs: how each metric is spread, who lies outside, and a table that links to the pairs' pages."""

import base64
import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from agnoreg.evaluate.report.explanations import measures
from agnoreg.evaluate.report.members import OVERALL, Column, Member, Members
from agnoreg.evaluate.report.page import POLICY, data_uri, render
from agnoreg.evaluate.report.strips import Dot, Strip, strip_plot

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
    measured = [key for member in there for key in member.after.each]
    columns = list(dict.fromkeys(column for column, label in measured if label in OVERALL))
    strips = [_strip(column, there) for column in columns]
    labelled = {column for column, label in measured if label not in OVERALL}
    by_label = [_by_label(column, there, names) for column in columns if column in labelled]
    script = hashlib.sha256(SCRIPT.encode()).digest()
    view = {
        "title": title,
        "policy": f"{POLICY}; script-src 'sha256-{base64.b64encode(script).decode()}'",
        "script": SCRIPT,
        "members": there,
        "failed": [member for member in members.all if member.error],
        "columns": columns,
        "compared": any(math.isfinite(value) for member in there for value in member.before.each.values()),
        "rows": [_row(member, columns, strips) for member in there],
        "strips": [strip_plot(_with_before(*pair, there)) for pair in zip(columns, strips, strict=True)],
        "explained": [(column, measures(column.title), _incomplete(column, there)) for column in columns],
        "by_label": [(column, strip_plot(shown), left_out) for column, shown, left_out in by_label],
        "counts": _counts(there, names),
        "csv": data_uri(_csv(there, names), "text/csv"),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "version": version("agnoreg"),
    }
    return render("group.html", view)


# --- what the members have --------------------------------------------------------------------------------------------


def _strip(
    column: Column, members: Sequence[Member], label: int | None = None, name: str = "", before: bool = False
) -> Strip:
    """Return a metric's values over the pairs, of one label or of all, after their registration or before."""
    dots = []
    for member in members:
        value = (member.before if before else member.after).of(column, label)
        if math.isfinite(value):
            dots.append(Dot(member.name, member.link, value, _printed(column, value)))
    return Strip(name, dots, column.direction, judged=not before)


def _with_before(column: Column, after: Strip, members: Sequence[Member]) -> list[Strip]:
    """Return a metric's strip, and above it that before the registration where there is one."""
    before = _strip(column, members, name="before", before=True)
    return [before, replace(after, name="after")] if before.dots else [after]


def _incomplete(column: Column, members: Sequence[Member]) -> str:
    """Return what the strip of a metric leaves out, in words; empty where it is nothing."""
    parts = []
    if some := sum(column in member.after.found for member in members):
        parts.append(f"{some} of {len(members)} pairs: the mean of the structures that were found")
    if none := sum(not math.isfinite(member.after.of_all(column)) for member in members):
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
        value, part = member.after.of_all(column), member.after.found.get(column)
        outside = member.name in strip.outliers or math.isinf(value)
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
    heads = ("metric", "title", "arguments", "measured", "label", "label_name", "value", "before", "unit", "direction")
    writer.writerow(("id", *heads))
    for member in members:
        for (column, label), value in member.after.each.items():
            metric, arguments, measured = column.key
            shown = "" if label is None else label
            before = member.before.each[column, label]
            said = (metric, column.title, arguments, measured, shown, names.get(label, ""))
            values = (value, "" if math.isnan(before) else before, column.plain_unit)
            writer.writerow((member.name, *said, *values, column.direction))
    return text.getvalue()
