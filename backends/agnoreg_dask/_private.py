"""What Dask and the C library do not make public, and what is done where that has vanished."""

import ctypes
import os
import sys
from functools import lru_cache
from typing import Any

import dask.array as da
from dask.core import flatten

from agnoreg.backend.private import PrivateNames

names = PrivateNames()
_DataNode = names.find("dask._task_spec.DataNode")
_convert_legacy_graph = names.find("dask._task_spec.convert_legacy_graph")
_clone_key = names.find("dask.base.clone_key")

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
    for parameter, size in ((M_TRIM_THRESHOLD, 32 << 20), (M_MMAP_THRESHOLD, 4 << 20)):
        library.mallopt(parameter, size)
    return library
