"""What metrics ask of Dask: counts of blocks that are added up, and boxes of labels that lie in several blocks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from dask.array.overlap import overlap

from agnoreg.backend import Backend, Counting, backend_of

Array = Any

#: How many blocks' figures are merged at once.
MERGED = 8


class DaskCounting(Counting):
    """Block by block, lazily where no decision hangs on the numbers."""

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return the arrays as they are, lazy."""
        return self.backend, arrays

    def over_blocks(self, function: Callable[..., Array], arrays: tuple[Array, ...], size: int) -> Array:
        """Return the sums of what the function makes of every block, lazily."""
        first, *others = arrays
        others = [da.broadcast_to(x, first.shape).rechunk(first.chunks) for x in others]
        spatial = tuple(range(1, first.ndim))
        chunks = (first.chunks[0], *((1,) * len(first.chunks[axis]) for axis in spatial), (size,))
        counts = da.map_blocks(
            partial(_of_block, function),
            first,
            *others,
            dtype=np.float64,
            chunks=chunks,
            new_axis=[first.ndim],
            meta=np.zeros((0,) * (first.ndim + 1)),
        )
        return counts.sum(axis=spatial)

    def by_voxel(self, function: Callable[..., Array], array: Array, dtype: Any) -> Array:
        """Return what the function makes of every block, lazily."""
        return array.map_blocks(partial(_voxels_of_block, function), dtype=dtype)

    def over_neighbourhoods(self, one_pass: Any, arrays: tuple[Array, ...], reach: tuple[int, int]) -> Array:
        """Return the figures lazily: blocks are gathered with a halo each, and merged in a tree."""
        blocks = [x.to_delayed() for x in _with_neighbours(arrays, reach)]
        size = 1 + one_pass.kind.size
        rows = []
        for b, samples in enumerate(arrays[0].chunks[0]):
            of_batch = zip(*(block[b].ravel() for block in blocks), strict=True)
            parts = [delayed(_gathered_of_block)(one_pass, *block) for block in of_batch]
            while len(parts) > 1:
                parts = [delayed(one_pass.merged)(parts[k : k + MERGED]) for k in range(0, len(parts), MERGED)]
            row = delayed(one_pass.rows)(parts[0])
            rows.append(da.from_delayed(row, (samples, size), dtype=np.float64, meta=np.zeros((0, 0))))
        return da.concatenate(rows)

    def by_neighbourhood(
        self, function: Callable[..., Array], array: Array, reach: tuple[int, int], added: tuple[int, ...], dtype: Any
    ) -> Array:
        """Return what the function makes of every block with its halo, lazily."""
        (whole,) = _with_neighbours((array,), reach)
        own = _own_chunks(array, reach)[: array.ndim - 1]
        chunks = (*own[:1], *(_without_ends(sizes, reach) for sizes in own[1:]), *((size,) for size in added))
        meta = np.zeros((0,) * len(chunks), dtype=dtype)
        return whole.map_blocks(
            partial(_map_of_block, function), dtype=dtype, chunks=chunks, drop_axis=() if added else -1, meta=meta
        )

    def loaded(self, array: Array, most: int) -> tuple[Backend, Array]:
        """Compute an array that is not too large for that."""
        if array.size > most:
            raise ValueError(
                f"The surfaces of a label lie in a box of {' x '.join(map(str, array.shape))} voxels, of which at most "
                f"{most} are computed at once of Dask arrays: compute the maps, if they fit into memory, or crop them."
            )
        block = array.compute()
        return backend_of(block), block

    def boxes(self, places: Array, count: int) -> Any:
        """Return the boxes, each the smallest around those of the chunks."""
        lows = [np.cumsum([0, *sizes[:-1]]) for sizes in places.chunks]
        starts = [[int(low[i]) for low, i in zip(lows, index, strict=True)] for index in np.ndindex(*places.numblocks)]
        of_blocks = delayed([delayed(_boxes_of_block)(block, count) for block in places.to_delayed().ravel()]).compute()
        found = np.zeros((count, places.ndim, 2), dtype=np.int64)
        for start, boxes in zip(starts, of_blocks, strict=True):
            there = boxes[:, 0, 1] > 0
            new = there & (found[:, 0, 1] == 0)
            moved = boxes + np.asarray(start)[:, None]
            found[new] = moved[new]
            found[there, :, 0] = np.minimum(found[there, :, 0], moved[there, :, 0])
            found[there, :, 1] = np.maximum(found[there, :, 1], moved[there, :, 1])
        return found

    def bounds(self, array: Array) -> None:
        """Return None: the numbers are not there yet."""

    def distinct(self, array: Array) -> Any:
        """Return the distinct values of the array, which is read for them now."""
        return self.backend.to_numpy(da.unique(array))


def _of_block(function: Callable[..., Array], *blocks: Array) -> Array:
    """Return what a function counts in a block, with an axis of size 1 for each that blocks are cut along."""
    backend, arrays = backend_of(*blocks).counting.take(blocks)
    counts = backend.to_numpy(function(backend, *arrays))
    return counts.reshape(counts.shape[0], *(1,) * (blocks[0].ndim - 1), -1).astype(np.float64)


def _voxels_of_block(function: Callable[..., Array], block: Array) -> Array:
    """Return what a function makes of the voxels of a block."""
    backend, (array,) = backend_of(block).counting.take((block,))
    return function(backend, array)


def _boxes_of_block(block: Array, count: int) -> Any:
    return backend_of(block).counting.boxes(block, count)


# --- blocks that see their neighbours ---------------------------------------------------------------------------------


def _own_chunks(array: Array, reach: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Return the chunks of a field, components last: at both ends large enough that one voxel sees all it needs."""
    chunks = [array.chunks[0]]
    for sizes in array.chunks[1:-1]:
        given = [size for size in sizes if size]
        while len(given) > 1 and given[0] <= reach[0]:
            given[:2] = [given[0] + given[1]]
        while len(given) > 1 and given[-1] <= reach[1]:
            given[-2:] = [given[-2] + given[-1]]
        chunks.append(tuple(given))
    return *chunks, (array.shape[-1],)


def _with_neighbours(arrays: tuple[Array, ...], reach: tuple[int, int]) -> tuple[Array, ...]:
    """Return a field, and arrays of its voxels, with what the voxels of each block see; at the image's ends nothing."""
    first, *others = arrays
    chunks = _own_chunks(first, reach)
    depth = {axis: reach if axis and len(sizes) > 1 else 0 for axis, sizes in enumerate(chunks[:-1])}
    others = [da.broadcast_to(x, first.shape[:-1]).rechunk(chunks[:-1]) for x in others]
    found = [overlap(first.rechunk(chunks), depth | {first.ndim - 1: 0}, "none", allow_rechunk=False)]
    return *found, *(overlap(x, depth, "none", allow_rechunk=False) for x in others)


def _without_ends(sizes: tuple[int, ...], reach: tuple[int, int]) -> tuple[int, ...]:
    left = list(sizes)
    left[0] -= reach[0]
    left[-1] -= reach[1]
    return tuple(left)


def _gathered_of_block(one_pass: Any, *blocks: Array) -> Any:
    backend, arrays = backend_of(*blocks).counting.take(blocks)
    return one_pass.of_block(backend, *arrays)


def _map_of_block(function: Callable[..., Array], block: Array) -> Array:
    backend, (array,) = backend_of(block).counting.take((block,))
    return function(backend, array)
