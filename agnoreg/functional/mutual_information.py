"""Global mutual information by Parzen windows, with its gradient."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.differentiable import Measure, check_rank, check_same_shape, evaluate, measured_by
from agnoreg.tiling import Slab

Array = Any

EPS = 1e-5
#: Exponents are cut here: exp(-60) is nothing beside 1, and denormal numbers are slow.
FLOOR = -60.0


@dataclass(frozen=True)
class ParzenInformation(Measure):
    """Mutual information of the joint histogram of Gaussian weights over evenly spaced bins on [0, 1]."""

    num_bins: int = 23
    sigma_ratio: float = 0.5

    kind: ClassVar[str] = "bins"

    def __post_init__(self) -> None:
        """Check the parameters."""
        if isinstance(self.num_bins, bool) or int(self.num_bins) != self.num_bins or self.num_bins < 2:
            raise ValueError(f"num_bins must be an integer of at least 2, got {self.num_bins}.")
        if not (self.sigma_ratio > 0 and math.isfinite(self.sigma_ratio)):
            raise ValueError(f"sigma_ratio must be positive, got {self.sigma_ratio}.")

    @property
    def sigma(self) -> float:
        """The Parzen window's standard deviation, in units of intensity."""
        return self.sigma_ratio / (self.num_bins - 1)

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        check_same_shape(*shapes)
        check_rank("y_true", shapes[0], 4, "(batch, dim1, dim2, dim3) or (batch, dim1, dim2, dim3, channels)")

    def _centres(self, slab: Slab) -> Array:
        # As differences from the middle, so that the gradient's weighted means do not cancel.
        xp, x = slab.xp, slab.arrays[0]
        bins = xp.astype(xp.arange(self.num_bins, device=slab.backend.device(x)), x.dtype)
        return xp.reshape(bins / (self.num_bins - 1), (1, -1, 1))

    def _weights(self, slab: Slab, x: Array) -> Array:
        """Return the normalised weights ``(b, num_bins, samples)``: bins first, so that rows of samples are long."""
        xp = slab.xp
        x = xp.clip(xp.reshape(x, (x.shape[0] or -1, 1, math.prod(x.shape[1:]))), 0.0, 1.0)
        scale = 1.0 / (math.sqrt(2.0) * self.sigma)
        exponent = -(((x - self._centres(slab)) * scale) ** 2)
        if self.sigma_ratio < 0.1:
            # Narrow windows: measure from the nearest bin, or every weight of a sample between two bins would vanish.
            exponent = exponent - xp.max(exponent, axis=1, keepdims=True)
        weights = xp.exp(xp.maximum(exponent, xp.full_like(exponent[:, :1, :1], FLOOR)))
        return weights / xp.sum(weights, axis=1, keepdims=True)

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the joint histogram ``(b, K, K)`` and the two marginal ones ``(b, K)``."""
        xp = slab.xp
        t, p = (self._weights(slab, x) for x in slab.arrays)
        wide = slab.backend.accumulator(t)
        joint = xp.matmul(t, xp.matrix_transpose(p))
        return tuple(xp.astype(s, wide) for s in (joint, xp.sum(t, axis=2), xp.sum(p, axis=2)))

    def finish(
        self, xp: Any, sums: tuple[Array, ...], shape: tuple[int | None, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return ``sum Pab log((Pab + eps) / (Pa Pb + eps) + eps)`` and its derivatives by the three histograms."""
        n = math.prod(size for size in shape[1:] if size is not None)
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
        xp = slab.xp
        weights = tuple(self._weights(slab, x) for x in slab.arrays)
        by_joint, *by_marginal = coefficients
        centres = self._centres(slab) - 0.5
        gradients = []
        for index in wrt:
            x, own, other = slab.arrays[index], weights[index], weights[1 - index]
            matrix = by_joint if index == 0 else xp.matrix_transpose(by_joint)
            by_weight = xp.matmul(matrix, other) + xp.expand_dims(by_marginal[index], axis=2)
            # w_k' = w_k (c_k - mean c) / sigma^2, where the mean is over the sample's own weights.
            weighted = own * by_weight
            mean = xp.sum(own * centres, axis=1)
            slope = xp.sum(weighted * centres, axis=1) - mean * xp.sum(weighted, axis=1)
            slope = xp.reshape(slope * (1.0 / self.sigma**2), (x.shape[0] or -1, *x.shape[1:]))
            inside = (x >= 0.0) & (x <= 1.0)
            gradients.append(xp.where(inside | xp.isnan(x), slope, xp.zeros_like(slope)))
        return tuple(gradients)


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
        Shape ``(B,)``; from 0 to at most log(num_bins) nats, up to the small constants; higher is better. Two equal
        images have their entropy's value.

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
    array([2.385])
    """
    return evaluate(ParzenInformation(num_bins, sigma_ratio), y_true, y_pred)
