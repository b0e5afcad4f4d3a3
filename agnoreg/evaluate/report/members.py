"""The pairs of a group, as the page of all reads them from their own pages: values after and before, and labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agnoreg.evaluate.found import FoundMean, mean_of_found
from agnoreg.evaluate.report.verdicts import unit_text

#: What stands for the label of a value over all structures, or of no structure.
OVERALL = (None, "mean")


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
class Values:
    """What was measured of a pair, after its registration or before.

    Attributes
    ----------
    each
        By column and label, which is None or ``"mean"`` of all; NaN where a value is undefined.
    found
        Of means over labels, some of which have no finite value, what they are of the others.
    """

    each: Mapping[tuple[Column, Any], float] = field(default_factory=dict)
    found: Mapping[Column, FoundMean] = field(default_factory=dict)

    def of_all(self, column: Column) -> float:
        """Return a value over all labels, NaN where there is none: of labels the mean of those that were found."""
        if column in self.found:
            return self.found[column].value
        return next((self.each[column, label] for label in OVERALL if (column, label) in self.each), math.nan)

    def of(self, column: Column, label: int | None) -> float:
        """Return a value of one label, or over all; NaN where there is none."""
        return self.of_all(column) if label is None else self.each.get((column, label), math.nan)


@dataclass(frozen=True)
class Member:
    """One pair of a group.

    Attributes
    ----------
    name
        Its id.
    link
        Its page, relative to that of the group; empty where it has none.
    after, before
        What was measured after its registration and before, where the files from before are there.
    fixed, moved
        The labels of both maps; None where there are none.
    error
        Why it has no page; empty where it has one.
    """

    name: str
    link: str = ""
    after: Values = Values()
    before: Values = Values()
    fixed: frozenset[int] | None = None
    moved: frozenset[int] | None = None
    error: str = ""

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
        for record in content["metrics"]:
            if isinstance(label := record["label"], int):
                self.names[label] = self.names.get(label) or record["label_name"]
        maps = {entry["role"]: frozenset(entry["labels"]) for entry in content["inputs"] if "labels" in entry}
        after, before = (self._values(content["metrics"], moment) for moment in ("value", "before"))
        return Member(name, link, after, before, maps.get("fixed label"), maps.get("moved label"))

    def _values(self, records: Sequence[Mapping[str, Any]], moment: str) -> Values:
        """Return the values of records, of ``"value"`` or of ``"before"``."""
        each: dict[tuple[Column, Any], float] = {}
        labels: dict[Column, list[float]] = {}
        for record in records:
            column = self._column(record)
            each[column, record["label"]] = value = _number(record, moment)
            if isinstance(record["label"], int):
                labels.setdefault(column, []).append(value)
        means = {column: mean_of_found(each[column, "mean"], own) for column, own in labels.items()}
        return Values(each, {column: mean for column, mean in means.items() if mean is not None})

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


def _number(record: Mapping[str, Any], moment: str) -> float:
    """Return a record's value, or that before: JSON has no infinity, and says beside which values are infinite."""
    if record[moment] is not None:
        return float(record[moment])
    return math.inf if moment in record.get("infinite", ()) else math.nan
