"""What a window knows of two images: their means and centred second moments, joined from smaller windows.

Joining two windows adds the squared difference of their means, so that nothing cancels, in float32, however large the
intensities are beside their variance; and flat windows have second moments of exactly 0.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from agnoreg.passing import Joining
from agnoreg.stencil import paired_sum

Array = Any


class Moments(NamedTuple):
    """The weighted means of two images in a window, and their centred second moments (None: a single voxel)."""

    t: Array
    p: Array
    tt: Array = None
    pp: Array = None
    tp: Array = None


def merge(a: Moments, na: float, b: Moments, nb: float) -> Moments:
    """Join two windows of weights ``na`` and ``nb``: ``M = Ma + Mb + (mean b - mean a)^2 na nb / (na + nb)``."""
    share, root = nb / (na + nb), math.sqrt(na * nb / (na + nb))
    dt, dp = b.t - a.t, b.p - a.p
    t, p = dt * share, dp * share
    t += a.t
    p += a.p
    dt *= root
    dp *= root
    tt, pp, tp = dt * dt, dp * dp, dt * dp
    for part in (a, b):
        if part.tt is not None:
            tt += part.tt
            pp += part.pp
            tp += part.tp
    return Moments(t, p, tt, pp, tp)


def spread(near: Sequence[Moments], taps: Sequence[float], unit: float) -> Moments:
    """Join windows of weight ``unit``, each times its tap, about the middle one."""
    middle, weight = near[len(taps) // 2], sum(taps)
    dt, dp = [m.t - middle.t for m in near], [m.p - middle.p for m in near]
    t, p = paired_sum(taps, dt) * (1.0 / weight), paired_sum(taps, dp) * (1.0 / weight)
    second = []
    for x, y, mean_x, mean_y, inner in ((dt, dt, t, t, 2), (dp, dp, p, p, 3), (dt, dp, t, p, 4)):
        between = paired_sum(taps, [a * b for a, b in zip(x, y, strict=True)]) - mean_x * mean_y * weight
        between *= unit
        if middle.tt is not None:
            between += paired_sum(taps, [m[inner] for m in near])
        second.append(between)
    return Moments(middle.t + t, middle.p + p, *second)


MOMENTS = Joining(merge, spread)
