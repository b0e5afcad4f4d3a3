"""A toy framework: arrays of a type of its own, and the functions of the Array API standard for them.

It stands for yours. Its arrays hide a NumPy array, and no function of NumPy accepts them.
"""

import operator
from typing import Any

from array_api_compat import numpy as hidden


class Array:
    """An array of this framework."""

    def __init__(self, inside: Any) -> None:
        self._inside = hidden.asarray(inside)

    dtype = property(lambda self: self._inside.dtype)
    shape = property(lambda self: self._inside.shape)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    device = "cpu"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        import toyarrays

        return toyarrays

    def __getitem__(self, key: Any) -> "Array":
        return Array(self._inside[opened(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._inside[opened(key)] = opened(value)

    __array__ = None


def opened(value: Any) -> Any:
    """Return a value with NumPy's arrays in place of ours."""
    if isinstance(value, Array):
        return value._inside
    if isinstance(value, tuple | list):
        return type(value)(opened(item) for item in value)
    return value


def closed(value: Any) -> Any:
    """Return a value with our arrays in place of NumPy's."""
    if isinstance(value, hidden.ndarray | hidden.generic):
        return Array(value)
    if isinstance(value, tuple | list):
        return type(value)(*map(closed, value)) if hasattr(value, "_fields") else type(value)(map(closed, value))
    return value


def __getattr__(name: str) -> Any:
    """Return NumPy's function of that name for our arrays; dtypes and constants are NumPy's own."""
    found = getattr(hidden, name)
    if isinstance(found, type) or not callable(found):
        return found
    return lambda *arrays, **options: closed(found(*map(opened, arrays), **{k: opened(v) for k, v in options.items()}))


def _operator(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, *others: closed(function(self._inside, *map(opened, others)))


def _reflected(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, other: closed(function(opened(other), self._inside))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and_", "or_", "xor"):
    setattr(Array, f"__{_name.strip('_')}__", _operator(_name))
    setattr(Array, f"__r{_name.strip('_')}__", _reflected(_name))
for _name in ("lt", "le", "eq", "ne", "gt", "ge", "neg", "pos", "abs", "invert"):
    setattr(Array, f"__{_name}__", _operator(_name))
for _name, _type in (("bool", bool), ("int", int), ("float", float), ("index", operator.index)):
    setattr(Array, f"__{_name}__", lambda self, _type=_type: _type(self._inside))
