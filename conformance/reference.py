"""Every loss in float64 NumPy, written from its formula alone, for one sample after another, with its derivative.

Nothing here is shared with the core: windows are cut out and each is centred, bins are a dense table, a filter is a
matrix an axis. A function takes and returns float64 arrays; a loss returns ``(value, gradients)``, where ``value`` has
shape ``(B,)`` and ``gradients`` holds the gradient of ``sum(value)`` for each input.

A loss takes a ``mask``: weights of at least 0 that broadcast to the images, or to a field without its components. What
has no weight must be a number here; `evaluate` makes it one, and says what an empty mask leads to.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EPS = 1e-5


# --- kernels ----------------------------------------------------------------------------------------------------------


def rectangular(size):
    """Return ``size`` ones."""
    return np.ones(size)


def triangular(size):
    """Return 1, 2, ..., (size + 1) / 2, ..., 2, 1."""
    return np.array([min(i + 1, size - i) for i in range(size)], dtype=np.float64)


def gaussian_kernel1d_size(size):
    """Return a bell of ``size`` entries and standard deviation ``size / 3``, 1 at its middle."""
    x = np.arange(size) - (size - 1) / 2
    return np.exp(-(x**2) / (2 * (size / 3) ** 2))


def gaussian_kernel1d_sigma(sigma):
    """Return a bell of standard deviation ``sigma``, cut at three of them, of sum 1."""
    reach = math.floor(3 * sigma)
    x = np.arange(-reach, reach + 1)
    kernel = np.exp(-(x**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def cauchy_kernel1d(sigma):
    """Return ``1 / ((x / sigma)^2 + 1)``, cut at five ``sigma``, of sum 1."""
    reach = math.floor(5 * sigma)
    x = np.arange(-reach, reach + 1)
    kernel = 1 / ((x / sigma) ** 2 + 1)
    return kernel / kernel.sum()


def narrow_triangular(size):
    """Return a box of odd width, about half the size, convolved with itself, of sum 1, in the middle of zeros."""
    width = (size - 1) // 4 * 2 + 1
    triangle = np.convolve(np.ones(width) / width, np.ones(width) / width)
    return np.pad(triangle, (size - len(triangle)) // 2)


WINDOWS = {
    "rectangular": rectangular,
    "triangular": triangular,
    "gaussian": gaussian_kernel1d_size,
    "MONAI's triangular": narrow_triangular,
}


def normal_density(sigma):
    """Return the density of a normal distribution at the integers within three sigmas, whose sum is not quite 1."""
    far = int(max(3 * sigma, 0.5) + 0.5)
    return np.exp(-(np.arange(-far, far + 1) ** 2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)


BLURS = {"gaussian": gaussian_kernel1d_sigma, "cauchy": cauchy_kernel1d, "MONAI's gaussian": normal_density}


# --- masks ------------------------------------------------------------------------------------------------------------


def _weights(mask, shape):
    """Return the weight of every entry of images of this shape: 1 without a mask."""
    return np.broadcast_to(1.0 if mask is None else np.asarray(mask, dtype=np.float64), shape)


def _weighted_sum(w, x):
    """Return each sample's sum of ``w x``, ``(B, 1, ...)``."""
    return np.sum(w * x, axis=tuple(range(1, x.ndim)), keepdims=True)


# --- image ------------------------------------------------------------------------------------------------------------


def mutual_information(
    t,
    p,
    num_bins=23,
    sigma_ratio=0.5,
    smooth_nr=None,
    smooth_dr=None,
    convention="deepreg",
    spatial_dims=3,
    data_format=None,
    mask=None,
):
    """Return the mutual information of two batches of images, from a dense table of Parzen weights."""
    small = {"deepreg": EPS, "monai": 1e-7}[convention]
    nr, dr = (small if x is None else x for x in (smooth_nr, smooth_dr))
    values, gt, gp = [], np.zeros(t.shape), np.zeros(p.shape)
    counts = _weights(mask, t.shape)
    for b in range(len(t)):
        wt, dt = _parzen_weights(t[b].ravel(), num_bins, sigma_ratio)
        wp, dp = _parzen_weights(p[b].ravel(), num_bins, sigma_ratio)
        # How often each sample counts, of all of them.
        share = counts[b].reshape(-1, 1) / counts[b].sum()
        joint = wt.T @ (share * wp)
        pa, pb = np.sum(share * wt, axis=0), np.sum(share * wp, axis=0)
        outer = np.outer(pa, pb)
        ratio = (joint + nr) / (outer + dr) + dr
        values.append(np.sum(joint * np.log(ratio)))
        # The derivatives by the joint histogram, by its outer product, by the two marginals, by the weights.
        by_joint = np.log(ratio) + joint / ratio / (outer + dr)
        by_outer = -joint / ratio * (joint + nr) / (outer + dr) ** 2
        by_wt = (wp @ by_joint.T + by_outer @ pb) * share
        by_wp = (wt @ by_joint + pa @ by_outer) * share
        gt[b] = np.sum(by_wt * dt, axis=1).reshape(t[b].shape)
        gp[b] = np.sum(by_wp * dp, axis=1).reshape(p[b].shape)
    return np.array(values), (gt, gp)


def _parzen_weights(x, num_bins, sigma_ratio):
    """Return the normalised weights ``(N, num_bins)`` of the samples and their derivatives by the sample."""
    inside = (x >= 0) & (x <= 1)
    x = np.clip(x, 0, 1)
    centres = np.linspace(0, 1, num_bins)
    sigma = sigma_ratio / (num_bins - 1)
    away = x[:, None] - centres[None, :]
    weights = np.exp(-(away**2) / (2 * sigma**2))
    weights /= weights.sum(axis=1, keepdims=True)
    slope = -away / sigma**2
    derivative = weights * (slope - np.sum(weights * slope, axis=1, keepdims=True))
    return weights, derivative * inside[:, None]


def lncc_map(t, p, kernel_size=9, kernel_type="rectangular", smooth_nr=EPS, smooth_dr=EPS):
    """Return the squared local correlation at every voxel, ``(B, d1, d2, d3)``."""

    def local(*moments):
        return _local(*moments, smooth_nr, smooth_dr, True, None, "deepreg")

    return _lncc(t, p, _weights(None, t.shape), kernel_size, kernel_type, "zero", local)[0]


#: smooth_nr, smooth_dr, padding, and what is below which a window is flat with its value.
LOCAL = {
    "deepreg": (EPS, EPS, "zero", None),
    "monai": (0.0, EPS, "zero", None),
    "voxelmorph": (0.0, EPS, "zero", None),
    "ants": (0.0, 0.0, "truncate", 1.0),
    # What is no number is left out.
    "exact": (0.0, 0.0, "truncate", math.nan),
}


def lncc(
    t,
    p,
    kernel_size=9,
    kernel_type="rectangular",
    smooth_nr=None,
    smooth_dr=None,
    spatial_dims=3,
    data_format=None,
    padding=None,
    squared=True,
    flat_value=None,
    convention="deepreg",
    mask=None,
):
    """Return the mean over the voxels, and the channels, of the squared local correlation, window by window."""
    place = 1 if data_format == "channels_first" else -1
    own = (smooth_nr, smooth_dr, padding, flat_value)
    nr, dr, padding, flat = (a if b is None else b for a, b in zip(LOCAL[convention], own, strict=True))
    if convention == "monai" and kernel_type == "triangular":
        kernel_type = "MONAI's triangular"
    options = kernel_size, kernel_type, padding, lambda *moments: _local(*moments, nr, dr, squared, flat, convention)
    if t.ndim == spatial_dims + 1 or p.ndim == spatial_dims + 1:
        w = _weights(mask, t.shape)
        images = [(x[..., 0] if x.ndim == spatial_dims + 2 else x) for x in (t, p, w)]
        value, gt, gp = _mean_lncc(*images, *options)
        return value, (gt.reshape(t.shape), gp.reshape(p.shape))
    values, gts, gps = [], [], []
    for images in zip(*(np.moveaxis(x, place, 0) for x in (t, p, _weights(mask, t.shape))), strict=True):
        value, gt, gp = _mean_lncc(*images, *options)
        values.append(value)
        gts.append(gt)
        gps.append(gp)
    gradients = tuple(np.moveaxis(np.asarray(g), 0, place) / len(g) for g in (gts, gps))
    return np.mean(values, axis=0), gradients


def _mean_lncc(t, p, w, *options):
    """Return the mean of the local values, each of the weight of its window's middle, and the gradients.

    What is no number is left out of the mean; where all is, it is 0.
    """
    ncc, gt, gp = _lncc(t, p, w, *options)
    w = w * ~np.isnan(ncc)
    ncc = np.where(np.isnan(ncc), 0.0, ncc)
    counted = _weighted_sum(w, np.ones_like(w))
    share = 1.0 / np.where(counted > 0.0, counted, 1.0)
    return (_weighted_sum(w, ncc) * share).reshape(-1), gt * share, gp * share


def _local(cross, vt, vp, nr, dr, squared, flat_value, convention):
    """Return the windows' values, and their derivatives by their three moments."""
    if convention == "monai":
        a, b = np.maximum(vt, dr), np.maximum(vp, dr)
        value = (cross**2 + nr) / (a * b)
        results = value, 2 * cross / (a * b), -value / a * (vt > dr), -value / b * (vp > dr)
    elif squared:
        below = vt * vp + dr
        value = (cross**2 + nr) / below
        results = value, 2 * cross / below, -value * vp / below, -value * vt / below
    else:
        below = vt * vp + dr
        value = (cross + nr) / np.sqrt(below)
        results = value, 1 / np.sqrt(below), -value * vp / below / 2, -value * vt / below / 2
    if flat_value is None:
        return results
    flat = vt * vp <= (np.finfo(np.float64).eps if convention == "ants" else 0.0)
    return tuple(np.where(flat, instead, x) for x, instead in zip(results, (flat_value, 0.0, 0.0, 0.0), strict=True))


def _lncc(t, p, w, kernel_size, kernel_type, padding, local):
    """Return the local value of every window whose middle has a weight, 0 for others, and the sum's gradients."""
    sizes = np.broadcast_to(kernel_size, (t.ndim - 1,))
    taps = np.ones(())
    for size in sizes:
        taps = np.multiply.outer(taps, WINDOWS[kernel_type](int(size)))
    around = [(0, 0), *(((size - 1) // 2, size // 2) for size in sizes)]
    middles, shape = w, t.shape[1:]
    t, p = (np.pad(x, around) for x in (t, p))
    # Beyond the border there are zeros that count, or nothing.
    w = np.pad(w, around, constant_values={"zero": 1.0, "truncate": 0.0}[padding])
    ncc, gt, gp = np.zeros(middles.shape), np.zeros(t.shape), np.zeros(p.shape)
    for b, sample in enumerate(middles):
        there = sample != 0
        # A row a window, a column a voxel of it.
        ts, ps, ws = (sliding_window_view(x[b], sizes)[there].reshape(-1, taps.size) for x in (t, p, w))
        ws = ws * taps.reshape(-1)
        # S[tp] - S[t]S[p]/V and S[tt] - S[t]^2/V, as sums of products of deviations: nothing cancels.
        t0, p0 = _deviations(ts, ws), _deviations(ps, ws)
        wt, wp = ws * t0, ws * p0
        ncc[b][there], *slopes = local((wt * p0).sum(-1), (wt * t0).sum(-1), (wp * p0).sum(-1))
        by_cross, by_vt, by_vp = ((sample[there] * slope)[:, None] for slope in slopes)
        # d cross / dt = w p0 and d vt / dt = 2 w t0: the means drop out, the deviations sum to zero.
        by_t, by_p = by_cross * wp + 2 * by_vt * wt, by_cross * wt + 2 * by_vp * wp
        for column, tap in enumerate(np.ndindex(*sizes)):
            voxels = tuple(slice(i, i + n) for i, n in zip(tap, shape, strict=True))
            gt[b][voxels][there] += by_t[:, column]
            gp[b][voxels][there] += by_p[:, column]
    inside = (slice(None), *(slice(before, before + n) for (before, _), n in zip(around[1:], shape, strict=True)))
    return ncc, gt[inside], gp[inside]


def _deviations(x, weights):
    """Return each row of ``x`` less its weighted mean; where nothing has a weight, 0.

    It is taken about a number that has a weight: equal numbers deviate by exactly 0.
    """
    first = np.argmax(weights > 0, axis=1, keepdims=True)
    x = x - np.take_along_axis(x, first, axis=1)
    total = weights.sum(axis=1, keepdims=True)
    empty = total == 0
    return np.where(empty, 0.0, x - (weights * x).sum(axis=1, keepdims=True) / np.where(empty, 1.0, total))


def gncc(
    t,
    p,
    smooth_nr=None,
    smooth_dr=None,
    squared=True,
    convention="deepreg",
    spatial_dims=3,
    data_format=None,
    mask=None,
):
    """Return the correlation of each sample, ``(cov^2 + nr) / (var var + dr)``, or signed with a root below."""
    small = {"deepreg": EPS, "exact": 0.0}[convention]
    nr, dr = (small if x is None else x for x in (smooth_nr, smooth_dr))
    w = _weights(mask, t.shape)
    n = _weighted_sum(w, np.ones_like(t))
    t0, p0 = (_deviations(x.reshape(len(x), -1), w.reshape(len(w), -1)).reshape(x.shape) for x in (t, p))
    cov, vt, vp = (_weighted_sum(w, a * b) / n for a, b in ((t0, p0), (t0, t0), (p0, p0)))
    flat = (vt * vp + dr) == 0
    below = np.where(flat, 1.0, vt * vp + dr)
    power, root = (2, 1) if squared else (1, 2)
    above, below = cov**power + nr, below ** (1 / root)
    # The derivatives by cov, and by the product of variances.
    by_cov, by_product = power * cov ** (power - 1) / below, -above / below ** (1 + root) / root
    gt = np.where(flat, 0.0, (by_cov * p0 + by_product * 2 * vp * t0) * w / n)
    gp = np.where(flat, 0.0, (by_cov * t0 + by_product * 2 * vt * p0) * w / n)
    return np.where(flat, 0.0, above / below).reshape(-1), (gt, gp)


# --- label ------------------------------------------------------------------------------------------------------------


def ssd(t, p, spatial_dims=3, data_format=None, mask=None):
    """Return the mean squared difference."""
    w = _weights(mask, t.shape)
    n = _weighted_sum(w, np.ones_like(t))
    gradient = 2 * (t - p) * w / n
    return (_weighted_sum(w, (t - p) ** 2) / n).reshape(-1), (gradient, -gradient)


def dice(
    t,
    p,
    binary=False,
    background_weight=0.0,
    smooth_nr=None,
    smooth_dr=None,
    squared=None,
    convention="deepreg",
    spatial_dims=3,
    data_format=None,
    mask=None,
):
    """Return the Dice score with weights ``1 - w`` on the foreground and ``w`` on the background.

    Other conventions than DeepReg's: the mean of the channels' scores, where it is said that there are channels.
    """
    small = 0.0 if convention == "ants" else EPS
    nr, dr = (small if x is None else x for x in (smooth_nr, smooth_dr))
    power = 2 if (convention == "voxelmorph" if squared is None else squared) else 1
    binary = binary or convention == "ants"
    w = background_weight

    def score(both, total, n):
        if convention == "ants" and total == 0:
            return 0.0, 1.0, (0, 0), (0, 0)
        if w > 0:
            above, below = 2 * (both - w * total + w * n) + nr, (1 - 2 * w) * total + 2 * w * n + dr
            return above, below, (2, -2 * w), (0, 1 - 2 * w)
        return 2 * both + nr, total + dr, (2, 0), (0, 1)

    if convention == "deepreg" or data_format is None:
        return _overlap(t, p, binary, score, mask, power)
    place = 1 if data_format == "channels_first" else -1
    parts = [
        _overlap(*one, binary, score, where, power)
        for *one, where in zip(*(np.moveaxis(x, place, 0) for x in (t, p, _weights(mask, t.shape))), strict=True)
    ]
    gradients = tuple(np.moveaxis([part[1][i] for part in parts], 0, place) / len(parts) for i in (0, 1))
    return np.mean([value for value, _ in parts], axis=0), gradients


def jaccard(
    t,
    p,
    binary=False,
    background_weight=0.0,
    smooth_nr=EPS,
    smooth_dr=EPS,
    spatial_dims=3,
    data_format=None,
    mask=None,
):
    """Return the Jaccard index with weights ``1 - w`` on the foreground and ``w`` on the background."""
    w = background_weight

    def score(both, total, n):
        if w > 0:
            above, below = both - w * total + w * n + smooth_nr, (1 - w) * total - both + w * n + smooth_dr
            return above, below, (1, -w), (-1, 1 - w)
        return both + smooth_nr, total - both + smooth_dr, (1, 0), (-1, 1)

    return _overlap(t, p, binary, score, mask)


def _overlap(t, p, binary, score, mask, power=1):
    """Return ``above / below``, which ``score`` gives with their derivatives by ``sum t p`` and by ``sum (t + p)``.

    With a ``power`` of 2 it is ``sum (t^2 + p^2)``.
    """
    if binary:
        t, p = np.where(t >= 0.5, 1.0, 0.0), np.where(p >= 0.5, 1.0, 0.0)
    values, gt, gp = [], np.zeros(t.shape), np.zeros(p.shape)
    w = _weights(mask, t.shape)
    for b in range(len(t)):
        above, below, d_above, d_below = score(
            np.sum(w[b] * t[b] * p[b]), np.sum(w[b] * (t[b] ** power + p[b] ** power)), w[b].sum()
        )
        values.append(above / below)
        if not binary:
            by_both, by_total = ((a * below - above * c) / below**2 for a, c in zip(d_above, d_below, strict=True))
            slopes = [power * x[b] ** (power - 1) for x in (t, p)]
            gt[b], gp[b] = (
                w[b] * (by_both * p[b] + by_total * slopes[0]),
                w[b] * (by_both * t[b] + by_total * slopes[1]),
            )
    return np.array(values), (gt, gp)


def cross_entropy(t, p, binary=False, background_weight=0.0, smooth=EPS, spatial_dims=3, data_format=None, mask=None):
    """Return the cross entropy with weights ``1 - w`` on the foreground and ``w`` on the background."""
    w = background_weight
    if binary:
        t, p = np.where(t >= 0.5, 1.0, 0.0), np.where(p >= 0.5, 1.0, 0.0)
    counts = _weights(mask, t.shape)
    share = counts / _weighted_sum(counts, np.ones_like(t))
    value = -(1 - w) * _weighted_sum(share, t * np.log(p + smooth))
    gt, gp = -(1 - w) * np.log(p + smooth) * share, -(1 - w) * t / (p + smooth) * share
    if w > 0:
        value = value - w * _weighted_sum(share, (1 - t) * np.log(1 - p + smooth))
        gt, gp = gt + w * np.log(1 - p + smooth) * share, gp + w * (1 - t) / (1 - p + smooth) * share
    return value.reshape(-1), (gt * (not binary), gp * (not binary))


def centroid(mask, grid):
    """Return the mean position ``(B, 3)`` of the voxels of ``mask`` that are at least 0.5."""
    inside = (mask >= 0.5).astype(np.float64)[..., None]
    return (np.sum(inside * grid, axis=(1, 2, 3)) + EPS) / (np.sum(inside, axis=(1, 2, 3)) + EPS)


def centroid_distance(t, p, grid):
    """Return the distance ``(B,)`` of the two masks' centroids."""
    return np.sqrt(np.sum((centroid(t, grid) - centroid(p, grid)) ** 2, axis=1))


def foreground_proportion(y):
    """Return the fraction ``(B,)`` of voxels that are at least 0.5."""
    return np.mean(y >= 0.5, axis=(1, 2, 3))


# --- deform -----------------------------------------------------------------------------------------------------------


def difference(f, axis, dims=3):
    """Return ``(f[i + 1] - f[i - 1]) / 2`` along ``axis``, cropped by one at both ends of axes 1 to ``dims``."""
    ahead, behind = ([slice(None)] + [slice(1, -1)] * dims for _ in range(2))
    ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
    return (f[tuple(ahead)] - f[tuple(behind)]) / 2


def difference_transposed(g, axis, dims=3):
    """Return the adjoint of :func:`difference`: two voxels more along axes 1 to ``dims``."""
    f = np.zeros((g.shape[0], *(n + 2 for n in g.shape[1 : dims + 1]), *g.shape[dims + 1 :]))
    ahead, behind = ([slice(None)] + [slice(1, -1)] * dims for _ in range(2))
    ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
    f[tuple(ahead)] += g / 2
    f[tuple(behind)] -= g / 2
    return f


def _of_a_field(function):
    """Let a function of a field with its components last, of a step an axis and of weights take any layout."""

    def wrapped(field, *args, spacing=1.0, spatial_dims=3, data_format="channels_last", mask=None, **options):
        steps = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (spatial_dims,))
        last = data_format == "channels_last"
        field = field if last else np.moveaxis(field, 1, -1)
        value, (gradient,) = function(field, steps, _weights(mask, field.shape[:-1]), *args, **options)
        return value, (gradient if last else np.moveaxis(gradient, -1, 1),)

    return wrapped


def _matrix(n, taps):
    """Return a matrix of a stencil, ``{offset: factor}``, without the places where it reaches beyond the ends."""
    low, high = min(taps), max(taps)
    places = range(max(0, -low), n - max(0, high))
    matrix = np.zeros((len(places), n))
    for row, place in enumerate(places):
        for offset, factor in taps.items():
            matrix[row, place + offset] = factor
    return matrix


def _apply(matrices, field):
    """Multiply a field by a matrix along each of its axes 1, 2, ..."""
    for axis, matrix in enumerate(matrices, start=1):
        field = np.moveaxis(np.tensordot(matrix, field, axes=(1, axis)), 0, axis)
    return field


def _least(w, crop):
    """Return for every voxel of the grid that lacks ``crop`` at each end the least weight of the cube around it."""
    grid = tuple(n - 2 * crop for n in w.shape[1:])
    least = np.zeros((len(w), *grid))
    for place in np.ndindex(grid):
        cube = (slice(None), *(slice(i, i + 2 * crop + 1) for i in place))
        least[(slice(None), *place)] = w[cube].min(axis=tuple(range(1, w.ndim)))
    return least


def _shares(weights, components):
    """Return how much of a mean over the grid and the components each entry is, ``(B, grid, 1)``."""
    total = weights.sum(axis=tuple(range(1, weights.ndim)), keepdims=True) * components
    return (weights / total)[..., None]


def _mean(shares, energies):
    return np.sum(shares * energies, axis=tuple(range(1, energies.ndim)))


def _compact_gradient_norm(field, steps, w, l1):
    value, gradient, dims = 0.0, np.zeros(field.shape), len(steps)
    for axis in range(dims):
        matrices = [np.eye(n) for n in field.shape[1:-1]]
        matrices[axis] = _matrix(field.shape[axis + 1], {0: -1.0, 1: 1.0}) / steps[axis]
        d = _apply(matrices, field)
        pairs = np.moveaxis(w, axis + 1, 0)
        shares = _shares(np.moveaxis(np.minimum(pairs[1:], pairs[:-1]), 0, axis + 1), dims)
        value = value + _mean(shares, np.abs(d) if l1 else d**2)
        gradient += _apply([m.T for m in matrices], shares * (np.sign(d) if l1 else 2 * d))
    return value, (gradient,)


def _compact_bending_energy(field, steps, w):
    value, gradient, dims = 0.0, np.zeros(field.shape), len(steps)
    middle, half, twice = {-1: 0.0, 0: 1.0, 1: 0.0}, {-1: -0.5, 0: 0.0, 1: 0.5}, {-1: 1.0, 0: -2.0, 1: 1.0}
    shares = _shares(_least(w, 1), dims)
    for i in range(dims):
        for j in range(dims):
            stencils = [twice if i == j == axis else half if axis in (i, j) else middle for axis in range(dims)]
            matrices = [_matrix(n, taps) for n, taps in zip(field.shape[1:-1], stencils, strict=True)]
            step = steps[i] * steps[j]
            d = _apply(matrices, field) / step
            value = value + _mean(shares, d**2)
            gradient += _apply([m.T for m in matrices], shares * 2 * d / step)
    return value, (gradient,)


@_of_a_field
def gradient_norm(field, steps, w, l1=False, stencil="central", convention="deepreg"):
    """Return the mean over voxels and components of the sum of the squared (or absolute) first differences."""
    if convention == "voxelmorph":
        value, (gradient,) = _compact_gradient_norm(field, steps, w, l1)
        return value / len(steps), (gradient / len(steps),)
    if stencil == "compact":
        return _compact_gradient_norm(field, steps, w, l1)
    value, gradient, dims = 0.0, np.zeros(field.shape), len(steps)
    shares = _shares(_least(w, 1), dims)
    for axis in range(1, dims + 1):
        step = steps[axis - 1]
        d = difference(field, axis, dims) / step
        value = value + _mean(shares, np.abs(d) if l1 else d**2)
        gradient += difference_transposed(shares * (np.sign(d) if l1 else 2 * d) / step, axis, dims)
    return value, (gradient,)


@_of_a_field
def bending_energy(field, steps, w, stencil="central", convention="deepreg"):
    """Return the mean of the sum of the squared second differences, the mixed ones counted twice."""
    if stencil == "compact" or convention == "monai":
        return _compact_bending_energy(field, steps, w)
    value, gradient, dims = 0.0, np.zeros(field.shape), len(steps)
    shares = _shares(_least(w, 2), dims)
    for i in range(1, dims + 1):
        for j in range(1, dims + 1):
            step = steps[i - 1] * steps[j - 1]
            d = difference(difference(field, i, dims), j, dims) / step
            value = value + _mean(shares, d**2)
            g = shares * 2 * d / step
            gradient += difference_transposed(difference_transposed(g, j, dims), i, dims)
    return value, (gradient,)


# --- filters and the losses made of them ------------------------------------------------------------------------------


def separable_filter(x, kernel, transpose=False, axes=(1, 2, 3)):
    """Correlate ``x`` along some axes with ``kernel``, zero padded, by one matrix an axis."""
    for axis in axes:
        n, before = x.shape[axis], (len(kernel) - 1) // 2
        matrix = np.zeros((n, n))
        for i in range(n):
            for step, tap in enumerate(kernel):
                if 0 <= i + step - before < n:
                    matrix[i, i + step - before] = tap
        x = np.moveaxis(np.tensordot(matrix.T if transpose else matrix, x, axes=(1, axis)), 0, axis)
    return x


def multi_scale(loss, t, p, scales=None, kernel="gaussian", mask=None, **options):
    """Return the mean over ``scales`` of ``loss`` of both inputs, smoothed; scale 0 is unsmoothed.

    What has no weight is 0 before it is smoothed.
    """
    if scales is None:
        return loss(t, p, mask=mask, **options)
    there = _weights(mask, t.shape) > 0
    t, p = t * there, p * there
    first = 2 if options.get("data_format") == "channels_first" else 1
    axes = range(first, first + options.get("spatial_dims", 3))
    scales = [scales] if isinstance(scales, int | float) else scales
    kernel = "MONAI's gaussian" if (kernel, options.get("convention")) == ("gaussian", "monai") else kernel
    values, gts, gps = [], [], []
    for scale in scales:
        taps = BLURS[kernel](scale) if scale > 0 else np.ones(1)
        smooth = [separable_filter(x, taps, axes=axes) for x in (t, p)]
        value, (gt, gp) = loss(*smooth, mask=mask, **options)
        values.append(value)
        gts.append(separable_filter(gt, taps, transpose=True, axes=axes) * there)
        gps.append(separable_filter(gp, taps, transpose=True, axes=axes) * there)
    return np.mean(values, axis=0), (np.mean(gts, axis=0), np.mean(gps, axis=0))


def l1(t, p, spatial_dims=3, data_format=None, mask=None):
    """Return the mean absolute difference."""
    w = _weights(mask, t.shape)
    n = _weighted_sum(w, np.ones_like(t))
    gradient = w * np.sign(t - p) / n
    return (_weighted_sum(w, np.abs(t - p)) / n).reshape(-1), (gradient, -gradient)


def tversky(t, p, alpha=0.5, beta=0.5, smooth=EPS, spatial_dims=3, data_format=None, mask=None):
    """Return ``(TP + s) / (TP + alpha FP + beta FN + s)`` of all channels together."""
    w = _weights(mask, t.shape)
    tp, fp, fn = (_weighted_sum(w, x) for x in (t * p, (1 - t) * p, t * (1 - p)))
    above, below = tp + smooth, tp + alpha * fp + beta * fn + smooth
    # The slopes of the denominator by t and by p.
    slopes = p - alpha * p + beta * (1 - p), t + alpha * (1 - t) - beta * t
    gradients = tuple(w * (x / below - above / below**2 * s) for x, s in zip((p, t), slopes, strict=True))
    return (above / below).reshape(-1), gradients


def ngf(t, p, eps=0.01, spatial_dims=3, data_format=None, mask=None):
    """Return the mean of ``1 - <a, b>^2 / (|a|^2 |b|^2)`` of gradients, by one matrix an axis."""
    first = 2 if data_format == "channels_first" else 1
    axes, w = range(first, first + spatial_dims), np.array(_weights(mask, t.shape))
    steps = {
        axis: np.clip(np.asarray([[1], [-1], [0]]) + np.arange(t.shape[axis]), 0, t.shape[axis] - 1) for axis in axes
    }
    for axis, near in steps.items():
        w = np.min([np.take(w, one, axis) for one in near], axis=0)

    def along(axis, x, transpose=False):
        eye = np.eye(t.shape[axis])
        matrix = (eye[steps[axis][0]] - eye[steps[axis][1]]) / 2
        return np.moveaxis(np.tensordot(matrix.T if transpose else matrix, x, axes=(1, axis)), 0, axis)

    a, b = ([along(axis, x) for axis in axes] for x in (t, p))
    dot, aa, bb = sum(map(np.multiply, a, b)), sum(x * x for x in a) + eps**2, sum(x * x for x in b) + eps**2
    share = w / _weighted_sum(w, np.ones_like(w))
    value, gradients = _weighted_sum(share, 1 - dot**2 / (aa * bb)).reshape(-1), []
    for own, other, square in ((a, b, aa), (b, a, bb)):
        slopes = [share * 2 * dot / (aa * bb) * (dot / square * x - y) for x, y in zip(own, other, strict=True)]
        gradients.append(sum(along(axis, slope, True) for axis, slope in zip(axes, slopes, strict=True)))
    return value, tuple(gradients)


#: From a class's name to its plain function, whether its sign is turned, and whether it takes scales.
LOSSES = {
    "GlobalMutualInformation": (mutual_information, False, False),
    "GlobalMutualInformationLoss": (mutual_information, True, False),
    "LocalNormalizedCrossCorrelation": (lncc, False, False),
    "LocalNormalizedCrossCorrelationLoss": (lncc, True, False),
    "GlobalNormalizedCrossCorrelation": (gncc, False, False),
    "GlobalNormalizedCrossCorrelationLoss": (gncc, True, False),
    "SumSquaredDifference": (ssd, False, False),
    "SumSquaredDifferenceLoss": (ssd, False, True),
    "DiceScore": (dice, False, False),
    "DiceLoss": (dice, True, True),
    "JaccardIndex": (jaccard, False, False),
    "JaccardLoss": (jaccard, True, True),
    "CrossEntropy": (cross_entropy, False, False),
    "CrossEntropyLoss": (cross_entropy, False, True),
    "GradientNorm": (gradient_norm, False, False),
    "BendingEnergy": (bending_energy, False, False),
    "MeanAbsoluteDifference": (l1, False, False),
    "MeanAbsoluteDifferenceLoss": (l1, False, True),
    "TverskyIndex": (tversky, False, False),
    "TverskyLoss": (tversky, True, True),
    "NormalizedGradientField": (ngf, False, False),
    "NormalizedGradientFieldLoss": (ngf, False, True),
}


def evaluate(cls, options, *inputs, mask=None):
    """Return the value ``(B,)`` of the class called ``cls`` and its gradients, from float64 copies of the inputs.

    What a mask leaves out may be anything. Where nothing of a sample counts, its value is NaN and its gradient 0.
    """
    function, negative, scaled = LOSSES[cls]
    inputs = [np.asarray(x, dtype=np.float64) for x in inputs]
    evaluated = (lambda *x, **more: multi_scale(function, *x, **more)) if scaled else function
    if mask is None:
        value, gradients = evaluated(*inputs, **options)
    else:
        there = np.asarray(mask) > 0
        if len(inputs) == 1:
            there = np.expand_dims(there, 1 if options.get("data_format") == "channels_first" else -1)
        # A number at which every loss has a value.
        inputs = [np.where(there, x, 0.5) for x in inputs]
        with np.errstate(invalid="ignore", divide="ignore"):
            value, gradients = evaluated(*inputs, mask=mask, **options)
        empty = ~np.any(np.broadcast_to(there, inputs[0].shape).reshape(len(value), -1), axis=1)
        value = np.where(empty, np.nan, value)
        gradients = tuple(np.where(np.isnan(value).reshape((-1,) + (1,) * (g.ndim - 1)), 0.0, g) for g in gradients)
    if not negative:
        return value, gradients
    offset = 1.0 if cls == "DiceLoss" and options.get("convention") == "monai" else 0.0
    return offset - value, tuple(-g for g in gradients)
