"""The mean over the structures that were found, where the mean over all is infinite because one was missed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from agnoreg.evaluate.records import Evaluation, Record

__all__ = ["FoundMean", "found_mean", "found_means"]


@dataclass(frozen=True)
class FoundMean:
    """A mean over structures that were found.

    Attributes
    ----------
    value
        The mean of the values that are finite; infinite where none is.
    found, of
        Of how many structures it is, and how many have a value, inf included. Undefined ones are in neither.
    """

    value: float
    found: int
    of: int

    @property
    def lacking(self) -> int:
        """How many structures have no finite value, as only one of both maps has them."""
        return self.of - self.found


def found_mean(values: Sequence[float]) -> FoundMean:
    """Return the mean of the values that are finite, and of how many it is; NaN is no value.

    Examples
    --------
    >>> found_mean([1.0, 2.0, math.inf, math.nan])
    FoundMean(value=1.5, found=2, of=3)
    """
    finite = [value for value in values if math.isfinite(value)]
    there = sum(not math.isnan(value) for value in values)
    mean = math.fsum(finite) / len(finite) if finite else math.inf if there else math.nan
    return FoundMean(mean, len(finite), there)


def found_means(records: Sequence[Record], mean: Record) -> tuple[FoundMean | None, FoundMean | None]:
    """Return what an infinite mean over labels is of the structures that were found, before and after.

    Each is None where its mean is not infinite.
    """
    if mean.label != "mean":
        return None, None
    own = [one for one in records if isinstance(one.label, int) and _series(one) == _series(mean)]
    before = [one.before for one in own if one.before is not None]
    return (
        found_mean(before) if mean.before is not None and math.isinf(mean.before) else None,
        found_mean([one.value for one in own]) if math.isinf(mean.value) else None,
    )


def states(evaluation: Evaluation) -> tuple[int, int]:
    """Return how many labels of the fixed map the moved one lacks, and how many it has beyond those."""
    maps = {entry.role: set(entry.labels or ()) - {0} for entry in evaluation.inputs}
    fixed, moved = (maps.get(f"{which} label", set()) for which in ("fixed", "moved"))
    return len(fixed - moved), len(moved - fixed)


def _series(record: Record) -> tuple[str, str, str]:
    return record.metric, str(record.arguments), record.measured
