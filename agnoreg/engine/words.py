"""A function of arrays in words: the name of its class and its parameters as JSON, from which it is made again.

Compiled code keeps functions in this form. Unlike a pickle it runs no code of whoever wrote it: it names classes of
functions, and nothing else is called.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import reduce
from typing import Any

import numpy as np

from agnoreg.engine.function import Differentiable

#: The keys under which the words have a class, and the place of a number that is given beside them.
CLASS, NUMBER = "class", "number"

#: Classes of functions by name: one that is defined inside a function, or anew in a notebook, is found only here.
_classes: dict[str, type] = {}


def name_of(kind: type) -> str:
    """Return a name by which `class_of` finds this class in this process, whatever others were called the same."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    while _classes.setdefault(name, kind) is not kind:
        name += "'"
    return name


def class_of(name: str) -> type:
    """Return the class of functions that has this name; raise TypeError if it is no such class."""
    if name not in _classes:
        found = _imported(name)
        if not (isinstance(found, type) and issubclass(found, Differentiable)):
            raise TypeError(f"Compiled code names {name} as a loss, which is none.")
        _classes[name] = found
    return _classes[name]


def to_words(value: Any) -> str:
    """Return a function in words that any process understands.

    Raises
    ------
    TypeError
        If the function has none: a parameter is no plain value, or its class cannot be imported by its name.
    """
    return json.dumps(_described(value), separators=(",", ":"))


def from_words(words: str, numbers: Sequence[float] = ()) -> Any:
    """Return what was put into words; ``numbers`` are those of which the words have the places alone."""

    def made(item: Any) -> Any:
        if isinstance(item, list):
            return tuple(map(made, item))
        if not isinstance(item, dict):
            return item
        if NUMBER in item:
            return numbers[item[NUMBER]]
        return class_of(item[CLASS])(**{name: made(one) for name, one in item.items() if name != CLASS})

    return made(json.loads(words))


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), importlib.import_module(module))


def _described(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_described(item) for item in value]
    kind = type(value)
    if not (isinstance(value, Differentiable) and is_dataclass(kind)) or "<locals>" in kind.__qualname__:
        raise TypeError(f"{kind.__name__} cannot be put into words.")
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _imported(name) is not kind:
        raise TypeError(f"{name} is another class by now.")
    return {CLASS: name} | {item.name: _described(getattr(value, item.name)) for item in fields(kind) if item.init}
