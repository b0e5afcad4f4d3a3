"""A table of the page, with its heading and what is to be said about it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What was measured: cells are text."""

    heading: str
    text: str
    header: list[str]
    rows: list[list[str]]
