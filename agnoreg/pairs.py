"""Many pairs: one row of a table a pair, computed on a cluster; no row that is finished is lost.

`evaluate_pairs` is what ``agnoreg evaluate --pairs`` runs. Workers compute, the client writes: each row that
is finished becomes a file of its own in ``OUT.parts/`` at once, and the table is written from these files at the end.
"""

import asyncio
import csv
import hashlib
import io
import itertools
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agnoreg.backend import get_backend
from agnoreg.evaluation import (
    INPUTS,
    InputError,
    Series,
    check_backend,
    check_outputs,
    evaluate_pair,
    planned,
)
from agnoreg.files import one_line, write_whole
from agnoreg.nifti import MAX_VOXELS

__all__ = ["Pair", "Summary", "evaluate_pairs", "read_pairs"]

#: How long a scheduler may take to answer, in seconds.
CONNECT_SECONDS = 15
#: How a table is written, by the end of its file's name.
FORMATS = (".parquet", ".csv")

REQUIRED = ("fixed", "moved")
COLUMNS = ("id", *INPUTS)

#: The scheduler's HTTP server cannot be left out: on any free port, it is in no other's way.
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}

OUT_OF_MEMORY = "most likely out of memory. Fewer workers, or a larger limit, leave each more."
DIED = f"The worker process died twice while it computed this pair, the second time alone: {OUT_OF_MEMORY}"


@dataclass(frozen=True)
class Pair:
    """One row of the CSV.

    Attributes
    ----------
    id
        Its id, or the number of its row, from 1.
    cells
        Its columns as they are written.
    paths
        From an argument of `evaluate_pair` to the file, absolute; without those whose cell is empty.
    """

    id: str
    cells: Mapping[str, str]
    paths: Mapping[str, str]

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
    """

    total: int
    finished: int
    before: int
    failures: Mapping[str, str]
    interrupted: bool = False
    lost: str = ""


def evaluate_pairs(
    pairs: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    losses: Sequence[str] = (),
    backend: str = "numpy",
    device: str | None = None,
    scale: bool = True,
    ddf_units: str = "voxel",
    affine_tol: float = 1e-3,
    ignore_affine: bool = False,
    convention: str | None = None,
    regulariser_units: str | None = None,
    nan_is_masked: bool = False,
    max_voxels: int = MAX_VOXELS,
    scheduler: str | None = None,
    workers: int | None = None,
    memory_limit: str | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Summary:
    """Evaluate every pair of a CSV and write a table with one row for each.

    Parameters
    ----------
    pairs
        The CSV, as `read_pairs` takes it.
    out
        The table, ``.parquet`` or ``.csv``. Finished rows are kept beside it, in ``OUT.parts/``.
    losses, backend, device, scale, ddf_units, affine_tol, ignore_affine, max_voxels, convention, regulariser_units
        As `evaluate_pair` takes them; a loss is its text, ``"NAME"`` or ``"NAME:key=value,..."``.
    nan_is_masked
        As `evaluate_pair` takes it.
    scheduler
        The address of a running scheduler of ``dask.distributed``; a cluster on this machine where None.
    workers
        How many processes the local cluster has, each with one pair at a time; as many as CPUs where None.
    memory_limit
        What each of them may take, as ``"4GiB"``; an equal share of the memory where None, no limit where ``"0"``.
    progress
        Is called with how many pairs are finished, how many failed and how many there are, after each change.
    tell
        Is called with a sentence where the run waits for something.

    Returns
    -------
    Summary
        How many pairs are finished and which ones failed.

    Raises
    ------
    InputError
        If the CSV or the options do not fit, if the backend cannot be used on the workers, if the scheduler does not
        answer, or if a file cannot be written. An error of one pair raises nothing: it is in its row.
    """
    _check_packages()
    pairs, out = Path(pairs), Path(out)
    settings: dict[str, Any] = {
        "losses": list(losses),
        "backend": backend,
        "device": device,
        "scale": scale,
        "ddf_units": ddf_units,
        "affine_tol": affine_tol,
        "ignore_affine": ignore_affine,
        "convention": convention,
        "regulariser_units": regulariser_units,
        "nan_is_masked": nan_is_masked,
        "max_voxels": max_voxels,
    }
    limit = _check_cluster(scheduler, workers, memory_limit)
    checked = {name: settings[name] for name in ("ddf_units", "affine_tol", "convention", "regulariser_units")}
    series = _columns(losses, INPUTS, **checked)  # What does not fit here fits no CSV.
    columns, rows = read_pairs(pairs)
    try:
        series = _columns(losses, columns, **checked)
    except InputError as error:
        raise InputError(f"{pairs} lacks columns for what was asked: {error}") from error
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"{out} is no table that can be written: its name must end in {' or '.join(FORMATS)}.")
    check_outputs([out], [pairs])
    parts = _Parts(out.with_name(f"{out.name}.parts"), settings)
    # The error of each row that is done, empty where it is finished. What failed in an earlier run is tried again.
    errors = {pair.id: "" for pair in rows if (part := parts.read(pair)) is not None and not part["error"]}
    todo = [pair for pair in rows if pair.id not in errors]
    before, failed, interrupted, lost = len(errors), 0, False, ""
    report = progress or (lambda finished, failed, total: None)
    report(before, failed, len(rows))
    try:
        if todo:
            with _client(scheduler, min(workers or _cpus(), len(todo)), limit) as client:
                _check_workers(client, backend, device, tell)
                with _ended() as ended:
                    for pair, files, result in _computed(client, todo, settings, ended):
                        parts.write(pair, files, result)
                        errors[pair.id] = result["error"]
                        failed += bool(result["error"])
                        report(len(errors) - failed, failed, len(rows))
    except KeyboardInterrupt:
        interrupted = True
    except _LostError as error:
        lost = str(error)
    # A row that this run did not get to may have failed in an earlier one, or been written as Ctrl-C was pressed.
    read = ((pair, parts.read(pair, whatever=pair.id in errors)) for pair in rows)
    table = [_row(pair, part, columns) for pair, part in read if part is not None]
    there = {row["id"]: row["error"] for row in table}
    if damaged := [name for name in errors if name not in there]:
        raise InputError(f"What was written to {parts.folder} cannot be read again, as of the pair {damaged[0]}.")
    _write_table(out, columns, series, table)
    failures = {name: error for name, error in there.items() if error}
    return Summary(len(rows), len(table) - len(failures), before, failures, interrupted, lost)


def _check_packages() -> None:
    try:
        import distributed  # noqa: F401
        import pandas  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--pairs needs dask.distributed, pandas and pyarrow: pip install agnoreg[pairs] ({one_line(error)})"
        ) from error


# --- the CSV ----------------------------------------------------------------------------------------------------------


def read_pairs(path: Path) -> tuple[tuple[str, ...], list[Pair]]:
    """Read a CSV of pairs.

    Parameters
    ----------
    path
        UTF-8, separated by commas. Its first line names its columns: ``fixed`` and ``moved``, and whichever of
        ``fixed_label`` with ``moved_label``, ``ddf``, ``mask``, ``fixed_mask``, ``moving_mask`` and ``id`` there are.
        Paths are relative to its folder.

    Returns
    -------
    tuple of str
        Its columns but ``id``, in the order of `evaluate_pair`'s arguments.
    list of Pair
        Its rows.

    Raises
    ------
    InputError
        If it cannot be read, has a column that is unknown or lacks one, has no row, a row that is too long or too
        short, or the same pair or id twice. Whether its files exist is not looked at.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {one_line(error)}") from error
    if not lines:
        raise InputError(f"{path} is empty: its first line names columns, {' and '.join(REQUIRED)} at least.")
    names = lines.pop(0)[1]
    _check_names(path, names)
    if not lines:
        raise InputError(f"{path} holds no pair: there is nothing below the names of its columns.")
    folder = path.absolute().parent
    inputs = tuple(name for name in INPUTS if name in names)
    rows = []
    first: dict[Any, int] = {}
    for number, (line, row) in enumerate(lines, 1):
        if len(row) != len(names):
            raise InputError(f"{path}, line {line}: {len(row)} cells, where the first line names {len(names)} columns.")
        cells = dict(zip(names, row, strict=True))
        if not cells.get("id", "any"):
            raise InputError(f"{path}, line {line}: the id is empty.")
        same = cells["id"] if "id" in cells else tuple(cells.values())
        if same in first:
            what = f"the id {same!r} twice" if "id" in cells else "one pair twice; a column id would tell them apart"
            raise InputError(f"{path}, lines {first[same]} and {line}: {what}.")
        first[same] = line
        paths = {name: str(folder / cells[name]) for name in inputs if cells[name]}
        rows.append(Pair(cells.get("id", str(number)), cells, paths))
    return inputs, rows


def _check_names(path: Path, names: Sequence[str]) -> None:
    optional = ", ".join(name for name in COLUMNS if name not in REQUIRED)
    allowed = f"Its columns are {' and '.join(REQUIRED)}, and whichever there are of {optional}."
    missing = [name for name in REQUIRED if name not in names]
    if ("fixed_label" in names) != ("moved_label" in names):
        missing.append("moved_label" if "fixed_label" in names else "fixed_label")
    unknown = [repr(name) for name in names if name not in COLUMNS]
    twice = [name for name in COLUMNS if names.count(name) > 1]
    for which, what in ((unknown, "has an unknown column"), (missing, "lacks the column"), (twice, "names twice")):
        if which:
            raise InputError(f"{path} {what}, {', '.join(which)}. {allowed}")


# --- finished rows ----------------------------------------------------------------------------------------------------


class _Parts:
    """The folder ``OUT.parts/``: a file for each row, written whole or not at all, of a name that only its row has.

    The name is a digest of the row as it is written, of the settings and of agnoreg's version. Files of rows that are
    not asked for are neither read nor removed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = {**settings, "agnoreg": version("agnoreg")}
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise InputError(f"Finished rows are kept in {folder}, which is no folder that can be written to.")

    def _path(self, pair: Pair) -> Path:
        text = json.dumps([dict(pair.cells), self.settings], sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def read(self, pair: Pair, whatever: bool = False) -> dict[str, Any] | None:
        """Return a row's file; None where there is none, where it is damaged, or where an input changed since.

        With ``whatever``, inputs may have changed: the row is as it was when it was computed.
        """
        try:
            part = json.loads(self._path(pair).read_text("utf-8"))
        except (OSError, ValueError):  # None, or a disk that was full or failed.
            return None
        if not isinstance(part, dict) or not part.keys() >= {"error", "files", "seconds", "values", "warnings"}:
            return None
        # A file that is gone since did not change: its row could not be computed again.
        changed = not whatever and any(
            now is not None and now != part["files"].get(role) for role, now in pair.files().items()
        )
        return None if changed else part

    def write(self, pair: Pair, files: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Write a row's file."""
        path = self._path(pair)
        try:
            self.folder.mkdir(exist_ok=True)
            write_whole({path: json.dumps({"id": pair.id, **pair.cells, "files": files, **result}, indent=1) + "\n"})
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {one_line(error)}. The rows that are in {self.folder} are kept; run the "
                "same command again for the others."
            ) from error


# --- computing --------------------------------------------------------------------------------------------------------


class _LostError(Exception):
    """The cluster is gone; the message says how."""


def _evaluate(paths: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate one pair, on a worker: plain numbers and text, and whatever goes wrong is text, too."""
    start = time.perf_counter()
    content: dict[str, Any] = {"error": "", "values": [], "notes": [], "warnings": []}
    try:
        for name in REQUIRED:
            if name not in paths:
                raise InputError(f"The cell of the column {name} is empty.")
        _take_one_core(settings["backend"])
        result = evaluate_pair(**paths, **settings)
        content["values"] = [
            {
                "metric": record.metric,
                "arguments": dict(record.arguments),
                "measured": record.measured,
                "unit": record.unit,
                "label": record.label,
                "value": record.value,
            }
            for record in result.records
        ]
        content |= {"notes": result.notes, "warnings": result.warnings, "versions": result.versions}
    except InputError as error:
        content["error"] = one_line(error)
    except Exception as error:  # A row that fails in whatever way must not stop the others.
        content["error"] = f"{type(error).__name__}: {one_line(error)}"
    return {**content, "seconds": time.perf_counter() - start}


def _take_one_core(name: str) -> None:
    """Keep a backend that shares its work among threads to one: every core has a pair of its own."""
    backend = get_backend(name)
    if hasattr(backend, "threads"):
        backend.threads = 1


def _ready(backend: str, device: str | None) -> str:
    """Say which agnoreg a worker has, once the backend is known to work there."""
    check_backend(backend, device)
    return version("agnoreg")


@contextmanager
def _ended() -> Iterator[SimpleQueue[Any]]:
    """Make a queue for the pairs that have ended, into which Ctrl-C puts None; pressed again, it is as anywhere.

    A KeyboardInterrupt may come up where Python ignores it, as where an object is removed.
    """
    ended: SimpleQueue[Any] = SimpleQueue()
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        ended.put(None)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield ended
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _computed(
    client: Any, pairs: Iterable[Pair], settings: Mapping[str, Any], ended: SimpleQueue[Any]
) -> Iterator[tuple[Pair, dict[str, Any], dict[str, Any]]]:
    """Yield each pair, its files when it was sent off, and what its worker returned, in the order in which they end.

    A process that dies takes all pairs with it that its threads computed, and so does the next one that gets them: none
    of them is to blame until it is computed alone.
    """
    suspects = []
    for pair, files, result in _sent(client, pairs, settings, ended, at_once=None):
        if result is None:
            suspects.append(pair)
        else:
            yield pair, files, result
    for pair, files, result in _sent(client, suspects, settings, ended, at_once=1):
        died = {"error": DIED, "values": [], "notes": [], "warnings": [], "seconds": math.nan}
        yield pair, files, died if result is None else result


def _sent(
    client: Any, pairs: Iterable[Pair], settings: Mapping[str, Any], ended: SimpleQueue[Any], at_once: int | None
) -> Iterator[tuple[Pair, dict[str, Any], dict[str, Any] | None]]:
    """Send pairs to the workers, as many at once as these have threads: `_computed`, with None where a worker died."""
    from distributed import KilledWorker

    waiting = iter(pairs)
    away: dict[Any, tuple[Pair, dict[str, Any]]] = {}

    def send() -> None:
        # Of a cluster that grows and shrinks. Where it has no thread, one pair waits for the first.
        room = at_once or max(1, sum(client.nthreads().values()))
        for pair in itertools.islice(waiting, max(0, room - len(away))):
            future = client.submit(_evaluate, dict(pair.paths), settings, pure=False)
            away[future] = pair, pair.files()
            future.add_done_callback(ended.put)

    try:
        send()
        while away:
            future = ended.get()
            if future is None:
                raise KeyboardInterrupt
            pair, files = away.pop(future)
            if future.status == "finished":
                yield pair, files, future.result()
            elif future.status != "error":
                raise _LostError("The connection to the scheduler was lost")
            elif isinstance(error := future.exception(), KilledWorker):
                yield pair, files, None
            else:
                failure = f"{type(error).__name__}: {one_line(error)}"
                yield pair, files, {"error": failure, "values": [], "notes": [], "warnings": [], "seconds": math.nan}
            del future
            send()
    except OSError as error:
        raise _LostError(f"The connection to the scheduler was lost: {one_line(error)}") from error


# --- the cluster ------------------------------------------------------------------------------------------------------


def _cpus() -> int:
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def _check_cluster(scheduler: str | None, workers: int | None, memory_limit: str | None) -> Any:
    """Return the memory limit as the local cluster takes it."""
    from dask.utils import parse_bytes

    if scheduler is not None and (workers is not None or memory_limit is not None):
        raise InputError("--workers and --memory-limit are of the local cluster: --scheduler has workers of its own.")
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}.")
    if memory_limit is None:
        return "auto"
    try:
        size = int(parse_bytes(memory_limit))
    except ValueError:
        size = -1
    if size < 0:
        raise InputError(f"--memory-limit must be a size such as 4GiB, or 0 for none, got {memory_limit!r}.")
    return size


@contextmanager
def _client(scheduler: str | None, workers: int, memory_limit: Any) -> Iterator[Any]:
    """Connect to a scheduler, or start a cluster on this machine."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        _knock(scheduler)
        logger = logging.getLogger("distributed.client")
        level = logger.level
        logger.setLevel(logging.CRITICAL)  # That a connection is lost is said in one line.
        try:
            with Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False) as client:
                yield client
        finally:
            logger.setLevel(level)
        return
    # Nothing is kept on a worker, so that one short of memory has nothing to spill, and must not wait to have less.
    memory = {f"distributed.worker.memory.{act}": False for act in ("target", "spill", "pause")}
    # A death is a row's error: neither is it logged, nor is the pair handed on to kill three workers more.
    with (
        dask.config.set(memory),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": 0, **NO_DASHBOARD},
            preload=[__name__],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def dask_setup(worker: Any) -> None:
    """Prepare a worker of the local cluster: Ctrl-C, which the terminal sends to it, too, is for the client alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _knock(scheduler: str) -> None:
    """Raise InputError where nothing answers: a client that could not connect would take its time to go."""
    from distributed import Security, connect

    async def knock() -> None:
        security = Security().get_connection_args("client")
        connection = await connect(scheduler, timeout=CONNECT_SECONDS, **security)
        await connection.close()

    try:
        # In a thread of its own, as an event loop may run in this one: a notebook's.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, knock()).result()
    except Exception as error:  # No address, no answer, or one that is no scheduler's and whatever that makes.
        raise InputError(
            f"The scheduler {scheduler} cannot be reached within {CONNECT_SECONDS} s: {one_line(error)}. An address is "
            "such as tcp://10.0.0.1:8786."
        ) from error


def _check_workers(client: Any, backend: str, device: str | None, tell: Callable[[str], None] | None) -> None:
    """Wait for the first worker, and see whether it can compute at all before a thousand rows fail for one reason."""
    from distributed import KilledWorker

    if not client.nthreads():
        if tell is not None:
            tell("the scheduler has no worker yet; waiting for the first.")
        client.wait_for_workers(1)
    try:
        found = client.submit(_ready, backend, device, pure=False).result()
    except InputError:
        raise
    except KilledWorker as error:
        raise InputError(f"A worker process died while it loaded the backend {backend}: {OUT_OF_MEMORY}") from error
    except Exception as error:
        raise InputError(f"The workers cannot compute: {type(error).__name__}: {one_line(error)}") from error
    if found != version("agnoreg"):
        raise InputError(
            f"The workers have agnoreg {found}, and this is {version('agnoreg')}: install one version on both."
        )


# --- the table --------------------------------------------------------------------------------------------------------


def _columns(losses: Sequence[str], inputs: Sequence[str], **options: Any) -> dict[str, Series]:
    """Return what is computed, by the name of its column."""
    given = ("images",) + ("labels",) * ("fixed_label" in inputs) + ("field",) * ("ddf" in inputs)
    columns: dict[str, Series] = {}
    for series in planned(losses, given, **options):
        name = _name(vars(series), "mean" if series.measured == "labels" else None)
        if name in columns:
            raise InputError(f"Two of --loss {', '.join(losses)} have the column {name}: leave one out.")
        columns[name] = series
    return columns


def _name(series: Mapping[str, Any], label: int | str | None) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in series["arguments"].items())
    name = series["metric"] + (f"({arguments})" if arguments else "") + (f"[{label}]" if label is not None else "")
    # Of thousands of rows, each has the same names.
    return sys.intern(name + (f" ({series['unit']})" if series["unit"] else ""))


def _row(pair: Pair, part: Mapping[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table, by column, without those that it lacks."""
    values = {_name(value, value["label"]): value["value"] for value in part["values"]}
    return {
        "id": pair.id,
        **{name: pair.cells[name] for name in inputs},
        **values,
        "warnings": "\n".join(part["warnings"]),
        "error": part["error"],
        "seconds": part["seconds"],
        "labels": {value["label"] for value in part["values"] if isinstance(value["label"], int)},
    }


def _write_table(
    out: Path, inputs: Sequence[str], series: Mapping[str, Series], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write rows: id and inputs, values, warnings, error and seconds."""
    import pandas

    labels = sorted(set().union(*(row["labels"] for row in rows)))
    numbers: list[str] = []
    for name, one in series.items():
        # The mean's column has its name, and the labels' come before it.
        numbers += [_name(vars(one), label) for label in labels] if one.measured == "labels" else []
        numbers.append(name)
    kinds = {"id": "string", **dict.fromkeys(inputs, "string"), **dict.fromkeys(numbers, "float64")}
    kinds |= {"warnings": "string", "error": "string", "seconds": "float64"}
    table = pandas.DataFrame(rows, columns=list(kinds)).astype(kinds)
    content = io.BytesIO()
    if out.suffix.lower() == ".csv":
        table.to_csv(content, index=False, lineterminator="\n")
    else:
        table.to_parquet(content, engine="pyarrow", index=False)
    try:
        write_whole({out: content.getvalue()})
    except OSError as error:
        raise InputError(f"Cannot write {out}: {one_line(error)}; its rows are kept in {out}.parts.") from error
