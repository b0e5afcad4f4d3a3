"""What Dask and the C library do not make public, and what is done where that has vanished."""

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import dask.array as da
from dask.core import flatten

from agnoreg.backend.private import PrivateNames

names = PrivateNames()
_DataNode = names.find("dask._task_spec.DataNode")
_convert_legacy_graph = names.find("dask._task_spec.convert_legacy_graph")
_clone_key = names.find("dask.base.clone_key")
_Task = names.find("dask._task_spec.Task")
#: What reads a part of a stored array.
_getters = [names.find(f"dask.array.core.{name}") for name in ("getter", "getter_nofancy", "getter_inline")]

#: What glibc's malloc.h calls two parameters of its allocator.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def again(x: da.Array, time: int) -> da.Array:
    """Return the same array made once more, by tasks of other names; what is in memory already stays what it is.

    `dask.graph_manipulation.clone` does not rename what a task of today's kind refers to. Where Dask's own functions
    have vanished the array is returned as it is: Dask then keeps its chunks from one pass over them until the next.
    """
    if None in (_DataNode, _convert_legacy_graph, _clone_key):
        return x
    graph = _convert_legacy_graph(dict(x.__dask_graph__()))
    names = {key: _clone_key(key, time) for key, node in graph.items() if not isinstance(node, _DataNode)}
    if not all(key in names for key in flatten(x.__dask_keys__())):
        return x
    renamed = {names.get(key, key): node.substitute(names, key=names.get(key, key)) for key, node in graph.items()}
    return da.Array(renamed, _clone_key(x.name, time), x.chunks, meta=x._meta)


@dataclass(frozen=True)
class Reader:
    """What reads the chunks of some arrays once more."""

    nodes: tuple[Any, ...]
    #: The keys of the stored arrays.
    keys: tuple[Any, ...]

    @classmethod
    def of(cls, nodes: Sequence[Any]) -> "Reader":
        """Return what makes the chunks of these tasks."""
        keys = dict.fromkeys(key for node in nodes for key in sorted(node.dependencies, key=str))
        return cls(tuple(nodes), tuple(keys))

    def __call__(self, sources: dict[Any, Any]) -> tuple[Any, ...]:
        """Return the chunks."""
        return tuple(node({key: sources[key] for key in node.dependencies}) for node in self.nodes)


def readers(x: da.Array) -> dict[tuple[int, ...], Any] | None:
    """Return the task of each chunk, by its place, if each is but a part of a stored array that is read.

    None where chunks are in memory already or are computed, or where Dask's own functions have vanished.
    """
    if None in (_DataNode, _Task, _convert_legacy_graph, *_getters):
        return None
    graph = _convert_legacy_graph(dict(x.__dask_graph__()))
    found = {}
    for key in flatten(x.__dask_keys__()):
        node = graph.get(key)
        if not isinstance(node, _Task) or node.func not in _getters:
            return None
        if not all(isinstance(graph.get(source), _DataNode) for source in node.dependencies):
            return None
        found[key[1:]] = node
    return found


@lru_cache(maxsize=1)
def allocator() -> Any:
    """Return the C library of a worker whose allocator is set to keep nothing, None where it is not.

    `distributed` starts its workers with an environment in which glibc gives back all that is freed at once, and asks
    for it again page by page, which takes three times as long as a loss itself. Another setting is the user's own.
    """
    if sys.platform != "linux" or os.environ.get("MALLOC_TRIM_THRESHOLD_") != "65536":
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        return None
    # The most that glibc takes. What is larger is asked for page by page each time, such as a chunk of a field.
    for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        library.mallopt(parameter, 32 << 20)
    return library
