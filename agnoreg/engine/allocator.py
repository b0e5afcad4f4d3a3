"""A hint to the C library's allocator, given once when the engine is imported."""

import numpy as np

#: Bytes. glibc raises its threshold for returning memory to the largest block freed so far, up to 32 MB.
LARGE_BLOCK = 30_000_000


def keep_freed_memory() -> None:
    """Make glibc keep memory that slabs free at the end of the heap instead of returning it to the system.

    Otherwise the next slab faults the same pages in again, which can double the time of a loss. glibc keeps the memory
    once the program has freed one large block; the block need not be touched.
    """
    np.empty(LARGE_BLOCK, dtype=np.uint8)
