"""Backends: the interface between the core and an adapter of a framework, and the lookup of an array's adapter.

No framework is named or imported here. An adapter is an entry point of the group ``agnoreg.backends`` whose name is the
import name of its framework, so an array can only belong to it once that framework is in ``sys.modules``.
"""

from agnoreg.backend.autodiff import Autodiff
from agnoreg.backend.base import Backend, broadcast_samples
from agnoreg.backend.counting import Counting
from agnoreg.backend.dtypes import Dtypes
from agnoreg.backend.execution import CPU_SLABS, GPU_SLABS, Execution
from agnoreg.backend.gathered import Gathered
from agnoreg.backend.lookup import (
    GROUP,
    BackendNotAvailableError,
    available_backends,
    backend_of,
    get_backend,
    load_imported,
)
from agnoreg.backend.operations import TINY, Operations

__all__ = [
    "CPU_SLABS",
    "GPU_SLABS",
    "GROUP",
    "TINY",
    "Autodiff",
    "Backend",
    "BackendNotAvailableError",
    "Counting",
    "Dtypes",
    "Execution",
    "Gathered",
    "Operations",
    "available_backends",
    "backend_of",
    "broadcast_samples",
    "get_backend",
    "load_imported",
]
