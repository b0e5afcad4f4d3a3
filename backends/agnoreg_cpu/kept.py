"""Where compiled kernels are kept: a folder of the user's cache, one for all environments of the same versions."""

import hashlib
import logging
import os
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import llvmlite.binding
import numba

import agnoreg

#: Names a folder to keep kernels in, in the place of the user's cache.
VARIABLE = "AGNOREG_CACHE"


@lru_cache(maxsize=1)
def folder() -> str | None:
    """Return the folder that kernels are kept in, which exists; None, logged once, if there is none.

    A folder that was filled before, in a container's image say, is used though nothing can be written there.
    """
    try:
        place = _base() / "kernels" / _versions()
        if not place.is_dir() or os.access(place, os.W_OK):
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
    except (OSError, RuntimeError) as error:  # Path.home raises RuntimeError where there is none.
        logging.getLogger("agnoreg").warning(
            "Compiled kernels cannot be kept, so each process compiles its own: %s. Set %s to a folder that can be "
            "written to.", error, VARIABLE,
        )  # fmt: skip
        return None
    return str(place)


def _base() -> Path:
    for variable in (VARIABLE, "NUMBA_CACHE_DIR"):
        if given := os.environ.get(variable):
            return Path(given).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "agnoreg"


def _versions() -> Path:
    """Return a folder's name for all that what is compiled depends on, so that nobody finds another version's."""
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    own = f"agnoreg-{agnoreg.__version__}-{hashlib.sha256(sources).hexdigest()[:12]}"
    cpu = llvmlite.binding.get_host_cpu_name() or "unknown"
    return Path(own) / f"numba-{numba.__version__}-{sys.implementation.cache_tag}-{cpu}"


def stamp(file: str) -> str:
    """Return what tells the versions of a source file apart: its content, which is the same in every environment."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
