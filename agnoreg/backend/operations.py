"""Operations that the standard lacks, or that a framework may fuse into one pass over its arrays."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agnoreg.backend.windows import window_sum

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any
Three = tuple[Array, Array, Array]

#: Smaller than any weight that matters; avoids a division by 0.
TINY = 1e-30


class Operations:
    """Operations of a framework; a part of its `Backend` whose methods an adapter may override."""

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.xp = backend.xp

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Correlate ``x`` with one kernel for each of axes 1, 2 and 3, with zero padding and unchanged size.

        None means no kernel along an axis. ``transpose`` is the adjoint, in which even kernels swap their two paddings.
        """
        for axis, taps in enumerate(kernels, start=1):
            if taps is not None:
                x = window_sum(self.xp, x, taps, axis, transpose)
        return x

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return an array of ``size`` zeros to which each of ``weights`` was added at its ``index`` (both 1-D)."""
        raise NotImplementedError(
            f"The backend {self.backend.name} has no scatter_add, which this operation needs: convert the arrays to "
            "NumPy, or give the adapter's operations that method."
        )

    def sign(self, x: Array) -> Array:
        """Return 1, 0 or -1 with the sign of ``x``; NaN stays."""
        return self.xp.sign(x)

    def dot(self, x: Array, y: Array) -> Array:
        """Return the sums of the products along the last axis."""
        return self.xp.sum(x * y, axis=-1)

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return ``where(there, x, fill)`` for each of several arrays of one dtype; masked entries may be NaN."""
        number = self.xp.full((1,), fill, dtype=arrays[0].dtype, device=self.backend.device(arrays[0]))
        return tuple(self.xp.where(there, x, number) for x in arrays)

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``; 0 where both are 0."""
        least = self.xp.full((1,), TINY, dtype=whole.dtype, device=self.backend.device(whole))
        return part / self.xp.maximum(whole, least)

    def exp_minus(self, x: Array) -> Array:
        """Return ``exp(-x)``; ``x`` may be overwritten."""
        x *= -1.0
        return self.xp.exp(x)

    # Building blocks for merging the moments of two windows.

    def plus_scaled(self, x: Array, y: Array, factor: float) -> Array:
        """Return ``x + factor * y``."""
        result = y * factor
        result += x
        return result

    def plus_product(self, a: Array, x: Array, y: Array) -> Array:
        """Return ``a + x * y``."""
        result = x * y
        result += a
        return result

    def plus_products(self, terms: Sequence[Three], x: Array, y: Array, factor: float) -> Three:
        """Return ``factor`` times ``x x``, ``y y`` and ``x y``, each plus the corresponding ``terms``.

        ``x`` and ``y`` may be overwritten.
        """
        root = math.sqrt(factor)
        x *= root
        y *= root
        return _plus(terms, [x * x, y * y, x * y])

    def plus_weighted_products(self, terms: Sequence[Three], x: Array, y: Array, share: Array, weight: Array) -> Three:
        """Return ``share weight`` times ``x x``, ``y y`` and ``x y``, each plus the corresponding ``terms``.

        ``x``, ``y`` and ``share`` may be overwritten.
        """
        weight = share * weight
        weighted_y = y * weight
        y *= weighted_y
        weighted_y *= x
        x *= x
        x *= weight
        return _plus(terms, [x, y, weighted_y])


def _plus(terms: Sequence[Three], products: list[Array]) -> Three:
    for term in terms:
        for place, part in enumerate(term):
            products[place] += part
    return products[0], products[1], products[2]
