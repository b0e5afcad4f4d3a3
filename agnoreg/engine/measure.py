"""The interface between a measure, which holds the formula, and the engine, which evaluates it."""

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
    """A loss written as functions of slabs; subclasses are frozen dataclasses of its parameters.

    The engine calls `sums` for every slab and adds the results. It calls `finish` once, for the value and the
    coefficients of the gradient, and then `gradient` for every slab with these coefficients. For the mean squared error
    `sums` returns ``sum (t - p)^2``, `finish` the value ``sum / count`` and the coefficient ``1 / count``, and
    `gradient` for ``p`` the coefficient times ``2 (p - t)``.
    """

    backward_needs_inputs: ClassVar[bool] = True  # type: ignore[misc]
    #: The kind of work, from which the backend chooses the size of a slab: "streaming", "windows", "bins" or "voxels".
    workload: ClassVar[str] = "voxels"
    #: Number of arrays that `constants` returns.
    constant_count: ClassVar[int] = 0
    #: Whether each block of an image may have constants of its own.
    constants_of_blocks: ClassVar[bool] = False
    #: Value that replaces masked voxels of the inputs.
    fill: ClassVar[float] = 0.0

    @property
    def numbers_per_voxel(self) -> int:
        """Temporary numbers that a slab needs for each voxel."""
        return 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes along which an input of ``rank`` axes may be split into blocks."""
        return tuple(axis for axis in range(1, rank) if axis != self.channel_axis(rank))

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """Radius in voxels of the neighbourhood that a value depends on, along each axis of canonical inputs."""
        return 0, 0, 0

    @property
    def step_size(self) -> int:
        """Entries from one voxel of a line to the next."""
        return 1

    @property
    def value_halo(self) -> int:
        """Halo planes that `sums` reads on each side of a slab."""
        return 0

    @property
    def gradient_halo(self) -> int:
        """Halo planes that `gradient` reads on each side of a slab."""
        return 0

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit."""
        check_same_shape(*shapes)

    def constants(
        self, backend: Backend, dtype: Any, arrays: tuple[Array, ...], weights: Array | None = None
    ) -> tuple[Array, ...]:
        """Return arrays ``(B,)`` that are computed from the whole inputs before the first slab, such as offsets."""
        return ()

    def count(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of entries over which a sample's mean is taken, for canonical inputs."""
        return voxels(shape)

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask that follows the inputs, if there is one."""
        return arrays[self.inputs] if len(arrays) > self.inputs else None

    def slab_weights(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the weights that a slab gets, in canonical shape; ``arrays`` are the inputs in original shape."""
        return self.to_canonical(backend, (spread(backend, mask, arrays[0]),))

    def count_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return the images whose sums `weight` needs, from the result of `slab_weights`."""
        return weights[:1]

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return the effective count of each sample, ``(b,)``, which replaces `count`, and further constants.

        ``sums`` are the sums of the images that `count_weights` returns.
        """
        return sums[0], ()

    def effective_count_or_nan(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Like `weight`, but NaN where the mask is empty, so that the value becomes NaN."""
        count, more = self.weight(xp, dtype, sums)
        return xp.where(count > 0.0, count, xp.full_like(count, math.nan)), more

    def for_global_shape(self, shape: tuple[int | None, ...]) -> "Measure":
        """Return the measure for blocks of an image, given the canonical shape of the whole image."""
        return self

    def sums(self, slab: Slab) -> tuple[Array, ...]:
        """Return small arrays, batch first, that are added over slabs."""
        raise NotImplementedError

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the value ``(B,)`` and the coefficients, batch first, that `gradient` needs.

        ``count`` is the number of entries of a sample; with a mask, the effective counts ``(B,)``.
        """
        raise NotImplementedError

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradient of the value with respect to each input in ``wrt``, at the slab's own planes."""
        raise NotImplementedError

    def leave_out(self, slab: Slab, gradients: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return a slab's gradients times its weights; 0 at masked voxels."""
        # The coefficients are NaN for an empty mask, but the gradient of masked voxels is 0.
        return fill_masked(slab.backend, tuple(g * slab.weights[0] for g in gradients), slab.weights[0])

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the inputs in canonical shape, as views; a sample may become several, whose mean is the value."""
        return arrays

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return how many samples `to_canonical` makes of each one."""
        return 1

    def from_canonical(self, backend: Backend, x: Array, shape: tuple[int | None, ...]) -> Array:
        """Undo `to_canonical` for an image: return it in the original ``shape`` of an input."""
        return x if backend.shape(x) == shape else backend.xp.reshape(x, (-1, *shape[1:]))

    def fitted(self, shape: tuple[int | None, ...]) -> "Measure":
        """Return an equivalent measure that is cheaper for inputs of this shape, or this one."""
        return self

    def chosen(self, backend: Backend, arrays: tuple[Array, ...]) -> Any:
        """Return the object that evaluates the measure on these arrays."""
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
        """Return the value, and what `backward` needs in addition to the arrays."""
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
        """Return the gradients for ``wrt``, a subset of `forward`'s, which is ``of``, times a cotangent ``(B,)``."""
        return self.chosen(backend, arrays).compute_backward(backend, arrays, wrt, of, saved, cotangent)

    # The passes of one evaluation over its slabs.

    def sum_up(self, run: "Evaluator") -> tuple[Array, ...]:
        """Return the sums of all slabs."""
        return run.sums()

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        raise NotImplementedError

    def gradient_pass(self, run: "Evaluator", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, from the coefficients that `finish` returned."""
        return run.slab_gradients(coefficients, wrt)

    # What follows drives the methods above; a backend's own measure may replace all of it. What it saves must have the
    # same meaning, since the backend may choose another implementation for the backward pass.

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
        """Return the value, and what to save: the gradient's coefficients and the constants."""
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
        """Return the gradients for ``wrt`` times a cotangent.

        Gradients are linear in the coefficients, so the cotangent is multiplied into these.
        """
        count = len(saved) - self.constant_count
        run = Evaluator(self, backend, arrays, saved[count:])
        cotangent = run.of_parts(cotangent)
        return run.gradients([c * broadcast_samples(backend.xp, cotangent, c) for c in saved[:count]], wrt)


class MeanMeasure(Measure):
    """A measure that is a mean over voxels.

    Its coefficient, ``1 / count``, is known beforehand, so one pass yields the value and the gradients.
    """

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean, and ``1 / count``."""
        value = sums[0] / count
        return value, (xp.ones_like(value) / count,)

    fused_value_and_gradient: ClassVar[bool] = True  # type: ignore[misc]

    def value_and_gradient_pass(
        self, run: "Evaluator", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        return run.sums_and_gradients(scale, wrt)
