"""Global mutual information by Parzen windows, with its gradient."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.differentiable import (
    Measure,
    check_integer,
    check_number,
    check_rank,
    check_same_shape,
    evaluate,
    measured_by,
    voxels,
)
from agnoreg.tiling import Slab

Array = Any

EPS = 1e-5
#: Exponents are cut here: exp(-60) is nothing beside 1, and denormal numbers are slow.
FLOOR = -60.0
#: Samples of one block: a product of matrices this small stays in cache and on one core.
BLOCK = 256


@dataclass(frozen=True)
class ParzenInformation(Measure):
    """Mutual information of the joint histogram of Gaussian weights over evenly spaced bins on [0, 1]."""

    num_bins: int = 23
    sigma_ratio: float = 0.5

    kind: ClassVar[str] = "bins"

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "num_bins", check_integer("num_bins", self.num_bins, 2))
        check_number("sigma_ratio", self.sigma_ratio, above=True)

    @property
    def sigma(self) -> float:
        """The Parzen window's standard deviation, in units of intensity."""
        return self.sigma_ratio / (self.num_bins - 1)

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        check_same_shape(*shapes)
        check_rank("y_true", shapes[0], 4, "(batch, dim1, dim2, dim3) or (batch, dim1, dim2, dim3, channels)")

    def _centres(self, slab: Slab) -> Array:
        xp, x = slab.xp, slab.arrays[0]
        bins = xp.astype(xp.arange(self.num_bins, device=slab.backend.device(x)), x.dtype)
        return xp.reshape(bins / (self.num_bins - 1), (-1, 1))

    def _blocks(self, slab: Slab, x: Array) -> list[Array]:
        """Return the samples as ``(b, blocks, 1, samples of a block)``, and what is left over as one more block."""
        xp, count = slab.xp, math.prod(x.shape[1:])
        x = xp.reshape(x, (x.shape[0] or -1, count))
        whole = count - count % BLOCK
        parts = [x] if whole in (0, count) else [x[:, :whole], x[:, whole:]]
        shapes = [(max(1, part.shape[1] // BLOCK), 1, min(part.shape[1], BLOCK)) for part in parts]
        return [xp.reshape(part, (x.shape[0] or -1, *shape)) for part, shape in zip(parts, shapes, strict=True)]

    def _weights(self, xp: Any, centres: Array, x: Array) -> Array:
        """Return the normalised weights ``(b, blocks, num_bins, samples)``, bins before samples for long rows."""
        scale = 1.0 / (math.sqrt(2.0) * self.sigma)
        exponent = -(((xp.clip(x, 0.0, 1.0) - centres) * scale) ** 2)
        if self.sigma_ratio < 0.1:
            # Narrow windows: measure from the nearest bin, or every weight of a sample between two bins would vanish.
            exponent = exponent - xp.max(exponent, axis=2, keepdims=True)
        weights = xp.exp(xp.maximum(exponent, xp.full_like(exponent[:, :1, :1, :1], FLOOR)))
        return weights / xp.sum(weights, axis=2, keepdims=True)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the joint histogram ``(b, K, K)`` and the two marginal ones ``(b, K)``."""
        xp, centres, wide = slab.xp, self._centres(slab), slab.backend.accumulator(slab.arrays[0])
        histograms: list[Array] = []
        for block in zip(*(self._blocks(slab, x) for x in slab.arrays), strict=True):
            t, p = (self._weights(xp, centres, x) for x in block)
            # About their block's means, so that what many equal voxels (a background) add up to is not rounded.
            mean_t, mean_p = xp.mean(t, axis=3, keepdims=True), xp.mean(p, axis=3, keepdims=True)
            about_means = xp.astype(xp.matmul(t - mean_t, xp.matrix_transpose(p - mean_p)), wide)
            mean_t, mean_p = xp.astype(mean_t, wide), xp.astype(mean_p, wide)
            joint = about_means + mean_t * xp.matrix_transpose(mean_p) * block[0].shape[3]
            marginals = (mean[:, :, :, 0] * block[0].shape[3] for mean in (mean_t, mean_p))
            parts = [xp.sum(histogram, axis=1) for histogram in (joint, *marginals)]
            histograms = [a + b for a, b in zip(histograms, parts, strict=True)] if histograms else parts
        return tuple(histograms)

    def finish(
        self, xp: Any, sums: tuple[Array, ...], shape: tuple[int | None, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``sum Pab log((Pab + eps) / (Pa Pb + eps) + eps)`` and its derivatives by the three histograms."""
        n = voxels(shape)
        joint, pa, pb = (s / n for s in sums)
        product = xp.expand_dims(pa, axis=2) * xp.expand_dims(pb, axis=1) + EPS
        ratio = (joint + EPS) / product + EPS
        logarithm = xp.log(ratio)
        value = xp.sum(joint * logarithm, axis=(1, 2))
        by_joint = logarithm + joint / (product * ratio)
        by_product = -joint * (joint + EPS) / (product * product * ratio)
        by_pa = xp.sum(by_product * xp.expand_dims(pb, axis=1), axis=2)
        by_pb = xp.sum(by_product * xp.expand_dims(pa, axis=2), axis=1)
        return value, (by_joint / n, by_pa / n, by_pb / n)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``sum_k w_k'(x) ∂MI/∂w_k(x)``, zero beyond [0, 1]."""
        xp, centres = slab.xp, self._centres(slab)
        by_joint, *by_marginal = (xp.expand_dims(c, axis=1) for c in coefficients)
        pieces: list[list[Array]] = [[] for _ in wrt]
        for block in zip(*(self._blocks(slab, x) for x in slab.arrays), strict=True):
            weights = [self._weights(xp, centres, x) for x in block]
            for place, index in enumerate(wrt):
                own, other = weights[index], weights[1 - index]
                matrix = by_joint if index == 0 else xp.matrix_transpose(by_joint)
                by_weight = xp.matmul(matrix, other) + xp.expand_dims(by_marginal[index], axis=3)
                pieces[place].append(self._slope(xp, centres - 0.5, block[index], own, by_weight))
        return tuple(
            xp.reshape(parts[0] if len(parts) == 1 else xp.concat(parts, axis=1), (x.shape[0] or -1, *x.shape[1:]))
            for parts, x in zip(pieces, (slab.arrays[index] for index in wrt), strict=True)
        )

    def _slope(self, xp: Any, centres: Array, x: Array, weights: Array, by_weight: Array) -> Array:
        """Return ``sum_k by_weight_k w_k'``, ``(b, samples)``, where ``w_k' = w_k (c_k - mean c) / sigma^2``.

        The mean is over the sample's own weights; centres about the middle of the range keep it from cancelling.
        """
        mean = xp.sum(weights * centres, axis=2)
        weighted = weights * by_weight
        slope = xp.sum(weighted * centres, axis=2) - mean * xp.sum(weighted, axis=2)
        x = x[:, :, 0, :]
        # Clipping passes the gradient at exactly 0 and 1, and NaN is neither inside nor beyond.
        beyond = (x < 0.0) | (x > 1.0)
        slope = xp.where(beyond, xp.zeros_like(slope), slope * (1.0 / self.sigma**2))
        return xp.reshape(slope, (x.shape[0] or -1, math.prod(x.shape[1:])))


@measured_by(ParzenInformation)
def mutual_information(y_true: Array, y_pred: Array, *, num_bins: int = 23, sigma_ratio: float = 0.5) -> Array:
    """Return the global mutual information of two images, per sample.

    Images are clipped to [0, 1]. Every voxel has a Gaussian weight in each of ``num_bins`` bins, normalised over the
    bins; ``Pab`` is the mean of the products of weights, ``Pa`` and ``Pb`` the means of the weights, and the value is
    ``sum Pab log((Pab + eps) / (Pa Pb + eps) + eps)`` with ``eps = 1e-5``, in nats. Channels are more samples.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, ch)``, the same; intensities in [0, 1].
    num_bins
        Bins over [0, 1], at least 2.
    sigma_ratio
        Standard deviation of the Gaussian window, in bins.

    Returns
    -------
    array
        Shape ``(B,)``; from 0 to at most log(num_bins) nats, up to the small constants;higher is better. Two equal
        images have a value that depends on their histogram, below its entropy since windows overlap.

    Raises
    ------
    ValueError
        If the shapes differ, have fewer than 4 axes, or a parameter is out of range.

    References
    ----------
    https://dspace.mit.edu/handle/1721.1/123142, section 3.1, equation 3.13.5, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.linspace(0, 1, 64).reshape(1, 4, 4, 4)
    >>> mutual_information(image, image).round(3)
    array([2.081])
    """
    return evaluate(ParzenInformation(num_bins, sigma_ratio), y_true, y_pred)
