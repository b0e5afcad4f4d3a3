"""Compilation of the kernels by Numba, with a cache on disk."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from filelock import FileLock
from numba import njit

from agnoreg_cpu import _private, kept

#: A product and a sum may be one operation, and 0 may lose its sign. Nothing is assumed of NaN and infinity.
ROUNDING = {"contract", "nsz"}
#: A sum may be added up in any order, too.
SUMMING = ROUNDING | {"reassoc"}
#: For so many seconds a process waits for others; what it compiles is not kept, then.
PATIENCE = 60.0


def kernel(apart: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is called, once for all processes if there is a disk.

    A function that is ``apart`` reaches what it writes through one argument only: its loops can be vectorised then.
    What is read through one argument and written through another must be different places, though it may be one array.
    """
    more = _private.writing_apart() if apart else {}

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = njit(nogil=True, error_model="numpy", **options, **more)(function)
        folder = kept.folder()
        cache = None if folder is None else _private.keep(compiled, folder, kept.stamp)
        if cache is not None:
            _take_turns(cache)
        return compiled

    return decorate


def _take_turns(cache: Any) -> None:
    """Let only one process at a time read or write the cache.

    Numba writes which file belongs to which dtypes, and then that file. A process that reads in between gets what an
    older version left there, and of two that write, one may get the other's file.
    """
    for name in ("load_overload", "save_overload"):
        method = getattr(cache, name, None)
        if method is not None:
            setattr(cache, name, partial(_alone, cache.cache_path, method))


def _alone(place: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method under a lock between processes; errors such as a full disk must not stop a loss."""
    with suppress(OSError):
        if os.path.isdir(place) and not os.access(place, os.W_OK):
            # A read-only folder that was filled before: no lock is needed.
            return method(*arguments)
        os.makedirs(place, exist_ok=True)
        with FileLock(os.path.join(place, "agnoreg.lock"), timeout=PATIENCE):
            return method(*arguments)
    return None
