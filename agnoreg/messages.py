"""How error messages show values and other errors: on one line of bounded length."""

import difflib
import os
import warnings
from collections.abc import Iterable
from typing import Any

#: Maximum number of characters of a value, and of another error's message.
LONGEST_VALUE, LONGEST_MESSAGE = 200, 2000


#: How many entries of a container are shown, and how many levels deep.
ENTRIES, DEPTH = 8, 3


#: Larger integers are described by their bits, since Python refuses to print many thousand digits.
BITS = 512


class InputWarning(UserWarning):
    """The loss of such inputs means little; the message says what to pass instead."""


def warn_of_input(text: str) -> None:
    """Warn of inputs. The text depends on the reason only, so Python shows it once by default."""
    warnings.warn(text, InputWarning, stacklevel=1)


def shown(value: Any) -> str:
    """Return the `repr` of a value on one line, shortened in the middle if it is long.

    Only the first entries of a container are read, so neither its size nor its depth costs time.
    """
    return _shortened(_represented(value, DEPTH), LONGEST_VALUE)


def named(name: Any) -> str:
    """Return a printable name or path without quotes, and anything else as `shown` does."""
    if not isinstance(name, str | os.PathLike):
        return shown(name)
    text = str(name)
    return text if text.isprintable() and len(text) <= LONGEST_MESSAGE // 2 else shown(text)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or the name of its class if the message is empty."""
    return _shortened(" ".join(str(error).split()), LONGEST_MESSAGE) or type(error).__name__


def did_you_mean(word: Any, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `` Did you mean ...?`` with the known word that is most similar, or ``""``."""
    lowered = {candidate.lower(): candidate for candidate in known}
    # Comparing a very long word would be slow, and it resembles none.
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
    """Return the name of a function, or of an object's class, for an error message."""
    return getattr(function, "__name__", None) or type(function).__name__
