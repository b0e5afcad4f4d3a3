"""A folder of reports: a page for each pair that was evaluated, and ``index.html``, which links to them."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from agnoreg.evaluate.evaluation import evaluate_pair
from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.report.group import Member, group_html
from agnoreg.evaluate.report.pair import report_html
from agnoreg.files import one_line, write_whole

__all__ = ["Job", "write_folder"]

INDEX = "index.html"
#: Up to as many pages are written in this process.
FEW = 2
_JSON = re.compile(r'href="data:application/json;charset=utf-8;base64,([A-Za-z0-9+/=]+)"')
_STATE = "<!-- agnoreg {} -->"


@dataclass(frozen=True)
class Job:
    """A pair to report.

    Attributes
    ----------
    name
        Its id.
    arguments
        Those of `evaluate_pair`.
    state
        What tells whether a page of an earlier run is still true: it changes with the files and the options.
    error
        Why it was not evaluated; empty where it was.
    """

    name: str
    arguments: Mapping[str, Any]
    state: str
    error: str = ""


def write_folder(
    folder: Path,
    jobs: Sequence[Job],
    title: str,
    workers: int | None = None,
) -> Path:
    """Write a page for each pair, and that of all of them; pages that are still true stay as they are.

    Parameters
    ----------
    folder
        The folder, which is made where there is none.
    jobs
        The pairs.
    title
        What the page of all of them is called.
    workers
        How many processes write pages; as many as CPUs where None. Each page evaluates its pair once more.

    Returns
    -------
    Path
        The page of all pairs.

    Raises
    ------
    InputError
        If the folder cannot be written to, or jinja2 or matplotlib is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The reports cannot be written to {folder}: {one_line(error)}.") from error
    todo = [job for job in jobs if not (job.error or _is_true(folder / page_name(job.name), job.state))]
    errors = {job.name: job.error for job in jobs if job.error}
    for job, why in zip(todo, _written(folder, todo, workers), strict=True):
        if why:
            errors[job.name] = why
    members = [_member(folder, job, errors.get(job.name, "")) for job in jobs]
    index = folder / INDEX
    try:
        write_whole({index: group_html(members, title)})
    except OSError as error:
        raise InputError(f"Cannot write {index}: {one_line(error)}") from error
    return index


def page_name(name: str) -> str:
    """Return the file's name of a pair's page: its id, as far as any system and any link can have it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].strip("._")
    if plain and plain == name and plain.lower() != "index":
        return f"{plain}.html"
    return f"{plain or 'pair'}-{_digest(name)[:8]}.html"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _written(folder: Path, jobs: Sequence[Job], workers: int | None) -> Iterator[str]:
    """Yield for each job why its page could not be written, an empty string where it was."""
    count = min(workers or os.cpu_count() or 1, len(jobs))
    if count < 2 or len(jobs) <= FEW:
        yield from (_write(folder, job) for job in jobs)
        return
    # Processes that are started afresh: a framework's threads do not survive a fork.
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        yield from pool.map(_write, [folder] * len(jobs), jobs)


def _write(folder: Path, job: Job) -> str:
    try:
        page = report_html(evaluate_pair(**job.arguments), job.arguments, title=job.name, index=INDEX)
        write_whole({folder / page_name(job.name): f"{page}\n{_STATE.format(_digest(job.state))}\n"})
    except InputError as error:
        if "agnoreg[report]" in str(error):
            raise
        return one_line(error)
    except Exception as error:  # One pair must not stop the others.
        return f"{type(error).__name__}: {one_line(error)}"
    return ""


def _is_true(page: Path, state: str) -> bool:
    """Return whether there is a page of that state."""
    try:
        with open(page, "rb") as file:
            file.seek(max(0, page.stat().st_size - 4096))
            return file.read().decode("utf-8", "replace").rstrip().endswith(_STATE.format(_digest(state)))
    except OSError:
        return False


def _member(folder: Path, job: Job, error: str) -> Member:
    """Return a pair as the group's page has it, with what its own page says of it."""
    name = page_name(job.name)
    if not error:
        try:
            found = _JSON.search((folder / name).read_text("utf-8"))
            if found is not None:
                return Member(job.name, name, json.loads(base64.b64decode(found[1])))
            error = f"{name} holds no values."
        except (OSError, ValueError) as problem:
            error = one_line(problem)
    return Member(job.name, "", {}, error)
