"""A hint to the C library's allocator."""

import numpy as np

# What slabs free at the end of the heap, glibc's allocator gives back to the system and asks for again, page by page,
# which can double the time of a loss. It stops once a program has freed a large block, of at most 32 MB, which need
# never be touched.
_block = np.empty(30_000_000, dtype=np.uint8)


del _block
