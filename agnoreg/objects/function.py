"""Factories of the public functions of arrays, from a measure and its options."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, Protocol

from agnoreg.engine.function import Differentiable, evaluate
from agnoreg.engine.masks import MASKS
from agnoreg.messages import did_you_mean
from agnoreg.objects.documentation import function_text
from agnoreg.objects.options import Options

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


def pair_function(
    name: str,
    call: Callable[P, Options],
    measure: Callable[..., Any],
    evaluation: Callable[..., Array] = evaluate,
) -> PairFunction[P]:
    """Return a function of two arrays with the keywords of ``call``: the measure's options and masks.

    ``evaluation(measure, y_true, y_pred, masks=...)`` computes the result, by default the value of every sample.
    """
    return _function(name, ("y_true", "y_pred"), call, measure, evaluation)


def field_function(name: str, call: Callable[P, Options], measure: Callable[..., Any]) -> FieldFunction[P]:
    """Return a function of a field with the keywords of ``call``: the measure's options and a mask."""
    return _function(name, ("ddf",), call, measure, evaluate)


def _function(name: str, arrays: tuple[str, ...], call: Any, measure: Any, evaluation: Callable[..., Array]) -> Any:
    def function(*inputs: Array, **options: Any) -> Array:
        inputs = (*inputs, *(options.pop(one) for one in arrays[len(inputs) :] if one in options))
        if len(inputs) != len(arrays):
            raise TypeError(f"{name} takes {' and '.join(arrays)}, and options by keyword; got {len(inputs)} arrays.")
        masks = {one: options.pop(one) for one in MASKS if one in options}
        try:
            made = measure(**options)
        except TypeError:
            check_known(name, options, signature.parameters)
            raise
        return evaluation(made, *inputs, masks=masks)

    keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in inspect.signature(call).parameters.values()]
    given = [inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Array) for one in arrays]
    signature = inspect.Signature([*given, *keywords], return_annotation=Array)
    function.__name__ = function.__qualname__ = name
    function.__module__ = call.__module__
    function.__doc__ = function_text(call)
    function.__signature__ = signature  # type: ignore[attr-defined]
    if evaluation is evaluate:
        function.measure = measure  # type: ignore[attr-defined]
    return function


def check_known(name: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError if an option is not known; the message suggests the nearest name."""
    for option in options:
        if option not in known:
            raise TypeError(f"{name} has no argument {option!r}.{did_you_mean(option, known)}")
