"""What the command prints: tables that fit the terminal and break no word."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnoreg.evaluate.found import FoundMean, found_means

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agnoreg.evaluate.batch.figures import Figures
    from agnoreg.evaluate.evaluation import Checked, Evaluation, Record

BEST = "- best: the value of two equal images or labels, or of a field of zero displacement."
FOUND = (
    "- n of N found: the mean over the n labels that both maps have. A distance between surfaces of any other is inf, "
    "and so is the mean of all N in JSON and CSV."
)
#: How wide names of metrics and of labels may be, the widest that fits the terminal first.
WIDTHS = (60, 34, 26, 20, 16)
#: Room for names beside numbers that is enough, though longer ones are folded.
MOST = 24


def print_evaluation(result: "Evaluation", verbose: bool = False, quiet: bool = False) -> None:
    """Print a table of the records and what a reader has to know about them.

    Parameters
    ----------
    result
        What `evaluate_pair` returned.
    verbose
        Print the seconds and the backend of each value, and over how many voxels it was computed.
    quiet
        Print the table alone, and of labels the means.
    """
    console = make_console()
    fixed, moved = result.inputs[:2]
    grid = f"{_by(fixed.shape)} voxels of {_by(fixed.voxel_size)} mm"
    if not quiet:
        print_line(
            console, f"{fixed.path} (fixed) and {moved.path} (moved): {grid}; {result.backend} on {result.device}"
        )
        console.print()
    records = [record for record in result.records if not quiet or not isinstance(record.label, int)]
    for width in WIDTHS:
        table = _records(records, result.records, console, width, verbose)
        if console.measure(table, options=console.options.update(max_width=1000)).maximum <= console.width:
            break
    console.print(table)
    if quiet:
        return
    console.print()
    for note in result.notes:
        print_line(console, f"- {note}")
    if any(found for record in records for found in found_means(result.records, record)):
        print_line(console, FOUND)
    print_line(console, BEST)
    console.print()
    for line in _definitions(result.records):
        print_line(console, f"- {line}")


def _definitions(records: "Sequence[Record]") -> list[str]:
    """Return what each metric is, in a line; metrics of which most is alike share one."""
    alike: dict[str, list[str]] = {}
    for title, definition in dict.fromkeys((record.title, record.definition) for record in records):
        head, _, rest = definition.partition("; ")
        alike.setdefault(rest or definition, []).append(f"{title}: {head}" if rest else f"{title}: {definition}")
    return [
        f"{'. '.join(heads)}{'. All: ' if len(heads) > 1 else '; '}{rest}" if not heads[0].endswith(rest) else heads[0]
        for rest, heads in alike.items()
        if rest
    ]


def _records(
    records: "Sequence[Record]", all_records: "Sequence[Record]", console: "Console", width: int, verbose: bool
) -> "Table":
    from rich.text import Text

    labelled = any(record.label is not None for record in records)
    compared = any(record.before is not None for record in records)
    values = ["before", "after"] if compared else ["value"]
    # Two values a metric leave no room for its range at 80 columns.
    ranges = ["range"] if verbose or not compared else []
    headers = ["metric", *(["label"] if labelled else []), *values, *ranges, "better", "best"]
    table = make_table(*headers, *(("voxels", "seconds", "backend") if verbose else ()))
    for column in table.columns:
        if column.header in (*values, "best", "voxels", "seconds"):
            column.justify = "right"
    previous = ""
    for record in records:
        name = _folded(f"{record.title or record.metric} ({record.unit})" if record.unit else record.title, width)
        if record.arguments:
            name += f"\n{_folded('(' + arguments_text(record.arguments) + ')', width)}"
        before, after = found_means(all_records, record)
        cells: list[Text | str] = [
            # A name is printed once for all labels.
            Text("" if record.label is not None and name == previous else name),
            *([Text(_folded(_label(record), width))] if labelled else []),
            *(["" if record.before is None else _value(record, record.before, before)] if compared else []),
            _value(record, record.value, after),
            *([range_text(record.value_range)] if ranges else []),
            record.direction,
            best_text(record.identity_value, console),
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


def print_checked(checked: "Checked", outputs: Sequence[Path]) -> None:
    """Print what files hold by their headers, and what would be computed of them."""
    console = make_console()
    table = make_table("file", "is", "voxels", "mm", "stored as")
    for entry in checked.inputs:
        table.add_row(entry.path, entry.role, _by(entry.shape), _by(entry.voxel_size), entry.stored_as)
    console.print(table)
    console.print()
    for kind in dict.fromkeys(one.measured for one in checked.series):
        of = [f"{one.title} ({one.unit})" if one.unit else one.title for one in checked.series if one.measured == kind]
        print_line(console, f"- {kind}: {', '.join(of)}")
    for path in outputs:
        print_line(console, f"- {path} would be written.")
    print_line(console, "Nothing was computed, and nothing was written.")


def print_figures(figures: "Figures") -> None:
    """Print the figures of each metric over pairs: no name and no number is cut, however narrow the terminal."""
    if not figures.all:
        return
    console = make_console()
    rows = {}
    for name, whole in figures.all.items():
        one = figures.found.get(name, whole)
        numbers = (one.mean, one.sd, one.median, one.minimum, one.maximum)
        rows[name] = [str(one.values), *(f"{x:.4g}" for x in numbers)]
    console.print()
    _print_numbers(console, [figures.titles[name] for name in rows], list(rows.values()))
    console.print()
    alike: dict[tuple[int, int], list[str]] = {}
    for name, one in figures.found.items():
        whole = figures.all[name]
        alike.setdefault((whole.infinite, whole.values - one.values), []).append(figures.titles[name])
    for (count, nothing), titles in alike.items():
        pairs = f"{count} pair{'s' * (count != 1)}"
        none = f", of {nothing} of which nothing was found" if nothing else ""
        text = f"{'; '.join(titles)}: inf in {pairs}, as a structure was missed{none}. The figures are of those found."
        print_line(console, f"- {text}")
    if any(name.endswith("[mean]") or "[mean] (" in name for name in rows):
        print_line(console, "- Of labels, the value of a pair is the mean over its labels.")


HEADS = ("pairs", "mean", "SD", "median", "least", "greatest")


def _print_numbers(console: "Console", names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of names and numbers; where there is no room, with each name on a line of its own."""
    sizes = [max(map(len, (head, *column))) for head, *column in zip(HEADS, *rows, strict=True)]
    room = console.width - sum(sizes) - len(sizes)
    folded = [_folded(name, width := max(room, 1)).split("\n") for name in names]
    beside = room >= min(MOST, max(map(len, names))) and all(len(x) <= width for lines in folded for x in lines)
    wide = max(len("over all pairs"), *(len(line) for lines in folded for line in lines)) if beside else 2

    def line(name: str, cells: Sequence[str]) -> str:
        return name.ljust(wide) + "".join(" " + cell.rjust(size) for cell, size in zip(cells, sizes, strict=True))

    def show(text: str) -> None:
        console.print(text.rstrip(), markup=False, soft_wrap=True)

    show(line("over all pairs", HEADS) if beside else "over all pairs\n" + line("", HEADS))
    show(("─" if console.encoding.startswith("utf") else "-") * min(console.width, len(line("", HEADS))))
    for name, lines, cells in zip(names, folded, rows, strict=True):
        if beside:
            show(line(lines[0], cells))
            for rest in lines[1:]:
                show(f"  {rest}")
        else:
            show(name)
            show(line("", cells))


def _label(record: "Record") -> str:
    if record.label is None:
        return ""
    return f"{record.label} {record.label_name}" if record.label_name else str(record.label)


def _value(record: "Record", value: float, found: FoundMean | None) -> str:
    """Return a value; of a mean over labels that of those found, where these are not all, with their number below."""
    if found is None or not found.found:
        return _digits(record, value)
    return f"{_digits(record, found.value)}\n{found.found} of {found.of} found"


def _digits(record: "Record", value: float) -> str:
    """Return a value of a metric with the digits that say something: three of what is at most 1, else four."""
    bounded = record.value_range[0] >= -1 and record.value_range[1] <= 1
    if not bounded and 1e4 <= abs(value) < 1e9:
        return f"{value:.0f}"
    value = round(value, 5) if bounded and value == value else value
    return f"{value + 0.0:#.3g}" if bounded else f"{value + 0.0:.4g}"


def make_console() -> "Console":
    """Return a console for stdout that colours nothing by itself."""
    from rich.console import Console

    return Console(highlight=False)


def print_line(console: "Console", line: str) -> None:
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


def make_table(*headers: str) -> "Table":
    """Return a table without a frame."""
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


def arguments_text(arguments: Any) -> str:
    """Return arguments as they are asked for."""
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def range_text(ends: tuple[float, float]) -> str:
    """Return a range of values."""
    low, high = (f"{end + 0.0:.4g}" for end in ends)  # No negative zero.
    return f"{low} to {high}"


def best_text(value: float | None, console: "Console") -> str:
    """Return the best value, or a dash where that depends on the images."""
    if value is None:
        return "—" if console.encoding.startswith("utf") else "-"
    return f"{value + 0.0:.4g}"


def _by(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
