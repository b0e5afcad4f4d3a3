"""The text of a function or class, put together from the docstrings of the options that it inherits."""

import inspect
import re

#: numpydoc's sections, in their order.
SECTIONS = ("Parameters", "Returns", "Raises", "References", "Examples")


def sections(docstring: str) -> dict[str, str]:
    """Split a docstring into its sections by name; what comes before the first is under ``""``.

    Examples
    --------
    >>> sections("What it is.\\n\\nReturns\\n-------\\narray\\n")
    {'': 'What it is.', 'Returns': 'array'}
    """
    parts = re.split(r"^(\w+)\n-{3,}\n", inspect.cleandoc(docstring) + "\n", flags=re.MULTILINE)
    names = ["", *parts[1::2]]
    return {name: text.strip("\n") for name, text in zip(names, parts[::2], strict=True)}


def own_sections(cls: type) -> dict[str, str]:
    """Return the sections of a class's own docstring, none where it has none."""
    own = vars(cls).get("__doc__") or ""
    # What dataclasses write of their own is a signature.
    return {} if own.startswith(f"{cls.__name__}(") else sections(own)


def inherited(*classes: type) -> str:
    """Return the parameters that classes document, each level once, the most specific first."""
    levels = dict.fromkeys(level for cls in classes for level in cls.__mro__)
    return "\n".join(filter(None, (own_sections(level).get("Parameters", "") for level in levels)))


def function_text(options: type, call: type) -> str:
    """Return the docstring of a function of arrays, from its options and those of a call, masks included."""
    own = own_sections(options)
    arrays = getattr(options, "arrays_text", "")
    own["Parameters"] = "\n".join(filter(None, (arrays, inherited(options, call))))
    own.setdefault("Raises", "ValueError\n    If the shapes differ or a parameter is out of range.")
    return written(own)


def class_text(cls: type) -> str:
    """Return the docstring of a metric or loss: its own first paragraph, or else that of its options."""
    merged: dict[str, str] = {}
    for level in cls.__mro__:
        for name, text in own_sections(level).items():
            if name != "Parameters":
                merged.setdefault(name, text)
    return written(merged | {"Parameters": inherited(cls)})


def written(parts: dict[str, str]) -> str:
    """Return a docstring of these sections."""
    text = [parts.get("", "")]
    text += [f"{name}\n{'-' * len(name)}\n{parts[name]}" for name in SECTIONS if parts.get(name)]
    return "\n\n".join(filter(None, text)) + "\n"
