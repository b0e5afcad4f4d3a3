"""What agnoreg's own definitions give where a convention gives another number, in one line."""

import math
from collections.abc import Iterable, Sequence

from agnoreg.evaluate.quantity import Quantity
from agnoreg.evaluate.records import Record

__all__ = ["differing"]


def differing(columns: Iterable[tuple[Quantity, Sequence[Record], Sequence[float]]]) -> list[str]:
    """Return a line for each convention whose numbers differ from those of agnoreg's own definitions.

    Parameters
    ----------
    columns
        A quantity with a convention, its records (one for each label, or a single one), and the values of the same by
        agnoreg's own definition.
    """
    said: dict[str, list[str]] = {}
    for quantity, records, own in columns:
        pairs = list(zip((record.value for record in records), own, strict=True))
        places = [place for place, (theirs, ours) in enumerate(pairs) if not _alike(theirs, ours)]
        if not places:
            continue
        finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
        theirs, ours = (_mean_of([pair[side] for pair in finite]) for side in (0, 1))
        where = "" if records[0].label is None else ", in the mean over labels"
        if _alike(theirs, ours):
            theirs, ours = pairs[places[0]]
            where = where and f", for label {records[places[0]].label}"
        units = [f" {one.unit}" if one.unit else "" for one in (quantity, quantity.own)]
        text = f"{quantity.title} is {ours:.4g}{units[1]}, not {theirs:.4g}{units[0]}{where}"
        said.setdefault(quantity.convention or "", []).append(text)
    return [
        f"{whose} differs from agnoreg's own definitions, by which {'; '.join(texts)}." for whose, texts in said.items()
    ]


def _alike(theirs: float, ours: float) -> bool:
    return math.isclose(theirs, ours, rel_tol=1e-6) or (math.isnan(theirs) and math.isnan(ours))


def _mean_of(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
