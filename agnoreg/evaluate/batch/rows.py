"""Finished rows on disk, so that none is lost whatever ends a run, and what a run that was killed left behind."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch.table_in import Pair
from agnoreg.evaluate.evaluation import InputError
from agnoreg.files import hidden, one_line, target_of, write_whole
from agnoreg.messages import named

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway.
    fcntl = None  # type: ignore[assignment]

__all__ = ["RowStore"]

PART = re.compile(r"[0-9a-f]{32}\.json")
LOCK = ".lock"
KEYS = {"error", "files", "seconds", "values", "warnings"}


class RowStore:
    """The folder ``OUT.parts/``: a file for each row, written whole or not at all, and the table of an earlier run.

    A row's key is a digest of its id and its files as they are written, of the settings and of agnoreg's version; its
    file is called like it. The CSV's further columns are no part of it.

    Parameters
    ----------
    out
        The table.
    settings
        The arguments of `evaluate_pair` that are the same for all pairs.
    earlier
        Returns a row of the table that an earlier run wrote, by its key, and None where there is none.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], earlier: Callable[[str], dict[str, Any] | None]) -> None:
        self.out = out
        self.folder = out.with_name(f"{out.name}.parts")
        self.settings = {**settings, "agnoreg": version("agnoreg")}
        self.earlier = earlier
        #: Whether the files of rows are kept when the run ends.
        self.kept = True
        #: Returns what else a run that was killed may have left behind.
        self.left_behind: Callable[[], list[Path]] = list
        if why := hidden(self.folder):
            raise InputError(f"Finished rows cannot be kept in {named(self.folder)}: {why}.")
        if self.folder.exists() and not (self.folder.is_dir() and os.access(self.folder, os.W_OK | os.X_OK)):
            raise InputError(f"Finished rows are kept in {self.folder}, which is no folder that can be written to.")

    def key(self, pair: Pair) -> str:
        """Return what tells a row from any other."""
        text = json.dumps([dict(pair.cells), self.settings], sort_keys=True, default=os.fspath)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def read(self, pair: Pair) -> dict[str, Any] | None:
        """Return a row; None where there is none, where it is damaged, or where an input changed since."""
        key = self.key(pair)
        found = [part for part in (self._part(key), self.earlier(key)) if part is not None]
        now = pair.files() if found else {}
        for part in found:
            # A file that is gone since did not change: its row could not be computed again.
            if all(state is None or state == part["files"].get(role) for role, state in now.items()):
                return part
        return None

    def _part(self, key: str) -> dict[str, Any] | None:
        try:
            part = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):  # None, or a disk that was full or failed.
            return None
        return part if isinstance(part, dict) and part.keys() >= KEYS else None

    def write(self, pair: Pair, files: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
        """Write a row's file, and return the row."""
        path = self.folder / f"{self.key(pair)}.json"
        part = {"files": files, **result}
        try:
            self.folder.mkdir(exist_ok=True)
            write_whole({path: json.dumps({"id": pair.id, **pair.cells, **part}, indent=1) + "\n"})
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {one_line(error)}. The rows that are in {self.folder} are kept; run the "
                "same command again for the others."
            ) from error
        return part

    # --- what is left behind ------------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder while a run lasts; remove what one that was killed left behind, and what is not needed after.

        A lock says that a run is alive, which ends with its process however that ends. Where the folder's disk cannot
        lock, no other run is reckoned with.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Finished rows are kept in {self.folder}, which cannot be made: {one_line(error)}."
            ) from error
        lock = _locked(self.folder / LOCK)
        try:
            with _alone(lock) as alone:
                if alone:
                    self._remove_temporary_files()
            yield
        finally:
            with _alone(lock) as alone:
                if alone:
                    self._leave()
            if lock is not None:
                os.close(lock)

    def _remove_temporary_files(self) -> None:
        table = self.out.resolve()
        _remove(path for path in _listed(self.folder) if PART.fullmatch(target_of(path)))
        _remove(path for path in _listed(table.parent) if target_of(path) == table.name)
        _remove(self.left_behind())

    def _leave(self) -> None:
        """Remove the files of rows where they are not needed any more, and the folder where it is empty then."""
        if not self.kept:
            _remove(path for path in _listed(self.folder) if PART.fullmatch(path.name))
        _remove([self.folder / LOCK])
        with suppress(OSError):  # Rows, or a file that somebody put there.
            self.folder.rmdir()


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _locked(path: Path) -> int | None:
    """Open a file and lock it, shared with other runs; None where that is not possible."""
    for _ in range(10 if fcntl is not None else 0):
        lock = None
        try:
            path.parent.mkdir(exist_ok=True)
            lock = _opened(path)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
            os.close(lock)
        except OSError as error:
            if lock is not None:
                os.close(lock)
            if not isinstance(error, FileNotFoundError):
                return None
        # A run that has just ended has removed it in between.
    return None


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # Another user's, which can be locked all the same.
        return os.open(path, os.O_RDONLY)


@contextmanager
def _alone(lock: int | None) -> Iterator[bool]:
    """Return whether no other run holds the lock, and keep any other from taking it meanwhile."""
    if lock is None:
        yield True
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except OSError:
        alone = False
    try:
        yield alone
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
