"""Slabs: a batch of images processed a few planes at a time, to stay in cache and to bound the memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agnoreg.backend import Backend
from agnoreg.engine.allocator import keep_freed_memory

Array = Any

keep_freed_memory()

#: Slabs of single voxels begin at multiples of this many voxels.
ROUND = 1024


@dataclass(frozen=True, slots=True)
class PlaneRange:
    """Planes ``start`` to ``start + count`` of axis 1, with ``before`` and ``after`` halo planes on each side."""

    start: Any
    count: int
    before: int
    after: int


class Block(NamedTuple):
    """Samples ``first`` to ``last`` of the batch (all where ``last`` is None) and the tiles that cover their planes."""

    first: int
    last: int | None
    tiles: tuple[PlaneRange, ...]


@dataclass(frozen=True, slots=True)
class Slab:
    """A few planes of every input, in the dtype of the computation.

    Attributes
    ----------
    backend
        The adapter of the arrays.
    arrays
        The inputs' planes, halo included.
    own
        The slab's own planes among these, along axis 1, without the halo.
    constants
        The measure's constants, for the slab's samples.
    weights
        The planes of what `Measure.slab_weights` made of a mask; empty without one. Inputs of weight 0 were replaced by
        the measure's fill value.
    """

    backend: Backend
    arrays: tuple[Array, ...]
    own: slice
    constants: tuple[Array, ...] = ()
    weights: tuple[Array, ...] = ()

    @property
    def xp(self) -> Any:
        """The arrays' namespace."""
        return self.backend.xp


def plan(shape: tuple[int | None, ...], halo: int, elements: int) -> list[Block]:
    """Divide a batch of this shape into blocks of samples and tiles of planes of about ``elements`` entries each.

    As many whole samples as fit share a block; a sample that does not fit is cut into tiles of planes, all but the last
    of equal size. The halo ends at the image's border. A batch of unknown size is one block.

    For example, 10 planes with a halo of 1 and room for 4 planes become the tiles 0-3, 4-7 and 8-9, which read the
    planes 0-4, 3-8 and 7-9.
    """
    samples, planes = shape[0], shape[1] if len(shape) > 1 else 1
    assert planes is not None
    row = math.prod([size for size in shape[2:] if size is not None])
    together = 1 if samples is None else samples
    if together * planes * row <= elements or len(shape) == 1:
        return [Block(0, None, (PlaneRange(0, planes, 0, 0),))]
    if samples is None:
        return [Block(0, None, _tiles(planes, row, halo, elements))]
    group = max(1, elements // (planes * row))
    tiles = _tiles(planes, row, halo, elements * (1 if group == 1 else group))
    return [Block(first, min(first + group, samples), tiles) for first in range(0, samples, group)]


def _tiles(planes: int, row: int, halo: int, elements: int) -> tuple[PlaneRange, ...]:
    count = min(planes, max(1, elements // row, 2 * halo))
    # Tiles of even size: a thin last slab would cost its halo and compute little else.
    count = math.ceil(planes / math.ceil(planes / count))
    if row == 1 and count > ROUND:
        # Single voxels are summed in rows: aligned slabs can be divided into rows.
        count = math.ceil(count / ROUND) * ROUND
    starts = list(range(0, planes, count))
    if len(starts) > 1 and planes - starts[-1] < halo:
        # All inner tiles have their full halo, so that a traced loop can run them with one body.
        starts.pop()
    ends = [*starts[1:], planes]
    return tuple(
        PlaneRange(start, end - start, min(halo, start), min(halo, planes - end))
        for start, end in zip(starts, ends, strict=True)
    )


def alike(tiles: Sequence[Any]) -> slice:
    """Return the longest run of evenly spaced tiles that are equal except for their start."""
    runs, first = [slice(0, min(1, len(tiles)))], 0
    for i in range(1, len(tiles)):
        distance = tiles[i].start - tiles[i - 1].start
        if replace(tiles[i], start=0) != replace(tiles[first], start=0):
            first = i
        elif i > first + 1 and distance != tiles[i - 1].start - tiles[i - 2].start:
            first = i - 1
        runs.append(slice(first, i + 1))
    return max(runs, key=lambda run: run.stop - run.start)


def sweep(
    backend: Backend,
    dtype: Any,
    arrays: tuple[Array, ...],
    halo: int,
    elements: int,
    body: Callable[[Slab, int, int | None], tuple[tuple[Array, ...], tuple[Array, ...]]],
    constants: tuple[Array, ...] = (),
    parallel: bool = False,
    inputs: int | None = None,
    fill: float = 0.0,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Run ``body`` over all slabs of ``arrays``; if ``parallel``, in several threads where the backend has them.

    ``body(slab, first, last)`` returns two tuples for the samples ``first`` to ``last``: arrays that are added over the
    planes, and pieces of images. The result is these arrays for the whole batch, and the whole images. The arrays after
    the first ``inputs`` are weights of the inputs' entries; entries of weight 0 become ``fill``.
    """
    xp = backend.xp
    shape = backend.shape(arrays[0])
    blocks = plan(shape, halo, elements)
    whole = len(blocks) == 1
    results = []
    for block in blocks:
        samples = slice(block.first, block.last)
        selected = arrays if whole else tuple(array[samples, ...] for array in arrays)
        values = constants if whole else tuple(constant[samples, ...] for constant in constants)

        def run(
            tile: PlaneRange,
            selected: tuple[Array, ...] = selected,
            values: tuple[Array, ...] = values,
            block: Block = block,
        ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            slab = _read(backend, dtype, selected, tile, values, len(shape))
            if inputs and len(selected) > inputs:
                images, weights = slab.arrays[:inputs], slab.arrays[inputs:]
                slab = replace(slab, arrays=fill_masked(backend, images, weights[0], fill), weights=weights)
            return body(slab, block.first, block.last)

        results.append(backend.execution.loop(block.tiles, run, parallel))
    if whole:
        return results[0]
    totals, images = zip(*results, strict=True)
    return _join(xp, totals), _join(xp, images)


def _read(
    backend: Backend, dtype: Any, arrays: tuple[Array, ...], tile: PlaneRange, constants: tuple[Array, ...], rank: int
) -> Slab:
    width = tile.before + tile.count + tile.after
    pieces = []
    for array in arrays:
        if rank > 1 and array.shape[1] != width:
            array = backend.execution.planes(array, tile.start - tile.before, width)
        pieces.append(_cast(backend, dtype, array))
    return Slab(backend, tuple(pieces), slice(tile.before, tile.before + tile.count), constants)


def fill_masked(backend: Backend, arrays: tuple[Array, ...], weights: Array, fill: float = 0.0) -> tuple[Array, ...]:
    """Return the arrays with ``fill`` where the weight is 0, whatever they hold there, NaN included."""
    there = weights if weights.dtype == backend.xp.bool else weights != 0
    return backend.operations.keep(there, arrays, fill) if arrays else ()


def _cast(backend: Backend, dtype: Any, array: Array) -> Array:
    return array if array.dtype == dtype else backend.xp.astype(array, dtype)


def _join(xp: Any, columns: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(xp.concat(list(parts), axis=0) for parts in zip(*columns, strict=True))
