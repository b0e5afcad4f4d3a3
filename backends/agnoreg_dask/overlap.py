"""Windows of chunks, and chunks that are large enough for these."""

from collections.abc import Mapping, Sequence
from typing import Any

from dask.array.overlap import ensure_minimum_chunksize

from agnoreg.backend import backend_of

Array = Any
Chunks = tuple[int, ...]


def correlated(block: Array, kernels: Any, transpose: bool) -> Array:
    """Return a block after separable kernels, by its own framework."""
    return backend_of(block).operations.conv3d(block, kernels, transpose)


def chunks_for(given: Sequence[Chunks], reaches: Mapping[int, int]) -> list[Chunks]:
    """Return chunks of which none is smaller than what its neighbours read of it, by axis."""
    chunks = list(given)
    for axis, reach in reaches.items():
        size = sum(chunks[axis])
        if reach >= size:
            chunks[axis] = (size,)
        elif reach and len(chunks[axis]) > 1:
            chunks[axis] = ensure_minimum_chunksize(reach, chunks[axis])
    return chunks
