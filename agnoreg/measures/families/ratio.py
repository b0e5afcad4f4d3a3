"""Family: a function of a few sums over voxels of products of the two voxels."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import per_sample
from agnoreg.engine.sums import total
from agnoreg.measures.families.images import ImageMeasure
from agnoreg.engine.slabs import Slab

Array = Any


class RatioOfSums(ImageMeasure):
    """A function of sums over voxels, each of a product of powers of ``t`` and ``p``.

    The author names the sums in `terms` and writes `ratio`, the value and its derivatives by the sums.
    """

    #: The sums by name, as exponents of ``t`` and ``p``: ``{"tp": (1, 1), "t": (1, 0)}``.
    terms: ClassVar[Mapping[str, tuple[int, int]]]

    def ratio(self, xp: Any, sums: Mapping[str, Array], count: Any) -> tuple[Array, Mapping[str, Array]]:
        """Return the value, and its derivative by each sum (those left out are 0); ``count`` is the number of voxels."""
        raise NotImplementedError

    def inputs_of(self, slab: Slab) -> tuple[Array, Array]:
        """Return the two images that the sums are of."""
        t, p = slab.arrays
        return t, p

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sums."""
        t, p = self.inputs_of(slab)
        factors = [[t] * a + [p] * b for a, b in self.terms.values()]
        return tuple(total(slab, *pair) for pair in factors)

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and its derivatives by the sums."""
        value, slopes = self.ratio(xp, dict(zip(self.terms, sums, strict=True)), count)
        return value, tuple(slopes[name] if name in slopes else xp.zeros_like(value) for name in self.terms)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the sum over `terms` of the coefficient times the derivative of the term."""
        images = self.inputs_of(slab)
        factors = [per_sample(slab.xp, c, images[0]) for c in coefficients]
        return tuple(self._slope(slab, images, factors, index) for index in wrt)

    def _slope(self, slab: Slab, images: tuple[Array, Array], factors: list[Array], index: int) -> Array:
        own, other = images[index], images[1 - index]
        gradient: Array = None
        constant: Array = None
        for exponents, factor in zip(self.terms.values(), factors, strict=True):
            a, b = exponents[index], exponents[1 - index]
            if a == 0:
                continue
            if (a, b) == (1, 0):
                constant = factor if constant is None else constant + factor
                continue
            term = other * factor if (a, b) == (1, 1) else own * (factor * 2.0)
            gradient = term if gradient is None else gradient + term
        if gradient is None:
            return slab.xp.zeros_like(own) + (0.0 if constant is None else constant)
        return gradient if constant is None else gradient + constant
