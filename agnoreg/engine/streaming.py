"""Measures of windows that are computed once for each plane, while the planes of an image stream by."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.engine.evaluator import Evaluator
from agnoreg.engine.function import Differentiable, checked
from agnoreg.engine.measure import Measure
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab
from agnoreg.engine.sums import _total

Array = Any


class StreamingMeasure(Measure):
    """A mean over voxels of a function of windows, computed once for each plane while the planes pass by."""

    workload: ClassVar[str] = "streaming"

    @property
    def counts(self) -> bool:
        """Whether it is told by the windows how much counts; the gradients are another pass then."""
        return False

    @property
    def backward_needs_inputs(self) -> bool:  # type: ignore[override]
        """Whether the gradients are another pass."""
        return self.counts

    @property
    def fused_value_and_gradient(self) -> bool:  # type: ignore[override]
        """Whether value and gradients share one pass."""
        return not self.counts

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return how planes of images of this shape are laid out."""
        raise NotImplementedError

    @property
    def value_delay(self) -> int:
        """After how many planes more a plane's windows are complete."""
        return self.window_radius[0]

    @property
    def gradient_delay(self) -> int:
        """After how many planes more still the windows are complete that a plane lies in."""
        raise NotImplementedError

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> Any:
        """Return the state before the first plane, after planes of zeros as in ``slab``."""
        raise NotImplementedError

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: Any, wrt: tuple[int, ...] | None
    ) -> tuple[Any, Any, tuple[Array, ...]]:
        """Return the next state, the values of the windows complete now, and half their gradients.

        Both are planes ``(planes, b, size)``. Values that belong to no voxel are 0. ``wrt`` is None where no
        gradient is wanted. A measure that `counts` returns two of the first kind: beside the values how much each
        counts, and what does not count is 0 in both.
        """
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean; of what counts, with a value of 0 where nothing does, and the gradients' factor."""
        if not self.counts:
            return sums[0] * (self.units[0] / count), ()
        values, counted = sums
        share = xp.where(counted > 0.0, 1.0 / xp.where(counted > 0.0, counted, xp.ones_like(counted)), 0.0 * counted)
        # Of an empty mask, which is no image, the count is NaN.
        return values * self.units[0] * share + 0.0 * count, (share,)

    @property
    def units(self) -> tuple[float, float]:
        """The factors of the values and of the gradients that `step` returns, which make their mean the loss."""
        return 1.0, 2.0

    def _passes(
        self,
        run: "Evaluator",
        wrt: tuple[int, ...] | None,
        scale: float = 1.0,
        image: bool = False,
        share: Array | None = None,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums and the gradients, times ``scale`` and each sample's share; or the values of an image."""
        layout = self.layout(run.shape)
        delay = self.value_delay + (self.gradient_delay if wrt else 0)
        if share is None and run.weights and not self.counts:
            share = run.share()

        def begin(slab: Slab) -> Any:
            return self.begin(slab, layout, wrt)

        def step(slab: Slab, chunk: PlaneBatch, state: Any) -> Any:
            state, found, gradients = self.step(slab, layout, chunk, state, wrt)
            values: tuple[Array, ...] = tuple(found) if self.counts else (found,)
            own = run.own_entries(slab, layout, chunk.start - self.value_delay, values[0]) if run.own else None
            lifted = [layout.unpack(slab.xp, x) for x in (values[:1] if image else gradients)]
            if image and self.counts:
                lifted = [_or_nan(slab.xp, lifted[0], layout.unpack(slab.xp, values[1]))]
            if wrt:
                own_share = scale / run.count if share is None else slab.constants[-1] * scale
                lifted = [
                    x * (own_share if share is None else broadcast_samples(slab.xp, own_share, x)) for x in lifted
                ]
            return state, tuple(_total(slab, layout.lines(slab.xp, x), own) for x in values), tuple(lifted)

        return run.stream_planes(delay, layout.size, begin, step, () if share is None else (share,))

    def sum_up(self, run: "Evaluator") -> tuple[Array, ...]:
        """Return the sums of all values, and of how much they count."""
        return self._passes(run, None)[0]

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum of all values, and ``scale`` times the gradients."""
        sums, gradients = self._passes(run, wrt, scale * self.units[1] / run.parts)
        return sums, run.restore(gradients, wrt)

    def gradient_pass(self, run: "Evaluator", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, with each sample's share of what counts."""
        return run.restore(self._passes(run, wrt, self.units[1], share=coefficients[0])[1], wrt)

    # Value and gradient share one pass, which is worth more than the memory of a gradient: that is what is saved.

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients; or what another pass needs."""
        if self.counts:
            return super().compute_forward(backend, arrays, wrt)
        return self.compute_with_gradients(backend, arrays, wrt)

    def backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt``; unless there is another pass, they are at hand, whoever computed them."""
        how = Measure.backward if self.counts else Differentiable.backward
        return how(self, backend, arrays, wrt, of, saved, cotangent)

    def image(self, *arrays: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
        """Return the value at every voxel, by the framework's operations; NaN where masks leave it out."""
        backend, arrays = checked(self, arrays, masks)
        if backend.shape(arrays[0])[0] == 0:
            return backend.xp.zeros_like(arrays[0], dtype=backend.dtypes.compute(*arrays[: self.inputs]))
        with backend.execution.at(arrays[0]):
            there = tuple(x if x.dtype == backend.xp.bool else x != 0 for x in arrays[self.inputs :])
            arrays = (*arrays[: self.inputs], *there)
            return self.chosen(backend, arrays).compute_image(backend, arrays)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel."""
        return self.voxel_values(Evaluator(self, backend, arrays))

    def voxel_values(self, run: "Evaluator") -> Array:
        """Return the value at every voxel; NaN where weights, which are bools here, leave it out."""
        (image,) = self._passes(run, None, image=True)[1]
        if run.weights and not self.counts:
            image = _or_nan(run.backend.xp, image, run.weights[0])
        return run.restore((image,), (0,))[0]


def _or_nan(xp: Any, image: Array, there: Array) -> Array:
    """Return an image with NaN where nothing is there."""
    return xp.where(there if there.dtype == xp.bool else there > 0.0, image, xp.full_like(image, math.nan))
