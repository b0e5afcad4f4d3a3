"""Local correlation from the moments of windows, with smoothing constants or exact."""

from typing import Any

Array = Any


def smoothed(
    xp: Any,
    m: Any,
    here: Array,
    weights: Array | None,
    wrt: tuple[int, ...] | None,
    *,
    smooth_nr: float,
    smooth_dr: float,
    squared: bool,
    flat_value: float | None,
    flat_up_to: float,
    bounded: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """Return each window's value and the images of `LocalMoments.of_moments`, times the weight of the window's middle.

    ``bounded``: second moments below ``smooth_dr`` are raised to it, as in MONAI. Windows whose product of second
    moments is at most ``flat_up_to`` have the value ``flat_value``, unless that is None.

    Windows around gap entries are multiplied by 0. With several samples they are replaced by 0, since they may hold
    another sample's NaN, and NaN times 0 is NaN.
    """
    mask = xp.astype(here, m.t.dtype) if weights is None else weights
    alone = m.t.shape[1] == 1

    def only(x: Array) -> Array:
        return x if alone else xp.where(here, x, xp.zeros_like(x))

    tt, pp, product = m.tt, m.pp, m.tt * m.pp
    if bounded:
        tt, pp = (xp.maximum(x, xp.zeros_like(x) + smooth_dr) for x in (tt, pp))
        denominator = tt * pp
    else:
        denominator = product + smooth_dr
    flat = None if flat_value is None else product <= flat_up_to
    # Where a quotient does not count, its denominator may be 0.
    unused = mask == 0.0 if flat is None and smooth_dr == 0.0 else flat
    if unused is not None:
        denominator = xp.where(unused, xp.ones_like(denominator), denominator)
    if squared:
        inverse = mask / denominator
        # Rounding must not break the Cauchy-Schwarz bound.
        value = only((xp.minimum(m.tp * m.tp, product) + smooth_nr) * inverse)
        half_by_cross = m.tp * inverse
    else:
        inverse = mask / xp.sqrt(denominator)
        value = only((m.tp + smooth_nr) * inverse)
        half_by_cross = 0.5 * inverse
    weight = value / denominator if squared else value / (denominator * 2.0)
    if flat is not None:
        zeros = xp.zeros_like(value)
        value = xp.where(flat, only(mask * flat_value), value)
        half_by_cross, weight = xp.where(flat, zeros, half_by_cross), xp.where(flat, zeros, weight)
    if wrt is None:
        return value, ()
    by_cross = only(half_by_cross)
    sums = [by_cross]
    for index in wrt:
        own, other = (m.t, m.tt, tt), (m.p, m.pp, pp)
        (own_mean, own_moment, _), (other_mean, _, factor) = (own, other) if index == 0 else (other, own)
        # In a flat window every voxel equals the mean: a large factor of their difference, 0, must not spoil the
        # gradient.
        moves = own_moment > smooth_dr if bounded else own_moment != 0.0
        by_variance = only(weight * factor * xp.astype(moves, weight.dtype))
        means = by_cross * other_mean
        means -= by_variance * own_mean
        sums += [by_variance, only(means)]
    return value, tuple(sums)


def exact(
    xp: Any,
    m: Any,
    centres: tuple[Array, ...],
    here: Array,
    weights: Array | None,
    wrt: tuple[int, ...] | None,
    *,
    squared: bool,
    flat_value: float | None,
    volume: float,
) -> tuple[Any, tuple[Array, ...]]:
    """Like `smoothed`, without constants, for images that were divided by their largest intensities.

    A window is flat if its standard deviation is no more than the rounding error of its intensities. Variances are
    multiplied only after taking roots, which stay in the dtype's range. If ``flat_value`` is None, flat windows do not
    count, and the value is a pair: the values and how much each one counts.
    """
    eps = float(xp.finfo(m.t.dtype).eps)
    zeros = xp.zeros_like(m.t)
    mask = zeros + xp.astype(here, m.t.dtype) if weights is None else weights
    whole = volume if weights is None else m.w
    flat, roots = ~here, []
    for mean, moment, index in ((m.t, m.tt, 0), (m.p, m.pp, 1)):
        rounding = (xp.abs(mean) + xp.abs(centres[index] / centres[2 + index])) * eps
        flat = flat | (moment <= rounding * rounding * whole)
    for moment in (m.tt, m.pp):
        roots.append(1.0 / xp.sqrt(xp.where(flat, xp.ones_like(moment), moment)))
    both = roots[0] * roots[1]
    value = xp.where(flat, zeros, m.tp) * roots[0] * roots[1]
    # Rounding must not break the Cauchy-Schwarz bound; NaN fails the comparison and stays.
    for bound in (1.0, -1.0):
        value = xp.where(value * bound > 1.0, zeros + bound, value)
    half_by_cross = value * both if squared else 0.5 * both
    value = value * value if squared else value
    weight = mask * (value if squared else 0.5 * value)
    value = xp.where(flat, zeros + (flat_value or 0.0), value) * mask
    counted = xp.where(flat, zeros, mask)
    value = value if flat_value is not None else (value, counted)
    if wrt is None:
        return value, ()
    by_cross = xp.where(flat, zeros, mask * half_by_cross)
    sums = [by_cross]
    for index in wrt:
        own_mean, other_mean = (m.t, m.p) if index == 0 else (m.p, m.t)
        by_variance = xp.where(flat, zeros, weight * roots[index] * roots[index])
        sums += [by_variance, xp.where(flat, zeros, by_cross * other_mean - by_variance * own_mean)]
    return value, tuple(sums)
