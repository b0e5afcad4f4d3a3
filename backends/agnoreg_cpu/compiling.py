"""Compilation of the kernels by Numba, with a cache on disk."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Timer, get_ident
from typing import Any, ClassVar

from filelock import FileLock
from numba import njit
from numba.extending import intrinsic

from agnoreg_cpu import _private, kept

#: A product and a sum may be one operation, and 0 may lose its sign. Nothing is assumed of NaN and infinity.
ROUNDING = {"contract", "nsz"}
#: A sum may be added up in any order, too.
SUMMING = ROUNDING | {"reassoc"}
#: Makes a function add LLVM's instructions to the kernels that call it. Numba declares it with the typing context as
#: its first argument; kernels call it without.
instructions: Any = intrinsic
#: Options of a function that kernels call for each line of an image: it stands where it is called. A call would hand
#: over some 60 numbers that describe its arrays, which for a short line takes as long as the line.
INLINE: dict[str, Any] = {"inner": True, "forceinline": True}
#: For so many seconds a process waits for others; what it compiles is not kept, then.
PATIENCE = 60.0
#: A compilation that goes on for so many seconds is announced.
SILENCE = 1.0


def kernel(apart: bool = False, inner: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is called, once for all processes if there is a disk.

    An ``inner`` function, or one whose name begins with an underscore, is called by kernels alone. That saves what
    Python would need to call it.

    A function that is ``apart`` reaches what it writes through one argument only: its loops can be vectorised then.
    What is read through one argument and written through another must be different places, though it may be one array.
    """
    more: dict[str, Any] = dict(_private.writing_apart()) if apart else {}

    def decorate(function: Callable[..., Any]) -> Any:
        alone = inner or function.__name__.startswith("_")
        wrappers: dict[str, Any] = {"no_cpython_wrapper": alone, "no_cfunc_wrapper": True}
        compiled = njit(nogil=True, error_model="numpy", **options, **wrappers, **more)(function)
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
    announced = _Announcement()
    for name, then in (("load_overload", announced.begin), ("save_overload", announced.end)):
        method = getattr(cache, name, None)
        if method is not None:
            setattr(cache, name, partial(_alone, cache.cache_path, method, then))


class _Announcement:
    """One line about a compilation that takes long: it begins when nothing is found in the cache, and ends when kept.

    Kernels compile those that they call; the outermost one speaks for them.
    """

    #: Threads that are compiling.
    _busy: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        self._timer: Timer | None = None

    def begin(self, found: Any) -> None:
        """Announce a compilation, in a moment, where nothing was found."""
        if found is not None or get_ident() in self._busy:
            return
        self._busy.add(get_ident())
        self._timer = Timer(SILENCE, _say)
        self._timer.daemon = True
        self._timer.start()

    def end(self, _: Any) -> None:
        """Announce nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._busy.discard(get_ident())


def _say() -> None:
    logging.getLogger("agnoreg").warning(
        "Compiling kernels for this machine, which takes some seconds and is done once; "
        "`agnoreg compile` does it ahead for all of them."
    )


def _alone(place: str, method: Callable[..., Any], then: Callable[[Any], None], *arguments: Any) -> Any:
    """Call a method under a lock between processes; errors such as a full disk must not stop a loss."""
    result = None
    with suppress(OSError):
        if os.path.isdir(place) and not os.access(place, os.W_OK):
            # A read-only folder that was filled before: no lock is needed.
            result = method(*arguments)
        else:
            os.makedirs(place, exist_ok=True)
            with FileLock(os.path.join(place, "agnoreg.lock"), timeout=PATIENCE):
                result = method(*arguments)
    then(result)
    return result
