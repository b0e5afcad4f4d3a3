"""Means and centred second moments of two images in windows, merged from smaller windows.

The moments of two windows are merged by the formula of Chan et al., which adds the squared difference of the means. So
nothing cancels in float32, however large the intensities are compared with their variance, and flat windows have second
moments of exactly 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agnoreg.backend import Backend
from agnoreg.backend.windows import WindowMerge, paired_sum

Array = Any


class Moments(NamedTuple):
    """Weighted means of two images in a window, and their centred second moments (None for a single voxel).

    While windows are doubled, sums stand in for the means: a sum of 2, 4, 8, ... equal numbers is exact, and so is its
    division by their number at the end.
    """

    t: Array
    p: Array
    tt: Array = None
    pp: Array = None
    tp: Array = None


@dataclass(frozen=True, slots=True)
class MomentMerge(WindowMerge):
    """Merges the moments of two windows: ``M = Ma + Mb + (mean b - mean a)^2 na nb / (na + nb)``."""

    backend: Backend

    def merge_equal(self, a: Moments, b: Moments, count: int, unit: float) -> Moments:
        """Merge two windows of ``count`` windows each, whose means are still sums of ``count`` means."""
        seconds = self._seconds(a, b, a.t - b.t, a.p - b.p, unit / (2.0 * count))
        return Moments(a.t + b.t, a.p + b.p, *seconds)

    def finalize(self, a: Moments, count: int) -> Moments:
        """Return a window of ``count`` windows with its sums divided by ``count``, as means."""
        return a if count == 1 else Moments(a.t * (1.0 / count), a.p * (1.0 / count), *a[2:])

    def merge(self, a: Moments, na: int, b: Moments, nb: int, unit: float) -> Moments:
        """Merge a finalized window of ``na`` windows and one of ``nb`` that is not."""
        plus, share = self.backend.operations.plus_scaled, nb / (na + nb)
        # Differences from the mean of b to that of a.
        dt, dp = plus(a.t, b.t, -1.0 / nb), plus(a.p, b.p, -1.0 / nb)
        t, p = plus(a.t, dt, -share), plus(a.p, dp, -share)
        return Moments(t, p, *self._seconds(a, b, dt, dp, unit * na * share))

    def _seconds(self, a: Moments, b: Moments, dt: Array, dp: Array, factor: float) -> tuple[Array, Array, Array]:
        """Return the merged second moments: both added, plus ``factor`` times the products of ``dt`` and ``dp``."""
        inner = [m[2:] for m in (a, b) if m.tt is not None]
        return self.backend.operations.plus_products(inner, dt, dp, factor)

    def weighted(self, near: Sequence[Moments], taps: Sequence[float], unit: float) -> Moments:
        """Merge windows of weight ``unit``, each times its tap, relative to the middle one."""
        middle, weight = near[len(taps) // 2], sum(taps)
        dt, dp = [m.t - middle.t for m in near], [m.p - middle.p for m in near]
        t, p = paired_sum(taps, dt) * (1.0 / weight), paired_sum(taps, dp) * (1.0 / weight)
        second = []
        for x, y, mean_x, mean_y, inner in ((dt, dt, t, t, 2), (dp, dp, p, p, 3), (dt, dp, t, p, 4)):
            between = paired_sum(taps, [a * b for a, b in zip(x, y, strict=True)]) - mean_x * mean_y * weight
            between *= unit
            if middle.tt is not None:
                # Not in place: a framework may vectorise over one of the two images only.
                between = between + paired_sum(taps, [m[inner] for m in near])
            second.append(between)
        return Moments(middle.t + t, middle.p + p, *second)


class WeightedMoments(NamedTuple):
    """Like `Moments`, for voxels with weights, whose sum is ``w``; an empty window has means of 0."""

    t: Array
    p: Array
    w: Array
    tt: Array = None
    pp: Array = None
    tp: Array = None


@dataclass(frozen=True, slots=True)
class WeightedMomentMerge(WindowMerge):
    """Like `MomentMerge`, with the weights ``w`` of the windows, arrays that may be 0, instead of ``na`` and ``nb``."""

    backend: Backend

    def merge_equal(self, a: WeightedMoments, b: WeightedMoments, count: int, unit: float) -> WeightedMoments:
        """Merge two windows."""
        return self.merge(a, count, b, count, unit)

    def merge(self, a: WeightedMoments, na: int, b: WeightedMoments, nb: int, unit: float) -> WeightedMoments:
        """Merge two windows of any size."""
        plus = self.backend.operations.plus_product
        w = a.w + b.w
        share = self.backend.operations.share(b.w, w)
        dt, dp = b.t - a.t, b.p - a.p
        t, p = plus(a.t, dt, share), plus(a.p, dp, share)
        inner = [m[3:] for m in (a, b) if m.tt is not None]
        seconds = self.backend.operations.plus_weighted_products(inner, dt, dp, share, a.w)
        return WeightedMoments(t, p, w, *seconds)

    def weighted(self, near: Sequence[WeightedMoments], taps: Sequence[float], unit: float) -> WeightedMoments:
        """Merge windows, each times its tap, relative to one that is not empty, if possible the middle one."""
        xp, plus = self.backend.xp, self.backend.operations.plus_product
        middle = near[len(taps) // 2]
        about_t, about_p, found = middle.t, middle.p, middle.w != 0.0
        for m in near:
            if m is not middle:
                about_t, about_p = xp.where(found, about_t, m.t), xp.where(found, about_p, m.p)
                found = found | (m.w != 0.0)
        weights = [m.w * tap for m, tap in zip(near, taps, strict=True)]
        w = sum(weights[1:], start=weights[0])
        # An empty window has weight 0, so its means do not matter.
        dt, dp = [m.t - about_t for m in near], [m.p - about_p for m in near]
        inverse = self.backend.operations.share(xp.ones_like(w), w)
        t, p = (sum(map(xp.multiply, weights[1:], d[1:]), start=weights[0] * d[0]) * inverse for d in (dt, dp))
        second = []
        for x, y, mean_x, mean_y, inner in ((dt, dt, t, t, 3), (dp, dp, p, p, 4), (dt, dp, t, p, 5)):
            between = -mean_x * mean_y * w
            for weight, a, b in zip(weights, x, y, strict=True):
                between = plus(between, a * weight, b)
            if middle.tt is not None:
                between = between + paired_sum(taps, [m[inner] for m in near])
            second.append(between)
        return WeightedMoments(about_t + t, about_p + p, w, *second)
