"""The CSV of pairs: which files each row names, and the further columns that go with it."""

import csv
import difflib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch.work import FILES, REQUIRED, TOGETHER
from agnoreg.evaluate.evaluation import InputError
from agnoreg.files import one_line

__all__ = ["Pair", "likely_misspelt", "read_pairs"]

COLUMNS = ("id", *FILES)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: As Excel names the separator, on a line above all others.
NAMED_SEPARATOR = re.compile(r"sep=(.)(?:\r\n|\n|\r|\Z)", re.IGNORECASE)
#: What files begin with that are not text in UTF-8.
OTHER_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "a spreadsheet or a zip file",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed",
}


@dataclass(frozen=True)
class Pair:
    """One row of the CSV.

    Attributes
    ----------
    id
        Its id, or the number of its row, from 1.
    cells
        Its columns ``id`` and those that name files, as they are written.
    paths
        From an argument of `evaluate_pair` to the file, absolute; without those whose cell is empty.
    further
        Its further columns, as they are written.
    line
        The line of the CSV on which it ends, from 1.
    """

    id: str
    cells: Mapping[str, str]
    paths: Mapping[str, str]
    further: Mapping[str, str] = field(default_factory=dict)
    line: int = 0

    def files(self) -> dict[str, list[int] | None]:
        """Return size and time of change of each file, None for one that cannot be seen from here."""
        found: dict[str, list[int] | None] = {}
        for role, path in self.paths.items():
            try:
                status = os.stat(path)
            except OSError:
                found[role] = None
            else:
                found[role] = [status.st_size, status.st_mtime_ns]
        return found


def read_pairs(path: Path) -> tuple[tuple[str, ...], list[Pair]]:
    """Read a CSV of pairs.

    Parameters
    ----------
    path
        UTF-8, separated by commas, semicolons or tabs. Its first line names its columns: ``fixed`` and ``moved``, and
        whichever of `FILES` and ``id`` there are. Any other column is kept as it
        is; one without a name that has a cell which is not empty is called as pandas calls it, ``Unnamed: 0`` where it
        is the first. Paths are relative to the CSV's folder, and ``~`` is the user's home.

    Returns
    -------
    tuple of str
        The columns that name files, in the order of `evaluate_pair`'s arguments.
    list of Pair
        Its rows.

    Raises
    ------
    InputError
        If it cannot be read or is not UTF-8, has a NUL, lacks a column or names one twice, has no row, a row that is
        too long or too short, or the same pair or id twice. Whether its files exist is not looked at.
    """
    names, separator, lines = _lines(path)
    _check_names(path, names, separator)
    if not lines:
        raise InputError(f"{path} holds no pair: there is nothing below the names of its columns.")
    for line, row in lines:
        if len(row) != len(names):
            raise InputError(
                f"{path}, line {line}: {_count(len(row), 'cell')}, where the first line names "
                f"{_count(len(names), 'column')}, separated by {separator}."
            )
    kept = _kept(names, [row for _, row in lines])
    folder = Path(os.path.abspath(path)).parent
    inputs = tuple(name for name in FILES if name in kept)
    further = [name for name in kept if name not in COLUMNS]
    known = [name for name in kept if name in COLUMNS]
    rows = []
    first: dict[Any, int] = {}
    for number, (line, row) in enumerate(lines, 1):
        cells = {name: row[kept[name]].strip() for name in known}
        if not cells.get("id", "any"):
            raise InputError(f"{path}, line {line}: the id is empty.")
        same = cells["id"] if "id" in cells else tuple(cells.values())
        if same in first:
            what = f"the id {same!r} twice" if "id" in cells else "one pair twice; a column id would tell them apart"
            raise InputError(f"{path}, lines {first[same]} and {line}: {what}.")
        first[same] = line
        # os.path, as pathlib raises where a name that begins with ~ is no user's.
        paths = {name: str(folder / os.path.expanduser(cells[name])) for name in inputs if cells[name]}
        beside = {name: row[kept[name]] for name in further}
        rows.append(Pair(cells.get("id", str(number)), cells, paths, beside, line))
    return inputs, rows


def likely_misspelt(columns: Sequence[str], further: Sequence[str]) -> dict[str, str]:
    """Return further columns that are spelt much like one that would be read, and which is not there."""
    lacking = [name for name in COLUMNS if name not in columns]
    found = {}
    for name in further:
        plain = re.sub(r"[\s-]", "_", name.strip().lower())
        if close := difflib.get_close_matches(plain, lacking, n=1, cutoff=0.75):
            found[name] = close[0]
    return found


# --- text -------------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> tuple[list[str], str, list[tuple[int, list[str]]]]:
    """Return the names of the columns, what separates them, and each row that is not empty with its line's number."""
    text, above, separators = _text(path), 0, "".join(SEPARATORS)
    if named := NAMED_SEPARATOR.match(text):
        text, above, separators = text[named.end() :], 1, named[1]
    try:
        chosen = max(separators, key=lambda separator: _known(text, separator))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=chosen, strict=True)
        lines = [(reader.line_num + above, line) for line in reader if any(cell.strip() for cell in line)]
    except (TypeError, ValueError, csv.Error) as error:  # The first two: "sep=" names what cannot be a separator.
        raise InputError(f"{path} cannot be read as CSV: {one_line(error)}.") from error
    if not lines:
        raise InputError(f"{path} is empty: its first line names columns, {' and '.join(REQUIRED)} at least.")
    names = [name.strip() for name in lines.pop(0)[1]]
    return names, SEPARATORS.get(chosen, repr(chosen)), lines


def _known(text: str, separator: str) -> tuple[int, int]:
    """Return how many known columns the first line that is not empty names, and how many columns at all."""
    for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
        if names := {cell.strip() for cell in line} - {""}:
            return len(names & set(COLUMNS)), len(names)
    return 0, 0


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # A path with a NUL is no value.
        raise InputError(f"{path} cannot be read as CSV: {one_line(error)}.") from error
    for mark, what in OTHER_MARKS.items():
        if content.startswith(mark):
            raise InputError(f"{path} cannot be read as CSV: it is {what}. Save it as CSV in UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}, cannot be read as CSV: byte {content[error.start]:#04x} is not UTF-8. Save it as "
            "CSV in UTF-8."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(
            f"{path}, line {line}, cannot be read as CSV: it has a NUL character, as text in UTF-16 or a damaged file "
            "has. Save it as CSV in UTF-8."
        )
    return text


# --- columns ----------------------------------------------------------------------------------------------------------


def _check_names(path: Path, names: Sequence[str], separator: str) -> None:
    lacking = [name for name in REQUIRED if name not in names]
    for both in TOGETHER:
        if len(there := [name for name in both if name in names]) == 1:
            lacking += [name for name in both if name not in there]
    if lacking:
        misspelt = likely_misspelt(names, [name for name in names if name not in COLUMNS])
        hint = "".join(f" Is {name!r} meant for {meant}?" for name, meant in misspelt.items() if meant in lacking)
        raise InputError(
            f"{path} lacks the column {' and the column '.join(lacking)}: its first line, separated by {separator}, "
            f"names {_listed(names)}.{hint} Columns are separated by commas, semicolons or tabs."
        )
    if twice := [name for place, name in enumerate(names) if name and name in names[:place]]:
        raise InputError(f"{path} names the column {twice[0]!r} twice.")


def _kept(names: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return the place of each column by its name; one without a name is left out where it is empty."""
    kept: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name:
            if not any(row[place].strip() for row in rows):
                continue
            name = f"Unnamed: {place}"
            while name in names:
                name += ".1"
        kept[name] = place
    return kept


def _listed(names: Sequence[str], most: int = 10, longest: int = 40) -> str:
    listed = [repr(name if len(name) <= longest else f"{name[:longest]}...") for name in names[:most]]
    return ", ".join(listed) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
