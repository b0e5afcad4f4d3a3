"""A folder of reports: a page for each pair that was evaluated, and ``index.html``, which links to them."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.report.group import group_html
from agnoreg.evaluate.report.members import Member, Members
from agnoreg.files import hidden, one_line, target_of, write_whole
from agnoreg.messages import named

__all__ = ["INDEX", "Listed", "ReportFolder", "page_name"]

INDEX = "index.html"
#: Where the JSON of a page begins, which is to be saved from it.
_JSON = b'href="data:application/json;charset=utf-8;base64,'
_STATE = "<!-- agnoreg {} -->"
#: What the head of every report says, `base.html`.
_OURS = b'<meta name="generator" content="agnoreg">'


@dataclass(frozen=True)
class Listed:
    """A pair that the page of all lists: its id, and why it has no page of its own, empty where it has one."""

    name: str
    error: str = ""


class ReportFolder:
    """A folder of reports. Pages are written one at a time, each whole or not at all, and none is kept in memory.

    Parameters
    ----------
    folder
        The folder, which is made where there is none.

    Raises
    ------
    InputError
        If it cannot be made or written to, or if it has an ``index.html`` that is no report.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if why := hidden(folder):
            raise InputError(f"The reports cannot be written to {named(folder)}: {why}.")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"The reports cannot be written to {folder}: it is a file.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The reports cannot be written to {folder}: {one_line(error)}.") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"The reports cannot be written to {folder}: the folder is read-only.")
        _refuse_foreign(folder / INDEX)

    def is_true(self, name: str, state: str) -> bool:
        """Return whether there is a page of a pair in this state: of the files and options of an earlier run."""
        page = self.folder / page_name(name)
        try:
            with open(page, "rb") as file:
                file.seek(max(0, page.stat().st_size - 4096))
                return file.read().decode("utf-8", "replace").rstrip().endswith(_STATE.format(_digest(state)))
        except OSError:
            return False

    def write(self, name: str, page: str, state: str) -> None:
        """Write a pair's page.

        Parameters
        ----------
        name
            The pair's id.
        page
            The page.
        state
            What tells the next run whether the page is still true: it changes with the files and the options.

        Raises
        ------
        InputError
            If it cannot be written.
        """
        self._write(page_name(name), f"{page}\n{_STATE.format(_digest(state))}\n")

    def write_index(
        self, pairs: Sequence[Listed], title: str, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Write the page of all pairs, by what their own pages say, and return its path.

        Parameters
        ----------
        pairs
            The pairs, in their order.
        title
            What the page is called.
        progress
            Is called with how many pages were read, and how many there are.

        Raises
        ------
        InputError
            If it cannot be written, or jinja2 is not installed.
        """
        members = Members()
        for done, pair in enumerate(pairs, 1):
            members.add(self._member(pair, members))
            if progress is not None:
                progress(done, len(pairs))
        self._write(INDEX, group_html(members, title))
        return self.folder / INDEX

    def left_behind(self) -> list[Path]:
        """Return the temporary files of a run that was killed."""
        return [path for path in self.folder.iterdir() if target_of(path).endswith(".html")]

    def _write(self, file: str, content: str) -> None:
        path = self.folder / file
        _refuse_foreign(path)
        try:
            write_whole({path: content})
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {one_line(error)}. What is finished is kept; run the same command again "
                "for the rest."
            ) from error

    def _member(self, pair: Listed, members: Members) -> Member:
        """Return a pair as the group's page has it, with what its own page says of it."""
        name, error = page_name(pair.name), pair.error
        if not error:
            try:
                content = _values(self.folder / name)
                if content is not None:
                    return members.read(pair.name, name, content)
                error = f"{name} holds no values."
            except (OSError, ValueError, KeyError) as problem:
                error = one_line(problem)
        return Member(pair.name, error=error)


def page_name(name: str) -> str:
    """Return the file's name of a pair's page: its id, as far as any system and any link can have it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].strip("._")
    if plain and plain == name and plain.lower() != "index":
        return f"{plain}.html"
    return f"{plain or 'pair'}-{_digest(name)[:8]}.html"


def _refuse_foreign(path: Path) -> None:
    """Raise InputError if there is a file that is no report: it would be lost."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:  # what is there cannot be read: writing says why
        return
    if _OURS not in head:
        raise InputError(f"{path} is no report of agnoreg, so it is not replaced. Move it, or choose another folder.")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _values(page: Path) -> Any:
    """Return what a page holds as JSON to save, None where it holds none; its pictures come before."""
    content = page.read_bytes()
    start = content.rfind(_JSON)
    if start < 0:
        return None
    start += len(_JSON)
    return json.loads(base64.b64decode(content[start : content.index(b'"', start)]))
