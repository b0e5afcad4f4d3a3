"""The mean over the structures that were found, and of how many it is, where one was missed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agnoreg.evaluate.records import Evaluation, Record

__all__ = ["FoundMean", "found_mean", "found_means", "mean_of_found", "states"]


@dataclass(frozen=True)
class FoundMean:
    """A mean over structures that were found.

    Attributes
    ----------
    value
        The mean of the values that are finite; inf where none is.
    found, of
        Of how many structures it is, and how many there are in either map.
    """

    value: float
    found: int
    of: int


def found_mean(values: Sequence[float]) -> FoundMean:
    """Return the mean of the values that are finite, and of how many it is.

    Examples
    --------
    >>> found_mean([1.0, 2.0, math.inf, math.nan])
    FoundMean(value=1.5, found=2, of=4)
    """
    finite = [value for value in values if math.isfinite(value)]
    return FoundMean(math.fsum(finite) / len(finite) if finite else math.inf, len(finite), len(values))


def mean_of_found(mean: float | None, values: Sequence[float]) -> FoundMean | None:
    """Return the mean over the structures that were found.

    None where the mean is of all of them, where there is none, and where it is undefined.
    """
    if mean is None or math.isnan(mean) or all(map(math.isfinite, values)):
        return None
    return found_mean(values)


def found_means(records: Sequence[Record], mean: Record) -> tuple[FoundMean | None, FoundMean | None]:
    """Return what a mean over labels is of the structures that were found, before and after, as `mean_of_found`."""
    if mean.label != "mean":
        return None, None
    own = [one for one in records if isinstance(one.label, int) and _series(one) == _series(mean)]
    before = [one.before for one in own if one.before is not None]
    return mean_of_found(mean.before, before), mean_of_found(mean.value, [one.value for one in own])


def states(evaluation: Evaluation) -> tuple[int, int]:
    """Return how many labels of the fixed map the moved one lacks, and how many it has beyond those."""
    maps = {entry.role: set(entry.labels or ()) - {0} for entry in evaluation.inputs}
    fixed, moved = (maps.get(f"{which} label", set()) for which in ("fixed", "moved"))
    return len(fixed - moved), len(moved - fixed)


def _series(record: Record) -> tuple[str, str, str]:
    return record.metric, str(record.arguments), record.measured
