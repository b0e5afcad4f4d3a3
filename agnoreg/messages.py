"""What error messages show of values and of other errors: one line of bounded length."""

import difflib
import os
import warnings
from collections.abc import Iterable
from typing import Any

#: Characters of a value, or of another error's message, that an error message shows at most.
LONGEST_VALUE, LONGEST_MESSAGE = 200, 2000


#: Entries of a container that are looked at, and how deep: enough to fill those characters.
ENTRIES, DEPTH = 8, 3


#: Bits of an integer that is shown; Python refuses to write one of many thousand digits.
BITS = 512


class InputWarning(UserWarning):
    """The loss of such inputs is a number that means little; the message says what to pass instead."""


def warn_of_input(text: str) -> None:
    """Warn of inputs; for one reason the text is always the same, so that by Python's default it is said once."""
    warnings.warn(text, InputWarning, stacklevel=1)


def shown(value: Any) -> str:
    """Return a value as an error message shows it: its `repr` on one line, its middle left out where it is long.

    Of a container only the first entries are looked at, so that neither its size nor its depth costs time.
    """
    return _shortened(_represented(value, DEPTH), LONGEST_VALUE)


def named(name: Any) -> str:
    """Return a name or path as an error message shows it: without quotes, where it is one and stays on the line."""
    if not isinstance(name, str | os.PathLike):
        return shown(name)
    text = str(name)
    return text if text.isprintable() and len(text) <= LONGEST_MESSAGE // 2 else shown(text)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its class where it has none."""
    return _shortened(" ".join(str(error).split()), LONGEST_MESSAGE) or type(error).__name__


def did_you_mean(word: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return a sentence that names the known word nearest to a mistaken one, after a space, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    # A long word is near to none, and comparing it would take its time.
    near = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=cutoff) if _is_short(word) else []
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def _is_short(word: Any) -> bool:
    return isinstance(word, str) and len(word) <= LONGEST_VALUE


def _represented(value: Any, depth: int) -> str:
    kind = type(value)
    if kind is str:
        return repr(value if len(value) <= 2 * LONGEST_VALUE else value[:LONGEST_VALUE] + value[-LONGEST_VALUE:])
    if kind is int and value.bit_length() > BITS:
        return f"an integer of {value.bit_length()} bits"
    if kind in (list, tuple, dict):
        return _container(value, depth)
    try:
        return " ".join(repr(value).split())
    except Exception:
        return f"an object of {kind.__module__}.{kind.__qualname__}"


def _container(value: Any, depth: int) -> str:
    ends = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
    if not depth and value:
        return f"{ends[0]}...{ends[1]}"
    entries: list[str] = []
    for entry in value:
        if len(entries) == ENTRIES:
            entries.append("...")
            break
        text = _represented(entry, depth - 1)
        entries.append(f"{text}: {_represented(value[entry], depth - 1)}" if ends == "{}" else text)
    comma = "," if ends == "()" and len(value) == 1 else ""
    return f"{ends[0]}{', '.join(entries)}{comma}{ends[1]}"


def _shortened(text: str, longest: int) -> str:
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def describe(function: Any) -> str:
    """Name a function or an object for an error message."""
    return getattr(function, "__name__", None) or type(function).__name__
