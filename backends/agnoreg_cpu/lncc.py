"""Local correlation by kernels: running sums where they are exact, windows that are merged elsewhere."""

import math
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from agnoreg.backend import Backend
from agnoreg.backend.windows import boxes
from agnoreg.engine.accelerated import recast
from agnoreg.engine.evaluator import Evaluator
from agnoreg.measures.lncc import FLAT, LocalCorrelation, ThinCorrelation
from agnoreg_cpu import scores, sliding, tapped
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only, room
from agnoreg_cpu.threads import Part, parts, run

#: So many bits at least must be left for an intensity, and so many are those of weights between 0 and 1.
LEAST_BITS: dict[Any, int] = {np.float32: 23, np.float64: 44}
WEIGHT_BITS = 25
#: By this and below weights are not told apart: 2 to the power of 25 by it is a number in float32.
LEAST_WEIGHT = 2.0**-100
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


class Windows(NamedTuple):
    """Windows made of boxes of integers along each axis, as `sliding.correlate` takes them."""

    boxes: tuple[int, ...]
    #: Whether they are boxes of boxes: triangles.
    twice: bool
    #: By what integers are multiplied to be the windows' weights.
    share: float

    @property
    def reaches(self) -> tuple[int, ...]:
        """How wide a window is along each axis."""
        return tuple(2 * box - 1 for box in self.boxes) if self.twice else self.boxes

    @property
    def volume(self) -> int:
        """The sum of a window's integers."""
        return math.prod(self.boxes) ** (1 + self.twice)


@lru_cache(maxsize=64)
def windows_of(taps: tuple[tuple[float, ...], ...]) -> Windows | None:
    """Return windows with these weights along each axis, None if they are not made of boxes."""
    found = [boxes(each) for each in taps]
    if all(len(widths) == 1 for widths in found):
        return Windows(tuple(width for (width,) in found), False, 1.0)
    sides, share = [], 1.0
    for each in taps:
        # A triangle of any height, with zeros beside it.
        inner = tuple(tap for tap in each if tap)
        side, height = (len(inner) + 1) // 2, inner[0] if inner else 0.0
        triangle = (max(0, min(i, len(each) - 1 - i) - len(each) // 2 + side) for i in range(len(each)))
        # Fractions of 7 and of the like are rounded, added up and multiplied.
        if not len(each) % 2 or not np.allclose(each, [number * height for number in triangle], rtol=1e-14, atol=0.0):
            return None
        sides.append(side)
        share *= height
    return Windows(tuple(sides), True, share)


@lru_cache(maxsize=64)
def _held(size: int, box: int, twice: bool) -> Array:
    """Return what windows about each of so many entries hold of these, and at the end what a full one holds."""
    ones = np.ones(box, np.int64)
    taps = np.convolve(ones, ones) if twice else ones
    held = np.convolve(np.ones(size, np.int64), taps)[len(taps) // 2 :][:size]
    return np.append(held, taps.sum())


def workspace(
    shape: tuple[int, ...], windows: Windows, lines: int, wrt: int, facts: tuple[int, int], dtype: Any
) -> Any:
    """Return the memory that `sliding.correlate` needs for so many lines of an image, and gradients by ``wrt`` images.

    See there for the names of its arrays. ``facts`` are how many there are of a voxel and of a window.
    """
    (_, height, width), (all_z, all_y, all_x), twice, kinds = shape, windows.reaches, windows.twice, 1 + 2 * wrt
    size, lead = (-(-number // sliding.GRAIN) * sliding.GRAIN for number in (width, all_x))
    valued = min(height, lines + all_y - 1) if wrt else 0
    held, padded, rows = min(height, max(lines, valued) + all_y - 1) + 1, size + 2 * lead, 4
    of_gradient = kinds * (1 + (dtype == np.float64))
    shapes = (
        ((sliding.LINES, facts[0], size), np.int32), ((held, facts[1], size), np.int64),
        ((held * twice, facts[1], size), np.int64),
        ((rows, facts[1], padded), np.int64), ((size,), np.int64), *(((size,), np.float64),) * 3,
        ((1, scores.FACTS, size), dtype), ((1, kinds, size), dtype), (((all_z + twice) * valued, kinds, size), dtype),
        ((valued + 1, of_gradient, size), np.float64), (((valued + 1) * twice, of_gradient, size), np.float64),
        ((rows, of_gradient, padded), np.float64),
    )  # fmt: skip
    arrays = tuple(room(shape, np.dtype(kind)) for shape, kind in shapes)
    for array in arrays:
        array.fill(0)
    return arrays


def bits_for(volume: float, words: int) -> int:
    """Return how many bits an integer of a voxel may have: 29 at most, and sums of products in a window 63."""
    return min(29, int((62.9 - (words - 1) - math.log2(volume)) / 2))


def whole(measure: Any, shape: Any) -> Any:
    """Return the measure of images that may have a single voxel along an axis, if running sums suit the shape."""
    if type(measure) is not ThinCorrelation:
        return measure
    first, dims = (2 if measure.data_format == "channels_first" else 1), measure.spatial_dims
    *lines, entries = shape[first : first + dims]
    return recast(measure, LocalCorrelation) if LEAST <= entries <= LEAST * math.prod(lines) else measure


class CpuLocalCorrelation(Kernels, LocalCorrelation):
    """`LocalCorrelation` by kernels."""

    worth_a_copy: ClassVar[bool] = True
    voxels_a_thread: ClassVar[int] = 1 << 13

    @property
    def windows(self) -> Windows | None:
        """The windows, if they are made of boxes."""
        return windows_of(self.taps)

    def words(self, dtype: Any, weight: int = 0) -> int:
        """Return how many integers a voxel needs, whose weights have so many bits; 0 where two do not suffice."""
        if self.windows is None:
            return 0
        for words in (1, 2):
            bits = bits_for(self.windows.volume * 2**weight, words)
            if bits * words >= LEAST_BITS[dtype.type] and words >= 1 + bool(weight):
                return words
        return 0

    def suits(self, dtype: Any) -> bool:
        """Return whether the kernels support these windows, of more than a voxel."""
        if max(map(len, self.taps)) == 1:
            return False
        return self.words(dtype) > 0 if self.windows else self.padding == "zero" and not self.exact

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask; the kernels need none to cut windows off."""
        return arrays[2] if len(arrays) > 2 else None

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: only for windows made of boxes."""
        return self.windows is not None

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
        # Weights may be as small as one likes.
        share = (1.0 / np.where(sums[1] > 0.0, sums[1], math.inf)).astype(call.dtype)
        for gradient in made.values():
            gradient *= share[:, None, None, None]
        return sums, made

    def slope(self, call: HostEvaluation, coefficients: Any, index: int) -> Array:
        """Return the gradient by one image, where flat windows do not count."""
        return self._evaluated(call, (index,), coefficients[0])[1][index]

    def _evaluated(self, call: HostEvaluation, wrt: tuple[int, ...], share: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and half the gradients' sums times ``units[1]`` and each sample's share."""
        factors = (self.units[1] * np.broadcast_to(share, call.samples)).astype(call.dtype)
        if self.windows is None:
            return self._tapped(call, wrt, factors)
        found = self._slid(call, wrt, factors)
        return self._by_the_core(call, wrt, factors) if found is None else found

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
        soft = call.weights is not None and not _is_binary(call)
        words = self.words(call.dtype, WEIGHT_BITS * soft)
        if not words or (soft and call.dtype != np.float32):
            return None
        centres = [np.asarray(centre, call.dtype) for centre in call.constants[:2]]
        assert self.windows is not None
        # The many voxels of a triangle leave too few bits for a margin.
        for known in (True,) if self.windows.twice else (False, True):
            reaches = []
            for image, centre in zip(call.images, centres, strict=True):
                largest, usual = _reach(image, centre, call.weights)
                largest = _largest(image, centre, call.weights) if known else MARGIN * largest
                if not np.all(largest <= OUTLYING * usual * (1.0 if known else MARGIN)):
                    return None
                reaches.append(largest)
            found = self._slide(call, wrt, factors, centres, reaches, words, soft)
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
        words: int,
        soft: bool,
    ) -> tuple[Arrays, dict[int, Array]] | None:
        """Return the same for intensities so far from their centres at most; None if some are further away."""
        windows, number, masked = self.windows, call.dtype.type, call.weights is not None
        assert windows is not None
        by_weight = None
        if soft:
            assert call.weights is not None
            least, most = call.weights.min(), call.weights.max()
            if not (least >= 0.0 and most < math.inf):
                return None
            # All weights may be small, such as those of a mask whose sum is 1.
            by_weight = 2.0 ** (WEIGHT_BITS - math.ceil(math.log2(max(most, LEAST_WEIGHT))))
        bits = bits_for(windows.volume * 2 ** (WEIGHT_BITS * soft), words)
        scales = [_scale(reach, bits * words) for reach in reaches]
        if not all(np.isfinite(scale).all() for scale in scales):
            return None
        made, nothing = {index: call.room() for index in set(wrt)}, np.empty((0, 0, 0), call.dtype)
        box, facts = call.box(), (1 + 2 * words, (sliding.running.ALL if words == 2 else sliding.running.SUMS) + masked)
        unit, outer = windows.share / (by_weight or 1.0), windows.share * (self.padding == "zero")
        held = tuple(_held(*each, windows.twice) for each in zip(call.shape[1:], windows.boxes, strict=True))
        around = (windows.reaches[1] - 1) * (2 if wrt else 1)
        most = max(8, 4 * around, CACHE // (8 * facts[1] * call.shape[3]) - around)
        columns, word = (box[2].start, box[2].stop), number(2.0**bits)

        def body(i: int, planes: Part, lines: Part) -> tuple[float, float, int]:
            gradients = tuple(made[index][i] if index in made else nothing for index in (0, 1))
            work = workspace(call.shape[1:], windows, lines[1] - lines[0], len(made), facts, call.dtype)
            return sliding.correlate(
                tuple(image[i] for image in call.images),
                read_only(nothing) if call.weights is None else call.weights[i],
                None if by_weight is None else number(by_weight),
                (centres[0][i], centres[1][i]), (scales[0][i], scales[1][i]), number(2.0 ** (bits * words)),
                word if words == 2 else None, True if call.dtype == np.float64 else None, windows.boxes, windows.twice,
                held, unit, outer, self._formula, self._numbers(number),
                (planes, lines, columns), number(factors[i] * windows.share), gradients, work,
            )  # fmt: skip

        results = np.asarray(run(body, self._jobs(call, wrt, most), call.threads)).reshape(call.samples, -1, 3)
        values, counted, beyond = results.sum(axis=1).T
        sums = (values, counted) if self.counts else (values,)
        return None if beyond.any() else (sums, {index: gradient[:, *box] for index, gradient in made.items()})

    @property
    def _formula(self) -> int:
        if self.exact:
            return scores.EXACT if self.squared else scores.EXACT_SIGNED
        return scores.SQUARED if self.squared else scores.SIGNED

    def _numbers(self, number: Any) -> tuple[Any, ...]:
        """Return the formula's numbers, see `scores.score`."""
        flat_up_to = -1.0 if self.flat_value is None else FLAT if self.convention == "ants" else 0.0
        bounded = self.convention == "monai"
        return tuple(map(number, (
            self.smooth_nr, 0.0 if bounded else self.smooth_dr, self.smooth_dr if bounded else 0.0,
            flat_up_to, self.flat_value or 0.0, np.finfo(number).eps,
        )))  # fmt: skip

    def _tapped(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the same by windows that are merged tap by tap."""
        made, number = {index: call.room() for index in set(wrt)}, call.dtype.type
        nothing, border = np.empty((0, 0, 0), call.dtype), read_only(np.zeros((1, 1, call.shape[3]), call.dtype))
        taps, box = tuple(np.asarray(each, call.dtype) for each in self.taps), call.box()
        columns = box[2].start, box[2].stop
        wz, wy, wx = map(len, taps)
        around, kinds = (wy - 1) * (2 if wrt else 1), 1 + 2 * len(made)
        most = max(8, 4 * around, CACHE // (call.dtype.itemsize * kinds * wz * call.shape[3]) - around)

        def body(i: int, planes: Part, lines: Part) -> float:
            gradients = tuple(made[index][i] if index in made else nothing for index in (0, 1))
            work = tapped.workspace(call.shape[1:], (wz, wy, wx), lines[1] - lines[0], len(made), call.dtype)
            return tapped.correlate(
                tuple(image[i] for image in call.images), border, (call.constants[0][i], call.constants[1][i]), taps,
                self._formula, self._numbers(number), (planes, lines, columns), factors[i], gradients, work,
            )  # fmt: skip

        found = run(body, self._jobs(call, wrt, most), call.threads)
        sums = np.asarray(found).reshape(call.samples, -1).sum(axis=1)
        return (sums,), {index: gradient[:, *box] for index, gradient in made.items()}

    def _by_the_core(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the same by the core, whatever the intensities are."""
        core, inner = recast(self, LocalCorrelation), call.memory.inner
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


def _reach(image: Array, centre: Array, weights: Array | None) -> tuple[Array, Array]:
    """Return how far some of each sample's intensities are from its centre at most, and usually.

    Usually means where they have any but one value.
    """
    steps = [max(1, size // POINTS) for size in image.shape[1:]]
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


def _largest(image: Array, centre: Array, weights: Array | None) -> Array:
    """Return how far each sample's intensities are from its centre at most."""
    if weights is not None:
        image = np.where(weights != 0.0, image, centre[:, None, None, None])
    return np.maximum(image.max(axis=(1, 2, 3)) - centre, centre - image.min(axis=(1, 2, 3)))


def _scale(reach: Array, bits: int) -> Array:
    """Return the power of two that makes integers of so many bits of each sample; NaN if float32 has none."""
    dtype, reach = reach.dtype, reach.astype(np.float64)
    powers = bits - np.ceil(np.log2(np.where(reach > 0.0, reach, 1.0)))
    return np.where(np.isfinite(reach) & (np.abs(powers) < 100), np.exp2(powers), np.nan).astype(dtype)
