"""From a loss's few functions to one differentiable call on any framework; and the ways in which losses combine.

A `Differentiable` has a value ``(B,)`` and gradients. A `Measure` is one that says how to work on a slab; the others
are made of it: `Negated`, `WeightedSum`, `Filtered`, `FromCall`.
"""

import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any, ClassVar, TypeVar

from agnoreg import doubts
from agnoreg.backend import Backend, backend_of, per_sample
from agnoreg.masks import combined
from agnoreg.messages import shown
from agnoreg.passing import Layout
from agnoreg.tiling import Chunk, Slab, filled, pass_by, sweep

Array = Any
F = TypeVar("F", bound=Callable[..., Any])

#: How many entries a row of a sum has, if they divide the slab: the more, the faster, until float32 loses digits.
#: If not, a row is whole lines, of at least the last, or else the rows' sums would be as large as the slab.
ROWS = (2048, 1024, 512, 256, 128, 64)


#: Parameters of a function that take arguments by position.
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class _Native(threading.local):
    """Whether the framework differentiates by itself, in this thread; compilers cannot read a context variable."""

    wanted: bool = False


_native = _Native()


@contextmanager
def native_autodiff() -> Iterator[None]:
    """Let the framework differentiate the losses itself, inside this context, instead of the closed-form gradients.

    For second derivatives, forward mode and research: values are the same, time and memory are what the framework's
    autodiff takes. Without it a second derivative of a loss raises an error, unless the framework differentiates the
    operations of its gradient.
    """
    before, _native.wanted = _native.wanted, True
    try:
        yield
    finally:
        _native.wanted = before


def natively_differentiated() -> bool:
    """Say whether this thread is inside `native_autodiff`: nothing may be hidden from the framework then."""
    return _native.wanted


class Differentiable:
    """A function of images or fields with a value ``(B,)`` and, for every input, a gradient.

    Wherever it takes ``arrays``, a mask may follow its inputs: weights of at least 0, of the shape of the first input
    but for axes of size 1 along which they stay the same. It is a constant.
    """

    #: How many arrays it takes: 2 images or labels (y_true, y_pred), or 1 field.
    inputs: int = 2
    #: Whether `value_and_gradients` needs no autodiff.
    closed_form: bool = True
    #: Whether it is made of functions each of which has its gradient hung on the framework's autodiff.
    composed: ClassVar[bool] = False
    #: Whether `backward` reads the arrays.
    rereads: bool = False
    #: Whether `value_and_gradients` goes over the arrays once for both.
    one_pass: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What the arrays are called."""
        return ("inputs",) if self.inputs == 1 else ("y_true", "y_pred")

    def takes(self, name: str) -> bool:
        """Say whether it has a further argument of this name, which only a user's own function has."""
        return False

    def bind(self, keywords: Mapping[str, Any]) -> "Differentiable":
        """Return the function with further arguments, which only a user's own takes."""
        raise TypeError(f"It takes {', '.join(self.names)}, got {', '.join(keywords)} beside them.")

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return why inputs of such shapes are probably not what is meant, as a rule nothing."""
        return ""

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn where the numbers of inputs are not what the function is of, as far as that is seen at once."""

    def check_masked(self) -> None:
        """Raise TypeError where the function takes no mask."""

    def channel_axis(self, rank: int) -> int:
        """Return the axis, of so many, that a mask may lack: the channels of an image, the components of a field."""
        return rank - 1

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        raise NotImplementedError

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        raise NotImplementedError

    # The same in two steps, for a framework that asks for the gradient later, times a cotangent.

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and what `backward` needs beside the arrays: here the gradients."""
        return self.value_and_gradients(backend, arrays, wrt)

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
        gradients = [saved[of.index(index)] for index in wrt]
        return tuple(gradient * per_sample(backend.xp, cotangent, gradient) for gradient in gradients)


def apply(function: Differentiable, backend: Backend, arrays: tuple[Array, ...]) -> Array:
    """Return the function's value with its gradient hung on the framework's autodiff."""
    if _native.wanted or function.composed or not function.closed_form:
        return function.value(backend, arrays)
    return backend.differentiable(function, arrays)


def evaluate(function: Differentiable, *arrays: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
    """Check the arrays and return the function's value ``(B,)``, differentiable where the framework can."""
    backend, arrays = checked(function, arrays, masks)
    with backend.at(arrays[0]):
        if backend.shape(arrays[0])[0] == 0:
            return _of_no_sample(backend, arrays[: function.inputs])
        return apply(function, backend, arrays)


def _of_no_sample(backend: Backend, arrays: tuple[Array, ...]) -> Array:
    """Return the values of an empty batch, ``(0,)``, which hang on the arrays as those of any other do."""
    xp, dtype = backend.xp, backend.compute_dtype(*arrays)
    sums = [xp.sum(xp.astype(x, dtype), axis=tuple(range(1, len(x.shape)))) for x in arrays]
    return sum(sums[1:], start=sums[0])


def checked(
    function: Differentiable, arrays: tuple[Array, ...], masks: Mapping[str, Array | None] | None = None
) -> tuple[Backend, tuple[Array, ...]]:
    """Find the arrays' backend and let the function check their shapes; masks by name become one more array."""
    if len(arrays) != function.inputs:
        raise TypeError(f"The loss takes {function.inputs} array(s), {', '.join(function.names)}, got {len(arrays)}.")
    given = {name: mask for name, mask in (masks or {}).items() if mask is not None}
    backend = backend_of(*arrays, *given.values())
    arrays = tuple(backend.prepare(array) for array in arrays)
    shapes = [backend.shape(array) for array in arrays]
    function.check(*shapes)
    if doubt := function.doubt(*shapes):
        backend.warn(doubt)
    if given:
        function.check_masked()
        with backend.at(arrays[0]):
            arrays = (*arrays, combined(backend, given, shapes[0], function.channel_axis(len(shapes[0]))))
    function.look(backend, arrays)
    return backend, arrays


def check_same_shape(*shapes: tuple[int | None, ...]) -> None:
    """Raise ValueError where y_true and y_pred differ in a known size."""
    true, pred = shapes
    if len(true) != len(pred) or any(
        a != b for a, b in zip(true, pred, strict=True) if a is not None and b is not None
    ):
        raise ValueError(f"y_true and y_pred must have one shape, got y_true {true} and y_pred {pred}.")
    check_rank("y_true", true, 1)


def voxels(shape: tuple[int | None, ...]) -> int:
    """Return how many entries a sample of this shape has."""
    return math.prod([size for size in shape[1:] if size is not None])


def check_flag(name: str, value: Any) -> None:
    """Raise ValueError where a switch is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {shown(value)}.")


def as_number(value: Any) -> float:
    """Return a parameter as a float, or NaN, which passes no bound, where it is no real number that a float holds."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_number(name: str, value: Any, *, above: bool = False) -> float:
    """Return a finite number of at least 0, or above 0; raise ValueError where a parameter is no such number."""
    number = as_number(value)
    if not 0 <= number < math.inf or (above and number == 0):
        raise ValueError(f"{name} must be {'positive' if above else 'a number of at least 0'}, got {shown(value)}.")
    return number


def check_integer(name: str, value: Any, least: int) -> int:
    """Return an integer of at least ``least``, or raise ValueError where a parameter is no such number."""
    number = as_number(value)
    if not least <= number < math.inf or int(number) != number:
        raise ValueError(f"{name} must be an integer of at least {least}, got {shown(value)}.")
    return int(number)


def check_rank(name: str, shape: tuple[int | None, ...], least: int, layout: str = "(batch, ...)") -> None:
    """Raise ValueError where an array has fewer axes than ``least`` or samples without entries."""
    if len(shape) < least:
        raise ValueError(f"{name} must have at least {least} axes, {layout}, got shape {shape}.")
    if 0 in shape[1:]:
        raise ValueError(f"{name} must not be empty, got shape {shape}.")


# --- one loss, slab by slab -------------------------------------------------------------------------------------------


class Measure(Differentiable):
    """A loss as functions of slabs; subclasses are frozen dataclasses of its parameters.

    `sums` add up over slabs, `finish` turns them into the value and the coefficients of the gradient, `gradient` is the
    gradient at a slab's own planes.
    """

    rereads: ClassVar[bool] = True  # type: ignore[misc]
    #: The kind of work, which decides the size of a slab: "passing", "windows", "bins" or "voxels".
    kind: ClassVar[str] = "voxels"
    #: How many arrays `constants` returns.
    constant_count: ClassVar[int] = 0
    #: What is read in the place of an input that a mask leaves out.
    fill: ClassVar[float] = 0.0

    @property
    def entries(self) -> int:
        """How many numbers are made of each voxel at once, which a slab must hold."""
        return 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes of an input, of so many, along which it may come in blocks."""
        return tuple(axis for axis in range(1, rank) if axis != self.channel_axis(rank))

    @property
    def extent(self) -> tuple[int, int, int]:
        """How many voxels away a voxel's value reads, at most, along each axis of arranged inputs."""
        return 0, 0, 0

    @property
    def step_size(self) -> int:
        """How many entries of a line lie from a voxel to the next."""
        return 1

    @property
    def halo(self) -> int:
        """Planes beyond its own that `sums` reads on each side."""
        return 0

    @property
    def reach(self) -> int:
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

    def weigh(self, backend: Backend, mask: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return what a slab gets of a mask, arranged; ``arrays`` are the inputs as they came."""
        return self.arrange(backend, (spread(backend, mask, arrays[0]),))

    def counted_weights(self, backend: Backend, weights: tuple[Array, ...]) -> Iterable[Array]:
        """Return images whose sums say how much of each sample counts, from what `weigh` returned."""
        return weights[:1]

    def weight(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return how much of each sample counts, ``(b,)``, in the place of `count`, and more constants.

        ``sums`` are those of `counted_weights`.
        """
        return sums[0], ()

    def weight_or_nan(self, xp: Any, dtype: Any, sums: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        """Return the same, but nothing is no number of voxels: what is made of it is NaN."""
        count, more = self.weight(xp, dtype, sums)
        return xp.where(count > 0.0, count, xp.full_like(count, math.nan)), more

    def of_whole(self, shape: tuple[int | None, ...]) -> "Measure":
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

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the inputs as views of one common shape; a sample may become several, of which the mean is taken."""
        return arrays

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return how many samples `arrange` makes of each."""
        return 1

    def arrange_back(self, backend: Backend, x: Array, shape: tuple[int | None, ...]) -> Array:
        """Return an image of the arranged inputs' shape with the shape of an input as it came."""
        return x if backend.shape(x) == shape else backend.xp.reshape(x, (-1, *shape[1:]))

    def fitted(self, shape: tuple[int | None, ...]) -> "Measure":
        """Return the same measure for inputs of this shape, where it can be had for less."""
        return self

    def chosen(self, backend: Backend, arrays: tuple[Array, ...]) -> Any:
        """Return what computes the measure of these arrays."""
        return backend.override(self.fitted(backend.shape(arrays[0])), arrays)

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

    def sum_up(self, run: "Run") -> tuple[Array, ...]:
        """Return the sums of all slabs."""
        return run.sums()

    def in_one_pass(
        self, run: "Run", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        raise NotImplementedError

    def in_another_pass(self, run: "Run", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, with the coefficients that `finish` made of all sums."""
        return run.slab_gradients(coefficients, wrt)

    # What follows drives the functions above; a measure of a backend's own may replace it as a whole. What it saves
    # must mean the same, since a backend may choose otherwise when it comes to the gradient.

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        run = Run(self, backend, arrays)
        return run.finish(self.sum_up(run))[0]

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        run = Run(self, backend, arrays)
        if self.one_pass:
            sums, gradients = self.in_one_pass(run, wrt, scale)
            return run.finish(sums)[0], gradients
        value, coefficients = run.finish(self.sum_up(run))
        return value, run.gradients([coefficient * scale for coefficient in coefficients], wrt)

    def compute_forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and the gradient's coefficients and the constants."""
        run = Run(self, backend, arrays)
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
        run = Run(self, backend, arrays, saved[count:])
        cotangent = run.of_parts(cotangent)
        return run.gradients([c * per_sample(backend.xp, cotangent, c) for c in saved[:count]], wrt)


class MeanMeasure(Measure):
    """A measure whose value is a mean over voxels: its coefficient is known beforehand, so one pass does for both."""

    def finish(self, xp: Any, sums: tuple[Array, ...], count: Any) -> tuple[Array, tuple[Array, ...]]:
        """Return the mean, and the factor of the sum that makes it one."""
        value = sums[0] / count
        return value, (xp.ones_like(value) / count,)

    one_pass: ClassVar[bool] = True  # type: ignore[misc]

    def in_one_pass(
        self, run: "Run", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums of all slabs, and ``scale`` times the gradients."""
        return run.sums_and_gradients(scale, wrt)


class PassingMeasure(Measure):
    """A mean over voxels of a function of windows, computed once for each plane while the planes pass by."""

    kind: ClassVar[str] = "passing"

    @property
    def counts(self) -> bool:
        """Whether it is told by the windows how much counts; the gradients are another pass then."""
        return False

    @property
    def rereads(self) -> bool:  # type: ignore[override]
        """Whether the gradients are another pass."""
        return self.counts

    @property
    def one_pass(self) -> bool:  # type: ignore[override]
        """Whether value and gradients share one pass."""
        return not self.counts

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return how planes of images of this shape are laid out."""
        raise NotImplementedError

    @property
    def lag(self) -> int:
        """After how many planes more a plane's windows are complete."""
        return self.extent[0]

    @property
    def back_lag(self) -> int:
        """After how many planes more still the windows are complete that a plane lies in."""
        raise NotImplementedError

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> Any:
        """Return the state before the first plane, after planes of zeros as in ``slab``."""
        raise NotImplementedError

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: Any, wrt: tuple[int, ...] | None
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
        run: "Run",
        wrt: tuple[int, ...] | None,
        scale: float = 1.0,
        image: bool = False,
        share: Array | None = None,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums and the gradients, times ``scale`` and each sample's share; or the values of an image."""
        layout = self.layout(run.shape)
        lag = self.lag + (self.back_lag if wrt else 0)
        if share is None and run.weights and not self.counts:
            share = run.share()

        def begin(slab: Slab) -> Any:
            return self.begin(slab, layout, wrt)

        def step(slab: Slab, chunk: Chunk, state: Any) -> Any:
            state, found, gradients = self.step(slab, layout, chunk, state, wrt)
            values: tuple[Array, ...] = tuple(found) if self.counts else (found,)
            own = run.own_entries(slab, layout, chunk.start - self.lag, values[0]) if run.own else None
            lifted = [layout.lift(slab.xp, x) for x in (values[:1] if image else gradients)]
            if image and self.counts:
                lifted = [_or_nan(slab.xp, lifted[0], layout.lift(slab.xp, values[1]))]
            if wrt:
                own_share = scale / run.count if share is None else slab.constants[-1] * scale
                lifted = [x * (own_share if share is None else per_sample(slab.xp, own_share, x)) for x in lifted]
            return state, tuple(_total(slab, layout.lines(slab.xp, x), own) for x in values), tuple(lifted)

        return run.pass_by(lag, layout.size, begin, step, () if share is None else (share,))

    def sum_up(self, run: "Run") -> tuple[Array, ...]:
        """Return the sums of all values, and of how much they count."""
        return self._passes(run, None)[0]

    def in_one_pass(
        self, run: "Run", wrt: tuple[int, ...], scale: float
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sum of all values, and ``scale`` times the gradients."""
        sums, gradients = self._passes(run, wrt, scale * self.units[1] / run.parts)
        return sums, run.restore(gradients, wrt)

    def in_another_pass(self, run: "Run", coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
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
            return backend.xp.zeros_like(arrays[0], dtype=backend.compute_dtype(*arrays[: self.inputs]))
        with backend.at(arrays[0]):
            there = tuple(x if x.dtype == backend.xp.bool else x != 0 for x in arrays[self.inputs :])
            arrays = (*arrays[: self.inputs], *there)
            return self.chosen(backend, arrays).compute_image(backend, arrays)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel."""
        return self.voxel_values(Run(self, backend, arrays))

    def voxel_values(self, run: "Run") -> Array:
        """Return the value at every voxel; NaN where weights, which are bools here, leave it out."""
        (image,) = self._passes(run, None, image=True)[1]
        if run.weights and not self.counts:
            image = _or_nan(run.backend.xp, image, run.weights[0])
        return run.restore((image,), (0,))[0]


class Run:
    """One evaluation of a measure: its arrays, their dtype, its constants, and the sweeps over their slabs.

    The arrays may be a block of larger ones. Then ``constants`` and ``count`` are those of the whole, and ``own`` says
    which voxels are the block's own, along the axes of arranged inputs: the others are only read.
    """

    def __init__(
        self,
        measure: Measure,
        backend: Backend,
        arrays: tuple[Array, ...],
        constants: tuple[Array, ...] | None = None,
        count: Any = None,
        own: tuple[slice, slice, slice] | None = None,
    ) -> None:
        self.measure = measure
        self.backend = backend
        self.given = arrays[: measure.inputs]
        self.dtype = backend.compute_dtype(*self.given)
        self.arrays = measure.arrange(backend, self.given)
        self.shape = backend.shape(self.arrays[0])
        self.parts = measure.parts(backend.shape(arrays[0]))
        mask = measure.mask(backend, arrays)
        self.weights = () if mask is None else measure.weigh(backend, mask, arrays)
        self.own = own
        self.count: Any = measure.count(self.shape) if count is None else count
        if constants is None:
            # Whoever is told them has coefficients, too, in which what counts is counted.
            constants = measure.constants(backend, self.dtype, self.arrays, *self.weights[:1])
            if self.weights:
                self.count, more = measure.weight_or_nan(backend.xp, self.dtype, self.sums_of_weights())
                constants += more
        self.constants = constants
        self.elements = max(1, backend.slab_elements(self.arrays[0], measure.kind) // measure.entries)

    def sums_of_weights(self) -> tuple[Array, ...]:
        """Return how much of each sample counts, ``(b,)`` each, in sums that add up over blocks."""
        images = self.measure.counted_weights(self.backend, self.weights)
        return tuple(summed(self.backend, self.dtype, self._cropped(image, 1)) for image in images)

    def own_entries(self, slab: Slab, layout: Layout, first: Any, planes: Array) -> Array:
        """Return, of planes that come from ``first`` on, 1 for the entries of own voxels and 0 for others, in lines."""
        xp, device, steps = slab.xp, slab.backend.device(planes), (1, 1, self.measure.step_size)
        lines = layout.lines(xp, xp.zeros_like(planes))
        for axis, (box, step) in enumerate(zip(self.own or (), steps, strict=True), start=1):
            place = xp.arange(lines.shape[axis], dtype=xp.int32, device=device) + (first if axis == 1 else 0)
            inside = (place >= box.start * step) & (place < box.stop * step)
            inside = xp.astype(xp.reshape(inside, (-1, *(1,) * (3 - axis))), lines.dtype)
            lines = lines + inside if axis == 1 else lines * inside
        return lines

    def _cropped(self, image: Array, step: int) -> Array:
        """Return the own voxels, of so many entries each, of an image like the arranged inputs."""
        if not self.own:
            return image
        planes, lines, entries = self.own
        return image[:, planes, lines, entries.start * step : entries.stop * step]

    def _own_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of an input's own voxels; arranged inputs have three axes, the last of which are its own."""
        sizes, axes = list(shape), self.measure.spatial_axes(len(shape))
        for axis, box in zip(reversed(axes), reversed(self.own or ()), strict=False):
            sizes[axis] = box.stop - box.start
        return tuple(sizes)

    def _sweep(self, halo: int, body: Callable[..., Any]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return sweep(
            self.backend,
            self.dtype,
            (*self.arrays, *self.weights),
            halo,
            self.elements,
            body,
            self.constants,
            self.measure.kind == "bins",
            len(self.arrays),
            self.measure.fill,
        )

    def sums(self) -> tuple[Array, ...]:
        """Return the measure's sums over all slabs."""
        totals, _ = self._sweep(self.measure.halo, lambda slab, first, last: (self.measure.sums(slab), ()))
        return totals

    def finish(self, sums: tuple[Array, ...]) -> tuple[Array, list[Array]]:
        """Return the value and the gradient's coefficients."""
        return finished(self.measure, self.backend.xp, self.dtype, sums, self.count, self.parts)

    def of_parts(self, values: Array) -> Array:
        """Return a value of every sample for each of its parts."""
        if self.parts == 1:
            return values
        ones = self.backend.xp.ones((self.parts,), dtype=values.dtype, device=self.backend.device(values))
        return self.backend.xp.reshape(values[:, None] * ones, (-1,))

    def gradients(self, coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients."""
        return self.measure.in_another_pass(self, coefficients, wrt)

    def slab_gradients(self, coefficients: list[Array], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the gradients, slab by slab."""

        def body(slab: Slab, first: int, last: int | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            return (), self._gradient(slab, tuple(_of(c, first, last) for c in coefficients), wrt)

        return self.restore(self._sweep(self.measure.reach, body)[1], wrt)

    def sums_and_gradients(self, scale: float, wrt: tuple[int, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums, and ``scale`` times the gradients of a mean, in one sweep."""
        xp, device = self.backend.xp, self.backend.device(self.arrays[0])
        ones = xp.full((1,), scale / self.parts, dtype=self.dtype, device=device)
        factor = ones * xp.astype(1.0 / self.count, self.dtype) if self.weights else ones / self.count

        def body(slab: Slab, first: int, last: int | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            own = _of(factor, first, last) if self.weights else factor
            return self.measure.sums(slab), self._gradient(slab, (own,), wrt)

        sums, gradients = self._sweep(self.measure.reach, body)
        return sums, self.restore(gradients, wrt)

    def _gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        gradients = self.measure.gradient(slab, coefficients, wrt)
        if not slab.weights:
            return gradients
        # Of an empty mask the coefficients are NaN, but where nothing is there is no gradient.
        return filled(self.backend, tuple(g * slab.weights[0] for g in gradients), slab.weights[0])

    def share(self) -> Array:
        """Return 1 by how much of each sample counts, where there is a mask, ``(b,)``; no voxel has no gradient."""
        xp = self.backend.xp
        return xp.astype(xp.where(self.count > 0.0, 1.0 / self.count, xp.zeros_like(self.count)), self.dtype)

    def pass_by(
        self, lag: int, plane: int, begin: Any, step: Any, more: tuple[Array, ...] = ()
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Let the planes pass by, and weights after the inputs' own; ``more`` constants follow those there are."""
        arrays, constants = (*self.arrays, *self.weights), (*self.constants, *more)
        return pass_by(
            self.backend, self.dtype, arrays, lag, plane, self.elements, begin, step, constants, len(self.arrays)
        )

    def restore(self, gradients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Give the gradients the shapes of the inputs as they came, or those of the own voxels."""
        shapes = [self.backend.shape(self.given[index]) for index in wrt]
        if self.own:
            step = self.measure.step_size
            gradients = tuple(self._cropped(gradient, step) for gradient in gradients)
            shapes = [self._own_shape(shape) for shape in shapes]
        return tuple(self.measure.arrange_back(self.backend, *pair) for pair in zip(gradients, shapes, strict=True))


def _or_nan(xp: Any, image: Array, there: Array) -> Array:
    """Return an image with NaN where nothing is there."""
    return xp.where(there if there.dtype == xp.bool else there > 0.0, image, xp.full_like(image, math.nan))


def finished(
    measure: Measure, xp: Any, dtype: Any, sums: tuple[Array, ...], count: Any, parts: int
) -> tuple[Array, list[Array]]:
    """Return the value ``(B,)`` and the gradient's coefficients, in this dtype, where a sample was made ``parts``."""
    value, coefficients = measure.finish(xp, sums, count)
    if parts > 1:
        value = xp.mean(xp.reshape(value, (-1, parts)), axis=1)
        coefficients = tuple(c / parts for c in coefficients)
    return xp.astype(value, dtype), [xp.astype(c, dtype) for c in coefficients]


def _of(values: Array, first: int, last: int | None) -> Array:
    """Return the values of these samples."""
    return values if (first, last) == (0, None) else values[first:last, ...]


def spread(backend: Backend, mask: Array, like: Array) -> Array:
    """Return a mask of the shape of an input, by a view where the framework has them."""
    shape, wanted_shape = backend.shape(mask), backend.shape(like)
    if all(a != 1 or b == 1 for a, b in zip(shape, wanted_shape, strict=True)):
        return mask
    if None in wanted_shape:
        return (
            mask & (backend.xp.ones_like(like) != 0)
            if mask.dtype == backend.xp.bool
            else (mask * backend.xp.ones_like(like, dtype=mask.dtype))
        )
    return backend.xp.broadcast_to(mask, wanted_shape)


def summed(backend: Backend, dtype: Any, weights: Array) -> Array:
    """Return the sum of each sample's weights, ``(b,)``."""
    elements = backend.slab_elements(weights, "voxels")
    totals, _ = sweep(
        backend, dtype, (weights,), 0, elements, lambda slab, first, last: ((_total(slab, slab.arrays[0]),), ())
    )
    return totals[0]


def total(slab: Slab, x: Array, y: Array | None = None) -> Array:
    """Return the sum of ``x`` (times ``y``) over all axes but the first, ``(b,)``, to be added to other slabs' sums.

    With a mask it is the weighted sum.
    """
    if not slab.weights:
        return _total(slab, x, y)
    return _total(slab, x, slab.weights[0]) if y is None else _total(slab, x * slab.weights[0], y)


def _total(slab: Slab, x: Array, y: Array | None = None) -> Array:
    """Return the sum of ``x`` (times ``y``) over all axes but the first, ``(b,)``.

    Rows are summed in their own dtype; rows and slabs are added in the accumulator's. That keeps float32 sums within
    1e-6 relative whatever the size and however a framework orders its additions, and counts of voxels exact.
    """
    xp = slab.xp
    wide = slab.backend.accumulator(x)
    if len(x.shape) == 1:
        return xp.astype(x if y is None else x * y, wide)
    count, row = _rows(x.shape[1:])
    shape = (x.shape[0] or -1, count, row)
    if row > 2 * ROWS[0]:
        # No number of rows: most of it can be divided, and the rest is one more.
        x, y = (None if z is None else xp.reshape(z, (shape[0], count * row)) for z in (x, y))
        most = count * row - count * row % ROWS[0]
        parts = (slice(None, most), slice(most, None))
        first, rest = (_total(slab, x[:, part], None if y is None else y[:, part]) for part in parts)
        return first + rest
    rows = xp.reshape(x, shape)
    rows = xp.sum(rows, axis=2) if y is None else slab.backend.dot(rows, xp.reshape(y, shape))
    return xp.sum(xp.astype(rows, wide), axis=1)


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many rows of how many entries make up a sample of this shape."""
    size = math.prod(shape)
    for row in ROWS:
        if size and size % row == 0:
            return size // row, row
    row = 1
    for length in reversed(shape):
        row *= length
        if row >= ROWS[-1]:
            break
    return (size // row if row else 0), row


def measured_by(kind: Callable[..., Differentiable]) -> Callable[[F], F]:
    """Note on a function of arrays which measure its options make, so that `agnoreg.value_and_grad` takes it."""

    def note(function: F) -> F:
        function.measure = kind  # type: ignore[attr-defined]
        return function

    return note


# --- combinators ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wrapping(Differentiable):
    """A function of one other function, which takes the same arrays."""

    function: Differentiable

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """As many as the function takes."""
        return self.function.inputs

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether the function's gradient is closed-form."""
        return self.function.closed_form

    @property
    def names(self) -> tuple[str, ...]:
        """What the function calls its arrays."""
        return self.function.names

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return the same of the function with further arguments."""
        return replace(self, function=self.function.bind(keywords))

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit the function."""
        self.function.check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return why inputs of such shapes are probably not what is meant."""
        return self.function.doubt(*shapes)

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn where the numbers of inputs are not what the function is of."""
        self.function.look(backend, arrays)

    def check_masked(self) -> None:
        """Raise TypeError where the function takes no mask."""
        self.function.check_masked()

    def channel_axis(self, rank: int) -> int:
        """Return the axis that a mask of the function may lack."""
        return self.function.channel_axis(rank)


@dataclass(frozen=True)
class Negated(_Wrapping):
    """A number, 0 as a rule, less a function."""

    composed: ClassVar[bool] = True

    offset: float = 0.0

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the offset less the value."""
        return self._turned(apply(self.function, backend, arrays))

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the offset less the value, and its gradient."""
        value, gradients = self.function.value_and_gradients(backend, arrays, wrt, -scale)
        return self._turned(value), gradients

    def _turned(self, value: Array) -> Array:
        return self.offset - value if self.offset else -value


@dataclass(frozen=True)
class WeightedSum(Differentiable):
    """A sum of functions of the same inputs, each times its weight."""

    composed: ClassVar[bool] = True

    functions: tuple[Differentiable, ...]
    weights: tuple[float, ...]

    @property
    def inputs(self) -> int:  # type: ignore[override]
        """As many as the functions take."""
        return self.functions[0].inputs

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether every gradient is closed-form."""
        return all(function.closed_form for function in self.functions)

    @property
    def names(self) -> tuple[str, ...]:
        """What the first function calls its arrays."""
        return self.functions[0].names

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return the sum of the functions with further arguments."""
        return replace(self, functions=tuple(function.bind(keywords) for function in self.functions))

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit one of the functions."""
        for function in self.functions:
            function.check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return why inputs of such shapes are probably not what is meant."""
        return next(filter(None, (function.doubt(*shapes) for function in self.functions)), "")

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn where the numbers of inputs are not what one of the functions is of."""
        for function in self.functions:
            function.look(backend, arrays)

    def check_masked(self) -> None:
        """Raise TypeError where one of the functions takes no mask."""
        for function in self.functions:
            function.check_masked()

    def channel_axis(self, rank: int) -> int:
        """Return the axis that a mask of the first function may lack."""
        return self.functions[0].channel_axis(rank)

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the weighted sum of the values; gradients of half precision are added up before they are rounded."""
        xp, dtype = backend.xp, backend.compute_dtype(*arrays[: self.inputs])
        arrays = tuple(xp.astype(x, dtype, copy=False) if xp.isdtype(x.dtype, "real floating") else x for x in arrays)
        return weighted_sum(self.weights, [apply(function, backend, arrays) for function in self.functions])

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the weighted sum and its gradient."""
        parts = [
            function.value_and_gradients(backend, arrays, wrt, scale * weight)
            for function, weight in zip(self.functions, self.weights, strict=True)
        ]
        gradients = parts[0][1]
        for _, more in parts[1:]:
            gradients = tuple(a + b for a, b in zip(gradients, more, strict=True))
        return weighted_sum(self.weights, [value for value, _ in parts]), gradients


def weighted_sum(weights: Sequence[float], values: Sequence[Array]) -> Array:
    """Return ``sum(weight * value)``."""
    result = values[0] * weights[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        result = result + value * weight
    return result


@dataclass(frozen=True)
class Filtered(_Wrapping):
    """A function of inputs that were first smoothed with one kernel along each of their axes, not along channels."""

    kernel: tuple[float, ...]
    spatial_dims: int = 3
    data_format: str | None = None

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        dims, axes = self.spatial_dims, ", ".join(f"dim{i + 1}" for i in range(self.spatial_dims))
        for name, shape in zip(("y_true", "y_pred"), shapes, strict=False):
            check_rank(name, shape, dims + 1, f"(batch, {axes}), to be smoothed")
            if self.data_format is None and len(shape) == dims + 2 and shape[1] == 1 and shape[-1] != 1:
                raise ValueError(
                    f"{name} has shape {shape}, whose channel seems to come first: channels go last, "
                    f"(batch, {axes}, channels), or where data_format says, or scales would smooth across them."
                )
        super().check(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return why inputs of such shapes are probably not what is meant."""
        first = 2 if self.data_format == "channels_first" else 1
        axes = range(first, first + self.spatial_dims)
        if doubts.thin(shapes[0], axes, lambda: [len(self.kernel)] * self.spatial_dims):
            return doubts.THIN.format("scales smooth it with", "a volume this thin has no scales")
        return super().doubt(*shapes)

    def _filter(self, backend: Backend, array: Array, transpose: bool = False) -> Array:
        kernels = [self.kernel if axis < self.spatial_dims else None for axis in range(3)]
        if self.data_format != "channels_first":
            return backend.conv3d(array, kernels, transpose)
        shape = backend.shape(array)
        array = backend.conv3d(backend.xp.reshape(array, (-1, *shape[2:])), kernels, transpose)
        return backend.xp.reshape(array, (-1, *shape[1:]))

    def _smooth(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the inputs smoothed, the mask as it is: what it leaves out is 0, as if it lay beyond the border."""
        inputs, mask = arrays[: self.inputs], arrays[self.inputs :]
        dtype = backend.compute_dtype(*inputs)
        inputs = tuple(backend.xp.astype(array, dtype) for array in inputs)
        for weights in mask:
            inputs = filled(backend, inputs, weights)
        return *(self._filter(backend, array) for array in inputs), *mask

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value of the smoothed inputs."""
        return apply(self.function, backend, self._smooth(backend, arrays))

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value of the smoothed inputs and its gradient, pulled back through the filter."""
        value, gradients = self.function.value_and_gradients(backend, self._smooth(backend, arrays), wrt, scale)
        return value, self._back(backend, gradients, arrays[self.inputs :])

    def _back(self, backend: Backend, gradients: tuple[Array, ...], mask: tuple[Array, ...]) -> tuple[Array, ...]:
        gradients = tuple(self._filter(backend, gradient, transpose=True) for gradient in gradients)
        for weights in mask:
            gradients = filled(backend, gradients, weights)
        return gradients

    @property
    def rereads(self) -> bool:  # type: ignore[override]
        """Whether the function does."""
        return self.function.rereads

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value of the smoothed inputs, and what its gradients need; they are smoothed again then."""
        return self.function.forward(backend, self._smooth(backend, arrays), wrt)

    def backward(
        self,
        backend: Backend,
        arrays: tuple[Array, ...],
        wrt: tuple[int, ...],
        of: tuple[int, ...],
        saved: tuple[Array, ...],
        cotangent: Array,
    ) -> tuple[Array, ...]:
        """Return the gradients for ``wrt`` times a cotangent, pulled back through the filter."""
        smoothed = self._smooth(backend, arrays) if self.rereads else arrays
        gradients = self.function.backward(backend, smoothed, wrt, of, saved, cotangent)
        return self._back(backend, gradients, arrays[self.inputs :])


@dataclass(frozen=True)
class FromCall(Differentiable):
    """A user's own function of arrays, ``(B,)``, with a gradient of the user's or the framework's.

    The user's functions see arrays of the compute dtype and of one shape.
    """

    call: Callable[..., Array]
    gradient: Callable[..., Any] | None = None
    inputs: int = 2
    title: str = "The loss"
    #: Whether the arrays must have one shape, as a loss's do; a plain function takes what it takes.
    alike: bool = True

    @property
    def closed_form(self) -> bool:  # type: ignore[override]
        """Whether the user gave a gradient."""
        return self.gradient is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What the user calls the arrays."""
        own = [one.name for one in inspect.signature(self.call).parameters.values() if one.kind in POSITIONAL]
        return (*own[: self.inputs], *super().names[len(own) :])

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where two shapes differ."""
        if self.alike and len(shapes) == 2:
            check_same_shape(*shapes)

    def _called(self, arrays: tuple[Array, ...]) -> Array:
        """Return what the user's function returns, which may take its arrays by keyword alone."""
        parameters = inspect.signature(self.call).parameters.values()
        count = sum(one.kind in POSITIONAL for one in parameters)
        if count >= len(arrays) or any(one.kind is one.VAR_POSITIONAL for one in parameters):
            return self.call(*arrays)
        return self.call(*arrays[:count], **dict(zip(self.names[count:], arrays[count:], strict=True)))

    def takes(self, name: str) -> bool:
        """Say whether the user's function has a further argument of this name, or takes any."""
        parameters = inspect.signature(self.call).parameters
        return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def check_masked(self) -> None:
        """Raise TypeError where the user's function takes no mask."""
        if not self.takes("mask"):
            raise TypeError(f"{self.title} takes no mask: give its call an argument mask=None.")

    def bind(self, keywords: Mapping[str, Any]) -> Differentiable:
        """Return the function with these further arguments."""
        if not all(map(self.takes, keywords)):
            return super().bind(keywords)
        gradient = partial(self.gradient, **keywords) if self.gradient else None
        return replace(self, call=partial(self.call, **keywords), gradient=gradient)

    def _masked(self, arrays: tuple[Array, ...]) -> tuple["FromCall", tuple[Array, ...]]:
        """Return the function that knows its mask, and the inputs."""
        inputs, mask = arrays[: self.inputs], arrays[self.inputs :]
        function = self.bind({"mask": mask[0]})
        assert isinstance(function, FromCall)
        return function, inputs

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return what the user's function returns."""
        if len(arrays) > self.inputs:
            function, arrays = self._masked(arrays)
            return function.value(backend, arrays)
        dtype = backend.compute_dtype(*arrays)
        values = self._called(tuple(backend.xp.astype(array, dtype) for array in arrays))
        batch = backend.shape(arrays[0])[:1]
        shape = backend.shape(values) if backend.owns(values) else None
        if shape is None or len(shape) != 1 or (None not in (*shape, *batch) and shape != batch):
            found = f"shape {shape}" if shape is not None else f"{type(values).__name__}"
            raise ValueError(f"{self.title} must return one value a sample, shape {batch}, got {found}.")
        return values

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the user's value and gradient, or the framework's gradient of the user's value."""
        if len(arrays) > self.inputs:
            masked, arrays = self._masked(arrays)
            return masked.value_and_gradients(backend, arrays, wrt, scale)
        dtype = backend.compute_dtype(*arrays)
        arrays = tuple(backend.xp.astype(array, dtype) for array in arrays)
        if self.gradient is None:

            def function(*arrays: Array) -> Array:
                return self.value(backend, arrays)

            function.__name__ = self.title
            value, gradients = backend.value_and_grad(function, arrays, wrt)
        else:
            value, gradients = self.value(backend, arrays), self.gradient(*arrays, wrt=wrt)
            found = [backend.shape(gradient) for gradient in gradients] if isinstance(gradients, tuple | list) else None
            wanted = [backend.shape(arrays[index]) for index in wrt]
            if found != wanted:
                described = "no tuple" if found is None else f"shapes {found}"
                raise ValueError(f"{self.title}.gradient must return a tuple of shapes {wanted}, got {described}.")
        return value, tuple(gradient if scale == 1.0 else gradient * scale for gradient in gradients)


# --- gradients as arrays ----------------------------------------------------------------------------------------------


def wanted(argnums: Any, count: int, names: Sequence[str]) -> tuple[tuple[int, ...], bool]:
    """Return the indices that ``argnums`` names, and whether it is a single one."""
    single = isinstance(argnums, str) or not isinstance(argnums, Iterable)
    indices: list[int] = []
    for index in [argnums] if single else argnums:
        if isinstance(index, str) and index in names:
            index = names.index(index)
        if not hasattr(index, "__index__") or not -count <= operator.index(index) < count:
            raise ValueError(
                f"argnums must be indices of the loss's {count} arrays, or of their names {', '.join(names)}; "
                f"got {shown(index)}."
            )
        indices.append(operator.index(index) % count)
    return tuple(indices), single


def gradients_of(
    function: Differentiable,
    arrays: tuple[Array, ...],
    wrt: tuple[int, ...],
    mean: bool,
    masks: Mapping[str, Array | None] | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """Return the value ``(B,)`` and the gradients of its sum, or mean, over the batch, in each input's dtype."""
    backend, arrays = checked(function, arrays, masks)
    arrays = tuple(backend.detach(array) for array in arrays)
    with backend.at(arrays[0]):
        return _gradients_of(function, backend, arrays, wrt, mean)


def _gradients_of(
    function: Differentiable, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], mean: bool
) -> tuple[Array, tuple[Array, ...]]:
    xp = backend.xp
    if backend.shape(arrays[0])[0] == 0:
        value = _of_no_sample(backend, arrays[: function.inputs])
        gradients = tuple(xp.zeros_like(arrays[i], dtype=value.dtype) for i in wrt)
        return value, tuple(_in_dtype_of(backend, g, arrays[i]) for g, i in zip(gradients, wrt, strict=True))
    if not wrt:
        return backend.detach(function.value(backend, arrays)), ()
    batch = backend.shape(arrays[0])[0] if mean else 1
    value, gradients = function.value_and_gradients(backend, arrays, wrt, 1.0 / (batch or 1))
    if batch is None:
        # The batch's size is known only when the traced function runs.
        share = xp.ones_like(value) / xp.sum(xp.ones_like(value))
        gradients = tuple(gradient * per_sample(xp, share, gradient) for gradient in gradients)
    return value, tuple(_in_dtype_of(backend, g, arrays[i]) for g, i in zip(gradients, wrt, strict=True))


def _in_dtype_of(backend: Backend, gradient: Array, array: Array) -> Array:
    if gradient.dtype == array.dtype or not backend.xp.isdtype(array.dtype, "real floating"):
        return gradient
    return backend.xp.astype(gradient, array.dtype)
