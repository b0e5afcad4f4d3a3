"""Local correlation by kernels: running sums where they are exact, windows that are merged elsewhere."""

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend import Backend
from agnoreg.engine.accelerated import recast
from agnoreg.engine.evaluator import Evaluator
from agnoreg.measures.lncc import FLAT, LocalCorrelation, ThinCorrelation
from agnoreg_cpu import running, scores, sliding, tapped
from agnoreg_cpu.boxes import WEIGHT_BITS, BoxWindows, held, windows_of, words_and_bits
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only
from agnoreg_cpu.plans import jobs, zeros
from agnoreg_cpu.threads import Part, run

#: The least that the largest weight is taken for: 2 to the power of 25 divided by it is a number in float32.
LEAST_WEIGHT = 2.0**-100
#: How far intensities are from their centre is read off a grid of so many voxels along each axis, and so many times as
#: far is allowed for. Where that does not suffice all voxels are looked at.
POINTS, MARGIN = 16, 4.0
#: So many times the usual distance from the centre may the largest be: integers have 20 bits for the usual one, then.
OUTLYING = 64.0
#: Shortest lines of a thin image for which running sums are worth it; much longer ones take much memory.
LEAST = 16


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
    #: 32³ voxels take one thread as long as two, which both compute what lies between them.
    voxels_a_thread: ClassVar[int] = 3 << 13

    @property
    def windows(self) -> BoxWindows | None:
        """The windows, if they are made of boxes."""
        return windows_of(self.taps)

    def suits(self, dtype: Any) -> bool:
        """Return whether the kernels support these windows, of more than a voxel."""
        if max(map(len, self.taps)) == 1:
            return False
        if self.windows is None:
            return self.padding == "zero" and not self.exact
        return words_and_bits(self.windows, dtype.type, False)[0] > 0

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
        share = scale / call.parts
        if not self.counts:
            # Of a sample that nothing counts of there is no gradient.
            counts = call.count if call.mask is None else np.where(call.count > 0.0, call.count, math.inf)
            return self._evaluated(call, wrt, share / counts)
        sums, made = self._evaluated(call, wrt, share)
        # Weights may add up to less than 1.
        shares = (1.0 / np.where(sums[1] > 0.0, sums[1], math.inf)).astype(call.dtype)
        for gradient in made.values():
            gradient *= shares[:, None, None, None]
        return sums, made

    def slope(self, call: HostEvaluation, coefficients: Any, index: int) -> Array:
        """Return the gradient by one image, where flat windows do not count."""
        return self._evaluated(call, (index,), coefficients[0])[1][index]

    def _evaluated(self, call: HostEvaluation, wrt: tuple[int, ...], share: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and half the gradients' sums times ``units[1]`` and each sample's share."""
        factors = np.full(call.samples, self.units[1] * share, call.dtype)
        if self.windows is None:
            return self._tapped(call, wrt, factors)
        found = self._slid(call, wrt, factors)
        return self._by_the_core(call, wrt, factors) if found is None else found

    def _jobs(
        self, call: HostEvaluation, wrt: tuple[int, ...], widths: tuple[int, ...], line: int
    ) -> list[tuple[int, Part, Part]]:
        """Return samples, planes and lines in which something counts; of a line so many bytes are kept."""
        planes, lines, _ = ((part.start, part.stop) for part in call.box())
        if call.weights is not None:
            planes, lines = _counting(call.weights, 1, planes), _counting(call.weights, 2, lines)
        z, y = ((width - 1) * (2 if wrt else 1) for width in widths[:2])
        return jobs(call.samples, planes, lines, (z, y), line, call.threads)

    def _slid(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]] | None:
        """Return the same by running sums; None if some intensities are not finite, or far larger than the others."""
        soft = call.weights is not None and not _is_binary(call)
        assert self.windows is not None
        words, bits = words_and_bits(self.windows, call.dtype.type, soft)
        if not words or (soft and call.dtype != np.float32):
            return None
        # The many voxels of a triangle leave too few bits for a margin.
        for known in (True,) if self.windows.twice else (False, True):
            scales = _scales(call, bits * words, known)
            if scales is None:
                return None
            found = self._slide(call, wrt, factors, scales, words, bits, soft)
            if found is not None:
                return found
        return None

    def _slide(
        self,
        call: HostEvaluation,
        wrt: tuple[int, ...],
        factors: Array,
        scales: list[tuple[Any, Any]],
        words: int,
        bits: int,
        soft: bool,
    ) -> tuple[Arrays, dict[int, Array]] | None:
        """Return the same from integers that images make if multiplied by these scales; None if some are too large."""
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
        made, nothing = {index: call.room() for index in set(wrt)}, _nothing(call.dtype)
        box, sizes = call.box(), call.shape[1:]
        counts, columns = held(windows, sizes), (box[2].start, box[2].stop)
        unit, outer = windows.share / (by_weight or 1.0), windows.share * (self.padding == "zero")
        word, limit, numbers = number(2.0**bits), number(2.0 ** (bits * words)), self._numbers(number)

        def body(i: int, planes: Part, lines: Part) -> tuple[float, float, int]:
            gradients = tuple(made[index][i] if index in made else nothing for index in (0, 1))
            there = sliding.workspace(sizes, windows, lines[1] - lines[0], len(made), words, masked, call.dtype)
            return sliding.correlate(
                tuple(image[i] for image in call.images), _weights(call, i),
                None if by_weight is None else number(by_weight), _centres(call, i), scales[i], limit,
                word if words == 2 else None, True if call.dtype == np.float64 else None, windows.boxes, windows.twice,
                counts, unit, outer, self._formula, numbers,
                (planes, lines, columns), number(factors[i] * windows.share), gradients, zeros(there),
            )  # fmt: skip

        some = self._jobs(call, wrt, windows.widths, 8 * sliding.facts_of(words, masked)[1] * sizes[2])
        for gradient in made.values() if masked else ():
            _clear_around(gradient, some)
        results = np.asarray(run(body, some, call.threads)).reshape(call.samples, -1, 3)
        values, counted, beyond = results.sum(axis=1).T
        sums = (values, counted) if self.counts else (values,)
        return None if beyond.any() else (sums, {index: gradient[:, *box] for index, gradient in made.items()})

    @property
    def _formula(self) -> int:
        if self.exact:
            return scores.EXACT if self.squared else scores.EXACT_SIGNED
        return scores.SQUARED if self.squared else scores.SIGNED

    def _numbers(self, number: Any) -> tuple[Any, ...]:
        """Return the formula's numbers, see `scores.smoothed`."""
        flat_up_to = -1.0 if self.flat_value is None else FLAT if self.convention == "ants" else 0.0
        bounded = self.convention == "monai"
        return tuple(map(number, (
            self.smooth_nr, 0.0 if bounded else self.smooth_dr, self.smooth_dr if bounded else 0.0,
            flat_up_to, self.flat_value or 0.0, np.finfo(number).eps,
        )))  # fmt: skip

    def _tapped(self, call: HostEvaluation, wrt: tuple[int, ...], factors: Any) -> tuple[Arrays, dict[int, Array]]:
        """Return the same by windows that are merged tap by tap."""
        made, number = {index: call.room() for index in set(wrt)}, call.dtype.type
        nothing, border = _nothing(call.dtype), read_only(np.zeros((1, 1, call.shape[3]), call.dtype))
        taps, box, sizes = tuple(np.asarray(each, call.dtype) for each in self.taps), call.box(), call.shape[1:]
        widths, columns, numbers = tuple(map(len, taps)), (box[2].start, box[2].stop), self._numbers(number)

        def body(i: int, planes: Part, lines: Part) -> float:
            gradients = tuple(made[index][i] if index in made else nothing for index in (0, 1))
            there = tapped.workspace(sizes, widths, lines[1] - lines[0], len(made), call.dtype)
            return tapped.correlate(
                tuple(image[i] for image in call.images), border, _centres(call, i), taps,
                self._formula, numbers, (planes, lines, columns), factors[i], gradients, zeros(there),
            )  # fmt: skip

        line = call.dtype.itemsize * (1 + 2 * len(made)) * widths[0] * sizes[2]
        found = run(body, self._jobs(call, wrt, widths, line), call.threads)
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
    """Return whether a mask's weights are 0 and 1 alone."""
    if call.mask is not None and call.mask.dtype == np.bool_:
        return True
    return bool(np.all((call.weights == 0.0) | (call.weights == 1.0)))


def _counting(weights: Array, axis: int, part: Part) -> Part:
    """Return the planes or lines from the first to the last one in which some voxel counts; one where none does."""
    start, stop = part
    there = np.moveaxis(weights, axis, 0)
    while stop - start > 1 and not there[start].any():
        start += 1
    while stop - start > 1 and not there[stop - 1].any():
        stop -= 1
    return start, stop


def _clear_around(gradient: Array, some: list[tuple[int, Part, Part]]) -> None:
    """Write zeros before and behind the planes and lines of some jobs."""
    (_, (top, _), (left, _)), (_, (_, bottom), (_, right)) = some[0], some[-1]
    gradient[:, :top] = gradient[:, bottom:] = 0
    gradient[:, top:bottom, :left] = gradient[:, top:bottom, right:] = 0


@lru_cache(maxsize=2)
def _nothing(dtype: Any) -> Array:
    """Return what stands for a gradient that is not wanted."""
    return np.empty((0, 0, 0), dtype)


def _weights(call: HostEvaluation, i: int) -> Array:
    """Return a sample's weights, or what stands for none."""
    return read_only(_nothing(call.dtype)) if call.weights is None else call.weights[i]


def _centres(call: HostEvaluation, i: int) -> tuple[Any, Any]:
    """Return the centres of a sample's images."""
    number = call.dtype.type
    return number(call.constants[0][i]), number(call.constants[1][i])


def _scales(call: HostEvaluation, bits: int, known: bool) -> list[tuple[Any, Any]] | None:
    """Return for each sample's images the power of two that makes integers of so many bits; None if there is none.

    Integers have so many bits if the largest intensity is ``known``, and fewer if it is guessed.
    """
    z, y, x = (max(1, size // POINTS) for size in call.shape[1:])
    scales = []
    for i in range(call.samples):
        weights = _weights(call, i)
        for image, centre in zip(call.images, _centres(call, i), strict=False):
            largest, usual = running.reach(image[i], weights, centre, (z, y, x))
            if known:
                largest = _largest(image[i], weights, centre)
            if not largest <= OUTLYING * usual or largest == math.inf:
                return None
            most = largest if known else MARGIN * largest
            power = bits - math.ceil(math.log2(most or 1.0))
            if abs(power) >= 100:
                return None
            scales.append(call.dtype.type(2.0**power))
    return list(zip(scales[::2], scales[1::2], strict=True))


def _largest(image: Array, weights: Array, centre: Any) -> float:
    """Return how far a sample's intensities are from its centre at most."""
    if weights.size:
        image = np.where(weights != 0.0, image, centre)
    return max(float(image.max() - centre), float(centre - image.min()))
