"""What Numba does not make public, and what is done where that has vanished: kernels are slower then, and as right."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from numba import njit

from agnoreg.backend.private import PrivateNames

names = PrivateNames()
_CompilerBase = names.find("numba.core.compiler.CompilerBase")
_DefaultPassBuilder = names.find("numba.core.compiler.DefaultPassBuilder")
_noalias = names.find("numba.core.compiler.Flags.noalias")
_FunctionCache = names.find("numba.core.caching.FunctionCache")
_FunctionCacheImpl = names.find("numba.core.caching.CompileResultCacheImpl")
names.find("numba.core.caching.FunctionCache.load_overload")
names.find("numba.core.caching.FunctionCache.save_overload")
if not hasattr(njit(lambda: None), "_cache"):
    names.missing.append("numba.core.dispatcher.Dispatcher._cache")


@lru_cache(maxsize=1)
def writing_apart() -> dict[str, Any]:
    """Return options of `numba.njit` that tell LLVM that no two arguments reach the same memory, if one is written to.

    Its loops can be vectorised then. Without that they are right, too.
    """
    if _CompilerBase is None or _DefaultPassBuilder is None or _noalias is None:
        return {}

    class NoAliasCompiler(_CompilerBase):  # type: ignore[misc, valid-type]
        def define_pipelines(self) -> list[Any]:
            self.state.flags.noalias = True
            return [_DefaultPassBuilder.define_nopython_pipeline(self.state)]

    return {"pipeline_class": NoAliasCompiler}


def keep(compiled: Any, folder: str, stamp: Callable[[str], str]) -> Any:
    """Let Numba keep in a folder what it compiles of a function; return its cache, None where it has none.

    ``stamp`` returns of the function's file what tells its versions apart. Where Numba's own classes have vanished it
    keeps things where it likes.
    """
    if _FunctionCache is None or _FunctionCacheImpl is None:
        # Numba raises an error where there is no place to keep anything.
        with suppress(RuntimeError):
            compiled.enable_caching()
        return getattr(compiled, "_cache", None)

    class Locator:
        """What Numba asks where to keep a function."""

        def __init__(self, function: Any, file: str) -> None:
            self._py_file, self._lineno = file, function.__code__.co_firstlineno

        @classmethod
        def from_function(cls, function: Any, file: str) -> "Locator":
            return cls(function, file)

        def ensure_cache_path(self) -> None:
            pass

        def get_cache_path(self) -> str:
            return folder

        def get_source_stamp(self) -> str:
            return stamp(self._py_file)

        def get_disambiguator(self) -> str:
            return str(self._lineno)

    class Kept(_FunctionCacheImpl):  # type: ignore[misc, valid-type]
        _locator_classes = (Locator,)

    class Cache(_FunctionCache):  # type: ignore[misc, valid-type]
        _impl_class = Kept

    compiled._cache = Cache(compiled.py_func)
    return compiled._cache
