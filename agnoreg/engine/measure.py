"""The contract between a measure, which knows its formula, and the engine."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.engine.chosen import evaluator_of
from agnoreg.engine.evaluator import Evaluator
from agnoreg.engine.function import Differentiable
from agnoreg.engine.slabs import Slab, fill_masked
from agnoreg.engine.sums import spread
from agnoreg.engine.validate import check_same_shape, voxels

Array = Any


class Measure(Differentiable):
    """A loss as functions of slabs; subclasses are frozen dataclasses of its parameters.

    `sums` add up over slabs, `finish` turns them into the value and the coefficients of the gradient, `gradient` is the
    gradient at a slab's own planes.
    """

    backward_needs_inputs: ClassVar[bool] = True  # type: ignore[misc]
    #: The kind of work, which decides the size of a slab: "streaming", "windows", "bins" or "voxels".
    workload: ClassVar[str] = "voxels"
    #: How many arrays `constants` returns.
    constant_count: ClassVar[int] = 0
    #: What is read in the place of an input that a mask leaves out.
    fill: ClassVar[float] = 0.0

    @property
    def numbers_per_voxel(self) -> int:
        """How many numbers are made of each voxel at once, which a slab must hold."""
        return 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of an input, of so many, along which it may come in blocks."""
        return tuple(axis for axis in range(1, rank) if axis != self.channel_axis(rank))

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """How many voxels away a voxel's value reads, at most, along each axis of arranged inputs."""
        return 0, 0, 0

    @property
    def step_size(self) -> int:
        """How many entries of a line lie from a voxel to the next."""
        return 1

    @property
    def value_halo(self) -> int:
        """Planes beyond its own that `sums` reads on each side."""
        return 0

    @property
    def gradient_halo(self) -> int:
        """Planes beyond its own that `gradient` reads on each side."""
        return 0

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        check_same_shape(*shapes)

    def constants(
        self, backend: Backend, dtype: Any, arrays: tuple[Array, ...], weights: Array | None = None
    ) -> tuple[Array, ...]:
        """Return numbers of each sample, ``(B,)``, that are read from the whole arrays before any slab."""
        return ()

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return how many entries of a sample of arranged inputs count."""
        return voxels(shape)

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask that follows the inputs, if there is one."""
        return arrays[self.inputs] if len(arrays) > self.inputs else None

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return what a slab gets of a mask, arranged; ``arrays`` are the inputs as they came."""
        return self.to_canonical(backend, (spread(backend, mask, arrays[0]),))

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return images whose sums say how much of each sample counts, from what `slab_weights` returned."""
        return weights[:1]

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return how much of each sample counts, ``(b,)``, in the place of `count`, and more constants.

        ``sums`` are those of `count_weights`.
        """
        return sums[0], ()

    def effective_count_or_nan(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return the same, but nothing is no number of voxels: what is made of it is NaN."""
        count, more = self.weight(xp, dtype, sums)
        return xp.where(count > 0.0, count, xp.full_like(count, math.nan)), more

    def for_global_shape(self, shape: tuple[int | None, ...]) -> "Measure":
        """Return the measure for blocks of one whole image, whose arranged shape this is."""
        return self

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return small arrays, batch in front, that add up over slabs."""
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value ``(B,)`` and the coefficients, batch in front, that `gradient` needs.

        ``count`` is how many entries of a sample count; with a mask, ``(B,)``, their weight.
        """
        raise NotImplementedError

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradient of the value with respect to each input in ``wrt`` at the slab's own planes."""
        raise NotImplementedError

    def leave_out(self, slab: Slab, gradients: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return a slab's gradients times its weights, 0 where the mask leaves voxels out."""
        # Of an empty mask the coefficients are NaN, but where nothing is there is no gradient.
        return fill_masked(slab.backend, tuple(g * slab.weights[0] for g in gradients), slab.weights[0])

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the inputs as views of one common shape; a sample may become several, of which the mean is taken."""
        return arrays

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return how many samples `to_canonical` makes of each."""
        return 1

    def from_canonical(self, backend: Backend, x: Array, shape: tuple[int | None, ...]) -> Array:
        """Return an image of the arranged inputs' shape with the shape of an input as it came."""
        return x if backend.shape(x) == shape else backend.xp.reshape(x, (-1, *shape[1:]))

    def fitted(self, shape: tuple[int | None, ...]) -> "Measure":
        """Return the same measure for inputs of this shape, where it can be had for less."""
        return self

    def chosen(self, backend: Backend, arrays: tuple[Array, ...]) -> Any:
        """Return what computes the measure of these arrays."""
        return evaluator_of(self.fitted(backend.shape(arrays[0])), backend, arrays)

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        return self.chosen(backend, arrays).compute(backend, arrays)

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        return self.chosen(backend, arrays).compute_with_gradients(backend, arrays, wrt, scale)

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and what `backward` needs beside the arrays."""
        return self.chosen(backend, arrays).compute_forward(backend, arrays, wrt)

    def backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt``, among those ``of`` which `forward` was told, times a cotangent ``(B,)``."""
        return self.chosen(backend, arrays).compute_backward(backend, arrays, wrt, of, saved, cotangent)

    # How one evaluation goes over the slabs of its arrays.

    def sum_up(self, run: "Evaluator") -> tuple[Array, ...]:
        """Return the sums of all slabs."""
        return run.sums()

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        raise NotImplementedError

    def gradient_pass(self, run: "Evaluator", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, with the coefficients that `finish` made of all sums."""
        return run.slab_gradients(coefficients, wrt)

    # What follows drives the functions above; a measure of a backend's own may replace it as a whole. What it saves
    # must mean the same, since a backend may choose otherwise when it comes to the gradient.

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        run = Evaluator(self, backend, arrays)
        return run.finish(self.sum_up(run))[0]

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        run = Evaluator(self, backend, arrays)
        if self.fused_value_and_gradient:
            sums, gradients = self.value_and_gradient_pass(run, wrt, scale)
            return run.finish(sums)[0], gradients
        value, coefficients = run.finish(self.sum_up(run))
        return value, run.gradients([coefficient * scale for coefficient in coefficients], wrt)

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and the gradient's coefficients and the constants."""
        run = Evaluator(self, backend, arrays)
        if len(run.constants) != self.constant_count:
            raise TypeError(
                f"{type(self).__name__}.constant_count must be {len(run.constants)}, as constants() returns."
            )
        value, coefficients = run.finish(self.sum_up(run))
        return value, (*coefficients, *run.constants)

    def compute_backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt`` times a cotangent, in which they are linear as in the coefficients."""
        count = len(saved) - self.constant_count
        run = Evaluator(self, backend, arrays, saved[count:])
        cotangent = run.of_parts(cotangent)
        return run.gradients([c * broadcast_samples(backend.xp, cotangent, c) for c in saved[:count]], wrt)


class MeanMeasure(Measure):
    """A measure whose value is a mean over voxels: its coefficient is known beforehand, so one pass does for both."""

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean, and the factor of the sum that makes it one."""
        value = sums[0] / count
        return value, (xp.ones_like(value) / count,)

    fused_value_and_gradient: ClassVar[bool] = True  # type: ignore[misc]

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        return run.sums_and_gradients(scale, wrt)
