"""Slabs: a batch of images cut into a few planes at a time, so that work stays in cache and memory stays bounded.

A slab is some samples and some planes of axis 1, with the halo planes that a window or a stencil needs around its own.
Sums over slabs add up, pieces of gradients are concatenated; nothing here knows which loss it serves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from agnoreg.backend import Backend

Array = Any

# What slabs free at the end of the heap, glibc's allocator gives back to the system and asks for again, page by page,
# which can double the time of a loss. It stops once a program has freed a large block, of at most 32 MB, which need
# never be touched.
_block = np.empty(30_000_000, dtype=np.uint8)
del _block

#: Slabs of single voxels begin at multiples of so many.
ROUND = 1024


@dataclass(frozen=True, slots=True)
class Tile:
    """Planes ``start`` to ``start + count`` of axis 1, and how many halo planes there are on each side."""

    start: Any
    count: int
    before: int
    after: int


class Block(NamedTuple):
    """Samples ``first`` to ``last`` of the batch (all where ``last`` is None) and the tiles that cover their planes."""

    first: int
    last: int | None
    tiles: tuple[Tile, ...]


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
        Which of these planes are the slab's own, along axis 1.
    constants
        The measure's constants, for the slab's samples.
    weights
        Where there is a mask, its planes, and whatever else a measure made of it; none otherwise. Inputs of no weight
        were replaced by the measure's fill.
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
    """Cut a batch of this shape into blocks of samples and tiles of planes of about ``elements`` each.

    Whole samples share a block while they fit; a sample that does not fit is cut into tiles of planes, all but the last
    of one size. Halo planes end at the image's border. An unknown batch size is one block.
    """
    samples, planes = shape[0], shape[1] if len(shape) > 1 else 1
    assert planes is not None
    row = math.prod([size for size in shape[2:] if size is not None])
    together = 1 if samples is None else samples
    if together * planes * row <= elements or len(shape) == 1:
        return [Block(0, None, (Tile(0, planes, 0, 0),))]
    if samples is None:
        return [Block(0, None, _tiles(planes, row, halo, elements))]
    group = max(1, elements // (planes * row))
    tiles = _tiles(planes, row, halo, elements * (1 if group == 1 else group))
    return [Block(first, min(first + group, samples), tiles) for first in range(0, samples, group)]


def _tiles(planes: int, row: int, halo: int, elements: int) -> tuple[Tile, ...]:
    count = min(planes, max(1, elements // row, 2 * halo))
    # As even as can be: a thin last slab would pay for its halo and little else.
    count = math.ceil(planes / math.ceil(planes / count))
    if row == 1 and count > ROUND:
        # Single voxels, in rows: their beginnings are aligned, and they can be divided.
        count = math.ceil(count / ROUND) * ROUND
    starts = list(range(0, planes, count))
    if len(starts) > 1 and planes - starts[-1] < halo:
        # All inner tiles have their full halo, so that a traced loop can run them as one.
        starts.pop()
    ends = [*starts[1:], planes]
    return tuple(
        Tile(start, end - start, min(halo, start), min(halo, planes - end))
        for start, end in zip(starts, ends, strict=True)
    )


def alike(tiles: Sequence[Any]) -> slice:
    """Return the longest run of tiles that differ in where they start alone, and start at even distances."""
    runs, first = [slice(0, min(1, len(tiles)))], 0
    for i in range(1, len(tiles)):
        distance = tiles[i].start - tiles[i - 1].start
        if replace(tiles[i], start=0) != replace(tiles[first], start=0):
            first = i
        elif i > first + 1 and distance != tiles[i - 1].start - tiles[i - 2].start:
            first = i - 1
        runs.append(slice(first, i + 1))
    return max(runs, key=lambda run: run.stop - run.start)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Planes ``start`` to ``start + count`` of an image of ``total`` planes that pass by; zeros follow the last one.

    Their results are complete ``lag`` planes later. ``start`` is an array while a function is traced.
    """

    start: Any
    count: int
    total: int
    lag: int

    def past(self, lag: int) -> bool:
        """Say whether the planes that came ``lag`` before these are known to follow the image's last one."""
        return isinstance(self.start, int) and self.start >= self.total + lag

    def existing(self, xp: Any, lag: int, device: Any) -> Array | None:
        """Say which of the planes that came ``lag`` before these are the image's: ``(count,)``, None for all."""
        if isinstance(self.start, int) and self.lag <= self.start <= self.total - self.count:
            return None
        place = xp.arange(self.count, dtype=xp.int32, device=device) + (self.start - lag)
        return (place >= 0) & (place < self.total)


def pass_by(
    backend: Backend,
    dtype: Any,
    arrays: tuple[Array, ...],
    lag: int,
    plane: int,
    elements: int,
    begin: Callable[[Slab], Any],
    step: Callable[[Slab, Chunk, Any], tuple[Any, tuple[Array, ...], tuple[Array, ...]]],
    constants: tuple[Array, ...] = (),
    inputs: int | None = None,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Let the planes of ``arrays`` pass by, about ``elements`` entries at a time where one plane takes ``plane``.

    ``begin(slab)`` returns the state that ``step`` starts with, where only zeros, as in ``slab``, were seen.
    ``step(slab, chunk, state)`` returns the state for the next chunk, arrays that add up, and pieces of images. What
    follows the first ``inputs`` arrays are weights.
    """
    xp = backend.xp
    samples, total = backend.shape(arrays[0])[:2]
    assert total is not None
    group, count = samples or 1, total + lag
    if group * count * plane > elements:
        group = 1 if samples is None else max(1, elements // (count * plane))
        if group == 1:
            # As even as can be: the last chunk is filled up with zeros.
            count = math.ceil(count / math.ceil(count / max(1, elements // plane)))
    whole = samples is None or group == samples

    def slab_of(planes: tuple[Array, ...], own: slice, values: tuple[Array, ...]) -> Slab:
        return Slab(backend, planes[:inputs], own, values, planes[inputs:] if inputs else ())

    passing = [Chunk(start, count, total, lag) for start in range(0, total + lag, count)]
    results = []
    for first in [0] if whole else range(0, samples or 1, group):
        selected = arrays if whole else tuple(array[first : first + group, ...] for array in arrays)
        values = constants if whole else tuple(constant[first : first + group, ...] for constant in constants)

        def body(chunk: Chunk, state: Any, selected: Any = selected, values: Any = values) -> Any:
            pieces = (backend.planes(array, chunk.start, chunk.count, beyond=True) for array in selected)
            planes = tuple(_cast(backend, dtype, x) for x in pieces)
            return step(slab_of(planes, slice(0, chunk.count), values), chunk, state)

        few = min(count, max(lag, 1), total)
        zeros = tuple(xp.zeros_like(_cast(backend, dtype, array[:, :few, ...])) for array in selected)
        state = begin(slab_of(zeros, slice(0, few), values))
        results.append(backend.scan(passing, body, state, slice(lag, lag + total)))
    if len(results) == 1:
        return results[0]
    totals, images = zip(*results, strict=True)
    return _join(xp, totals), _join(xp, images)


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
    """Run ``body`` over all slabs of ``arrays``, by several threads where it is worth it and the backend has them.

    ``body(slab, first, last)`` returns two tuples for the samples ``first`` to ``last``: arrays that add up over the
    planes, and pieces of images. The result is the added arrays with the whole batch in front, and the whole images.
    What follows the first ``inputs`` arrays is a weight for each of their entries; those of no weight become ``fill``.
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
            tile: Tile, selected: tuple[Array, ...] = selected, values: tuple[Array, ...] = values, block: Block = block
        ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            slab = _read(backend, dtype, selected, tile, values, len(shape))
            if inputs and len(selected) > inputs:
                images, (weights,) = slab.arrays[:inputs], slab.arrays[inputs:]
                slab = replace(slab, arrays=filled(backend, images, weights, fill), weights=(weights,))
            return body(slab, block.first, block.last)

        results.append(backend.loop(block.tiles, run, parallel))
    if whole:
        return results[0]
    totals, images = zip(*results, strict=True)
    return _join(xp, totals), _join(xp, images)


def _read(
    backend: Backend, dtype: Any, arrays: tuple[Array, ...], tile: Tile, constants: tuple[Array, ...], rank: int
) -> Slab:
    width = tile.before + tile.count + tile.after
    pieces = []
    for array in arrays:
        if rank > 1 and array.shape[1] != width:
            array = backend.planes(array, tile.start - tile.before, width)
        pieces.append(_cast(backend, dtype, array))
    return Slab(backend, tuple(pieces), slice(tile.before, tile.before + tile.count), constants)


def filled(backend: Backend, arrays: tuple[Array, ...], weights: Array, fill: float = 0.0) -> tuple[Array, ...]:
    """Replace what has no weight, whatever it is, NaN too."""
    there = weights if weights.dtype == backend.xp.bool else weights != 0
    return backend.keep(there, arrays, fill) if arrays else ()


def _cast(backend: Backend, dtype: Any, array: Array) -> Array:
    return array if array.dtype == dtype else backend.xp.astype(array, dtype)


def _join(xp: Any, columns: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(xp.concat(list(parts), axis=0) for parts in zip(*columns, strict=True))
