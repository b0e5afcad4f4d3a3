"""Reports of many pairs: which pages are wanted, what became of them, and the page of all."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agnoreg.evaluate.batch.work import PAGE
from agnoreg.evaluate.report import INDEX, Listed, ReportFolder

__all__ = ["Pages"]


class Pages:
    """The pages of a run. Whoever evaluates a pair draws its page, from that evaluation; here it is written.

    Parameters
    ----------
    folder
        The folder; None where no pages are wanted.
    names
        Names of labels.

    Attributes
    ----------
    undrawn
        Why a pair that was evaluated has no page, by its id.
    """

    def __init__(self, folder: Path | None, names: Mapping[int, str]) -> None:
        self.folder = None if folder is None else ReportFolder(folder)
        self.names = names
        self.undrawn: dict[str, str] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of a pair have beside those of its row."""
        return {} if self.folder is None else {PAGE: {"index": INDEX, "label_names": dict(self.names)}}

    def lacks(self, row: Mapping[str, Any]) -> bool:
        """Return whether the page of a finished row is not there, or not true any more."""
        return self.folder is not None and not self.folder.is_true(row["id"], self._state(row))

    def write(self, row: Mapping[str, Any], page: Mapping[str, str] | None) -> None:
        """Write the page of a row, or keep why there is none.

        Raises
        ------
        InputError
            If the page cannot be written.
        """
        if self.folder is None or page is None:
            return
        if "html" in page:
            self.folder.write(row["id"], page["html"], self._state(row))
        else:
            self.undrawn[row["id"]] = page["error"]

    def write_index(
        self, table: Sequence[Mapping[str, Any]], title: str, progress: Callable[[int, int], None] | None
    ) -> Path | None:
        """Write the page of all rows, and return its path; None where no pages are wanted, or there is no row."""
        if self.folder is None or not table:
            return None
        listed = [Listed(row["id"], row["error"] or self._missing(row)) for row in table]
        return self.folder.write_index(listed, title, progress)

    def left_behind(self) -> list[Path]:
        """Return temporary files of a run that was killed."""
        return [] if self.folder is None else self.folder.left_behind()

    def _missing(self, row: Mapping[str, Any]) -> str:
        """Return why an evaluated pair has no page, empty where it has one."""
        if why := self.undrawn.get(row["id"]):
            return f"The pair is evaluated, and its page cannot be drawn: {why}"
        return "The pair is evaluated; the same command draws its page." if self.lacks(row) else ""

    def _state(self, row: Mapping[str, Any]) -> str:
        return f"{row['fingerprint']} {self.names}"
