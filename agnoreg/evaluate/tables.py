"""What the command prints: tables that fit the terminal and break no word."""

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agnoreg.evaluate.evaluation import Evaluation, Record

BEST = "- best: the value of two equal images or labels, or of a field of zero displacement."
#: How wide names of metrics and of labels may be, the widest that fits the terminal first.
WIDTHS = (60, 34, 26, 20, 16)


def print_evaluation(result: "Evaluation", verbose: bool = False) -> None:
    """Print a table of the records and what a reader has to know about them.

    Parameters
    ----------
    result
        What `evaluate_pair` returned.
    verbose
        Print the seconds and the backend of each value, and over how many voxels it was computed.
    """
    console = _console()
    fixed, moved = result.inputs[:2]
    grid = f"{_by(fixed.shape)} voxels of {_by(fixed.voxel_size)} mm"
    _print(console, f"{fixed.path} (fixed) and {moved.path} (moved): {grid}; {result.backend} on {result.device}")
    console.print()
    for width in WIDTHS:
        table = _records(result.records, console, width, verbose)
        if console.measure(table, options=console.options.update(max_width=1000)).maximum <= console.width:
            break
    console.print(table)
    console.print()
    for note in result.notes:
        _print(console, f"- {note}")
    _print(console, BEST)
    console.print()
    for title, definition in dict.fromkeys((record.title, record.definition) for record in result.records):
        if definition:
            _print(console, f"- {title}: {definition}")


def _records(records: "Sequence[Record]", console: "Console", width: int, verbose: bool) -> "Table":
    from rich.text import Text

    labelled = any(record.label is not None for record in records)
    compared = any(record.before is not None for record in records)
    values = ["before", "after"] if compared else ["value"]
    # Two values a metric leave no room for its range at 80 columns.
    ranges = ["range"] if verbose or not compared else []
    headers = ["metric", *(["label"] if labelled else []), *values, *ranges, "better", "best"]
    table = _table(*headers, *(("voxels", "seconds", "backend") if verbose else ()))
    for column in table.columns:
        if column.header in (*values, "best", "voxels", "seconds"):
            column.justify = "right"
    previous = ""
    for record in records:
        name = _folded(f"{record.title or record.metric} ({record.unit})" if record.unit else record.title, width)
        if record.arguments:
            name += f"\n{_folded('(' + _arguments(record.arguments) + ')', width)}"
        cells: list[Text | str] = [
            # A name is printed once for all labels.
            Text("" if record.label is not None and name == previous else name),
            *([Text(_folded(_label(record), width))] if labelled else []),
            *(["" if record.before is None else _digits(record, record.before)] if compared else []),
            _digits(record, record.value),
            *([_range(record.value_range)] if ranges else []),
            record.direction,
            _best(record.identity_value, console),
        ]
        if verbose:
            cells += [
                "" if record.counted is None else str(record.counted),
                "" if record.seconds is None else f"{record.seconds:.3f}",
                record.backend,
            ]
        table.add_row(*cells)
        previous = name
    return table


def _label(record: "Record") -> str:
    if record.label is None:
        return ""
    return f"{record.label} {record.label_name}" if record.label_name else str(record.label)


def _digits(record: "Record", value: float) -> str:
    """Return a value of a metric with the digits that say something: three of what is at most 1, else four."""
    bounded = record.value_range[0] >= -1 and record.value_range[1] <= 1
    value = round(value, 5) if bounded and value == value else value
    return f"{value + 0.0:#.3g}" if bounded else f"{value + 0.0:.4g}"


def print_losses() -> None:
    """Print a table of the registered losses and their metrics."""
    from rich.text import Text

    from agnoreg.evaluate.metric import Metric, arguments_of, measured_on, metric_of
    from agnoreg.evaluate.metrics import CENTROID_NAMES
    from agnoreg.objects.registry import registered_losses

    console = _console()
    # A class's name is to be typed, so it is kept whole: where there is little room, in the second table alone.
    wide = console.width >= 100
    table = _table("name", "class" if wide else "metric", "takes", "range", "better", "best")
    settings = _table("class", "arguments and defaults")
    settings.columns[0].no_wrap = True

    def add(name: str, metric: Metric, takes: Sequence[str], arguments: str) -> None:
        said = (_range(metric.value_range), metric.direction, _best(metric.identity_value, console))
        table.add_row(name, metric.name if wide else metric.title, "\n".join(takes), *said)
        settings.add_row(metric.name, Text(arguments))

    for name, kind in registered_losses().items():
        for cls in dict.fromkeys((kind, metric_of(kind))):
            add(name if cls is kind else "", Metric(cls()), measured_on(cls), _arguments(arguments_of(cls)))
    add(CENTROID_NAMES[0], Metric(None), ("labels",), "")
    console.print(table)
    console.print()
    console.print(settings)
    console.print()
    _print(
        console, "- A name builds the loss, to be minimised; --loss NAME prints its metric, --loss CLASS that class."
    )
    _print(console, BEST)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def _print(console: "Console", line: str) -> None:
    """Print a line, broken between words where the terminal ends."""
    folded = textwrap.wrap(
        line,
        console.width,
        subsequent_indent="  " if line.startswith("- ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for part in folded or [""]:
        console.print(part, markup=False, soft_wrap=True)


def _table(*headers: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _folded(text: str, width: int) -> str:
    """Break a text into lines: between words, else after a hyphen or an underscore, else between a name's words."""
    lines = [""]
    for word in re.findall(r"[^ ]+ ?", text):
        parts = [word] if len(word.rstrip()) <= width else re.findall(r"[A-Z]?[^A-Z_\-]*[_\-]?", word)
        for part in filter(None, parts):
            if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _arguments(arguments: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _range(ends: tuple[float, float]) -> str:
    low, high = (f"{end + 0.0:.4g}" for end in ends)  # No negative zero.
    return f"{low} to {high}"


def _best(value: float | None, console: "Console") -> str:
    if value is None:
        return "—" if console.encoding.startswith("utf") else "-"
    return f"{value + 0.0:.4g}"


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
