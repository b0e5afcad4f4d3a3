"""How the kernels are compiled, by Numba; what is compiled is kept on disk, beside this file or in the user's cache."""

from typing import Any

from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder

# Numba compiles a file again where that file has changed, not where this one has: remove what it kept then.

#: A product and a sum may be one operation, and 0 may lose its sign. Nothing is assumed of NaN and infinity.
ROUNDING = {"contract", "nsz"}
#: A sum may be added up in any order, too.
SUMMING = ROUNDING | {"reassoc"}


def _can_keep() -> bool:
    """Say whether there is a place on disk for what is compiled; Numba raises an error where there is none."""

    def nothing() -> None:
        pass

    try:
        njit(cache=True)(nothing)
    except RuntimeError:
        return False
    return True


OPTIONS: Any = {"nogil": True, "cache": _can_keep(), "error_model": "numpy"}


class Apart(CompilerBase):
    """Compile a function that reaches what it writes through one argument only: its loops can be vectorised then.

    What is read through one argument and written through another must be different places, though it may be one array.
    """

    def define_pipelines(self) -> list[Any]:
        """Say so to LLVM."""
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]
