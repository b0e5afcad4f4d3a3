"""One evaluation of a measure: its arrays, its constants and the sweeps over their slabs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agnoreg.backend import Backend
from agnoreg.engine.planes import stream_planes
from agnoreg.engine.rows import Layout
from agnoreg.engine.slabs import Slab, sweep
from agnoreg.engine.sums import weight_sum

if TYPE_CHECKING:
    from agnoreg.engine.measure import Measure

Array = Any
#: A region along the axes of canonical inputs: planes, lines and voxels.
Box = tuple[slice, slice, slice]


class Evaluator:
    """One evaluation of a measure: its arrays, their dtype, its constants, and the sweeps over their slabs.

    The arrays may be a block of larger ones. Then ``constants`` and ``count`` are those of the whole image, and ``own``
    is the block's core region along the axes of the canonical inputs; voxels around it belong to the halo.
    """

    def __init__(
        self,
        measure: "Measure",
        backend: Backend,
        arrays: tuple[Array, ...],
        constants: tuple[Array, ...] | None = None,
        count: Any = None,
        own: Box | None = None,
    ) -> None:
        self.measure = measure
        self.backend = backend
        self.given = arrays[: measure.inputs]
        self.dtype = backend.dtypes.compute(*self.given)
        self.arrays = measure.to_canonical(backend, self.given)
        self.shape = backend.shape(self.arrays[0])
        self.parts = measure.parts(backend.shape(arrays[0]))
        mask = measure.mask(backend, arrays)
        self.weights = () if mask is None else measure.slab_weights(backend, mask, arrays)
        self.own = own
        self.count: Any = measure.count(self.shape) if count is None else count
        if constants is None:
            # If constants are passed in, so are the coefficients, which already contain the count.
            constants = measure.constants(backend, self.dtype, self.arrays, *self.weights[:1])
            if self.weights:
                self.count, more = measure.effective_count_or_nan(backend.xp, self.dtype, self.sums_of_weights())
                constants += more
        self.constants = constants
        self.elements = max(
            1, backend.execution.slab_elements(self.arrays[0], measure.workload) // measure.numbers_per_voxel
        )

    def sums_of_weights(self) -> tuple[Array, ...]:
        """Return the sums that `Measure.weight` turns into the effective count, ``(b,)`` each; they add over blocks."""
        images = self.measure.count_weights(self.backend, self.weights)
        return tuple(weight_sum(self.backend, self.dtype, self._cropped(image, 1)) for image in images)

    def own_entries(self, slab: Slab, layout: Layout, first: Any, planes: Array) -> Array:
        """Return a 0/1 mask of the entries in the core region, for planes starting at ``first``, in lines."""
        xp, device, steps = slab.xp, slab.backend.device(planes), (1, 1, self.measure.step_size)
        lines = layout.lines(xp, xp.zeros_like(planes))
        for axis, (box, step) in enumerate(zip(self.own or (), steps, strict=True), start=1):
            place = xp.arange(lines.shape[axis], dtype=xp.int32, device=device) + (first if axis == 1 else 0)
            inside = (place >= box.start * step) & (place < box.stop * step)
            inside = xp.astype(xp.reshape(inside, (-1, *(1,) * (3 - axis))), lines.dtype)
            lines = lines + inside if axis == 1 else lines * inside
        return lines

    def _cropped(self, image: Array, step: int) -> Array:
        """Return the core region of an image in canonical shape with ``step`` entries a voxel."""
        if not self.own:
            return image
        planes, lines, entries = self.own
        return image[:, planes, lines, entries.start * step : entries.stop * step]

    def _sweep(self, halo: int, body: Callable[..., Any]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return sweep(
            self.backend,
            self.dtype,
            (*self.arrays, *self.weights),
            halo,
            self.elements,
            body,
            self.constants,
            self.measure.workload == "bins",
            len(self.arrays),
            self.measure.fill,
        )

    def sums(self) -> tuple[Array, ...]:
        """Return the measure's sums over all slabs."""
        totals, _ = self._sweep(self.measure.value_halo, lambda slab, first, last: (self.measure.sums(slab), ()))
        return totals

    def finish(self, sums: tuple[Array, ...]) -> tuple[Array, list[Array]]:
        """Return the value and the gradient's coefficients."""
        return finalize(self.measure, self.backend.xp, self.dtype, sums, self.count, self.parts)

    def of_parts(self, values: Array) -> Array:
        """Repeat the values of the samples for each of their parts, ``(B,)`` to ``(B * parts,)``."""
        if self.parts == 1:
            return values
        ones = self.backend.xp.ones((self.parts,), dtype=values.dtype, device=self.backend.device(values))
        return self.backend.xp.reshape(values[:, None] * ones, (-1,))

    def gradients(self, coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, by the measure's own pass."""
        return self.measure.gradient_pass(self, coefficients, wrt)

    def slab_gradients(self, coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, slab by slab."""

        def body(slab: Slab, first: int, last: int | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            return (), self._gradient(slab, tuple(_of(c, first, last) for c in coefficients), wrt)

        return self.restore(self._sweep(self.measure.gradient_halo, body)[1], wrt)

    def sums_and_gradients(self, scale: float, wrt: tuple[int, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums, and ``scale`` times the gradients of a mean, in one sweep."""
        xp, device = self.backend.xp, self.backend.device(self.arrays[0])
        ones = xp.full((1,), scale / self.parts, dtype=self.dtype, device=device)
        factor = ones * xp.astype(1.0 / self.count, self.dtype) if self.weights else ones / self.count

        def body(slab: Slab, first: int, last: int | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            own = _of(factor, first, last) if self.weights else factor
            return self.measure.sums(slab), self._gradient(slab, (own,), wrt)

        sums, gradients = self._sweep(self.measure.gradient_halo, body)
        return sums, self.restore(gradients, wrt)

    def _gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        gradients = self.measure.gradient(slab, coefficients, wrt)
        if not slab.weights:
            return gradients
        return self.measure.leave_out(slab, gradients)

    def share(self) -> Array:
        """Return ``1 / effective count`` of each sample with a mask, ``(b,)``; 0 where the mask is empty."""
        xp = self.backend.xp
        return xp.astype(xp.where(self.count > 0.0, 1.0 / self.count, xp.zeros_like(self.count)), self.dtype)

    def stream_planes(
        self, delay: int, plane: int, begin: Any, step: Any, more: tuple[Array, ...] = ()
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Stream the planes of the inputs and weights; ``more`` constants are appended to the measure's own."""
        arrays, constants = (*self.arrays, *self.weights), (*self.constants, *more)
        return stream_planes(
            self.backend,
            self.dtype,
            arrays,
            delay,
            plane,
            self.elements,
            begin,
            step,
            constants,
            len(self.arrays),
        )

    def restore(self, gradients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients in the original shapes of the inputs, cropped to the core region of a block."""
        shapes = [self.backend.shape(self.given[index]) for index in wrt]
        if self.own:
            step = self.measure.step_size
            gradients = tuple(self._cropped(gradient, step) for gradient in gradients)
            shapes = [own_shape(self.measure, shape, self.own) for shape in shapes]
        return tuple(self.measure.from_canonical(self.backend, *pair) for pair in zip(gradients, shapes, strict=True))


def own_shape(measure: "Measure", shape: tuple[int | None, ...], own: Box | None) -> tuple[int | None, ...]:
    """Return the shape of an input cropped to the core region of a block.

    Canonical inputs have three spatial axes; an input with fewer has the last of them.
    """
    if own is None:
        return shape
    sizes, axes = list(shape), measure.spatial_axes(len(shape))
    for axis, box in zip(reversed(axes), reversed(own), strict=False):
        sizes[axis] = box.stop - box.start
    return tuple(sizes)


def finalize(
    measure: "Measure", xp: Any, dtype: Any, sums: tuple[Array, ...], count: Any, parts: int
) -> tuple[Array, list[Array]]:
    """Return the value ``(B,)``, the mean over each sample's ``parts``, and the coefficients, in this dtype."""
    value, coefficients = measure.finish(xp, sums, count)
    if parts > 1:
        value = xp.mean(xp.reshape(value, (-1, parts)), axis=1)
        coefficients = tuple(c / parts for c in coefficients)
    return xp.astype(value, dtype), [xp.astype(c, dtype) for c in coefficients]


def _of(values: Array, first: int, last: int | None) -> Array:
    """Return the values of samples ``first`` to ``last``; None is the end."""
    return values if (first, last) == (0, None) else values[first:last, ...]
