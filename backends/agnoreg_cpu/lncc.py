"""Local correlation by kernels."""

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from agnoreg.backend.windows import boxes
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg_cpu import windows
from agnoreg_cpu.measures import Array, Arrays, HostEvaluation, Kernels, read_only
from agnoreg_cpu.threads import Part, parts, run


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


class CpuLocalCorrelation(Kernels, LocalCorrelation):
    """`LocalCorrelation` by one kernel."""

    worth_a_copy: ClassVar[bool] = True

    def suits(self, dtype: Any) -> bool:
        """Return whether the kernels support these windows, of more than a voxel, and this formula."""
        known = self.squared and self.flat_value is None and self.convention not in ("monai", "exact")
        return known and max(map(len, self.taps)) > 1

    def takes_mask(self) -> bool:
        """Return whether the kernels support masks: only for windows made of boxes."""
        return all(map(boxes, self.taps))

    def takes_box(self) -> bool:
        """Return that values around a box can be left out."""
        return True

    def add_up(self, call: HostEvaluation) -> Arrays:
        """Return the sum of the values."""
        return self.in_one_go(call, (), 1.0)[0]

    def in_one_go(self, call: HostEvaluation, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sum of the values, and ``scale`` times the gradients."""
        made, number = {index: call.room() for index in set(wrt)}, call.dtype.type
        nothing = np.empty((0, 0, 0), call.dtype)
        # Of a sample that nothing counts of there is no gradient.
        counts = np.where(np.greater(call.count, 0.0), call.count, math.inf)
        factors = np.full(call.samples, self.units[1] * scale / call.parts) / counts
        factors = factors.astype(call.dtype)
        smooth = number(self.smooth_nr), number(self.smooth_dr)
        widths = tuple(np.asarray(boxes(taps), np.int64) for taps in self.taps)
        taps = tuple(np.asarray(() if boxes(taps) else taps) for taps in self.taps)
        beyond = number(self.padding == "zero")
        x, y, _ = ((len(taps) - 1) * (2 if wrt else 1) for taps in self.taps)
        box = call.box()
        planes, lines, columns = ((part.start, part.stop) for part in box)
        ranges = tiles(call.samples, (planes[1] - planes[0], lines[1] - lines[0]), (x, y), call.threads)
        jobs = [
            (i, (planes[0] + a, planes[0] + b), (lines[0] + c, lines[0] + d))
            for i in range(call.samples)
            for a, b in ranges[0]
            for c, d in ranges[1]
        ]

        def body(i: int, some: Part, rows: Part) -> float:
            gradients = (made[index][i] if index in made else nothing for index in (0, 1))
            centres = call.constants[0][i], call.constants[1][i]
            images = (image[i] for image in call.images)
            weights = read_only(nothing) if call.weights is None else call.weights[i]
            return windows.correlate(
                *images, weights, beyond, centres, widths, taps, smooth, some, rows, columns, factors[i], *gradients
            )

        sums = np.asarray(run(body, jobs, call.threads)).reshape(call.samples, -1).sum(axis=1)
        return (sums,), {index: gradient[:, *box] for index, gradient in made.items()}
