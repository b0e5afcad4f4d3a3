"""Squared normalised cross-correlation of two images: local (LNCC), in windows, and global (GNCC)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from agnoreg.backend import Backend, backend_of, per_sample
from agnoreg.differentiable import (
    MeanMeasure,
    Measure,
    check_number,
    check_rank,
    check_same_shape,
    evaluate,
    image_of,
    measured_by,
    total,
    voxels,
)
from agnoreg.functional import kernels
from agnoreg.stencil import boxes, cut, paired_sum, sliding, stretch
from agnoreg.tiling import Slab

Array = Any

EPS = 1e-5

KERNELS: dict[str, Callable[[int], Array]] = {
    "rectangular": kernels.rectangular,
    "triangular": kernels.triangular,
    "gaussian": kernels.gaussian_kernel1d_size,
}


def centre(backend: Backend, dtype: Any, image: Array) -> Array:
    """Return a rough centre of each sample's intensities, ``(B,)``, that they can be shifted by without rounding.

    It is the mean of a coarse grid of voxels, rounded to the spacing of floating-point numbers a little above the
    largest of them, so that ``image - centre`` is exact for voxels of that size: an offset costs no digits then.
    """
    xp = backend.xp
    sparse = image
    for axis in range(1, len(image.shape)):
        step = max(1, image.shape[axis] // 16)
        if step > 1:
            sparse = sparse[(slice(None),) * axis + (slice(step // 2, None, step), ...)]
    sparse = xp.astype(sparse, dtype)
    axes = tuple(range(1, len(image.shape)))
    mean = xp.astype(xp.mean(xp.astype(sparse, backend.accumulator(sparse)), axis=axes), dtype)
    large = xp.max(xp.abs(sparse), axis=axes) * 2.0
    return (mean + large) - large


def shifted(slab: Slab) -> tuple[Array, ...]:
    """Return the slab's images less their centres."""
    return tuple(
        image - per_sample(slab.xp, centre, image) for image, centre in zip(slab.arrays, slab.constants, strict=True)
    )


# --- global -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GlobalCorrelation(Measure):
    """``(cov(t, p)^2 + eps) / (var t var p + eps)``, population moments."""

    def constants(self, backend: Backend, dtype: Any, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return a centre of each image, about which its moments are taken."""
        return tuple(centre(backend, dtype, array) for array in arrays)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the first and second moments about the centres, not yet divided."""
        t, p = shifted(slab)
        return tuple(total(slab, x) for x in (t, p, t * t, p * p, t * p))

    def finish(
        self, xp: Any, sums: tuple[Array, ...], shape: tuple[int | None, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and the factors of the other image, the image itself and 1 in each gradient."""
        n = voxels(shape)
        t, p, tt, pp, tp = (s / n for s in sums)
        cov, var_t, var_p = tp - t * p, tt - t * t, pp - p * p
        denominator = var_t * var_p + EPS
        value = (cov * cov + EPS) / denominator
        # d cov = (t - mean t) dp / n and d var_p = 2 (p - mean p) dp / n; likewise for t.
        by_cov = 2.0 * cov / denominator / n
        by_var_t, by_var_p = (-2.0 * value * other / denominator / n for other in (var_p, var_t))
        return value, (by_cov, by_var_t, by_var_p, -by_cov * p - by_var_t * t, -by_cov * t - by_var_p * p)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``by_cov (other - its mean) + by_var (own - its mean)``."""
        images = shifted(slab)
        by_cov, *rest = (per_sample(slab.xp, c, images[0]) for c in coefficients)
        by_var, constant = rest[:2], rest[2:]
        return tuple(images[1 - i] * by_cov + images[i] * by_var[i] + constant[i] for i in wrt)


@measured_by(GlobalCorrelation)
def gncc(y_true: Array, y_pred: Array) -> Array:
    """Return the squared global normalised cross-correlation of two images, per sample.

    ``(cov(t, p)^2 + eps) / (var t var p + eps)`` with population moments over every axis but the first and ``eps =
    1e-5``. float32 results do not depend on an intensity offset.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, ...)``, the same.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1], higher is better, 1 for equal images (squared: also for inverted contrast).

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Zero-normalised cross-correlation, https://en.wikipedia.org/wiki/Cross-correlation.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> gncc(image, 3 * image + 100).round(4)
    array([1.])
    """
    return evaluate(GlobalCorrelation(), y_true, y_pred)


# --- local ------------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """What a window knows of two images: their weighted means and their centred second moments (None: zero)."""

    t: Array
    p: Array
    tt: Array | None
    pp: Array | None
    tp: Array | None


def _plus(a: Array | None, b: Array) -> Array:
    return b if a is None else a + b


def _merge(a: Moments, na: float, b: Moments, nb: float) -> Moments:
    """Join two windows of weights ``na`` and ``nb``.

    ``M = Ma + Mb + (mean b - mean a)^2 na nb / (na + nb)``: only differences of neighbouring windows are squared. So
    nothing cancels, in float32, however large the intensities are beside their variance, and flat windows have moments
    of exactly 0.
    """
    share, root = nb / (na + nb), math.sqrt(na * nb / (na + nb))
    dt, dp = b.t - a.t, b.p - a.p
    t, p = a.t + dt * share, a.p + dp * share
    dt, dp = dt * root, dp * root
    second = [dt * dt, dp * dp, dt * dp]
    for moments in (a, b):
        second = [_plus(m, d) for m, d in zip(moments[2:], second, strict=True)]
    return Moments(t, p, *second)


def _take(moments: Moments, axis: int, start: int, stop: int) -> Moments:
    return Moments(*(None if m is None else cut(m, axis, start, stop) for m in moments))


def _spread(moments: Moments, taps: Sequence[float], axis: int, unit: float, count: int) -> Moments:
    """Join the windows of weight ``unit`` at ``len(taps)`` places, each times its tap, about the middle one."""
    near = [_take(moments, axis, i, i + count) for i in range(len(taps))]
    middle, weight = near[len(taps) // 2], sum(taps)
    dt, dp = [m.t - middle.t for m in near], [m.p - middle.p for m in near]
    mean_t, mean_p = paired_sum(taps, dt) * (1.0 / weight), paired_sum(taps, dp) * (1.0 / weight)
    second = []
    for x, y, mean_x, mean_y, inner in (
        (dt, dt, mean_t, mean_t, 2),
        (dp, dp, mean_p, mean_p, 3),
        (dt, dp, mean_t, mean_p, 4),
    ):
        between = paired_sum(taps, [a * b for a, b in zip(x, y, strict=True)]) - mean_x * mean_y * weight
        within = None if near[0][inner] is None else paired_sum(taps, [m[inner] for m in near])
        second.append(_plus(within, between * unit))
    return Moments(middle.t + mean_t, middle.p + mean_p, *second)


@dataclass(frozen=True)
class LocalCorrelation(MeanMeasure):
    """The mean over voxels of ``(cross^2 + nr) / (vt vp + dr)``, the centred second moments of each window."""

    kernel_size: int = 9
    kernel_type: str = "rectangular"
    smooth_nr: float = EPS
    smooth_dr: float = EPS

    kind: ClassVar[str] = "windows"

    def __post_init__(self) -> None:
        """Check the parameters."""
        if self.kernel_type not in tuple(KERNELS):
            raise ValueError(
                f"Wrong kernel_type {self.kernel_type} for LNCC loss type. Feasible values are {', '.join(KERNELS)}."
            )
        object.__setattr__(self, "kernel_size", len(KERNELS[self.kernel_type](self.kernel_size)))
        check_number("smooth_nr", self.smooth_nr)
        check_number("smooth_dr", self.smooth_dr)

    @cached_property
    def taps(self) -> tuple[float, ...]:
        """The window's weights along one axis."""
        return tuple(KERNELS[self.kernel_type](self.kernel_size).tolist())

    @property
    def halo(self) -> int:
        """Planes beyond its own that `sums` reads on each side."""
        return self.kernel_size // 2

    @property
    def reach(self) -> int:
        """Planes beyond its own that the gradient reads on each side."""
        return 2 * self.halo

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        for name, shape in zip(("y_true", "y_pred"), shapes, strict=True):
            check_rank(name, shape, 4, "(batch, dim1, dim2, dim3) or (batch, dim1, dim2, dim3, 1)")
            if len(shape) > 5:
                raise ValueError(f"{name} must have 4 or 5 axes, got shape {shape}.")
            if len(shape) == 5 and shape[4] != 1:
                raise ValueError(f"Last dimension of {name} is not one. {name} has shape {shape}; channels go last.")
        if shapes[0][:4] != shapes[1][:4]:
            check_same_shape(*shapes)

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Drop the channel axis."""
        return tuple(
            backend.xp.reshape(array, (-1, *backend.shape(array)[1:4])) if len(array.shape) == 5 else array
            for array in arrays
        )

    def constants(self, backend: Backend, dtype: Any, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return a centre of each image, by which it is shifted, padding included."""
        return tuple(centre(backend, dtype, array) for array in arrays)

    def moments(self, slab: Slab, planes: slice) -> Moments:
        """Return the moments of the windows about the voxels of these planes."""
        xp, taps = slab.xp, self.taps
        before, after = (len(taps) - 1) // 2, len(taps) // 2
        size = slab.arrays[0].shape
        ranges = (planes.start, planes.stop), (0, size[2]), (0, size[3])
        images = []
        # Outside the image there are zeros, which the shift moves too.
        for image, constant in zip(shifted(slab), slab.constants, strict=True):
            outside = -per_sample(xp, constant, image)
            for axis, (start, stop) in enumerate(ranges, start=1):
                image = stretch(xp, image, axis, start - before, stop + after, outside)
            images.append(image)
        moments, unit = Moments(images[0], images[1], None, None, None), 1.0
        for axis, (start, stop) in enumerate(ranges, start=1):
            moments = self._along(moments, taps, axis, unit, stop - start)
            unit *= sum(taps)
        if moments.tt is None:
            # A window of one voxel has second moments of 0, or of NaN.
            t, p = moments.t * 0.0, moments.p * 0.0
            moments = moments._replace(tt=t, pp=p, tp=t + p)
        return moments

    def _along(self, moments: Moments, taps: tuple[float, ...], axis: int, unit: float, count: int) -> Moments:
        """Join the windows of weight ``unit`` along one more axis."""
        if len(taps) == 1:
            return moments
        widths = boxes(taps)
        if not widths:
            return _spread(moments, taps, axis, unit, count)
        length = count + len(taps) - 1
        for width in widths:
            moments = sliding(
                moments,
                width,
                length,
                lambda m, i, j: _take(m, axis, i, j),
                lambda a, na, b, nb, unit=unit: _merge(a, na * unit, b, nb * unit),  # type: ignore[misc]
            )
            length, unit = length - width + 1, unit * width
        return moments

    def correlation(self, xp: Any, m: Moments) -> tuple[Array, Array]:
        """Return each voxel's value, and one over its denominator."""
        assert m.tt is not None
        assert m.tp is not None
        product = m.tt * m.pp
        inverse = 1.0 / (product + self.smooth_dr)
        # Cauchy and Schwarz's bound, which rounding must not break.
        return (xp.minimum(m.tp * m.tp, product) + self.smooth_nr) * inverse, inverse

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sum of the values of the slab's own planes."""
        return (total(slab, self.map(slab)),)

    def map(self, slab: Slab) -> Array:
        """Return the value at each voxel of the slab's own planes."""
        return self.correlation(slab.xp, self.moments(slab, slab.own))[0]

    def sums_and_gradient(
        self, slab: Slab, scale: float, wrt: tuple[int, ...]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum, and its gradient: three more window sums for each input.

        With ``a = ∂/∂cross`` and ``b = ∂/∂vp`` of each window, ``mean t`` and ``mean p`` its means and ``S'`` the
        adjoint of the window sum: ``grad_p = t S'[a] + 2 p S'[b] - S'[a mean t + 2 b mean p]``.
        """
        xp, own = slab.xp, slab.own
        # Every window that holds one of the slab's own voxels.
        start, stop = max(0, own.start - self.halo), min(slab.arrays[0].shape[1], own.stop + self.halo)
        inner = slice(own.start - start, own.stop - start)
        m = self.moments(slab, slice(start, stop))
        value, inverse = self.correlation(xp, m)
        t, p = (cut(image, 1, own.start, own.stop) for image in shifted(slab))
        by_cross = m.tp * inverse * (2.0 * scale)
        back_cross = self._back(slab.backend, by_cross, inner)
        zero, gradients = xp.zeros_like(value), []
        for index in wrt:
            image, other = (t, p) if index == 0 else (p, t)
            own_mean, other_mean, own_moment, other_moment = (
                (m.t, m.p, m.tt, m.pp) if index == 0 else (m.p, m.t, m.pp, m.tt)
            )
            by_variance = value * inverse * other_moment * (-2.0 * scale)
            # In a flat window every voxel is the mean, and a large factor of their difference is of no account.
            by_variance = xp.where(own_moment == 0.0, zero, by_variance)
            means = by_cross * other_mean + by_variance * own_mean
            gradients.append(
                other * back_cross
                + image * self._back(slab.backend, by_variance, inner)
                - self._back(slab.backend, means, inner)
            )
        return (total(slab, cut(value, 1, inner.start, inner.stop)),), tuple(gradients)

    def _back(self, backend: Backend, x: Array, own: slice) -> Array:
        """Return the adjoint of the window sum, on the slab's own planes."""
        taps = self.taps
        x = cut(backend.conv3d(x, (taps, None, None), transpose=True), 1, own.start, own.stop)
        return backend.conv3d(x, (None, taps, taps), transpose=True)


@measured_by(LocalCorrelation)
def lncc(
    y_true: Array,
    y_pred: Array,
    *,
    kernel_size: int = 9,
    kernel_type: str = "rectangular",
    smooth_nr: float = EPS,
    smooth_dr: float = EPS,
) -> Array:
    """Return the squared local normalised cross-correlation of two images (LNCC), per sample.

    With ``S[.]`` the window sum (zero padded, the kernel not normalised) and ``V`` the full window's volume: ``cross =
    S[tp] - S[t] S[p] / V``, ``vt = S[tt] - S[t]^2 / V``, ``vp`` likewise; the value is the mean over voxels of
    ``(cross^2 + smooth_nr) / (vt vp + smooth_dr)``. The moments are centred before they are squared, so that float32
    results are right whatever the intensities' offset, CT included. Zeros beyond the border count as voxels: an offset
    changes the value there.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``.
    kernel_size
        Voxels of the window along each axis.
    kernel_type
        ``"rectangular"``, ``"triangular"`` (odd sizes) or ``"gaussian"`` (standard deviation a third of the size).
    smooth_nr, smooth_dr
        Added to numerator and denominator; a flat window scores ``smooth_nr / smooth_dr``.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better, 1 for equal images (squared: also
        for inverted contrast).

    Raises
    ------
    ValueError
        If the shapes do not fit or a parameter is out of range.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((1, 8, 8, 8))
    >>> lncc(image, image, kernel_size=5).round(4)
    array([1.])
    """
    return evaluate(LocalCorrelation(kernel_size, kernel_type, smooth_nr, smooth_dr), y_true, y_pred)


def lncc_map(
    y_true: Array,
    y_pred: Array,
    *,
    kernel_size: int = 9,
    kernel_type: str = "rectangular",
    smooth_nr: float = EPS,
    smooth_dr: float = EPS,
) -> Array:
    """Return the squared local normalised cross-correlation at every voxel, of which `lncc` is the mean.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``.
    kernel_size, kernel_type, smooth_nr, smooth_dr
        As in `lncc`.

    Returns
    -------
    array
        Shape ``(B, d1, d2, d3, 1)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better. Its gradient is the
        framework's own.

    Raises
    ------
    ValueError
        If the shapes do not fit or a parameter is out of range.
    """
    measure = LocalCorrelation(kernel_size, kernel_type, smooth_nr, smooth_dr)
    image = image_of(measure, measure.map, y_true, y_pred)
    return backend_of(image).xp.expand_dims(image, axis=4)
