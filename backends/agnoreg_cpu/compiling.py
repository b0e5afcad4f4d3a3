"""How the kernels are compiled, by Numba; what is compiled is kept on disk, beside this file or in the user's cache."""

from typing import Any

from numba import njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder

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
    """Compile a function that writes nothing that it reads: its loops need not be ready for it, and are vectorised."""

    def define_pipelines(self) -> list[Any]:
        """Say so to LLVM."""
        self.state.flags.noalias = True
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]
