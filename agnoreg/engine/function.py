"""Differentiable functions of arrays, the base of measures, combinators and users' own losses."""

from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import Backend, backend_of, broadcast_samples
from agnoreg.engine.masks import combined
from agnoreg.engine.native import _native

Array = Any


class Differentiable:
    """A function of images or fields with a value ``(B,)`` and, for every input, a gradient.

    Wherever a method takes ``arrays``, a mask may follow the inputs: weights of at least 0 that broadcast to the shape
    of the first input. There is no gradient for it.
    """

    #: Number of input arrays: 2 images or labels (y_true, y_pred), or 1 field.
    inputs: int = 2
    #: Whether `value_and_gradients` works without autodiff.
    closed_form: bool = True
    #: Whether it is composed of functions that are each attached to the framework's autodiff.
    composed: ClassVar[bool] = False
    #: Whether `backward` reads the arrays.
    backward_needs_inputs: bool = False
    #: Whether `value_and_gradients` computes both in one pass over the arrays.
    fused_value_and_gradient: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return ("inputs",) if self.inputs == 1 else ("y_true", "y_pred")

    def takes(self, name: str) -> bool:
        """Return whether it accepts a further argument of this name; only a user's own function does."""
        return False

    def bind(self, keywords: Mapping[str, Any]) -> "Differentiable":
        """Return the function with further arguments bound; only a user's own function accepts any."""
        raise TypeError(f"It takes {', '.join(self.names)}, got {', '.join(keywords)} beside them.")

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit."""

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return a warning about probably unintended shapes, or an empty string."""
        return ""

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn if the inputs' values are outside the function's domain, where that is cheap to see."""
        # AutoGraph cannot rewrite a body that is a docstring alone.
        return

    def check_masked(self) -> None:
        """Raise TypeError if the function takes no mask."""

    def channel_axis(self, rank: int) -> int:
        """Return the axis that a mask may lack, for inputs of ``rank`` axes: the channels or the components."""
        return rank - 1

    def value(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``, in the compute dtype."""
        raise NotImplementedError

    def value_and_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch, in the compute dtype."""
        raise NotImplementedError

    # The same in two steps, for frameworks whose autodiff asks for the gradient later (a vector-Jacobian product).

    def forward(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value, and what `backward` needs in addition to the arrays: here the gradients."""
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
        """Return the gradients for ``wrt`` times a cotangent ``(B,)``.

        ``of`` is the ``wrt`` that `forward` got, of which this one is a subset, and ``saved`` what it returned.
        """
        gradients = [saved[of.index(index)] for index in wrt]
        return tuple(gradient * broadcast_samples(backend.xp, cotangent, gradient) for gradient in gradients)


def apply(function: Differentiable, backend: Backend, arrays: tuple[Array, ...]) -> Array:
    """Return the function's value, with its gradient registered with the framework's autodiff."""
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
    """Return the values of an empty batch, ``(0,)``, connected to the arrays so that autodiff works."""
    xp, dtype = backend.xp, backend.dtypes.compute(*arrays)
    sums = [xp.sum(xp.astype(x, dtype), axis=tuple(range(1, len(x.shape)))) for x in arrays]
    return sum(sums[1:], start=sums[0])


def checked(
    function: Differentiable, arrays: tuple[Array, ...], masks: Mapping[str, Array | None] | None = None
) -> tuple[Backend, tuple[Array, ...]]:
    """Return the arrays' backend and the checked arrays, with the product of the masks, if any, appended."""
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
    if shapes[0][0] != 0:
        function.look(backend, arrays)
    return backend, arrays
