"""Mutual information by Parzen windows."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from agnoreg.measures.mutual_information import ParzenInformation
from agnoreg_cpu import histograms
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only
from agnoreg_cpu.parzen import SIGMAS, parzen_tables


class CpuInformation(Kernels, ParzenInformation):
    """`ParzenInformation` by kernels."""

    worth_a_copy: ClassVar[bool] = True
    voxels_a_thread: ClassVar[int] = 1 << 13

    def suits(self, dtype: Any) -> bool:
        """Return whether eight bins are all that a voxel has a weight in, and the histogram is small."""
        least, most = SIGMAS
        few = self.num_bins <= histograms.MOST_BINS
        return bool(dtype == np.float32 and least <= self.sigma_ratio <= most and few)

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: always, as a mask is one more factor of a voxel's weights."""
        return True

    def weights(self, call: HostEvaluation) -> Array:
        """Return the mask's weights, or a placeholder if there is no mask."""
        nothing = np.empty((call.samples, 0), call.dtype)
        return read_only(nothing) if call.weights is None else call.weights

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the joint histogram."""
        taps, cells, table, _ = parzen_tables(self.num_bins, self.sigma_ratio)

        def body(_: int, t: Array, p: Array, weights: Array) -> Any:
            return histograms.histogram(t, p, weights, self.num_bins, taps, cells, table)

        results = call.over_voxels(body, *call.images, self.weights(call))
        return (np.stack([np.sum(parts, axis=0) for parts in results]),)

    def slope(self, call: HostEvaluation, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient by one image."""
        out, matrices = call.room(), np.ascontiguousarray(coefficients[index], call.dtype)
        tables = parzen_tables(self.num_bins, self.sigma_ratio)

        def body(sample: int, own: Array, other: Array, weights: Array, to: Array) -> None:
            histograms.slope(own, other, weights, matrices[sample], *tables, to)

        call.over_voxels(body, call.images[index], call.images[1 - index], self.weights(call), out)
        return out
