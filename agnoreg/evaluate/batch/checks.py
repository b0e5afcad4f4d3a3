"""Many pairs, tried: the CSV and the headers of its files, and what the table would hold; nothing is computed."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch.run import checked
from agnoreg.evaluate.batch.work import OPTIONS, check_row
from agnoreg.evaluate.evaluation import check_backend
from agnoreg.evaluate.label_names import label_names as names_of_labels

__all__ = ["CheckedPairs", "check_pairs"]


@dataclass(frozen=True)
class CheckedPairs:
    """What `check_pairs` found.

    Attributes
    ----------
    total
        How many pairs the CSV holds.
    columns
        The columns of values that the table would have, but for those of single labels.
    failures, lines
        The error of each pair that could not be evaluated, and its line of the CSV, by its id.
    """

    total: int
    columns: Sequence[str]
    failures: Mapping[str, str]
    lines: Mapping[str, int]


def check_pairs(
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    losses: Sequence[str] = (),
    label_names: Any = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> CheckedPairs:
    """Check the CSV and the headers of its files, and say which columns the table would have; nothing is written.

    Parameters
    ----------
    pairs, out, losses, label_names, tell, **options
        As `evaluate_pairs` takes them.
    progress
        Is called with how many pairs are checked, and how many there are.

    Raises
    ------
    InputError
        As `evaluate_pairs`.
    """
    if unknown := options.keys() - OPTIONS.keys():
        raise TypeError(f"check_pairs has no argument {min(unknown)!r}.")
    settings = {**OPTIONS, **options, "losses": list(losses)}
    pairs, out = (Path(os.path.expanduser(path)) for path in (pairs, out))
    if label_names is not None:
        names_of_labels(label_names)
    check_backend(settings["backend"], settings["device"])
    columns, rows = checked(pairs, out, settings, tell)
    failures = {}
    for done, pair in enumerate(rows, 1):
        if error := check_row(pair.paths, settings):
            failures[pair.id] = error
        if progress is not None:
            progress(done, len(rows))
    names = [name for name in columns.kinds(()) if columns.value_of(name) is not None]
    return CheckedPairs(len(rows), names, failures, {pair.id: pair.line for pair in rows if pair.id in failures})
