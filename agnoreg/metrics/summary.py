"""From records of single structures to figures of all of them, of which none hides what was missed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from agnoreg.engine.validate import as_number, check_integer
from agnoreg.messages import shown, warn_of_input
from agnoreg.metrics.states import BOTH, FALSE_ALARM, MISSED, NEITHER, STATES

#: What a record holds beside its values.
KEYS = ("case", "label", "state")


@dataclass(frozen=True)
class Summary:
    """The figures of one measure over records.

    Attributes
    ----------
    measure
        Its name.
    records, positives, negatives
        N, how many records there are; N+, in how many y_true has the structure; N0, in how many it has not.
    missed, false_alarms
        In how many of the N+ y_pred lacks the structure; in how many of the N0 it has it.
    values
        Of how many records the figures are: those whose value is not NaN.
    infinite
        How many of those values are inf; with any, the mean is, too, and there is no deviation.
    missed_left_out
        How many missed structures and false alarms have the value NaN, and so do not count in any figure.
    mean, sd, median, lower_quartile, upper_quartile, minimum, maximum
        The figures; the deviation is that of a sample (N - 1), quartiles are interpolated.
    interval, confidence
        A bootstrap interval of the mean, by percentiles; whole cases are drawn where records name their case.
    mean_finite
        The mean of the values that are finite, ``values - infinite`` of them.
    """

    measure: str
    records: int
    positives: int
    negatives: int
    missed: int
    false_alarms: int
    values: int
    infinite: int
    missed_left_out: int
    mean: float
    sd: float
    median: float
    lower_quartile: float
    upper_quartile: float
    minimum: float
    maximum: float
    interval: tuple[float, float]
    confidence: float
    mean_finite: float

    def __str__(self) -> str:
        low, high = self.interval
        text = (
            f"{self.measure}: mean {self.mean:.4g} ({self.confidence:.0%} interval {low:.4g} to {high:.4g}), SD "
            f"{self.sd:.4g}, median {self.median:.4g} (quartiles {self.lower_quartile:.4g} to "
            f"{self.upper_quartile:.4g}), of {self.values} of {self.records} records; N+ {self.positives}, N0 "
            f"{self.negatives}, missed {self.missed}, false alarms {self.false_alarms}"
        )
        if self.infinite:
            text += f"; {self.infinite} inf, mean of the others {self.mean_finite:.4g}"
        return text + (f"; {self.missed_left_out} of those missed have no value" if self.missed_left_out else "")


def summarise(
    records: Iterable[Mapping[str, Any]],
    *,
    measures: Sequence[str] | None = None,
    by: str | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[Any, Any]:
    """Return the figures of each measure over records: mean, deviation, median, quartiles, interval, and counts.

    A missed structure never drops out unseen: it counts with the value it has, inf as well as 0, and where that is NaN,
    there is a warning, and the figures say how many.

    Parameters
    ----------
    records
        One mapping for each structure of each case: values by the names of measures; and, where it has them, ``case``,
        ``label`` and ``state``: ``"both"`` (the default), ``"neither"``, ``"missed"`` or ``"false alarm"``.
        `Overlap.records` makes such records.
    measures
        Which measures; by default all numbers that the records hold.
    by
        A key of the records by which they are grouped, such as ``"label"``.
    resamples
        How often the bootstrap draws as many cases as there are.
    confidence
        The share of means within the interval.
    seed
        Of the bootstrap: the same records and seed give the same interval.

    Returns
    -------
    dict
        A `Summary` by the name of each measure; with ``by``, such a dict by each value of the key.

    Raises
    ------
    ValueError
        If there is no record, a state is none of the four, a value is no number, or an option is out of range.
    """
    rows = list(records)
    check_integer("resamples", resamples, 1)
    if not 0 < as_number(confidence) < 1:
        raise ValueError(f"confidence must be a number between 0 and 1, got {shown(confidence)}.")
    if not rows:
        raise ValueError("There are no records to summarise.")
    for row in rows:
        if row.get("state", BOTH) not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {shown(row['state'])}.")
    if by is not None:
        groups: dict[Any, list[Mapping[str, Any]]] = {}
        for row in rows:
            if by not in row:
                raise ValueError(f"Every record must have {shown(by)}, by which they are grouped; one has not.")
            groups.setdefault(row[by], []).append(row)
        options: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
        return {key: summarise(group, measures=measures, **options) for key, group in groups.items()}
    names = _numbers(rows) if measures is None else list(measures)
    return {name: _summary(name, rows, resamples, confidence, seed) for name in names}


def _numbers(rows: list[Mapping[str, Any]]) -> list[str]:
    """Return the names under which records hold numbers, in their order."""
    names = {name: None for row in rows for name, value in row.items() if name not in KEYS and _is_number(value)}
    return list(names)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _summary(name: str, rows: list[Mapping[str, Any]], resamples: int, confidence: float, seed: int) -> Summary:
    values = np.asarray([_value(name, row) for row in rows])
    states = [row.get("state", BOTH) for row in rows]
    there = ~np.isnan(values)
    unseen = sum(state in (MISSED, FALSE_ALARM) and not known for state, known in zip(states, there, strict=True))
    if unseen:
        warn_of_input(
            f"{unseen} missed structures or false alarms have no {name} (NaN), and are left out of its figures: a "
            "model that misses more scores no worse then. Compute it with empty='worst' or empty='diagonal'."
        )
    ordered = np.sort(values[there])
    finite = ordered[np.isfinite(ordered)]
    all_finite = len(finite) == len(ordered)
    return Summary(
        measure=name,
        records=len(rows),
        positives=sum(state in (BOTH, MISSED) for state in states),
        negatives=sum(state in (NEITHER, FALSE_ALARM) for state in states),
        missed=states.count(MISSED),
        false_alarms=states.count(FALSE_ALARM),
        values=len(ordered),
        infinite=len(ordered) - len(finite),
        missed_left_out=unseen,
        mean=float(ordered.mean()) if len(ordered) else math.nan,
        sd=float(ordered.std(ddof=1)) if all_finite and len(ordered) > 1 else math.nan,
        median=_quantile(ordered, 0.5),
        lower_quartile=_quantile(ordered, 0.25),
        upper_quartile=_quantile(ordered, 0.75),
        minimum=_quantile(ordered, 0.0),
        maximum=_quantile(ordered, 1.0),
        interval=_interval(rows, values, resamples, confidence, seed),
        confidence=float(confidence),
        mean_finite=float(finite.mean()) if len(finite) else math.nan,
    )


def _value(name: str, row: Mapping[str, Any]) -> float:
    value = row.get(name, math.nan)
    if value is not None and not _is_number(value):
        raise ValueError(f"{name} must be a number in every record, got {shown(value)}.")
    return math.nan if value is None else float(value)


def _quantile(ordered: Any, share: float) -> float:
    """Return a quantile of sorted values, interpolated; between a number and inf that is inf."""
    if not len(ordered):
        return math.nan
    place = share * (len(ordered) - 1)
    low, high = float(ordered[math.floor(place)]), float(ordered[math.ceil(place)])
    return low if low == high else low + (high - low) * (place - math.floor(place))


def _interval(
    rows: list[Mapping[str, Any]], values: Any, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Return the percentiles of the mean over cases that are drawn with replacement; NaN for fewer than two."""
    there = ~np.isnan(values)
    cases = [row.get("case", place) if "case" in row else (place,) for place, row in enumerate(rows)]
    index = {case: k for k, case in enumerate(dict.fromkeys(c for c, known in zip(cases, there, strict=True) if known))}
    if len(index) < 2:
        return math.nan, math.nan
    of = np.asarray([index[case] for case, known in zip(cases, there, strict=True) if known])
    sums, counts = np.bincount(of, weights=values[there]), np.bincount(of)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for k in range(resamples):
        drawn = rng.integers(0, len(index), size=len(index))
        means[k] = sums[drawn].sum() / counts[drawn].sum()
    means.sort()
    tail = (1 - confidence) / 2
    return _quantile(means, tail), _quantile(means, 1 - tail)
