"""Family: functions of the joint histogram of two images, estimated with Parzen windows."""

import math
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.engine import doubts
from agnoreg.engine.slabs import Slab
from agnoreg.engine.validate import check_rank, voxels
from agnoreg.measures.families.images import ImageMeasure
from agnoreg.objects.options import ImageOptions, integer, number

Array = Any

#: Smaller than the square of any histogram entry that matters; avoids a division by 0.
TINY = 1e-30
#: Up to this many bins, and from this standard deviation in bins, float32 is precise enough with positions counted
#: from the middle of the range.
FEW_BINS, NARROW = 128, 0.2
#: Maximum number of bins: the joint histogram has 128 MB for each sample then, and its gradient a dozen such matrices.
#: It is a power of 2: intensities are split there into leading and trailing bits, so that each part times the number of
#: bins is exact in float32.
LARGEST_HISTOGRAM = 4096
#: Voxels of one block: a matrix product this small stays in cache and on one core.
BLOCK = 256


class HistogramOptions(ImageOptions):
    """Parameters of a joint histogram.

    Parameters
    ----------
    num_bins
        Bins over [0, 1], from 2 to 4096: of each sample there is a joint histogram of ``num_bins^2`` numbers.
    sigma_ratio
        Standard deviation of the Gaussian window, in bins.
    """

    arrays_text = """y_true, y_pred
    Fixed and moving image, of one shape: ``(B, d1, d2, d3)``, or with channels as ``data_format`` says; intensities in
    [0, 1], to which they are clipped."""

    num_bins: int = integer(default=23, least=2)
    sigma_ratio: float = number(default=0.5, above=True, between=(1e-100, 1e100))

    def validate(self) -> None:
        """Check that the histogram fits in memory."""
        super().validate()
        if self.num_bins > LARGEST_HISTOGRAM:
            raise ValueError(
                f"num_bins must be at most {LARGEST_HISTOGRAM}, got {self.num_bins}: every sample has a joint "
                f"histogram of num_bins^2 numbers of 8 bytes, {self.num_bins**2 * 8 / 1e9:.3g} GB, and a dozen "
                "matrices like it."
            )


class JointHistogram(HistogramOptions, ImageMeasure):
    """A function of the joint histogram with Gaussian Parzen windows and evenly spaced bins on [0, 1].

    The author writes `of_histogram`. Here a sample of the histogram is a voxel, the pair of its two intensities.
    """

    workload: ClassVar[str] = "bins"

    def of_histogram(self, xp: Any, joint: Array) -> tuple[Array, Array]:
        """Return the value ``(b,)`` of a joint histogram ``(b, K, K)`` of sum 1, and its derivatives ``(b, K, K)``.

        Rows are bins of y_true. The derivatives include the path through the marginals, the sums of the histogram.
        """
        raise NotImplementedError

    @property
    def numbers_per_voxel(self) -> int:
        """One weight for each bin."""
        return self.num_bins

    @property
    def sigma(self) -> float:
        """The Parzen window's standard deviation, in units of intensity."""
        return self.sigma_ratio / (self.num_bins - 1)

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit."""
        super().check(*shapes)
        axes = ", ".join(f"dim{i + 1}" for i in range(self.spatial_dims))
        check_rank("y_true", shapes[0], self.spatial_dims + 1, f"(batch, {axes}) or (batch, {axes}, channels)")

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn if the images seem not to be scaled to [0, 1]."""
        images, mask = arrays[:2], (*arrays[2:], None)[0]
        if doubts.first_look(backend, images, "gmi") and doubts.many_beyond(backend, images, mask):
            backend.execution.warn(doubts.IMAGES)

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, voxels)``: a histogram does not depend on positions."""
        count = voxels(backend.shape(arrays[0]))
        return tuple(backend.xp.reshape(x, (-1, count)) for x in arrays)

    def _centres(self, slab: Slab) -> Array:
        """Return the bins' centres ``(num_bins, 1)``, in units of bins from the middle of the range."""
        xp, x = slab.xp, slab.arrays[0]
        bins = xp.arange(self.num_bins, dtype=x.dtype, device=slab.backend.device(x))
        return xp.reshape(bins - 0.5 * (self.num_bins - 1), (-1, 1))

    def _blocks(self, slab: Slab, x: Array) -> list[Array]:
        """Return the voxels as ``(b, blocks, 1, voxels of a block)``, and any remainder as one shorter block."""
        xp, count = slab.xp, x.shape[1]
        whole = count - count % BLOCK
        parts = [x] if whole in (0, count) else [x[:, :whole], x[:, whole:]]
        shapes = [(max(1, part.shape[1] // BLOCK), 1, min(part.shape[1], BLOCK)) for part in parts]
        return [xp.reshape(part, (x.shape[0] or -1, *shape)) for part, shape in zip(parts, shapes, strict=True)]

    @property
    def local(self) -> bool:
        """Whether distances are measured from a bin near the sample, for precision in float32."""
        return self.sigma_ratio < NARROW or self.num_bins > FEW_BINS

    def _windows(self, backend: Backend, centres: Array, x: Array) -> tuple[Array, Array | None, Array | None]:
        """Return the unnormalised Gaussian windows ``(b, blocks, num_bins, samples)``, with samples last for long rows.

        A sample's weights are its windows divided by their sum over the bins; callers divide sums over the bins
        instead, which is cheaper. If `local`, the bins' positions relative to the second nearest bin, in the shape of
        the windows, and the direction of that count, 1 or -1 for each sample, are returned too; otherwise None.
        """
        xp, place, direction = backend.xp, None, None
        x = xp.clip(x, 0.0, 1.0)
        # Negligible windows are cut off so early that the product of three is a normal number: denormals are slow.
        most = -math.log(xp.finfo(x.dtype).smallest_normal) / 3.0
        if self.local:
            second, direction, away = self._beside(xp, x)
            place = (centres - second) * direction
            # The squared distance less the nearest bin's: otherwise all weights between two narrow windows vanish.
            square = (place + away) * (place + 1.0) * (0.5 / self.sigma_ratio**2)
        else:
            scale = math.sqrt(0.5) / self.sigma_ratio
            distance = (x - 0.5) * ((self.num_bins - 1) * scale) - centres * scale
            square = distance * distance
        counts = square < most if self.local else None
        windows = backend.operations.exp_minus(xp.minimum(square, xp.full_like(square[:, :1, :1, :1], most)))
        if counts is not None:
            # Cut windows become exactly 0: there are many bins, and tails dominate the gradient of narrow windows.
            windows = xp.where(counts | (windows != windows), windows, xp.zeros_like(windows))
        return windows, place, direction

    def _beside(self, xp: Any, x: Array) -> tuple[Array, Array, Array]:
        """Return each sample's second nearest bin, the direction to it (1 or -1), and the place between the two bins.

        The last is twice the distance from the midpoint of the two bins: 0 there and 1 at the nearest bin. Narrow
        windows are steep, so it is rounded only once: the sample's leading and trailing bits are each multiplied by the
        number of bins without rounding.
        """
        last = float(self.num_bins - 1)
        leading = xp.floor(x * LARGEST_HISTOGRAM) * (1.0 / LARGEST_HISTOGRAM)
        whole, rest = leading * last, (x - leading) * last
        nearest = xp.floor(whole + rest + 0.5)
        whole = whole - nearest
        direction = xp.where(whole + rest < 0.0, -xp.ones_like(x), xp.ones_like(x))
        half = (0.5 - direction * whole) - direction * rest
        # If rounding moved the sum across the midpoint, the second bin is the nearest.
        second = nearest + xp.where(half < 0.0, xp.zeros_like(x), direction)
        direction = xp.where(half < 0.0, -direction, direction)
        return second - 0.5 * last, direction, xp.abs(half) * 2.0

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return the joint histogram ``(b, K, K)``."""
        xp, centres, wide = slab.xp, self._centres(slab), slab.backend.dtypes.accumulator(slab.arrays[0])
        ones = xp.matrix_transpose(xp.ones_like(centres))
        histograms: list[Array] = []
        for t, p, *weights in zip(*(self._blocks(slab, x) for x in (*slab.arrays, *slab.weights)), strict=True):
            t, p = (self._windows(slab.backend, centres, x)[0] for x in (t, p))
            p = p * ((weights[0] if weights else 1.0) / (xp.matmul(ones, t) * xp.matmul(ones, p)))
            joint = xp.matmul(t, xp.matrix_transpose(p))
            histograms.append(xp.sum(xp.astype(joint, wide), axis=1))
        return (sum(histograms[1:], start=histograms[0]),)

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and, for each image, derivatives ``(b, K, K)``, whose rows are the image's own bins."""
        # Divided by its own sum rather than by the number of samples: rounding errors of the weights cancel.
        samples = xp.sum(sums[0], axis=(1, 2), keepdims=True)
        samples = xp.where(samples > 0.0, samples, xp.full_like(samples, math.nan))
        joint = sums[0] / samples
        value, by_joint = self.of_histogram(xp, joint)
        matrix = by_joint * ((self.num_bins - 1) / self.sigma_ratio**2) / samples
        # A constant over all of an image's own bins has no effect on the gradient, but a large one would cost digits:
        # the mean, weighted by where the samples lie, is subtracted.
        squares = joint * joint + TINY
        by_t, by_p = (
            matrix - xp.sum(matrix * squares, axis=own, keepdims=True) / xp.sum(squares, axis=own, keepdims=True)
            for own in (1, 2)
        )
        return value, (by_t, xp.matrix_transpose(by_p))

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return ``sum_k w_k' ∂value/∂w_k``, zero outside [0, 1], where ``w_k' = w_k (c_k - mean c) / sigma^2``.

        The mean is over the sample's own weights, ``mean c = sum_k w_k c_k``.
        """
        xp, centres = slab.xp, self._centres(slab)
        ones = xp.matrix_transpose(xp.ones_like(centres))
        both = xp.concat([ones, xp.matrix_transpose(centres)], axis=0)

        def moments(windows: Array, place: Array | None) -> tuple[Array, Array]:
            """Return the sums of the windows over the bins, and of the bins' positions times the windows."""
            if place is not None:
                return xp.matmul(ones, windows)[:, :, 0, :], xp.matmul(ones, windows * place)[:, :, 0, :]
            sums = xp.matmul(both, windows)
            return sums[:, :, 0, :], sums[:, :, 1, :]

        matrices = [xp.expand_dims(coefficients[index], axis=1) for index in wrt]
        pieces: list[list[Array]] = [[] for _ in wrt]
        for block in zip(*(self._blocks(slab, x) for x in slab.arrays), strict=True):
            windows, places, directions = zip(*(self._windows(slab.backend, centres, x) for x in block), strict=True)
            sums = [moments(*pair) for pair in zip(windows, places, strict=True)]
            for piece, index, matrix in zip(pieces, wrt, matrices, strict=True):
                (total, first), other = sums[index], sums[1 - index][0]
                by_weight = xp.matmul(matrix, windows[1 - index])
                by_weight *= windows[index]
                by_all, by_place = moments(by_weight, places[index])
                slope = (by_place - by_all * (first / total)) / (total * other)
                if directions[index] is not None:
                    slope = slope * directions[index][:, :, 0, :]
                piece.append(xp.reshape(slope, (slope.shape[0] or -1, math.prod(slope.shape[1:]))))
        gradients = []
        for parts, index in zip(pieces, wrt, strict=True):
            slope, x = parts[0] if len(parts) == 1 else xp.concat(parts, axis=1), slab.arrays[index]
            # Clipping passes the gradient at exactly 0 and 1; NaN fails both comparisons and stays.
            gradients.append(xp.where((x < 0.0) | (x > 1.0), xp.zeros_like(slope), slope))
        return tuple(gradients)
