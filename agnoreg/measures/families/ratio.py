"""Family: a function of sums over voxels of ``t``, ``p``, their squares and their product."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import broadcast_samples
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import total
from agnoreg.measures.families.images import ImageMeasure

Array = Any
#: Sums of each sample, or derivatives by these, keyed by term.
Sums = Mapping[str, Array]


class RatioOfSums(ImageMeasure):
    """A function of sums over voxels. The author names the sums in `terms` and writes `ratio`.

    A term is ``"t"``, ``"p"``, ``"tt"``, ``"pp"`` or ``"tp"``, or several of these joined by ``+``, which are one sum:
    ``"t+p"`` is ``sum (t + p)``.
    """

    #: Names of the sums.
    terms: ClassVar[tuple[str, ...]] = ()

    def ratio(self, xp: Any, sums: Sums, count: Any) -> tuple[Array, Sums]:
        """Return the value ``(b,)`` and its derivative by each sum, keyed by term.

        ``count`` is the number of voxels; with a mask, the effective counts ``(b,)``.
        """
        raise NotImplementedError

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the sums."""
        images = dict(zip("tp", self.pair(slab), strict=True))
        found: dict[str, Array] = {}
        for term in self.terms:
            for one in term.split("+"):
                part = total(slab, *(images[which] for which in one))
                found[term] = found[term] + part if term in found else part
        return tuple(found[term] for term in self.terms)

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and its derivatives by the sums."""
        value, slopes = self.ratio(xp, dict(zip(self.terms, sums, strict=True)), count)
        # The count of an empty mask is NaN, and so must be the value.
        return value + 0.0 * count, tuple(slopes[term] for term in self.terms)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the sum over the terms of the coefficient times the derivative of the term."""
        images = self.pair(slab)
        factors = [broadcast_samples(slab.xp, c, images[0]) for c in coefficients]
        return tuple(self._slope(slab.xp, images[index], images[1 - index], factors, "tp"[index]) for index in wrt)

    def _slope(self, xp: Any, own: Array, other: Array, factors: list[Array], name: str) -> Array:
        gradient = constant = None
        for term, factor in zip(self.terms, factors, strict=True):
            for one in term.split("+"):
                if one == name:
                    constant = factor if constant is None else constant + factor
                elif name in one:
                    slope = own * (factor * 2.0) if one == name * 2 else other * factor
                    if gradient is None:
                        gradient = slope
                    else:
                        gradient += slope
        if gradient is None:
            gradient = xp.zeros_like(own)
        if constant is not None:
            gradient += constant
        return gradient
