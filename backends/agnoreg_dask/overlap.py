"""Chunks with the voxels around them."""

from collections.abc import Mapping, Sequence
from typing import Any

from dask.array.overlap import ensure_minimum_chunksize

from agnoreg.backend import backend_of

Array = Any
Chunks = tuple[int, ...]


def correlated(block: Array, kernels: Any, transpose: bool) -> Array:
    """Return a block after separable kernels, by its own framework."""
    return backend_of(block).operations.conv3d(block, kernels, transpose)


def chunks_for(given: Sequence[Chunks], depths: Mapping[int, int]) -> tuple[list[Chunks], dict[int, int]]:
    """Return chunks of which none is smaller than what its neighbours read of it, and how much each reads by axis."""
    chunks, needed = list(given), dict.fromkeys(range(len(given)), 0)
    for axis, depth in depths.items():
        size = sum(chunks[axis])
        if depth >= size:
            chunks[axis] = (size,)
        elif depth and len(chunks[axis]) > 1:
            chunks[axis] = ensure_minimum_chunksize(depth, chunks[axis])
        # A single chunk needs nothing from beside it.
        needed[axis] = depth if len(chunks[axis]) > 1 else 0
    return chunks, needed


