"""How frameworks that have settings of their own are set for the time of a test, and back after it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import count
from typing import Any

#: So that an image of a check has a few chunks.
CHUNK = "16KiB"
#: Every check compiles something that runs but once: XLA shall compile quickly rather than well.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}


#: After so many checks what was compiled is dropped.
MOST_KEPT = 200

_checks = count(1)


@contextmanager
def set_for(widest: str) -> Iterator[None]:
    """Set the frameworks that are imported: the dtype ``widest`` and none that is wider, images in several chunks."""
    with ExitStack() as settings:
        if "jax" in sys.modules and "agnoreg_jax" in sys.modules:
            settings.enter_context(_jax(widest))
        if "dask" in sys.modules:
            import dask

            settings.enter_context(dask.config.set({"array.chunk-size": CHUNK, "scheduler": "synchronous"}))
        yield


@contextmanager
def _jax(widest: str) -> Iterator[None]:
    import jax
    from agnoreg_jax import compiled

    before = jax.config.jax_enable_x64, compiled.COMPILER_OPTIONS
    jax.config.update("jax_enable_x64", widest == "float64")
    compiled.COMPILER_OPTIONS = quickly()
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before[0])
        compiled.COMPILER_OPTIONS = before[1]
        # What was compiled for a check stays in memory until it is dropped, several gigabytes in all.
        if next(_checks) % MOST_KEPT == 0:
            jax.clear_caches()


@lru_cache(maxsize=1)
def quickly() -> dict[str, Any]:
    """Return those of the options that this version of XLA has."""
    import jax

    known = {}
    for name, value in QUICKLY.items():
        try:
            jax.jit(lambda x: x + 1, compiler_options={name: value})(1)
        except Exception:
            continue
        known[name] = value
    return known
