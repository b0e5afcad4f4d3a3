"""What the command prints of losses and metrics: lists, and a page of each."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.tables import BEST, arguments_text, best_text, make_console, make_table, print_line, range_text
from agnoreg.files import one_line


def print_losses() -> None:
    """Print a table of the registered losses and their metrics."""
    from rich.text import Text

    from agnoreg.evaluate.metric import Metric, arguments_of, measured_on, metric_of
    from agnoreg.evaluate.metrics import CENTROID_NAMES
    from agnoreg.objects.registry import registered_losses

    console = make_console()
    # A class's name is to be typed, so it is kept whole: where there is little room, in the second table alone.
    wide = console.width >= 100
    table = make_table("name", "class" if wide else "metric", "takes", "range", "better", "best")
    settings = make_table("class", "arguments and defaults")
    settings.columns[0].no_wrap = True

    def add(name: str, metric: Metric, takes: Sequence[str], arguments: str) -> None:
        said = (range_text(metric.value_range), metric.direction, best_text(metric.identity_value, console))
        table.add_row(name, metric.name if wide else metric.title, "\n".join(takes), *said)
        settings.add_row(metric.name, Text(arguments))

    for name, kind in registered_losses().items():
        for cls in dict.fromkeys((kind, metric_of(kind))):
            add(name if cls is kind else "", Metric(cls()), measured_on(cls), arguments_text(arguments_of(cls)))
    add(CENTROID_NAMES[0], Metric(None), ("labels",), "")
    console.print(table)
    console.print()
    console.print(settings)
    console.print()
    print_line(
        console, "- A name builds the loss, to be minimised; --loss NAME prints its metric, --loss CLASS that class."
    )
    print_line(console, BEST)
    print_line(console, "- agnoreg losses NAME prints the formula of one, and what its arguments mean.")


def print_loss(name: str) -> None:
    """Print the formula, the range and the arguments of a loss; of a metric without a gradient its own page.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    from agnoreg.evaluate.metric import Metric
    from agnoreg.evaluate.metrics import CENTROID_NAMES
    from agnoreg.evaluate.quantities import GROUPS, QUANTITIES
    from agnoreg.objects.registry import loss_class

    console = make_console()
    if name in CENTROID_NAMES:
        one = Metric(None)
        print_line(console, f"{name}: {one.name}, of labels")
        print_line(console, one.definition)
        print_line(console, f"Range {range_text(one.value_range)} mm, lower is better; best 0. No arguments.")
        return
    try:
        kind = loss_class(name)
    except ValueError as error:
        if name in {**QUANTITIES, **GROUPS}:
            print_line(console, f"{name} has no gradient: it is no loss, but a metric: agnoreg metrics {name}")
            console.print()
            print_metric(name)
            return
        raise InputError(one_line(error)) from error
    _print_loss(console, name, kind)
    if (counted := _counted(kind)) is not None:
        console.print()
        print_line(
            console,
            f"agnoreg metrics {counted} prints the same of label maps, whose voxels are counted, without a gradient.",
        )


def _print_loss(console: Any, name: str, kind: Any) -> None:
    from agnoreg.evaluate.metric import Metric, arguments_of, measured_on, metric_of
    from agnoreg.objects.documentation import sections

    # A class's own name means that class alone; any other name, an alias too, the loss with its metric.
    metric = kind if name == kind.__name__ else metric_of(kind)
    said = sections(metric.__doc__ or "")
    same = metric is kind
    print_line(
        console,
        f"{name}: {kind.__name__}" if same else f"{name}: the loss {kind.__name__}, of the metric {metric.__name__}",
    )
    _print_text(console, said[""])
    if re.search(r"\bt\b", said[""]):
        print_line(console, "In formulas t is y_true, the fixed image or label, and p is y_pred, the moved one.")
    for cls in dict.fromkeys((metric, kind)):
        one = Metric(cls())
        unit = f" {one.unit}" if one.unit else ""
        on = measured_on(cls)
        perfect = "displacements of zero" if cls.inputs == 1 else f"two equal {' or '.join(on)}"
        best = "" if one.identity_value is None else f"; {one.identity_value + 0.0:.4g} for {perfect}"
        ends = range_text(one.value_range)
        print_line(console, f"{cls.__name__}: {ends}{unit}, {one.direction} is better{best}; of {', '.join(on)}")
    console.print()
    defaults = arguments_of(kind)
    print_line(console, f"Arguments: {arguments_text(defaults)}" if defaults else "No arguments.")
    _print_text(console, sections(kind.__doc__ or "").get("Parameters", ""), indented=True)


def _counted(kind: Any) -> str | None:
    """Return the metric that counts voxels of what a loss is of, by its name; None where there is none."""
    from agnoreg.evaluate.quantities import ALIASES
    from agnoreg.objects.mixins import metric_of
    from agnoreg.objects.registry import registered_losses

    losses = registered_losses()
    return next(
        (ALIASES[name] for name in ALIASES if name in losses and metric_of(losses[name]) is metric_of(kind)), None
    )


def print_metrics() -> None:
    """Print a table of the metrics of labels, fields and landmarks."""
    from agnoreg.evaluate.quantities import GROUPS, QUANTITIES

    console = make_console()
    table = make_table("name", "metric", "of", "range", "better", "best")
    table.columns[0].no_wrap = True
    for one in QUANTITIES.values():
        title = f"{one.title} ({one.unit})" if one.unit else one.title
        best = best_text(one.identity_value, console)
        table.add_row(one.name, title, ", ".join(one.measures), range_text(one.value_range), one.direction, best)
    console.print(table)
    console.print()
    for name, members in GROUPS.items():
        print_line(console, f"- {name}: {', '.join(members)}")
    print_line(
        console,
        "- agnoreg metrics NAME prints definition, arguments, conventions; agnoreg losses lists what can be trained.",
    )


def print_metric(name: str) -> None:
    """Print the definition, range, arguments and conventions of a metric, or of a group; of a loss its own page.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    from agnoreg.evaluate.metrics import CENTROID_NAMES
    from agnoreg.evaluate.quantities import ALIASES, GROUPS, QUANTITIES
    from agnoreg.objects.registry import loss_class, registered_losses

    console = make_console()
    meant = ALIASES.get(name, name)
    members = GROUPS.get(meant, (meant,) if meant in QUANTITIES else ())
    if not members:
        with suppress(ValueError):
            if name in CENTROID_NAMES or loss_class(name):
                print_line(console, f"{name} is described by agnoreg losses {name}:")
                console.print()
                print_loss(name)
                return
        known = ", ".join((*QUANTITIES, *(group for group in GROUPS if group not in QUANTITIES)))
        raise InputError(f"There is no metric {name!r}: there are {known}. agnoreg losses lists those with a gradient.")
    losses = registered_losses()
    if meant != name:
        print_line(console, f"{name} means {meant} among the metrics.")
    for place, member in enumerate(members):
        one = QUANTITIES[member]
        if place:
            console.print()
        unit = f" {one.unit}" if one.unit else ""
        print_line(console, f"{one.name}: {one.title}; of {', '.join(one.measures)}")
        print_line(console, one.definition)
        best = "" if one.identity_value is None else f"; best {one.identity_value:.4g}"
        print_line(console, f"Range {range_text(one.value_range)}{unit}, {one.direction} is better{best}.")
        if one.known:
            print_line(console, f"Arguments: {arguments_text(one.known)}")
        for convention in one.conventions:
            print_line(console, f"- convention={convention}: {one.given(convention=convention).definition}")
        if loss := next((name for name, found in ALIASES.items() if found == member and name in losses), None):
            print_line(
                console,
                f"agnoreg losses {loss} prints the loss, of soft labels, too; --loss {loss} computes its metric.",
            )


def _print_text(console: Any, text: str, indented: bool = False) -> None:
    """Print the text of a docstring, without its marks of code."""
    console.print()
    for line in text.replace("``", "").splitlines() if indented else text.replace("``", "").split("\n\n"):
        if indented:
            console.print(line, markup=False, soft_wrap=True)
        else:
            print_line(console, " ".join(line.split()))
    console.print()
