"""Strip plots as SVG: a dot for each pair, the quartiles, and those that lie outside by name and with a link."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Sizes in units of the picture.
WIDTH, ROW, LEFT, RIGHT = 560, 40, 220, 24
#: Of a character of a strip's name, at most on average.
CHARACTER = 7.2
#: Outliers whose names are printed, at each strip.
NAMED = 2


@dataclass(frozen=True)
class Dot:
    """A pair's value: its name, its page, the value, and the value as it is printed."""

    name: str
    link: str
    value: float
    text: str


@dataclass(frozen=True)
class Strip:
    """The values of one metric: what the strip is called, its dots, which direction is better.

    ``judged``: outliers are marked.
    """

    name: str
    dots: list[Dot]
    direction: str
    judged: bool = True

    @cached_property
    def outliers(self) -> dict[str, Dot]:
        """The dots beyond 1.5 interquartile ranges from the quartiles on the worse side, the farthest first."""
        values = np.array([dot.value for dot in self.dots])
        if len(values) < 4 or not self.judged:
            return {}
        low, high = np.percentile(values, (25, 75))
        reach = 1.5 * (high - low)
        worse = -1 if self.direction == "higher" else 1
        edge = low - reach if worse < 0 else high + reach
        found = [dot for dot in self.dots if worse * (dot.value - edge) > 1e-12 * abs(edge)]
        return {dot.name: dot for dot in sorted(found, key=lambda dot: -worse * dot.value)}


@dataclass(frozen=True)
class Drawn:
    """A strip in units of the picture: its name, whole and short, its height, its dots as one path, and the others.

    ``outside`` are its outliers, ``named`` those whose names are printed, ``box`` the quartiles.
    ``judged``: whether outliers are marked.
    """

    name: str
    short: str
    y: float
    path: str
    outside: list[tuple[float, float, Dot]]
    named: list[tuple[float, Dot, str]]
    judged: bool
    box: tuple[float, float, float] | None


@dataclass(frozen=True)
class Plot:
    """Strips over one axis: the picture's size, the strips, the ticks as (place, text), and what it shows in words."""

    width: int
    height: int
    left: int
    strips: list[Drawn]
    ticks: list[tuple[float, str]]
    alt: str


def strip_plot(strips: Sequence[Strip]) -> Plot | None:
    """Return strips over one axis; None where there is no value."""
    values = [dot.value for strip in strips for dot in strip.dots]
    if not values:
        return None
    left = min(LEFT, round(20 + CHARACTER * max(len(strip.name) for strip in strips)))
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(abs(high), 1e-300):
        low, high = low - (abs(low) or 1.0) * 0.05, high + (abs(high) or 1.0) * 0.05
    span = high - low

    def x(value: float) -> float:
        return round(left + (value - low) / span * (WIDTH - left - RIGHT), 1)

    drawn = [_drawn(strip, 22 + ROW * row, x) for row, strip in enumerate(strips)]
    alt = f"{len(values)} values from {min(values):.4g} to {max(values):.4g}"
    return Plot(WIDTH, 22 + ROW * len(strips) + 14, left, drawn, [(x(t), f"{t:.6g}") for t in _ticks(low, high)], alt)


def _drawn(strip: Strip, y: float, x) -> Drawn:  # type: ignore[no-untyped-def]
    apart = strip.outliers
    path, outside = [], []
    for row, dot in enumerate(strip.dots):
        # Dots of near values do not lie upon each other: every third one is a little higher or lower.
        place = y + (row % 3 - 1) * 5
        if dot.name in apart:
            outside.append((x(dot.value), place, dot))
        else:
            path.append(f"M{x(dot.value)} {place}h0")
    values = [dot.value for dot in strip.dots]
    box = None
    if len(values) > 3:
        low, middle, high = (x(float(value)) for value in np.percentile(values, (25, 50, 75)))
        box = (low, middle, high)
    named: list[tuple[float, Dot, str]] = []
    for dot in list(apart.values())[:NAMED]:
        if all(abs(x(dot.value) - place) > 90 for place, _, _ in named):
            named.append((x(dot.value), dot, "end" if x(dot.value) > WIDTH / 2 else "start"))
    return Drawn(strip.name, _short(strip.name), y, "".join(path), outside, named, strip.judged, box)


def _short(name: str) -> str:
    """Return a name as it fits beside a strip: of a long one both ends, which tell it from others."""
    room = int((LEFT - 20) / CHARACTER)
    return name if len(name) <= room else f"{name[: room // 2]}…{name[len(name) - (room - 1) // 2 :]}"


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers within a range."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.75 * rough)
    first = math.ceil(low / step - 1e-6)
    return [index * step for index in range(first, math.floor(high / step + 1e-6) + 1)]
