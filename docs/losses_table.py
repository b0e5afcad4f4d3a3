"""The table of docs/losses.md: ``python docs/losses_table.py`` writes it from the registered losses."""

import inspect
from pathlib import Path

import agnoreg
from agnoreg.objects.mixins import metric_of

PAGE = Path(__file__).with_name("losses.md")
HEADER = "| class | name | arguments | range | better | for equal |\n| --- | --- | --- | --- | --- | --- |\n"
#: Arguments that every loss has, and those of images, which the page speaks of once.
EVERYWHERE = ("name", "reduction", "native")
OF_IMAGES = ("spatial_dims", "data_format")


def row(cls: type, name: str) -> str:
    """Return the row of a class that is registered by that name, if by any."""
    loss = cls()
    room = next(room for room in ("image", "label", "deform") if hasattr(getattr(agnoreg.loss, room), cls.__name__))
    left_out = EVERYWHERE + (OF_IMAGES if loss.inputs == 2 else ())
    shown = (f"{key}={getattr(loss, key)!r}" for key in inspect.signature(cls).parameters if key not in left_out)
    arguments = ", ".join(shown)
    low, high = (f"{end + 0.0:.6g}" for end in loss.value_range)
    equal = "depends" if loss.identity_value is None else f"{loss.identity_value + 0.0:g}"
    cells = (f"`{room}.{cls.__name__}`", f"`{name}`" if name else "", f"`{arguments}`" if arguments else "")
    return f"| {' | '.join(cells)} | [{low}, {high}] | {loss.direction} | {equal} |\n"


def table() -> str:
    """Return the table: of each loss that agnoreg itself registers its metric, and the loss."""
    rows = []
    for name, cls in agnoreg.registered_losses().items():
        if not cls.__module__.startswith("agnoreg."):
            continue
        metric = metric_of(cls)
        rows += [row(metric, "")] if metric is not cls else []
        rows.append(row(cls, name))
    return HEADER + "".join(sorted(rows))


def written(page: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(HEADER)
    after = rest[rest.index("\n\n") :]
    return before + table().rstrip("\n") + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
