"""Distances between surfaces, and the measures that follow from them: percentiles, means, shares within a tolerance."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from agnoreg.engine.axes import check_choice, is_sequence
from agnoreg.engine.validate import as_number
from agnoreg.messages import shown
from agnoreg.metrics.conventions import COMBINATIONS, DIRECTIONS, EMPTY, Convention
from agnoreg.metrics.inputs import Maps
from agnoreg.metrics.states import BOTH, FALSE_ALARM, MISSED, NEITHER, STATES

Array = Any

#: A statistic of distances and of the areas of their elements.
Statistic = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Surfaces:
    """The elements of two surfaces: their distances to the other one, in mm, and their areas, in NumPy's float64."""

    true_to_pred: Any
    areas_true: Any
    pred_to_true: Any
    areas_pred: Any
    state: str

    def reduce(self, statistic: Statistic, combine: str, directed: str | None) -> float:
        """Return a statistic of both directions' distances, or of one's; of elements that do not count, NaN."""
        sides = [(self.true_to_pred, self.areas_true), (self.pred_to_true, self.areas_pred)]
        if directed is not None:
            sides = [sides[DIRECTIONS.index(directed)]]
        there = [side for side in sides if len(side[0])]
        if not there:
            return math.nan
        if combine == "pooled":
            return statistic(*(np.concatenate(parts) for parts in zip(*there, strict=True)))
        values = [statistic(*side) for side in there]
        return max(values) if combine == "max" else sum(values) / len(values)


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances of `surface_distances`, from which every measure follows without computing them again.

    Attributes
    ----------
    labels
        The labels, one for each column of the results.
    pairs
        For each sample a tuple of `Surfaces`, one for each label.
    convention
        What is meant where an argument does not say.
    """

    labels: tuple[int, ...]
    pairs: tuple[tuple[Surfaces, ...], ...]
    convention: Convention
    maps: Maps
    diagonal: float

    def hausdorff(
        self,
        percentile: float = 100,
        *,
        combine: str | None = None,
        directed: str | None = None,
        empty: str | None = None,
    ) -> Array:
        """Return the Hausdorff distance; see `hausdorff`."""
        share = as_number(percentile)
        if not 0 <= share <= 100:
            raise ValueError(f"percentile must be a number from 0 to 100, got {shown(percentile)}.")
        name = "hausdorff" if share == 100 else "hausdorff_percentile"
        return self._measured(name, partial(self.convention.percentile, share), combine, directed, empty)

    def masd(self, *, combine: str | None = None, directed: str | None = None, empty: str | None = None) -> Array:
        """Return the mean of the two mean distances; see `masd`."""
        return self._measured("masd", _mean, combine, directed, empty)

    def assd(self, *, combine: str | None = None, directed: str | None = None, empty: str | None = None) -> Array:
        """Return the mean of all distances; see `assd`."""
        return self._measured("assd", _mean, combine, directed, empty)

    def nsd(
        self,
        tolerance: Any,
        *,
        combine: str | None = None,
        directed: str | None = None,
        empty: str | None = None,
    ) -> Array:
        """Return the share of the surfaces within a tolerance; see `nsd`."""
        within = self._tolerances(tolerance)
        rounded = self.convention.rounded
        return self._measured("nsd", [partial(_share_within, t, rounded) for t in within], combine, directed, empty)

    def state(self, name: str) -> Array:
        """Return which labels are ``"neither"``, ``"missed"`` or a ``"false alarm"``, as bools ``(B, labels)``."""
        check_choice("name", name, STATES)
        return np.asarray([[pair.state == name for pair in row] for row in self.pairs], dtype=bool)

    def _tolerances(self, tolerance: Any) -> list[float]:
        several = is_sequence(tolerance) or getattr(tolerance, "shape", ()) != ()
        given = [as_number(one) for one in tolerance] if several else [as_number(tolerance)] * len(self.labels)
        if tolerance is None:
            raise ValueError("tolerance must be given, in mm: how far surfaces may lie apart that count as the same.")
        if len(given) != len(self.labels) or not all(0 <= one < math.inf for one in given):
            raise ValueError(
                f"tolerance must be a number of mm of at least 0, or one for each of {len(self.labels)} label(s), got "
                f"{shown(tolerance)}."
            )
        return given

    def _measured(
        self,
        name: str,
        statistic: Statistic | list[Statistic],
        combine: str | None,
        directed: str | None,
        empty: str | None,
    ) -> Array:
        """Return a measure of every pair, ``(B, labels)`` or ``(B,)``, as an array of the caller's."""
        for argument, value, choices in (
            ("combine", combine, COMBINATIONS),
            ("directed", directed, DIRECTIONS),
            ("empty", empty, tuple(EMPTY)),
        ):
            if value is not None:
                check_choice(argument, value, choices)
        combine = combine or self.convention.combine[name]
        rules = EMPTY[empty] if empty else self.convention.empty[name]
        values = np.full((len(self.pairs), len(self.labels)), math.nan)
        for b, row in enumerate(self.pairs):
            for k, pair in enumerate(row):
                if pair.state == BOTH:
                    of = statistic[k] if isinstance(statistic, list) else statistic
                    values[b, k] = pair.reduce(of, combine, directed)
                else:
                    rule = rules[(NEITHER, MISSED, FALSE_ALARM).index(pair.state)]
                    values[b, k] = self._where_empty(name, rule, pair.state, b, self.labels[k])
        return self.maps.owner.from_numpy(values[:, 0] if self.maps.single else values, self.maps.device)

    def _where_empty(self, name: str, rule: str, state: str, sample: int, label: int) -> float:
        """Return what a measure is where a surface is missing."""
        if rule == "raise":
            raise ValueError(
                f"Label {label} of sample {sample} has no surface in "
                f"{ {NEITHER: 'either map', MISSED: 'y_pred', FALSE_ALARM: 'y_true'}[state] }, and empty='raise' (or "
                "the convention) says that there is no distance then."
            )
        if rule == "nan":
            return math.nan
        if name == "nsd":
            return 1.0 if rule == "best" else 0.0
        return {"best": 0.0, "worst": math.inf, "diagonal": self.diagonal}[rule]


def _mean(distances: Any, areas: Any) -> float:
    return float(np.sum(distances * areas) / np.sum(areas))


def _share_within(tolerance: float, rounded: bool, distances: Any, areas: Any) -> float:
    if rounded:
        distances, tolerance = distances.astype(np.float32), float(np.float32(tolerance))
    return float(np.sum(areas[distances <= tolerance]) / np.sum(areas))
