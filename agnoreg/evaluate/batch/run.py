"""Every pair of a CSV: read, computed here or on a cluster, kept, and written as a table."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch import cluster, here
from agnoreg.evaluate.batch.figures import Figures, figures_of
from agnoreg.evaluate.batch.interrupts import ended_pairs
from agnoreg.evaluate.batch.pages import Pages
from agnoreg.evaluate.batch.rows import RowStore
from agnoreg.evaluate.batch.table_in import Pair, likely_misspelt, read_pairs
from agnoreg.evaluate.batch.table_out import FORMATS, Columns, TableRows, row, value_columns, write_table
from agnoreg.evaluate.batch.work import FILES, OPTIONS, PAGE, PLANNING
from agnoreg.evaluate.evaluation import InputError, check_backend, check_outputs, library_warnings
from agnoreg.evaluate.label_names import label_names as names_of_labels
from agnoreg.evaluate.report import check_packages
from agnoreg.files import one_line

__all__ = ["Summary", "checked", "evaluate_pairs"]

Computed = Iterator[tuple[Pair, dict[str, Any], dict[str, Any]]]

#: A file's name has no more bytes; ``.parts`` is added to that of the table.
LONGEST_NAME = 255 - len(".parts")


@dataclass(frozen=True)
class Summary:
    """What became of the pairs.

    Attributes
    ----------
    total
        How many pairs the CSV holds.
    finished
        How many were evaluated, those of earlier runs with them.
    before
        How many of the finished ones were skipped, as an earlier run had evaluated them.
    failures
        The error of each pair that failed, by its id, in the order of the CSV.
    interrupted
        Whether Ctrl-C ended the run.
    lost
        Why the cluster ended it; empty where it did not.
    lines
        The line of the CSV of each pair that failed or has no page, by its id.
    figures
        The figures of each column of values over all pairs that were evaluated.
    reports
        The page that links to the reports of all pairs; None where none were asked for.
    undrawn
        Why a pair that was evaluated has no page, by its id; empty where no pages were asked for.
    """

    total: int
    finished: int
    before: int
    failures: Mapping[str, str]
    interrupted: bool = False
    lost: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)
    reports: Path | None = None
    undrawn: Mapping[str, str] = field(default_factory=dict)


def evaluate_pairs(
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    losses: Sequence[str] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    keep_parts: bool = False,
    label_names: Any = None,
    report_dir: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    page_progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Summary:
    """Evaluate every pair of a CSV and write a table with one row for each.

    Parameters
    ----------
    pairs
        The CSV, as `read_pairs` takes it.
    out
        The table, ``.parquet`` or ``.csv``. Until every pair is evaluated, finished rows are kept beside it, in
        ``OUT.parts/``.
    losses
        What to compute, as `evaluate_pair` takes it: ``"NAME"`` or ``"NAME:key=value,..."``.
    scheduler
        The address of a running scheduler of ``dask.distributed``; where None, pairs are computed on this machine.
    workers
        How many processes compute here, each with one pair at a time. Where None, as many as CPUs; but up to eight
        pairs are computed one after the other in this process, if no memory limit is given either.
    memory_limit
        What each of them may take, as ``"4GiB"``; an equal share of the memory where None, no limit where ``"0"``.
    keep_parts
        Keep ``OUT.parts/`` when every pair is evaluated.
    label_names
        Names of labels, as `agnoreg.evaluate.label_names.label_names` takes them: columns of labels have them.
    report_dir
        A folder for a report of each pair, and of all, ``index.html``; None: no reports. A page is drawn where its pair
        is evaluated, and written when that has ended. Pages that are still true stay; a pair whose row is finished and
        whose page is not is evaluated for the page.
    progress
        Is called with how many pairs are finished, how many failed and how many there are, after each change.
    page_progress
        Is called with how many pages were read for ``index.html``, and how many there are.
    tell
        Is called with a sentence where the run waits for something, or the CSV is probably not what is meant.
    **options
        The other options of `evaluate_pair`, such as ``backend``, ``scale``, ``convention`` or ``nan_is_masked``.

    Returns
    -------
    Summary
        How many pairs are finished and which ones failed.

    Raises
    ------
    InputError
        If the CSV or the options do not fit, if the backend cannot be used, if the scheduler does not answer, or if a
        file cannot be written. An error of one pair raises nothing: it is in its row.
    TypeError
        If `evaluate_pair` has no such option.
    """
    if unknown := options.keys() - OPTIONS.keys():
        raise TypeError(f"evaluate_pairs has no argument {min(unknown)!r}.")
    settings = {**OPTIONS, **options, "losses": list(losses)}
    pairs, out = (Path(os.path.expanduser(path)) for path in (pairs, out))
    _check_packages("pandas", "pyarrow")
    limit = cluster.check_cluster(scheduler, workers, memory_limit)
    names = {} if label_names is None else names_of_labels(label_names)
    columns, rows = checked(pairs, out, settings, tell)
    columns = replace(columns, names=names)
    if report_dir is not None:
        check_packages()
        report_dir = Path(os.path.expanduser(report_dir))
        if Path(os.path.abspath(out)) in ((there := Path(os.path.abspath(report_dir))), *there.parents):
            raise InputError(f"The reports cannot be written to {report_dir}: {out} is the table.")
    store = RowStore(out, settings, TableRows(out, columns).part)
    pages = Pages(report_dir, names)
    store.left_behind = pages.left_behind
    # The rows of earlier runs. What failed in one is tried again.
    finished = {
        pair.id: row(pair, store.key(pair), part)
        for pair in rows
        if (part := store.read(pair)) is not None and not part["error"]
    }
    done = {name: one for name, one in finished.items() if not pages.lacks(one)}
    todo = [pair for pair in rows if pair.id not in done]
    before, failed, interrupted, lost = len(done), 0, False, ""
    report = progress or (lambda finished, failed, total: None)
    report(before, failed, len(rows))
    few = len(todo) <= here.FEW and (scheduler, workers, memory_limit) == (None, None, None)
    if todo and not few:
        _check_packages("distributed")
    asked = {**settings, **pages.settings}
    with store.held():
        try:
            if todo:
                with _here(todo, asked) if few else _cluster(todo, asked, scheduler, workers, limit, tell) as ended:
                    for pair, files, result in ended:
                        page = result.pop(PAGE, None)
                        if (one := finished.get(pair.id)) is not None:  # It was evaluated for its page alone.
                            page = page or {"error": result["error"]}
                        else:
                            one = row(pair, store.key(pair), store.write(pair, files, result))
                            failed += bool(result["error"])
                        pages.write(one, page)
                        done[pair.id] = one
                        report(len(done) - failed, failed, len(rows))
        except KeyboardInterrupt:
            interrupted = True
        except cluster.LostError as error:
            lost = str(error)
        # A row that this run did not get to may have failed in an earlier one, or been written as Ctrl-C was pressed.
        for pair in todo:
            if pair.id not in done and (part := store.read(pair)) is not None:
                done[pair.id] = row(pair, store.key(pair), part)
        table = [done[pair.id] for pair in rows if pair.id in done]
        if table:
            write_table(out, columns, table)
        failures = {one["id"]: one["error"] for one in table if one["error"]}
        store.kept = keep_parts or len(table) < len(rows) or bool(failures)
    lines = {pair.id: pair.line for pair in rows if pair.id in {**failures, **pages.undrawn}}
    figures = figures_of(columns, [one for one in table if not one["error"]])
    index = pages.write_index(table, pairs.name, page_progress)
    ended_so = (before, failures, interrupted, lost, lines, figures, index, pages.undrawn)
    return Summary(len(rows), len(table) - len(failures), *ended_so)


def _check_packages(*names: str) -> None:
    try:
        for name in names:
            __import__(name)
    except ImportError as error:
        raise InputError(
            f"--pairs needs dask.distributed, pandas and pyarrow: pip install agnoreg[pairs] ({one_line(error)})"
        ) from error


def checked(
    pairs: Path, out: Path, settings: Mapping[str, Any], tell: Callable[[str], None] | None
) -> tuple[Columns, list[Pair]]:
    """Return the columns of the table and the rows of the CSV, once everything about them fits."""
    losses = settings["losses"]
    options = {name: settings[name] for name in PLANNING}
    said: list[str] = []
    with library_warnings(said):
        value_columns(losses, FILES, **options)  # What does not fit here fits no CSV.
    if tell is not None:
        for text in dict.fromkeys(said):
            tell(text)
    inputs, rows = read_pairs(pairs)
    try:
        series = value_columns(losses, inputs, **options)
    except InputError as error:
        raise InputError(f"{pairs} lacks columns for what was asked: {error}") from error
    columns = Columns(inputs, tuple(rows[0].further), series)
    if clashing := columns.clashing():
        raise InputError(
            f"{pairs} has a column {clashing[0]!r}, and the table has one of that name for what is computed: rename it."
        )
    _check_name(out)
    check_outputs([out], [pairs])
    if tell is not None:
        for name, meant in likely_misspelt([*inputs, *rows[0].cells], columns.further).items():
            tell(f"{pairs}: the column {name!r} is not read but carried through to the table; is {meant} meant?")
    return columns, rows


def _check_name(out: Path) -> None:
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"{out} is no table that can be written: its name must end in {' or '.join(FORMATS)}.")
    if "\0" in str(out):
        raise InputError(f"{str(out)!r} cannot be written: its name has a NUL character.")
    if len(os.fsencode(out.name)) > LONGEST_NAME:
        raise InputError(f"{out} cannot be written: its name is longer than {LONGEST_NAME} bytes.")


@contextmanager
def _here(todo: Sequence[Pair], settings: Mapping[str, Any]) -> Iterator[Computed]:
    # Before all of them fail for one reason.
    check_backend(settings["backend"], settings["device"])
    with ended_pairs() as ended:
        yield here.computed(todo, settings, ended)


@contextmanager
def _cluster(
    todo: Sequence[Pair],
    settings: Mapping[str, Any],
    scheduler: str | None,
    workers: int | None,
    limit: Any,
    tell: Callable[[str], None] | None,
) -> Iterator[Computed]:
    with cluster.connected(scheduler, min(workers or cluster.cpus(), len(todo)), limit) as client:
        cluster.check_workers(client, settings, tell)
        with ended_pairs() as ended:
            yield cluster.computed(client, todo, settings, ended)
