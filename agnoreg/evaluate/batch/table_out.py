"""The table: the names of its columns, how it is written, and how its rows are taken over by the next run."""

import csv
import hashlib
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch.table_in import Pair
from agnoreg.evaluate.batch.work import FILES, in_columns
from agnoreg.evaluate.evaluation import InputError, Series, planned
from agnoreg.files import one_line, write_whole

__all__ = ["FORMATS", "Columns", "TableRows", "row", "value_columns", "write_table"]

#: How a table is written, by the end of its file's name.
FORMATS = (".parquet", ".csv")

TEXTS = ("warnings", "error")
#: How the name of a column begins that holds a value before the registration, and how that of a label's ends.
BEFORE = "before: "
LABEL = re.compile(r"\[(-?\d{1,20})\](?: \([^()]*\))?\Z")
#: The last columns, after the values.
LAST = (*TEXTS, "seconds", "fingerprint")


# --- columns ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """The columns of a table, but for those of single labels.

    Attributes
    ----------
    inputs
        Columns of the CSV that name files.
    further
        Its other columns, but ``id``.
    series
        What is computed, by the name of its column; that of labels is their mean's.
    names
        The names of labels, which the table's columns have beside their numbers.
    """

    inputs: Sequence[str]
    further: Sequence[str]
    series: Mapping[str, Series]
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def compared(self) -> set[str]:
        """On what there is a value before the registration: ``"images"``, ``"labels"``, ``"landmarks"``."""
        given = {"moved_before": "images", "moved_label_before": "labels", "fixed_landmarks": "landmarks"}
        return {kind for name, kind in given.items() if name in self.inputs}

    def kinds(self, labels: Iterable[int]) -> dict[str, str]:
        """Return all columns, in their order, and the dtype of each."""
        numbers: list[str] = []
        for name, one in self.series.items():
            own = [_name(vars(one), label) for label in sorted(labels)] if one.measured == "labels" else []
            own.append(name)
            # A value before the registration stands in front of that after it.
            compared = one.measured in self.compared
            numbers += [shown for name in own for shown in ([BEFORE + name, name] if compared else [name])]
        texts = dict.fromkeys(("id", *self.inputs, *self.further), "string")
        last = {name: "float64" if name == "seconds" else "string" for name in LAST}
        return texts | dict.fromkeys(numbers, "float64") | last

    def clashing(self) -> list[str]:
        """Return the CSV's further columns whose names are those of columns that the table has, or may have."""
        return [
            name
            for name in self.further
            if name in ("id", *FILES, *LAST) or self.value_of(self.plain(name)) is not None
        ]

    def titled(self, column: str) -> str:
        """Return the name of a column in the table: with that of its label."""
        if (found := LABEL.search(column)) and self.names and self.value_of(column) is not None:
            # Brackets would end the label.
            name = re.sub(r"[\[\]()\s]+", " ", self.names.get(int(found[1]), "")).strip()
            return column[: found.end(1)] + (f" {name}" if name else "") + column[found.end(1) :]
        return column

    def plain(self, column: str) -> str:
        """Return the name of a column without that of its label."""
        bare = re.sub(r"(\[-?\d{1,20}) [^\[\]]*\]", r"\1]", column)
        return bare if self.value_of(bare) is not None else column

    def value_of(self, column: str) -> tuple[Series, int | str | None] | None:
        """Return what a column holds the value of, and of which label; None where it holds something else.

        It is the value before the registration where the column's name begins so.
        """
        column = column.removeprefix(BEFORE)
        if column in self.series:
            one = self.series[column]
            return one, "mean" if one.measured == "labels" else None
        if found := LABEL.search(column):
            label = int(found[1])
            for one in self.series.values():
                if one.measured == "labels" and column == _name(vars(one), label):
                    return one, label
        return None

    def single(self, column: str, labels: Iterable[int]) -> list[str]:
        """Return the columns of single labels to a column of their mean; none where it is of no labels."""
        if (found := self.value_of(column)) is None or found[1] != "mean":
            return []
        before = BEFORE if column.startswith(BEFORE) else ""
        return [before + _name(vars(found[0]), label) for label in labels]


def value_columns(losses: Sequence[Any], inputs: Sequence[str], **options: Any) -> dict[str, Series]:
    """Return what is computed, by the name of its column.

    Raises
    ------
    InputError
        If an option does not fit, or a loss does not fit the columns that there are.
    """
    kinds = {"images": "fixed", "labels": "fixed_label", "field": "ddf", "landmarks": "fixed_landmarks"}
    given = [kind for kind, name in kinds.items() if name in inputs]
    columns: dict[str, Series] = {}
    try:
        plan = planned(losses, given, **options)
    except InputError as error:
        raise InputError(in_columns(str(error))) from error
    for series in plan:
        name = _name(vars(series), "mean" if series.measured == "labels" else None)
        if name in columns:
            raise InputError(f"Two of --loss {', '.join(losses)} have the column {name}: leave one out.")
        columns[name] = series
    return columns


def _name(series: Mapping[str, Any], label: int | str | None) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in series["arguments"].items())
    name = series["metric"] + (f"({arguments})" if arguments else "") + (f"[{label}]" if label is not None else "")
    # Thousands of rows share these names.
    return sys.intern(name + (f" ({series['unit']})" if series["unit"] else ""))


# --- rows -------------------------------------------------------------------------------------------------------------


def row(pair: Pair, key: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table, by column, without those that it lacks; ``labels`` are those that it has."""
    values: dict[str, float] = {}
    for value in part["values"]:
        name = _name(value, value["label"])
        values[name] = value["value"]
        if value.get("before") is not None:
            values[BEFORE + name] = value["before"]
    texts = {"warnings": _text("\n".join(part["warnings"])), "error": _text(part["error"])}
    content = {**values, **texts, "seconds": part["seconds"]}
    labels: dict[int, bool] = {}
    for value in part["values"]:
        if isinstance(label := value["label"], int):
            labels[label] = labels.get(label, False) or not math.isnan(value["value"])
    undefined = sorted(label for label, defined in labels.items() if not defined)
    return {
        "id": pair.id,
        **{name: pair.cells[name] for name in pair.cells if name in FILES},
        **pair.further,
        **content,
        "fingerprint": _fingerprint(key, part["files"], undefined, content),
        "labels": set(labels),
    }


def _text(message: str) -> str:
    """Return a message as UTF-8 can have it: a folder's name may be of bytes that are no characters."""
    return message.encode("utf-8", "backslashreplace").decode()


def _fingerprint(
    key: str, files: Mapping[str, Sequence[int] | None], undefined: Sequence[int], content: Mapping[str, Any]
) -> str:
    """Return what tells the next run that a row of the table is finished, as text without commas or quotes.

    It has the row's key, a checksum of what the table says of it, the size and the time of change of each of its files
    and those of its labels of which it has no value but NaN.
    """
    states = [f"{role}={'?' if state is None else f'{state[0]}@{state[1]}'}" for role, state in files.items()]
    states += [f"undefined={'/'.join(map(str, undefined))}"] if undefined else []
    return " ".join([key, _checksum(content), *states])


def _checksum(content: Mapping[str, Any]) -> str:
    there = {name: value for name, value in content.items() if not (isinstance(value, float) and math.isnan(value))}
    return hashlib.sha256(json.dumps(there, sort_keys=True).encode()).hexdigest()[:16]


class TableRows:
    """The rows of the table that an earlier run wrote, as far as it can be read."""

    def __init__(self, out: Path, columns: Columns) -> None:
        self.rows: dict[str, Mapping[str, Any]] = {}
        try:
            for titled in _read_csv(out) if out.suffix.lower() == ".csv" else _read_parquet(out):
                line = {name if name is None else columns.plain(name): cell for name, cell in titled.items()}
                if isinstance(text := line.get("fingerprint"), str) and text:
                    self.rows[text.split(" ")[0]] = line
        except Exception:  # No table, a damaged one, or another program's: each reader has its own errors.
            self.rows = {}
        names = dict.fromkeys(name for line in self.rows.values() for name in line if name is not None)
        self.measured = {name: found for name in names if (found := columns.value_of(name)) is not None}

    def part(self, key: str) -> dict[str, Any] | None:
        """Return a row as its file has it; None where there is none of this key, or somebody changed it."""
        if (line := self.rows.get(key)) is None:
            return None
        try:
            return self._part(line)
        except (KeyError, TypeError, ValueError):
            return None

    def _part(self, line: Mapping[str, Any]) -> dict[str, Any]:
        _, checksum, *states = line["fingerprint"].split(" ")
        named = dict(state.split("=", 1) for state in states)
        undefined = [int(label) for label in filter(None, named.pop("undefined", "").split("/"))]
        files = {role: None if state == "?" else [int(n) for n in state.split("@")] for role, state in named.items()}
        values = {name: _number(line.get(name)) for name in self.measured}
        content = {name: value for name, value in values.items() if not math.isnan(value)}
        texts = {name: line.get(name) or "" for name in TEXTS}
        if _checksum({**content, **texts, "seconds": _number(line.get("seconds"))}) != checksum:
            raise ValueError("The row was changed.")
        labels = {label for name in content if isinstance(label := self.measured[name][1], int)} | set(undefined)
        return {
            "error": texts["error"],
            "warnings": texts["warnings"].split("\n") if texts["warnings"] else [],
            "seconds": _number(line.get("seconds")),
            "files": files,
            "values": [
                {**vars(series), "label": label, "value": values[name], "before": _there(values.get(BEFORE + name))}
                for name, (series, label) in self.measured.items()
                if not name.startswith(BEFORE) and (not isinstance(label, int) or label in labels)
            ],
        }


def _there(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _number(cell: Any) -> float:
    return math.nan if cell is None or cell == "" else float(cell)


# --- files ------------------------------------------------------------------------------------------------------------


def write_table(out: Path, columns: Columns, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows: id and inputs, the CSV's further columns, values, warnings, error, seconds and fingerprint."""
    plain = columns.kinds(set().union(*(one["labels"] for one in rows)))
    kinds = {columns.titled(name): kind for name, kind in plain.items()}
    rows = [{columns.titled(name): cell for name, cell in one.items()} for one in rows] if columns.names else rows
    content = _csv(kinds, rows) if out.suffix.lower() == ".csv" else _parquet(kinds, rows)
    try:
        write_whole({out: content})
    except OSError as error:
        raise InputError(f"Cannot write {out}: {one_line(error)}; its rows are kept in {out}.parts.") from error


def _parquet(kinds: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pandas

    content = io.BytesIO()
    table = pandas.DataFrame(rows, columns=list(kinds)).astype(kinds)
    table.to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()


def _read_parquet(out: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    with open(out, "rb") as file:
        return parquet.read_table(file).to_pylist()


def _csv(kinds: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO(newline="")

    class Lines:
        # The writer quotes a cell with a character that ends lines only where these end with it.
        def write(self, line: str) -> None:
            text.write(line.removesuffix("\r\n") + "\n")

    writer = csv.writer(Lines(), lineterminator="\r\n")
    writer.writerow(kinds)
    for one in rows:
        cells = (one.get(name, math.nan if kind == "float64" else "") for name, kind in kinds.items())
        writer.writerow("" if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells)
    return text.getvalue()


def _read_csv(out: Path) -> list[dict[str, Any]]:
    with open(out, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
