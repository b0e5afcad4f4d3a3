"""The names of labels, from the files that segmentation tools keep them in."""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agnoreg.evaluate.nifti import InputError
from agnoreg.files import one_line

__all__ = ["label_names"]

#: What a column of numbers and a column of names may be called, in order of preference.
NUMBER_COLUMNS = ("id", "labelid", "index", "number", "no", "value", "key", "roi", "label")
NAME_COLUMNS = ("name", "labelname", "structure", "region", "roiname", "description", "label", "abbreviation")
FORMATS = (
    "a CSV or TSV with the columns id and name, a label description file of ITK-SNAP, or a colour table of FreeSurfer"
)

#: ITK-SNAP: a number, a colour, three settings, and the name in quotes.
_ITKSNAP = re.compile(r'(-?\d+)(?:\s+[\d.]+){6}\s+"(.*)"')
#: FreeSurfer: a number, a name and a colour.
_FREESURFER = re.compile(r"(-?\d+)\s+(\S.*?)(?:\s+[\d.]+){3,4}")
_PLAIN = re.compile(r"(-?\d+)\s+(\S.*)")


def label_names(source: Any) -> dict[int, str]:
    """Return the names of labels.

    Parameters
    ----------
    source
        A mapping from label to name; or a file: a CSV or TSV whose first line names the columns ``id`` and ``name``
        (or ``index``, ``label`` ..., as BIDS has it), or that has a number and a name on each line; a label
        description file of ITK-SNAP; or a colour table of FreeSurfer. Lines that begin with ``#`` are comments.

    Raises
    ------
    InputError
        If the file cannot be read, a line is none of these, or a label has two names.
    """
    if isinstance(source, Mapping):
        return {int(label): str(name) for label, name in source.items()}
    path = Path(source)
    names: dict[int, str] = {}
    try:
        text = path.read_text("utf-8-sig")
        for line, label, name in _entries(path, text):
            if names.setdefault(label, name) != name:
                both = f"{names[label]!r} and {name!r}"
                raise InputError(f"--label-names {path}, line {line}: the label {label} has two names, {both}.")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--label-names {path} cannot be read: {one_line(error)}") from error
    if not names:
        raise InputError(f"--label-names {path} holds no label: it may be {FORMATS}.")
    return names


def _entries(path: Path, text: str) -> Iterator[tuple[int, int, str]]:
    """Yield line, label and name."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        return
    separator = _separator(lines[0][1])
    columns = (0, 1)
    if separator and (found := _columns(_cells(lines[0][1], separator))):
        columns = found
        del lines[0]
    for number, line in lines:
        entry = (_delimited(line, separator, columns) if separator else None) or _spaced(line)
        if entry is None:
            what = f"{line[:60]!r} is no label and its name"
            raise InputError(f"--label-names {path}, line {number}: {what}. A file of names is {FORMATS}.")
        yield (number, *entry)


def _separator(line: str) -> str:
    """Return what separates a table's cells; empty where blanks do, as in the tools' own files."""
    if _ITKSNAP.fullmatch(line):
        return ""
    return next((separator for separator in "\t,;" if separator in line), "")


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))]


def _columns(header: list[str]) -> tuple[int, int] | None:
    """Return the columns of number and name; None where the first line names no columns."""
    names = [re.sub(r"[\W_]", "", cell).lower() for cell in header]
    number = next((names.index(name) for name in NUMBER_COLUMNS if name in names), None)
    name = next((names.index(name) for name in NAME_COLUMNS if name in names and names.index(name) != number), None)
    return None if number is None or name is None else (number, name)


def _delimited(line: str, separator: str, columns: tuple[int, int]) -> tuple[int, str] | None:
    cells = _cells(line, separator)
    if len(cells) <= max(columns):
        return None
    number, name = (cells[column] for column in columns)
    return (int(float(number)), name) if re.fullmatch(r"[-+]?\d{1,15}(\.0*)?", number) and name else None


def _spaced(line: str) -> tuple[int, str] | None:
    for pattern in (_ITKSNAP, _FREESURFER, _PLAIN):
        if match := pattern.fullmatch(line):
            return int(match[1]), match[2].strip().strip('"')
    return None
