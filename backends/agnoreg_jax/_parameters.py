"""Arrays among a function's parameters.

JAX must see them: a function that it transforms or keeps may have no others than it is given.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import jax
from jax import numpy as xp

Array = Any


class _Place(NamedTuple):
    """Where one of the arrays stood."""

    number: int


def split(function: Any) -> tuple[Any, tuple[Array, ...]]:
    """Return the function with places for the floating-point arrays among its parameters, and these."""
    found: list[Array] = []

    def take(x: Array) -> _Place:
        found.append(x)
        return _Place(len(found) - 1)

    return _mapped(function, _is_parameter, take), tuple(found)


def _is_parameter(x: Any) -> bool:
    return isinstance(x, jax.Array) and bool(xp.isdtype(x.dtype, "real floating"))


def joined(function: Any, parameters: Sequence[Array]) -> Any:
    """Return the function with arrays in their places."""
    return (
        _mapped(function, lambda x: isinstance(x, _Place), lambda x: parameters[x.number]) if parameters else function
    )


def _mapped(item: Any, among: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Return a dataclass or a tuple, and those in it, with some of what they hold changed; itself if nothing is."""
    if among(item):
        return change(item)
    if type(item) is tuple:
        mapped = tuple(_mapped(x, among, change) for x in item)
        return item if all(map(operator.is_, mapped, item)) else mapped
    if not is_dataclass(item) or isinstance(item, type):
        return item
    old = {one.name: getattr(item, one.name) for one in fields(item)}
    new = {name: _mapped(x, among, change) for name, x in old.items()}
    if all(new[name] is old[name] for name in old):
        return item
    # Its parameters were checked when it was made.
    item = copy.copy(item)
    for name, x in new.items():
        object.__setattr__(item, name, x)
    return item
