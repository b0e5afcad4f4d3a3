"""The table of what each framework supports, from the last run of the conformance suite, ``docs/conformance.md``."""

import re
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[1] / "conformance.md"

#: The section that checks every loss everywhere.
SECTION = "### Float64 against the reference"
#: The section that checks every metric everywhere.
METRICS = "### Metrics against the reference"


def checked(page: str, section: str = SECTION) -> tuple[list[str], dict[str, list[str]]]:
    """Return the frameworks of a section's table, and for each loss or metric the cells of its row."""
    table = re.findall(r"^\|(.*)\|$", page.partition(section)[2].partition("\n### ")[0], flags=re.MULTILINE)
    head, _, *rows = ([cell.strip() for cell in row.split("|")] for row in table)
    return head[1:], {row[0]: row[1:] for row in rows}


def table(kernels: Mapping[str, bool]) -> str:
    """Return the table in Markdown; a cell says whether value and gradient agree with the reference."""
    frameworks, rows = checked(PAGE.read_text())
    lines = [
        f"| loss | {' | '.join(frameworks)} | CPU kernels |",
        f"| --- |{' :-: |' * (len(frameworks) + 1)}",
    ]
    for name in kernels:
        cells = rows.get(name)
        words = [_word(cell) for cell in cells] if cells else ["not checked"] * len(frameworks)
        words.append("✓" if kernels[name] else "–")
        lines.append(f"| [{name}](generated/losses/{name}.md) | {' | '.join(words)} |")
    return "\n".join([*lines, ""])


def metrics_table() -> str:
    """Return the same table of the metrics, which have no gradient."""
    frameworks, rows = checked(PAGE.read_text(), METRICS)
    lines = [f"| metric | {' | '.join(frameworks)} |", f"| --- |{' :-: |' * len(frameworks)}"]
    for name, cells in rows.items():
        words = ["✓" if _word(cell) == "value only" else _word(cell) for cell in cells]
        lines.append(f"| {{py:func}}`~agnoreg.metrics.{name}` | {' | '.join(words)} |")
    return "\n".join([*lines, ""])


def _word(cell: str) -> str:
    """Return what a cell of the report says: errors of the value and of the gradient, in bold where out of limits."""
    if "**" in cell:
        return "✗"
    value, _, gradient = (part.strip() for part in cell.partition("/"))
    if value == "-":
        return "–"
    return "✓" if gradient != "-" else "value only"
