"""The figures of each column of values over all pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agnoreg.evaluate.batch.table_out import BEFORE, Columns
from agnoreg.evaluate.found import found_mean
from agnoreg.metrics import Summary, summarise

__all__ = ["Figures", "figures_of"]

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Figures:
    """The figures of the columns that are not of single labels, by the column.

    Attributes
    ----------
    all
        Those of the values as the table has them; of labels, of the mean of each pair.
    found
        Of columns with means that are infinite, as a structure was missed: the same, of the means of the structures
        that were found in each pair, where there are any.
    titles
        What the metric is called, with its unit; and its arguments, where another column has the same title.
    """

    all: Mapping[str, Summary] = field(default_factory=dict)
    found: Mapping[str, Summary] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)


def figures_of(columns: Columns, rows: Rows) -> Figures:
    """Return the figures of the rows of pairs that were evaluated."""
    measures = [name for name in columns.kinds(()) if columns.value_of(name) is not None]
    values = [{name: one.get(name, math.nan) for name in measures} for one in rows]
    there = [name for name in measures if any(not math.isnan(record[name]) for record in values)]
    if not there:
        return Figures()
    infinite = [name for name in there if any(math.isinf(record[name]) for record in values)]
    found = [{name: _found(columns, name, one) for name in infinite} for one in rows]
    # Nothing shows an interval, so that one draw is enough.
    return Figures(
        summarise(values, measures=there, resamples=1),
        summarise(found, measures=infinite, resamples=1) if infinite else {},
        _titles(columns, there),
    )


def _found(columns: Columns, name: str, row: Mapping[str, Any]) -> float:
    """Return a row's value, of an infinite mean over labels that of those that are finite; NaN where none is."""
    value = float(row.get(name, math.nan))
    if math.isinf(value):
        value = found_mean([row.get(one, math.nan) for one in columns.single(name, row["labels"])]).value
    return value if math.isfinite(value) else math.nan


def _titles(columns: Columns, names: Sequence[str]) -> dict[str, str]:
    plain, full = {}, {}
    for name in names:
        found = columns.value_of(name)
        assert found is not None
        series = found[0]
        when = ", before" if name.startswith(BEFORE) else ""
        title = series.title or series.metric
        unit = f" ({series.unit})" if series.unit else ""
        plain[name] = title + when + unit
        arguments = ", ".join(f"{key}={value}" for key, value in series.arguments.items())
        full[name] = f"{title} {arguments}".rstrip() + when + unit
    shown = list(plain.values())
    return {name: plain[name] if shown.count(plain[name]) == 1 else full[name] for name in names}
