"""Local correlation by kernels: running sums where they are exact, windows that are merged elsewhere."""

import math
from dataclasses import fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend import Backend
from agnoreg.backend.windows import boxes
from agnoreg.engine.evaluator import Evaluator
from agnoreg.measures.lncc import FLAT, LocalCorrelation, ThinCorrelation
from agnoreg_cpu import sliding, windows
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only, room
from agnoreg_cpu.threads import Part, parts, run

#: Widest window, in voxels, of which running sums have 23 bits for an intensity.
WIDEST = 1 << 16
#: How far intensities are from their centre is read off a grid of so many voxels along each axis, and so many times as
#: far is allowed for. Where that does not suffice all voxels are looked at.
POINTS, MARGIN = 16, 4.0
#: So many times the usual distance from the centre may the largest be: integers have 20 bits for the usual one, then.
OUTLYING = 64.0
#: Shortest lines of a thin image for which running sums are worth it; much longer ones take much memory.
LEAST = 16
#: So many bytes of running sums fit into a core's cache.
CACHE = 1 << 20


@lru_cache(maxsize=256)
def tiles(samples: int, sizes: tuple[int, int], around: tuple[int, int], threads: int) -> tuple[list[Part], list[Part]]:
    """Return parts of the planes and of the lines of images, so that each thread has the least possible work.

    Beside its own a part takes the planes and lines ``around`` it.
    """

    def cost(divided: tuple[int, int]) -> int:
        turns = -(-samples * math.prod(divided) // threads)
        return turns * math.prod(-(-n // d) + more for n, d, more in zip(sizes, divided, around, strict=True))

    most = [min(size, threads) for size in sizes]
    # As many parts as there are threads, of one sample or of all.
    pairs = {(a, b) for a in range(1, most[0] + 1) for b in (threads // a, threads // (a * samples))}
    divided = min(sorted((a, min(max(b, 1), most[1])) for a, b in pairs), key=cost)
    planes, lines = map(parts, sizes, divided)
    return planes, lines


def workspace(shape: tuple[int, ...], widths: tuple[int, ...], lines: int, wrt: int, masked: bool) -> Any:
    """Return the memory that `sliding.correlate` needs for so many lines of an image, and gradients by ``wrt`` images.

    See there for the names of its arrays.
    """
    (_, height, width), (wz, wy, wx), kinds = shape, widths, 1 + 2 * wrt
    size, lead = (-(-number // sliding.GRAIN) * sliding.GRAIN for number in (width, wx))
    valued = min(height, lines + wy - 1) if wrt else 0
    held, padded, facts = min(height, max(lines, valued) + wy - 1), size + 2 * lead, sliding.SUMS + masked
    shapes = (
        ((4, 3, size), np.int32), ((held + 1, facts, size), np.int64), ((3, facts, padded), np.int64),
        ((size,), np.int64), ((size,), np.float64), ((1, sliding.FACTS, size), np.float32),
        ((1, kinds, size), np.float32), ((wz * valued, kinds, size), np.float32),
        ((valued + 1, kinds, size), np.float64), ((2, kinds, padded), np.float64),
    )  # fmt: skip
    arrays = tuple(room(shape, np.dtype(kind)) for shape, kind in shapes)
    for array in arrays:
        array.fill(0)
    return arrays


def bits_for(volume: float) -> int:
    """Return how many bits an intensity may have: 26 at most, and a sum of squares in a window 63."""
    return min(26, int((62.9 - math.log2(volume)) / 2))


def whole(measure: Any, shape: Any) -> Any:
    """Return the measure of images that may have a single voxel along an axis, if running sums suit the shape."""
    if type(measure) is not ThinCorrelation:
        return measure
    first, dims = (2 if measure.data_format == "channels_first" else 1), measure.spatial_dims
    *lines, entries = shape[first : first + dims]
    return _plain(measure) if LEAST <= entries <= LEAST * math.prod(lines) else measure


@lru_cache(maxsize=64)
def _plain(measure: Any) -> LocalCorrelation:
    return LocalCorrelation(**{item.name: getattr(measure, item.name) for item in fields(LocalCorrelation)})


class CpuLocalCorrelation(Kernels, LocalCorrelation):
    """`LocalCorrelation` by kernels."""

    worth_a_copy: ClassVar[bool] = True
    voxels_a_thread: ClassVar[int] = 1 << 13

    @property
    def merges(self) -> bool:
        """Whether the kernel that merges windows knows this formula; weights are for windows made of boxes."""
        known = self.squared and self.flat_value is None and self.convention not in ("monai", "exact")
        return known and (self.padding == "zero" or all(map(boxes, self.taps)))

    def slides(self, dtype: Any) -> bool:
        """Return whether running sums are exact for these windows."""
        box = all(len(boxes(taps)) == 1 for taps in self.taps)
        return bool(box and self.volume <= WIDEST and dtype == np.float32)

    def suits(self, dtype: Any) -> bool:
        """Return whether the kernels support these windows, of more than a voxel, and this formula."""
        return (self.merges or self.slides(dtype)) and max(map(len, self.taps)) > 1

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask; the kernels need none to cut windows off."""
        return arrays[2] if len(arrays) > 2 else None

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: only for windows made of boxes."""
        return all(map(boxes, self.taps))

    def takes_box(self) -> bool:
        """Return that values around a box can be left out."""
        return True

    def constants_of(self, call: Any) -> Arrays:
        """Return the images' centres, and if they are scaled their divisors."""
        if not self.exact:
            return super().constants_of(call)
        return self.constants(call.memory.inner, call.dtype, call.images)

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the sum of the values, and if flat windows do not count how many do."""
        return self._evaluated(call, (), 0.0)[0]

    def in_one_go(self, call: HostEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and ``scale`` times the gradients."""
        if not self.counts:
            # Of a sample that nothing counts of there is no gradient.
            counts = np.where(np.greater(call.count, 0.0), call.count, math.inf)
            return self._evaluated(call, wrt, np.full(call.samples, scale / call.parts) / counts)
        sums, made = self._evaluated(call, wrt, np.full(call.samples, scale / call.parts))
        share = np.where(sums[1] > 0.0, 1.0 / np.maximum(sums[1], 1.0), 0.0).astype(call.dtype)
        for gradient in made.values():
            gradient *= share[:, None, None, None]
        return sums, made

    def slope(self, call: HostEvaluation, coefficients: Any, index: int) -> Array:
        """Return the gradient by one image, where flat windows do not count."""
        return self._evaluated(call, (index,), coefficients[0])[1][index]

    def _evaluated(self, call: HostEvaluation, wrt: tuple[int, ...], share: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and half the gradients' sums times ``units[1]`` and each sample's share."""
        factors = (self.units[1] * np.broadcast_to(share, call.samples)).astype(call.dtype)
        if self.slides(call.dtype) and (call.weights is None or _is_binary(call)):
            found = self._slid(call, wrt, factors)
            return self._by_the_core(call, wrt, factors) if found is None else found
        return (self._merged if self.merges else self._by_the_core)(call, wrt, factors)

    def _jobs(self, call: HostEvaluation, wrt: tuple[int, ...], most: int) -> list[tuple[int, Part, Part]]:
        """Return samples, planes and lines, of which there are at most so many at once."""
        x, y, _ = ((len(taps) - 1) * (2 if wrt else 1) for taps in self.taps)
        planes, lines, _ = ((part.start, part.stop) for part in call.box())
        some, rows = tiles(call.samples, (planes[1] - planes[0], lines[1] - lines[0]), (x, y), call.threads)
        return [
            (i, (planes[0] + a, planes[0] + b), (lines[0] + c + d, lines[0] + c + e))
            for i in range(call.samples)
            for a, b in some
            for c, stop in rows
            for d, e in parts(stop - c, -(-(stop - c) // most))
        ]

    def _slid(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]] | None:
        """Return the same by running sums; None if some intensities are not finite, or far larger than the others."""
        centres = [np.asarray(centre, call.dtype) for centre in call.constants[:2]]
        # Zeros beyond the border count as voxels, unless windows are cut off there.
        least = [np.abs(centre) * (self.padding == "zero") for centre in centres]
        for points, margin in ((POINTS, MARGIN), (None, 1.0)):
            reaches = []
            for image, centre, edge in zip(call.images, centres, least, strict=True):
                largest, usual = _reach(image, centre, call.weights, points)
                if not np.all(largest <= OUTLYING * np.maximum(usual, edge)):
                    return None
                reaches.append(np.maximum(margin * largest, edge))
            found = self._slide(call, wrt, factors, centres, reaches)
            if found is not None:
                return found
        return None

    def _slide(
        self,
        call: HostEvaluation,
        wrt: tuple[int, ...],
        factors: Array,
        centres: list[Array],
        reaches: list[Array],
    ) -> tuple[Arrays, dict[int, Array]] | None:
        """Return the same for intensities so far from their centres at most; None if some are further away."""
        number, masked, truncated = call.dtype.type, call.weights is not None, self.padding == "truncate"
        bits = bits_for(self.volume)
        scales = [_scale(reach, bits) for reach in reaches]
        if not all(np.isfinite(scale).all() for scale in scales):
            return None
        made, nothing = {index: call.room() for index in set(wrt)}, np.empty((0, 0, 0), call.dtype)
        widths, box = tuple(map(len, self.taps)), call.box()
        if self.exact:
            formula = sliding.EXACT if self.squared else sliding.EXACT_SIGNED
        else:
            formula = sliding.SQUARED if self.squared else sliding.SIGNED
        flat_up_to = -1.0 if self.flat_value is None else FLAT if self.convention == "ants" else 0.0
        bounded = self.convention == "monai"
        numbers = tuple(map(number, (
            self.smooth_nr, 0.0 if bounded else self.smooth_dr, self.smooth_dr if bounded else 0.0,
            flat_up_to, self.flat_value or 0.0,
        )))  # fmt: skip
        most = max(8, CACHE // (8 * (sliding.SUMS + masked) * call.shape[3]) - (widths[1] - 1) * (2 if wrt else 1))
        columns = box[2].start, box[2].stop

        def body(i: int, planes: Part, lines: Part) -> tuple[float, float, int]:
            gradients = tuple(made[index][i] if index in made else nothing for index in (0, 1))
            return sliding.correlate(
                tuple(image[i] for image in call.images),
                read_only(nothing) if call.weights is None else call.weights[i],
                (centres[0][i], centres[1][i]), (scales[0][i], scales[1][i]), number(2.0**bits),
                widths, truncated, formula, numbers, (planes, lines, columns), factors[i], gradients,
                workspace(call.shape[1:], widths, lines[1] - lines[0], len(made), masked),
            )  # fmt: skip

        results = np.asarray(run(body, self._jobs(call, wrt, most), call.threads)).reshape(call.samples, -1, 3)
        values, counted, beyond = results.sum(axis=1).T
        sums = (values, counted) if self.counts else (values,)
        return None if beyond.any() else (sums, {index: gradient[:, *box] for index, gradient in made.items()})

    def _merged(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the same by windows that are merged."""
        made, number = {index: call.room() for index in set(wrt)}, call.dtype.type
        nothing = np.empty((0, 0, 0), call.dtype)
        smooth = number(self.smooth_nr), number(self.smooth_dr)
        widths = tuple(np.asarray(boxes(taps), np.int64) for taps in self.taps)
        taps = tuple(np.asarray(() if boxes(taps) else taps) for taps in self.taps)
        beyond, box = number(self.padding == "zero"), call.box()
        columns = box[2].start, box[2].stop
        weights = call.weights
        if weights is None and self.padding == "truncate":
            weights = call.arranged_weights(np.ones((), call.dtype))

        def body(i: int, some: Part, rows: Part) -> float:
            gradients = (made[index][i] if index in made else nothing for index in (0, 1))
            centres = call.constants[0][i], call.constants[1][i]
            images = (image[i] for image in call.images)
            return windows.correlate(
                *images, read_only(nothing) if weights is None else weights[i],
                beyond, centres, widths, taps, smooth, some, rows, columns, factors[i], *gradients,
            )  # fmt: skip

        found = run(body, self._jobs(call, wrt, call.shape[2]), call.threads)
        sums = np.asarray(found).reshape(call.samples, -1).sum(axis=1)
        return (sums,), {index: gradient[:, *box] for index, gradient in made.items()}

    def _by_the_core(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the same by the core, whatever the intensities are."""
        core, inner = _plain(self), call.memory.inner
        given = (*call.given, *(() if call.mask is None else (call.mask,)))
        evaluator = Evaluator(core, inner, given, call.constants, call.count, call.own)
        if not wrt:
            return core.sum_up(evaluator), {}
        sums, gradients = core._passes(evaluator, tuple(wrt), share=factors)
        gradients = evaluator.restore(gradients, wrt)
        return sums, dict(zip(wrt, self.to_canonical(inner, gradients), strict=True))


def _is_binary(call: HostEvaluation) -> bool:
    """Return whether a mask has no weights between 0 and 1, or others."""
    if call.mask is not None and call.mask.dtype == np.bool_:
        return True
    return bool(np.all((call.weights == 0.0) | (call.weights == 1.0)))


def _reach(image: Array, centre: Array, weights: Array | None, points: int | None) -> tuple[Array, Array]:
    """Return how far each sample's intensities are from its centre at most and usually, where it has any but one value.

    Not None: only of a grid of so many points along each axis.
    """
    steps = [max(1, size // (points or size)) for size in image.shape[1:]]
    grid = (slice(None), *(slice(step // 2, None, step) for step in steps))
    sparse = image[grid]
    found, there = np.abs(sparse - centre[:, None, None, None]), sparse != sparse[:, :1, :1, :1]
    if weights is not None:
        there &= weights[grid] != 0.0
        found = np.where(weights[grid] != 0.0, found, 0.0)
    axes = (1, 2, 3)
    usual = np.where(there, found, 0.0).sum(axis=axes) / np.maximum(there.sum(axis=axes), 1)
    largest = found.max(axis=axes)
    return largest, np.where(usual > 0.0, usual, largest)


def _scale(reach: Array, bits: int) -> Array:
    """Return the power of two that makes integers of so many bits of each sample; NaN if float32 has none."""
    reach = reach.astype(np.float64)
    powers = bits - np.ceil(np.log2(np.where(reach > 0.0, reach, 1.0)))
    return np.where(np.isfinite(reach) & (np.abs(powers) < 100), np.exp2(powers), np.nan).astype(np.float32)
