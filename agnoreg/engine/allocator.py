"""Hints about memory: to the C library, once when the engine is imported, and to Linux about large pages."""

import ctypes
import mmap
from functools import lru_cache
from typing import Any

import numpy as np

#: Bytes from which on large pages are asked for, as NumPy does for its own arrays; and bytes of such a page.
LARGE_ARRAY, LARGE_PAGE = 1 << 22, 1 << 21
#: Bytes. glibc raises its threshold for returning memory to the largest block freed so far, up to 32 MB.
LARGE_BLOCK = 30_000_000


@lru_cache(maxsize=1)
def _library() -> Any:
    """Return the C library."""
    return ctypes.CDLL(None)


def keep_freed_memory() -> None:
    """Make glibc keep memory that slabs free at the end of the heap instead of returning it to the system.

    Otherwise the next slab faults the same pages in again, which can double the time of a loss. glibc keeps the memory
    once the program has freed one large block; the block need not be touched.
    """
    np.empty(LARGE_BLOCK, dtype=np.uint8)


def take_large_pages(array: Any) -> None:
    """Ask Linux for large pages for an array that is about to be written: each new page costs a fault.

    NumPy asks for its own arrays, but not for memory that it was given. The advice stays with the memory when the array
    is gone. On other systems nothing is done.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None or array.nbytes < LARGE_ARRAY:
        return
    start = array.ctypes.data
    first, last = -(-start // LARGE_PAGE) * LARGE_PAGE, (start + array.nbytes) // LARGE_PAGE * LARGE_PAGE
    # It is advice: what comes back says nothing that matters.
    _library().madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), advice)
