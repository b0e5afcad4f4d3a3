"""Measures of local windows, computed in one streaming pass over the planes of an image."""

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
    """Mean over voxels of a function of local windows, computed in one streaming pass over axis 1.

    Subclasses write `layout`, `gradient_delay`, `begin` and `step`.
    """

    workload: ClassVar[str] = "streaming"

    @property
    def counts(self) -> bool:
        """Whether the windows themselves decide how much they count; the gradients then need a second pass."""
        return False

    @property
    def backward_needs_inputs(self) -> bool:  # type: ignore[override]
        """Whether the gradients need a second pass."""
        return self.counts

    @property
    def fused_value_and_gradient(self) -> bool:  # type: ignore[override]
        """Whether value and gradients share one pass."""
        return not self.counts

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return the layout of the planes of canonical inputs of this shape."""
        raise NotImplementedError

    @property
    def value_delay(self) -> int:
        """Extra planes to read until the windows centred on a plane are complete."""
        return self.window_radius[0]

    @property
    def gradient_delay(self) -> int:
        """Further planes to read, after `value_delay`, until every window that contains a plane is complete."""
        raise NotImplementedError

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> Any:
        """Return the state before the first plane, as after planes of zeros, which ``slab`` holds."""
        raise NotImplementedError

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: Any, wrt: tuple[int, ...] | None
    ) -> tuple[Any, Any, tuple[Array, ...]]:
        """Return the next state, the values of the windows that are now complete, and half the gradients.

        Values and gradients are packed planes ``(planes, b, size)``; values in gaps and outside the image are 0.
        ``wrt`` is None if no gradient is needed. If `counts`, the values are a pair: the values and how much each one
        counts, both 0 for windows that do not count.

        For example, with windows of 3 planes, `value_delay` and `gradient_delay` are 1. An image of 4 planes, one a
        step, takes 6 steps; ``.`` is a plane of zeros, or a result outside the image, which the engine drops::

            plane read             0  1  2  3  .  .
            values of plane        .  0  1  2  3  .
            gradients of plane     .  .  0  1  2  3

        The windows around plane 0 need plane 1; the gradient of plane 0 needs the windows around plane 1, so plane 2.
        """
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean and, if `counts`, the gradients' factor; the mean is 0 if no window counts."""
        if not self.counts:
            return sums[0] * (self.units[0] / count), ()
        values, counted = sums
        share = xp.where(counted > 0.0, 1.0 / xp.where(counted > 0.0, counted, xp.ones_like(counted)), 0.0 * counted)
        # The count of an empty mask is NaN, which must reach the value.
        return values * self.units[0] * share + 0.0 * count, (share,)

    @property
    def units(self) -> tuple[float, float]:
        """Factors of the values and of the gradients that `step` returns."""
        return 1.0, 2.0

    def _passes(
        self,
        run: "Evaluator",
        wrt: tuple[int, ...] | None,
        scale: float = 1.0,
        image: bool = False,
        share: Array | None = None,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums, and the gradients times ``scale`` and each sample's share, or if ``image`` the values."""
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
        """Return the sum of all values and, if `counts`, of how much they count."""
        return self._passes(run, None)[0]

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum of all values, and ``scale`` times the gradients."""
        sums, gradients = self._passes(run, wrt, scale * self.units[1] / run.parts)
        return sums, run.restore(gradients, wrt)

    def gradient_pass(self, run: "Evaluator", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients; the coefficient is each sample's ``1 / (how much its windows count)``."""
        return run.restore(self._passes(run, wrt, self.units[1], share=coefficients[0])[1], wrt)

    # The forward pass saves the gradient: sharing one pass is worth more than the memory of a gradient.

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients; if `counts`, the value and what the second pass needs."""
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
        """Return the gradients for ``wrt``: the saved ones, or if `counts` those of a second pass."""
        how = Measure.backward if self.counts else Differentiable.backward
        return how(self, backend, arrays, wrt, of, saved, cotangent)

    def image(self, *arrays: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
        """Return the value at every voxel, computed with the framework's operations; NaN at masked voxels."""
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
        """Return the value at every voxel; NaN at masked voxels. Masks are bools here."""
        (image,) = self._passes(run, None, image=True)[1]
        if run.weights and not self.counts:
            image = _or_nan(run.backend.xp, image, run.weights[0])
        return run.restore((image,), (0,))[0]


def _or_nan(xp: Any, image: Array, there: Array) -> Array:
    """Return an image with NaN where ``there`` is False or 0."""
    return xp.where(there if there.dtype == xp.bool else there > 0.0, image, xp.full_like(image, math.nan))
