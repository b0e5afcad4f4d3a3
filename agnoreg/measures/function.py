"""Functions of arrays, made of a measure and its options."""

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol

from agnoreg.engine.function import Differentiable, evaluate
from agnoreg.engine.masks import MASKS
from agnoreg.measures.documentation import function_text
from agnoreg.measures.options import Options

Array = Any
P = ParamSpec("P")


class PairFunction(Protocol[P]):
    """A function of two images or labels; it takes the options and the masks by keyword."""

    measure: Callable[..., Differentiable]
    __name__: str

    def __call__(self, y_true: Array, y_pred: Array, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the value of every sample, ``(B,)``."""


class FieldFunction(Protocol[P]):
    """A function of a displacement field; it takes the options and the mask by keyword."""

    measure: Callable[..., Differentiable]
    __name__: str

    def __call__(self, ddf: Array, *args: P.args, **kwargs: P.kwargs) -> Array:
        """Return the value of every sample, ``(B,)``."""


def pair_function(name: str, call: Callable[P, Options], measure: Callable[..., Differentiable]) -> PairFunction[P]:
    """Return the function of two arrays whose keywords are those of ``call``: a measure's options, and masks."""
    return _function(name, ("y_true", "y_pred"), call, measure)


def field_function(name: str, call: Callable[P, Options], measure: Callable[..., Differentiable]) -> FieldFunction[P]:
    """Return the function of a field whose keywords are those of ``call``: a measure's options, and a mask."""
    return _function(name, ("ddf",), call, measure)


def _function(name: str, arrays: tuple[str, ...], call: Any, measure: Callable[..., Differentiable]) -> Any:
    def function(*inputs: Array, **options: Any) -> Array:
        inputs = (*inputs, *(options.pop(one) for one in arrays[len(inputs) :] if one in options))
        if len(inputs) != len(arrays):
            raise TypeError(f"{name} takes {', '.join(arrays)} and options by keyword, got {len(inputs)} arrays.")
        masks = {one: options.pop(one) for one in MASKS if one in options}
        return evaluate(measure(**options), *inputs, masks=masks)

    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in inspect.signature(call).parameters.values()]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    given = [inspect.Parameter(one, kind, annotation=Array) for one in arrays]
    function.__name__ = function.__qualname__ = name
    function.__module__ = call.__module__
    function.__doc__ = function_text(call.__mro__[1], call)
    function.__signature__ = inspect.Signature([*given, *keywords], return_annotation=Array)  # type: ignore[attr-defined]
    function.measure = measure  # type: ignore[attr-defined]
    return function
