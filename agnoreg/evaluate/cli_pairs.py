"""Many pairs on the command line: a progress bar, what became of the pairs, and the figures over all of them."""

from pathlib import Path
from typing import Any

from agnoreg.evaluate.cli_messages import fail, warn

#: How many of the pairs that failed are printed.
SHOWN = 5


def evaluate_many(pairs: Path, out: Path, quiet: bool = False, **settings: Any) -> int:
    """Evaluate the pairs of a CSV with a progress bar on stderr, print what became of them, return the exit code."""
    from rich import progress
    from rich.console import Console

    from agnoreg.evaluate.batch import evaluate_pairs
    from agnoreg.evaluate.tables import print_figures

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.BarColumn(),
        progress.TextColumn("{task.description}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, visible=False)

        def show(finished: int, failed: int, total: int) -> None:
            text = f"{finished} of {total} finished, {failed} failed"
            bar.update(task, completed=finished + failed, total=total, visible=True, description=text)

        def show_pages(done: int, total: int) -> None:
            text = f"{done} of {total} pages in the page of all"
            bar.update(task, completed=done, total=total, visible=True, description=text)

        summary = evaluate_pairs(pairs, out, progress=show, page_progress=show_pages, tell=warn, **settings)
    before = f", {summary.before} of them before" if summary.before else ""
    print(f"{out}: {summary.finished} of {summary.total} pairs evaluated{before}; {len(summary.failures)} failed.")
    if summary.reports is not None:
        print(f"{summary.reports} compares them, and links to the report of each pair.")
    if not quiet:
        print_figures(summary.figures)
    for name, error in list(summary.failures.items())[:SHOWN]:
        warn(f"{pairs}, line {summary.lines[name]}, pair {name}: {error}")
    for name, error in list(summary.undrawn.items())[:SHOWN]:
        warn(f"{pairs}, line {summary.lines[name]}, pair {name} is evaluated, but has no report: {error}")
    there = f"{out} holds the rows that there are" if summary.finished or summary.failures else f"{out} was not written"
    rest = f"{there}; run the same command again for the others."
    if summary.interrupted:
        return fail(f"interrupted: {rest}", code=130)
    if summary.lost:
        return fail(f"{summary.lost}. {rest}", code=1)
    if summary.failures:
        why = "all are in the column error, and the same command tries them again"
        return fail(f"{len(summary.failures)} of {summary.total} pairs failed: {why}.", code=1)
    if summary.undrawn:
        return fail(f"{len(summary.undrawn)} of {summary.total} reports could not be drawn.", code=1)
    return 0


def check_many(pairs: Path, out: Path, report_dir: Path | None = None, **settings: Any) -> int:
    """Check the pairs of a CSV by their files' headers, print what would be computed, return the exit code."""
    from agnoreg.evaluate.batch import check_pairs
    from agnoreg.evaluate.cli_messages import activity
    from agnoreg.evaluate.report import check_packages

    if report_dir is not None:
        check_packages()
    with activity() as say:
        found = check_pairs(
            pairs, out, tell=warn, progress=lambda done, total: say(f"pair {done} of {total}"), **settings
        )
    print(f"{pairs}: {found.total} pairs, {found.total - len(found.failures)} of which can be evaluated.")
    print(f"{out} would have these columns of values, those of labels for each label, too:")
    for name in found.columns:
        print(f"  {name}")
    if report_dir is not None:
        print(f"{report_dir} would have a report of each pair, and index.html, which compares them.")
    for name, error in list(found.failures.items())[:SHOWN]:
        warn(f"{pairs}, line {found.lines[name]}, pair {name}: {error}")
    if found.failures:
        return fail(f"{len(found.failures)} of {found.total} pairs would fail. Nothing was computed.", code=1)
    print("Nothing was computed, and nothing was written.")
    return 0
