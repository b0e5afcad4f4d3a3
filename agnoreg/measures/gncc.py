"""Normalised cross-correlation of two whole images (GNCC): squared, or signed, which is Pearson's r."""

from dataclasses import field

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_convention, check_fixed, take
from agnoreg.measures.families.images import ImageMeasure
from agnoreg.measures.families.overlap import greatest_ratio
from agnoreg.measures.intensities import centres

#: smooth_nr and smooth_dr of each convention.
GLOBAL_CONVENTIONS = {"deepreg": (1e-5, 1e-5), "exact": (0.0, 0.0)}


def correlation_range(smooth_nr: float, smooth_dr: float, squared: bool) -> tuple[float, float]:
    """Return the range of a correlation with these constants."""
    if squared:
        return 0.0, greatest_ratio(smooth_nr, smooth_dr)
    return -1.0, 1.0 + (smooth_nr / smooth_dr**0.5 if smooth_dr > 0 else 0.0)


class GlobalCorrelationOptions(ImageOptions):
    """Squared global normalised cross-correlation of two images (GNCC).

    ``(cov(t, p)^2 + smooth_nr) / (var t var p + smooth_dr)`` with population moments over every axis but the first.
    float32 results do not depend on an intensity offset. The two constants, 1e-5 each, are not small compared with
    the product of two small variances: unrelated images of low contrast score near 1. Use ``convention="exact"`` for
    them.

    Parameters
    ----------
    smooth_nr, smooth_dr
        Added to numerator and denominator; a constant image scores ``smooth_nr / smooth_dr``. None: the convention's
        value, by default 1e-5 each.
    squared
        False: the signed correlation, ``(cov + smooth_nr) / sqrt(var t var p + smooth_dr)``, for which inverted
        contrast is worst.
    convention
        ``"deepreg"``: the formula above. ``"exact"``: without constants, so that the value is Pearson's r or its square
        in any unit of intensity. A constant image then scores 0 and has no gradient.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better, 1 for equal images (squared: also
        for inverted contrast). The signed correlation is in [-1, 1], up to ``smooth_nr``.

    References
    ----------
    Zero-normalised cross-correlation, https://en.wikipedia.org/wiki/Cross-correlation.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> gncc(image, 3 * image + 100).round(4)
    array([1.])
    >>> gncc(image, 100 - 1e-6 * image, squared=False, convention="exact").round(4)
    array([-1.])
    """

    short = "GNCC"
    title, higher_is_better = "GNCC", True
    evaluated = {"images": {"convention": "exact", "squared": False}}

    smooth_nr: float | None = number(default=None, kw_only=True)
    smooth_dr: float | None = number(default=None, kw_only=True)
    squared: bool = flag(default=True, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    def validate(self) -> None:
        """Check the convention, and take constants that are None from it."""
        super().validate()
        check_convention("GNCC", self.convention, tuple(GLOBAL_CONVENTIONS))
        nr, dr = GLOBAL_CONVENTIONS[self.convention]
        take(self, smooth_nr=nr, smooth_dr=dr)
        if self.exact:
            check_fixed(self.convention, "smooth_nr", self.smooth_nr, (0.0,))
            check_fixed(self.convention, "smooth_dr", self.smooth_dr, (0.0,))
        elif self.smooth_dr == 0:
            raise ValueError(
                "smooth_dr must be positive, got 0. Use convention='exact' for the formula without constants."
            )

    @property
    def exact(self) -> bool:
        """Whether there are no smoothing constants."""
        return self.convention == "exact"

    @property
    def own_title(self) -> str:
        """The title; the signed correlation is Pearson's r."""
        return self.title if self.squared else "Pearson's r"

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1, or from -1 to 1 if signed; beyond 1 only by ``smooth_nr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        if self.exact:
            return 0.0 if self.squared else -1.0, 1.0
        return correlation_range(self.smooth_nr, self.smooth_dr, self.squared)

    @property
    def identity_value(self) -> float | None:
        """1 if the two constants are equal and the correlation is squared.

        By the exact convention 1, but 0 if the image is constant.
        """
        alike = self.smooth_nr == self.smooth_dr and self.squared
        return 1.0 if alike or self.exact else None


class GlobalCorrelation(GlobalCorrelationOptions, ImageMeasure):
    @property
    def constant_count(self) -> int:  # type: ignore[override]
        """Number of arrays that `constants` returns."""
        return 4 if self.exact else 2

    def constants(
        self, backend: Backend, dtype: Any, arrays: tuple[Array, ...], weights: Array | None = None
    ) -> tuple[Array, ...]:
        """Return a centre of each image, about which moments are taken, and for `exact` the images' divisors."""
        return centres(backend, dtype, arrays, weights, self.exact)

    def _images(self, slab: Slab) -> tuple[Array, ...]:
        """Return the slab's images less their centres, scaled if `exact`."""
        images = [x - broadcast_samples(slab.xp, c, x) for x, c in zip(slab.arrays, slab.constants[:2], strict=True)]
        return tuple(self._scaled(slab, x, index) for index, x in enumerate(images))

    def _scaled(self, slab: Slab, x: Array, index: int) -> Array:
        """Return ``x`` over the divisor of image ``index``, if `exact`."""
        return x / broadcast_samples(slab.xp, slab.constants[2 + index], x) if self.exact else x

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sums of first and second moments about the centres: ``t, p, tt, pp, tp``."""
        t, p = self._images(slab)
        return tuple(total(slab, *x) for x in ((t,), (p,), (t, t), (p, p), (t, p)))

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and the gradients' coefficients of the other image, of the image itself and of 1."""
        t, p, tt, pp, tp = (x / count for x in sums)
        cov, var_t, var_p = tp - t * p, tt - t * t, pp - p * p
        value, by_cov, factor = self._value(xp, cov, var_t, var_p)
        # d cov = (t - mean t) dp / n and d var_p = 2 (p - mean p) dp / n; likewise for t.
        by_cov, factor = by_cov * (2.0 / count), factor * (2.0 / count)
        by_var_t, by_var_p = -factor * var_p, -factor * var_t
        return value, (by_cov, by_var_t, by_var_p, -by_cov * p - by_var_t * t, -by_cov * t - by_var_p * p)

    def _value(self, xp: Any, cov: Array, var_t: Array, var_p: Array) -> tuple[Array, Array, Array]:
        """Return the value, half its derivative by ``cov``, and minus its derivative by ``var_t var_p``."""
        product, flat = var_t * var_p, None
        if self.exact:
            # A constant image has a value of 0 and no gradient. NaN fails the comparisons and stays.
            flat = (var_t <= 0.0) | (var_p <= 0.0)
            product = xp.where(flat, xp.ones_like(product) + 0.0 * product, product)
        if self.squared:
            inverse = 1.0 / (product + self.smooth_dr)
            value, by_cov = (cov * cov + self.smooth_nr) * inverse, cov * inverse
            factor = value * inverse
        else:
            below = xp.where(product > 0.0, product, 0.0 * product) + self.smooth_dr
            inverse = 1.0 / xp.sqrt(below)
            value, by_cov = (cov + self.smooth_nr) * inverse, 0.5 * inverse
            factor = 0.5 * value / below
        if flat is not None:
            # Rounding must not break the Cauchy-Schwarz bound.
            for bound in (1.0, -1.0):
                value = xp.where(value * bound > 1.0, xp.full_like(value, bound), value)
            value, by_cov, factor = (xp.where(flat, 0.0 * x, x) for x in (value, by_cov, factor))
        return value, by_cov, factor

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``by_cov (other - its mean) + by_var (own - its mean)``."""
        images = self._images(slab)
        by_cov, *rest = (broadcast_samples(slab.xp, c, images[0]) for c in coefficients)
        by_var, constant = rest[:2], rest[2:]

        def by(i: int) -> Array:
            gradient = images[1 - i] * by_cov
            gradient += images[i] * by_var[i]
            gradient += constant[i]
            return self._scaled(slab, gradient, i)

        return tuple(by(i) for i in wrt)


class _Call(GlobalCorrelationOptions, Masks): ...


gncc = pair_function("gncc", _Call, GlobalCorrelation)


class GlobalNormalizedCrossCorrelation(GlobalCorrelationOptions, ImageLoss):
    formula = GlobalCorrelation


@register_loss("gncc")
class GlobalNormalizedCrossCorrelationLoss(NegativeLossMixin, GlobalNormalizedCrossCorrelation): ...
