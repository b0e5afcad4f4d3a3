"""How the kernels are compiled, by Numba; what is compiled is kept on disk, beside this file or in the user's cache."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from filelock import FileLock
from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder

# Numba compiles a file again where that file has changed, not where this one has: remove what it kept then.

#: A product and a sum may be one operation, and 0 may lose its sign. Nothing is assumed of NaN and infinity.
ROUNDING = {"contract", "nsz"}
#: A sum may be added up in any order, too.
SUMMING = ROUNDING | {"reassoc"}
#: For so many seconds a process waits for others; what it compiles is not kept, then.
PATIENCE = 60.0


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function when it is called, once for all processes if there is a disk."""

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = njit(nogil=True, error_model="numpy", **options)(function)
        # Numba raises an error where there is no place to keep anything.
        with suppress(RuntimeError):
            compiled.enable_caching()
            _take_turns(compiled._cache)
        return compiled

    return decorate


def _take_turns(kept: Any) -> None:
    """Let one process at a time read or write what is kept.

    Numba writes which file belongs to which dtypes, and then that file. A process that reads in between gets what an
    older version left there, and of two that write, one may get the other's file.
    """
    for name in ("load_overload", "save_overload"):
        setattr(kept, name, partial(_alone, kept.cache_path, getattr(kept, name)))


def _alone(place: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method while no other process does; a disk that is full, say, is no reason not to compute a loss."""
    with suppress(OSError):
        os.makedirs(place, exist_ok=True)
        with FileLock(os.path.join(place, "agnoreg.lock"), timeout=PATIENCE):
            return method(*arguments)
    return None


class NoAliasCompiler(CompilerBase):
    """Compile a function that reaches what it writes through one argument only: its loops can be vectorised then.

    What is read through one argument and written through another must be different places, though it may be one array.
    """

    def define_pipelines(self) -> list[Any]:
        """Say so to LLVM."""
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]
