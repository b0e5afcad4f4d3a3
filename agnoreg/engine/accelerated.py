"""Evaluation of a measure by an accelerator's kernels.

The kernels compute sums and gradients; the core turns the sums into the value and the coefficients. What is saved
between the forward and the backward pass has the same meaning as in the core, so either can run the backward pass.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import lru_cache
from typing import Any, TypeVar

from agnoreg.backend import Backend, broadcast_samples
from agnoreg.backend.accelerators import Memory
from agnoreg.engine.evaluator import Box, Evaluator, finalize, own_shape
from agnoreg.engine.measure import Measure

Array = Any
Arrays = tuple[Array, ...]
Kind = TypeVar("Kind", bound=Measure)


class KernelMeasure(Measure):
    """A measure whose sums and gradients are computed by kernels; its other base is the core's own measure."""

    def constants_of(self, call: Any) -> Arrays:
        """Return the measure's constants for a call without masks, ``(samples,)`` each."""
        return ()

    def add_up(self, call: Any) -> Arrays:
        """Return the same sums as the core's measure, ``(samples, ...)`` each."""
        raise NotImplementedError

    def in_one_go(self, call: Any, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, dict[int, Array]]:
        """Return the sums, and ``scale`` times the gradients that the same pass yields, keyed by the input's index."""
        return self.add_up(call), {}

    def map_of(self, call: Any) -> Array | None:
        """Return the value at every voxel, NaN at those that do not count, or None if no kernel computes it."""
        return None

    def weights_of(self, call: Any, weights: Arrays) -> Array:
        """Return a mask's weights as the kernels read them, from the result of `Measure.slab_weights`."""
        return call.arranged_weights(weights[0])

    def takes_box(self) -> bool:
        """Return whether the kernels can leave out what lies around the voxels that count, `Evaluation.own`."""
        return False

    def slope(self, call: Any, coefficients: Sequence[Array], index: int) -> Array:
        """Return the gradient for one input in canonical shape, from coefficients ``(samples, ...)``."""
        raise NotImplementedError


@lru_cache(maxsize=256)
def recast(measure: Measure, kind: type[Kind]) -> Kind:
    """Return a measure of another class with the same parameters: its kernel version, or the core's own."""
    parameters = {item.name: getattr(measure, item.name) for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**parameters)


class Evaluation:
    """One evaluation of a measure by kernels, with the ``compute...`` methods of a measure.

    An accelerator subclasses it and adds what its kernels need.

    Parameters
    ----------
    measure
        The kernel version of the measure.
    memory
        Gives the kernels access to the arrays.
    given
        The inputs as `Memory.take` returns them.
    images
        The inputs in canonical shape, as the kernels read them.
    mask
        The mask in the same form, or None.
    otherwise
        The fallback without kernels, for whatever the kernels cannot do.
    """

    def __init__(
        self, measure: Any, memory: Memory, given: Arrays, images: Arrays, otherwise: Any, mask: Array | None = None
    ) -> None:
        self.measure, self.memory, self.otherwise = measure, memory, otherwise
        self.given, self.images, self.mask = given, images, mask
        self.xp: Any = memory.inner.xp
        self.shapes: list[tuple[int, ...]] = [tuple(array.shape) for array in given]
        self.dtype, self.shape = images[0].dtype, tuple(images[0].shape)
        self.samples: int = self.shape[0]
        self.parts: int = measure.parts(self.shapes[0])
        #: Number of entries of a sample that count; with a mask, the effective count of each sample.
        self.count: Any = measure.count(self.shape)
        self.constants: Arrays = ()
        self.weights: Array | None = None
        #: The core region of a block, along the axes of the canonical inputs; None where all of it is.
        self.own: Box | None = None
        self._in_block = False

    def offer(self, memory: Array) -> None:
        """Take memory that the one gradient of the call may be written to."""

    def active(self) -> AbstractContextManager[Any]:
        """Return the context manager in which the kernels run."""
        return nullcontext()

    def compute(self, backend: Backend, arrays: Arrays) -> Array:
        """Return the value, ``(B,)``."""
        with self.active():
            self.read_constants()
            return self.memory.give(self._finish(self.measure.add_up(self))[0])

    def compute_image(self, backend: Backend, arrays: Arrays) -> Array:
        """Return the value at every voxel; by the fallback if there is no kernel for it."""
        with self.active():
            made = self.measure.map_of(self)
            if made is not None:
                return self._restored({0: made}, (0,))[0]
        return self.otherwise.compute_image(backend, arrays)

    def compute_with_gradients(
        self, backend: Backend, arrays: Arrays, wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, Arrays]:
        """Return the value and ``scale`` times the gradient of its sum over the batch."""
        with self.active():
            self.read_constants()
            _, value, made = self._in_one_go(wrt, scale)
            return self.memory.give(value), self._restored(made, wrt)

    def compute_forward(self, backend: Backend, arrays: Arrays, wrt: tuple[int, ...]) -> tuple[Array, Arrays]:
        """Return the value, and what to save: coefficients and constants, or the gradients if these suffice."""
        if not self.measure.backward_needs_inputs:
            return self.compute_with_gradients(backend, arrays, wrt)
        with self.active():
            self.read_constants()
            value, coefficients = self._finish(self.measure.add_up(self))
        return self.memory.give(value), tuple(map(self.memory.give, (*coefficients, *self.constants)))

    def compute_backward(
        self,
        backend: Backend,
        arrays: Arrays,
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: Arrays,
        cotangent: Array,
    ) -> Arrays:
        """Return the gradients for ``wrt`` times a cotangent ``(B,)``."""
        numbers = [self.memory.take(array) for array in (*saved, cotangent)]
        if any(array is None for array in numbers):
            # The framework maps over the cotangent, or differentiates by it.
            return self.otherwise.compute_backward(backend, arrays, wrt, of, saved, cotangent)
        count, xp = len(saved) - self.measure.constant_count, self.xp
        factor = numbers[-1]
        if self.parts > 1:
            factor = xp.repeat(factor, self.parts)
        with self.active():
            if self.mask is not None:
                self.read_constants()
            self.constants = tuple(numbers[count:-1])
            coefficients = [coefficient * broadcast_samples(xp, factor, coefficient) for coefficient in numbers[:count]]
            made = {index: self.measure.slope(self, coefficients, index) for index in set(wrt)}
            return self._restored(made, wrt)

    # A block of larger arrays, as `Evaluator` has it: sums and gradients are asked for one by one.

    def of_block(self, constants: Arrays, count: Any, own: Box | None) -> bool:
        """Take the arrays for a block of larger ones; return False if the kernels cannot.

        ``constants`` and ``count`` are those of the whole arrays. Only the voxels of ``own`` count, and gradients are
        cropped to them.
        """
        if own is not None and not self.measure.takes_box():
            return False
        self.constants, self.count, self.own, self._in_block = constants, count, own, True
        return True

    def box(self) -> Box:
        """Return the voxels that count, along the axes of the canonical inputs."""
        if self.own is not None:
            return self.own
        x, y, z = (slice(0, size) for size in self.shape[1:])
        return x, y, slice(0, z.stop // self.measure.step_size)

    def sums(self) -> Arrays:
        """Return the sums of a block."""
        with self.active():
            self.read_constants()
            return tuple(map(self.memory.give, self.measure.add_up(self)))

    def sums_and_gradients(self, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, Arrays]:
        """Return the sums of a block, and ``scale`` times the gradients, where these need not wait for the sums."""
        with self.active():
            self.read_constants()
            sums, _, made = self._in_one_go(wrt, scale)
            return tuple(map(self.memory.give, sums)), self._restored(made, wrt)

    def gradients(self, coefficients: Sequence[Array], wrt: tuple[int, ...]) -> Arrays:
        """Return the gradients of a block, from the coefficients of the whole arrays."""
        with self.active():
            self.read_constants()
            made = {index: self.measure.slope(self, coefficients, index) for index in set(wrt)}
            return self._restored(made, wrt)

    def _in_one_go(self, wrt: tuple[int, ...], scale: float) -> tuple[Arrays, Array, dict[int, Array]]:
        """Return the sums, the value, and ``scale`` times the gradients."""
        sums, made = self.measure.in_one_go(self, wrt, scale)
        value, coefficients = self._finish(sums)
        more = set(wrt) - made.keys()
        if more:
            scaled = [self.xp.astype(c * scale, self.dtype) for c in coefficients]
            made |= {index: self.measure.slope(self, scaled, index) for index in more}
        return sums, value, made

    def read_constants(self) -> None:
        """Compute the constants of the arrays, and with a mask the effective count and the weights."""
        if self.mask is None:
            if not self._in_block:
                self.constants = self.measure.constants_of(self)
            return
        known = (self.constants, self.count) if self._in_block else ()
        run = Evaluator(self.measure, self.memory.inner, (*self.given, self.mask), *known)
        self.constants, self.count = run.constants, run.count
        self.weights = self.measure.weights_of(self, run.weights)

    def arranged_weights(self, weights: Array) -> Array:
        """Return a mask's weights as the kernels read them, in the images' shape or one that broadcasts to it."""
        raise NotImplementedError

    def _finish(self, sums: Arrays) -> tuple[Array, list[Array]]:
        return finalize(self.measure, self.xp, self.dtype, sums, self.count, self.parts)

    def _restored(self, gradients: dict[int, Array], wrt: Sequence[int]) -> Arrays:
        """Return the gradients as the caller's arrays, in the original shapes of the inputs."""
        restored: list[Array] = []
        for place, index in enumerate(wrt):
            shape = own_shape(self.measure, self.shapes[index], self.own)
            gradient = self.measure.from_canonical(self.memory.inner, gradients[index], shape)
            gradient = self.to_give(gradient)
            if index in wrt[:place]:
                gradient = self.xp.asarray(gradient, copy=True)
            restored.append(self.memory.give(gradient))
        return tuple(restored)

    def to_give(self, gradient: Array) -> Array:
        """Return a gradient in memory that the framework accepts."""
        return gradient
