"""Mutual information by Parzen windows."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg_cpu import histograms
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only


class CpuInformation(Kernels, ParzenInformation):
    """`ParzenInformation` by kernels."""

    worth_a_copy: ClassVar[bool] = True
    voxels_a_thread: ClassVar[int] = 1 << 13

    def suits(self, dtype: Any) -> bool:
        """Return whether eight bins are all that a voxel has a weight in, and the histogram is small."""
        least, most = histograms.SIGMAS
        few = self.num_bins <= histograms.MOST_BINS
        return bool(dtype == np.float32 and least <= self.sigma_ratio <= most and few)

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: always, as a mask is one more factor of a voxel's weights."""
        return True

    @property
    def scale(self) -> Any:
        """The factor of the squared distance in bins that gives a window's exponent of 2."""
        return np.float32(0.5 / (self.sigma_ratio**2 * math.log(2.0)))

    @property
    def wide(self) -> bool:
        """Whether windows have weights in eight bins, not six."""
        return self.sigma_ratio > histograms.NARROW

    def weights(self, call: HostEvaluation) -> Array:
        """Return the mask's weights, or a placeholder if there is no mask."""
        nothing = np.empty((call.samples, 0), call.dtype)
        return read_only(nothing) if call.weights is None else call.weights

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the joint histogram."""

        def body(_: int, t: Array, p: Array, weights: Array) -> Any:
            return histograms.histogram(t, p, weights, self.num_bins, self.scale, self.wide)

        results = call.over_voxels(body, *call.images, self.weights(call))
        return (np.stack([np.sum(parts, axis=0) for parts in results]),)

    def slope(self, call: HostEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        out, bins = call.room(), slice(histograms.BELOW, histograms.BELOW + self.num_bins)
        matrices = np.zeros((call.samples, *(self.num_bins + histograms.LANES - 1,) * 2), call.dtype)
        matrices[:, bins, bins] = coefficients[index]

        def body(sample: int, own: Array, other: Array, weights: Array, to: Array) -> None:
            histograms.slope(own, other, weights, matrices[sample], self.scale, self.wide, to)

        call.over_voxels(body, call.images[index], call.images[1 - index], self.weights(call), out)
        return out
