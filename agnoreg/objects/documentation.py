"""Docstrings of functions and classes, assembled from the docstrings of the options that they inherit."""

import inspect
import math
import re
from typing import Any

#: numpydoc's sections, in their order.
SECTIONS = ("Parameters", "Returns", "Raises", "References", "Examples")


def sections(docstring: str) -> dict[str, str]:
    r"""Split a docstring into sections, keyed by name; the text before the first section has the key ``""``.

    Examples
    --------
    >>> sections("What it is.\n\nReturns\n-------\narray\n")
    {'': 'What it is.', 'Returns': 'array'}
    """
    parts = re.split(r"^(\w+)\n-{3,}\n", inspect.cleandoc(docstring) + "\n", flags=re.MULTILINE)
    names = ["", *parts[1::2]]
    return {name: text.strip("\n") for name, text in zip(names, parts[::2], strict=True)}


def own_sections(cls: type) -> dict[str, str]:
    """Return the sections of a class's own docstring; an empty dict if it has none."""
    own = "" if vars(cls).get("_text_is_inherited") else vars(cls).get("__doc__") or ""
    return sections(own) if own else {}


def inherited(*classes: type) -> str:
    """Return the documented parameters of all levels of the classes, each level once, most specific first."""
    levels = dict.fromkeys(level for cls in classes for level in cls.__mro__)
    return "\n".join(filter(None, (own_sections(level).get("Parameters", "") for level in levels)))


def function_text(call: Any) -> str:
    """Return the docstring of a function of arrays, from the options and masks of its call."""
    own = next(filter(None, (own_sections(level) for level in call.__mro__)))
    for level in call.__mro__:
        if returns := own_sections(level).get("Returns"):
            own.setdefault("Returns", returns)
    own.setdefault("Returns", f"array\n    {value_text(call)}")
    own["Parameters"] = "\n".join(filter(None, (call.arrays_text, inherited(call))))
    own.setdefault("Raises", "ValueError\n    If the shapes do not fit or a parameter is out of range.")
    return written(own)


def value_text(options: Any) -> str:
    """Return the description of a value (shape, range, direction), from a class of options."""
    low, high = options.bounds
    said = ["Shape ``(B,)``"]
    if (low, high) != (-math.inf, math.inf):
        said.append(f"in {'[' if math.isfinite(low) else '('}{low:g}, {high:g}{']' if math.isfinite(high) else ')'}")
    said.append(f"{'higher' if options.higher_is_better else 'lower'} is better")
    if options.identity is not None:
        said.append(f"{options.identity:g} for {'equal inputs' if options.inputs > 1 else 'displacements of zero'}")
    return "; ".join(said) + "."


def class_text(cls: Any) -> str:
    """Return the docstring of a metric or loss: its preface, then the docstring of its options."""
    merged: dict[str, str] = {}
    # The docstrings of mixins and of `Loss` are about themselves, not about this loss.
    for level in cls.__mro__:
        if "name" not in getattr(level, "__dataclass_fields__", {}):
            for name, text in own_sections(level).items():
                merged.setdefault(name, text)
    merged[""] = f"{cls.preface} {merged.get('', '')}".strip()
    return written(merged | {"Parameters": inherited(cls)})


def written(parts: dict[str, str]) -> str:
    """Return the docstring that has these sections."""
    text = [parts.get("", "")]
    text += [f"{name}\n{'-' * len(name)}\n{parts[name]}" for name in SECTIONS if parts.get(name)]
    return "\n\n".join(filter(None, text)) + "\n"
