"""Differentiable functions of arrays: what every measure, combination and user's loss is."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import Backend, backend_of, broadcast_samples
from agnoreg.engine.masks import combined
from agnoreg.engine.native import _native

Array = Any


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
    backward_needs_inputs: bool = False
    #: Whether `value_and_gradients` goes over the arrays once for both.
    fused_value_and_gradient: bool = False

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
        return tuple(gradient * broadcast_samples(backend.xp, cotangent, gradient) for gradient in gradients)


def apply(function: Differentiable, backend: Backend, arrays: tuple[Array, ...]) -> Array:
    """Return the function's value with its gradient hung on the framework's autodiff."""
    if _native.wanted or function.composed or not function.closed_form:
        return function.value(backend, arrays)
    return backend.autodiff.differentiable(function, arrays)


def evaluate(function: Differentiable, *arrays: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
    """Check the arrays and return the function's value ``(B,)``, differentiable where the framework can."""
    backend, arrays = checked(function, arrays, masks)
    with backend.execution.at(arrays[0]):
        if backend.shape(arrays[0])[0] == 0:
            return _of_no_sample(backend, arrays[: function.inputs])
        return apply(function, backend, arrays)


def _of_no_sample(backend: Backend, arrays: tuple[Array, ...]) -> Array:
    """Return the values of an empty batch, ``(0,)``, which hang on the arrays as those of any other do."""
    xp, dtype = backend.xp, backend.dtypes.compute(*arrays)
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
        backend.execution.warn(doubt)
    if given:
        function.check_masked()
        with backend.execution.at(arrays[0]):
            arrays = (*arrays, combined(backend, given, shapes[0], function.channel_axis(len(shapes[0]))))
    function.look(backend, arrays)
    return backend, arrays
