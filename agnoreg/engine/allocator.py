"""A hint to the C library's allocator, given once when the engine is imported."""

import numpy as np

#: Bytes of a block whose release makes glibc keep freed memory: its threshold follows the largest freed, up to 32 MB.
LARGE_BLOCK = 30_000_000


def keep_freed_memory() -> None:
    """Let glibc keep what slabs free at the end of the heap instead of giving it back to the system.

    It would be asked for again page by page, which can double the time of a loss. glibc stops doing so once a program
    has freed a large block, which need never be touched.
    """
    np.empty(LARGE_BLOCK, dtype=np.uint8)
