"""Blocks with the voxels around them, put together from the chunks in which they lie.

Dask's time is that of its tasks, about a millisecond each, and of what workers send each other and keep. So a block is
several chunks, and of other chunks it gets their rims: of every chunk one task cuts out all that other blocks read. A
chunk that comes straight from its source is read twice, for its rim and by its block, so that only rims are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from agnoreg_dask._private import Reader, readers

Array = Any
Chunks = tuple[int, ...]
#: A box of voxels, along all axes of an array.
Index = tuple[slice, ...]
#: Chunks are joined as long as a block has no more numbers of each input, 24 MiB in float32.
NUMBERS = 6 << 20


def joined(chunks: Sequence[Chunks], numbers: int) -> list[Chunks]:
    """Return the chunks of blocks: neighbouring ones become one along the axis along which they are shortest.

    The first of ``chunks`` are those of the batch, which stay; ``numbers`` is how many there are for each voxel.
    """
    found = list(chunks)
    while True:
        sizes = [max(one) for one in found]
        able = [axis for axis in range(1, len(found)) if len(found[axis]) > 1]
        for axis in sorted(able, key=lambda axis: (sizes[axis], -axis)):
            pairs = tuple(sum(found[axis][k : k + 2]) for k in range(0, len(found[axis]), 2))
            if numbers * int(np.prod(sizes)) // sizes[axis] * max(pairs) <= NUMBERS:
                found[axis] = pairs
                break
        else:
            return found


@dataclass(frozen=True)
class Part:
    """What a block reads of a chunk, along one axis."""

    #: The place of the chunk.
    chunk: int
    #: What is read of it; None where all of the chunk belongs to the block.
    part: slice | None
    #: Where that lies in the block.
    there: slice


def parts_read(chunks: Chunks, own: Chunks, reach: int) -> list[list[Part]]:
    """Return for each block what it reads along an axis: its own voxels, and as many as it reaches beyond."""
    bounds = list(accumulate(chunks, initial=0))
    found = []
    for begin, stop in pairwise(accumulate(own, initial=0)):
        first, last = max(0, begin - reach), min(bounds[-1], stop + reach)
        parts = []
        for place, (low, high) in enumerate(pairwise(bounds)):
            start, end = max(low, first), min(high, last)
            if start < end:
                inside = begin <= low and high <= stop
                there = slice(start - first, end - first)
                parts.append(Part(place, None if inside else slice(start - low, end - low), there))
        found.append(parts)
    return found


def own_voxels(own: Chunks, reach: int) -> list[slice]:
    """Return where each block's own voxels lie in what it reads along an axis."""
    before = [min(reach, start) for start in accumulate(own, initial=0)]
    return [slice(first, first + size) for first, size in zip(before, own, strict=False)]


@dataclass(frozen=True)
class Move:
    """A box of a block, and where its voxels are found."""

    there: Index
    #: What reads a chunk, or the place of a task's result among those that the block gets.
    source: Reader | int
    #: Which of the boxes of a rim; None for a chunk.
    box: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How a block's arrays of equal chunks are put together."""

    moves: tuple[Move, ...]
    shape: tuple[int, ...]

    def arrays(self, results: Sequence[Any], sources: dict[Any, Any]) -> tuple[Array, ...]:
        """Return the arrays. Chunks are read one after the other, so that few are in memory at once."""
        arrays: tuple[Array, ...] = ()
        for move in self.moves:
            found = move.source(sources) if isinstance(move.source, Reader) else results[move.source]
            pieces = found if move.box is None else found[move.box]
            if len(self.moves) == 1:
                return tuple(pieces)
            arrays = arrays or tuple(np.empty_like(piece, shape=self.shape) for piece in pieces)
            for array, piece in zip(arrays, pieces, strict=True):
                array[move.there] = piece
        return arrays


def together(*chunks: Array) -> Any:
    """Return the chunks of several arrays as one result."""
    return chunks


def rim(reader: Reader | None, boxes: Sequence[Index], *given: Any) -> list[tuple[Array, ...]]:
    """Return boxes of the chunks of several arrays. They are copies, so that the chunks need not be kept."""
    chunks = given[0] if reader is None else reader(dict(zip(reader.keys, given, strict=True)))
    return [tuple(chunk[box].copy() for chunk in chunks) for box in boxes]


class Arrays:
    """Arrays of equal chunks, and the tasks that cut the rims of these.

    Parameters
    ----------
    arrays
        The arrays.
    labels
        What each of their axes is called: the batch is 0, those that blocks are cut along follow, and an axis in one
        chunk has a larger number.
    parts
        What each block reads along each of the axes that are cut.
    """

    def __init__(self, arrays: Sequence[Array], labels: Sequence[int], parts: Sequence[list[list[Part]]]) -> None:
        self.arrays, self.labels, self.parts = tuple(arrays), labels, parts
        self.chunks = arrays[0].chunks
        found = [one for one in map(readers, arrays) if one is not None]
        #: What reads each chunk of all arrays from their sources; None where some are not just read.
        self.readers: dict[Any, Reader] | None = None
        if len(found) == len(arrays):
            self.readers = {place: Reader.of([one[place] for one in found]) for place in found[0]}
            self.name = "rim-" + tokenize([x.name for x in arrays], parts)
        else:
            both = [item for x in arrays for item in (x, labels)]
            meta = np.empty((0,) * len(labels), dtype=object)
            pair = da.blockwise(together, labels, *both, dtype=object, align_arrays=False, meta=meta)
            self.arrays, self.chunk_name = (pair,), pair.name
            self.name = f"rim-{tokenize(pair.name, parts)}"
        #: For each chunk the boxes that blocks read of it, and their places in its rim.
        self.boxes: dict[Any, dict[Any, int]] = {}

    def recipe(self, block: tuple[int, ...], results: list[Any], sources: dict[Any, None]) -> Recipe:
        """Return how a block is put together; append the keys of ``results`` and ``sources`` that it needs."""
        whole = [Part(0, None, slice(None))]
        axes = [self.parts[label][block[label]] if label < len(self.parts) else whole for label in self.labels]
        moves = []
        for found in product(*axes):
            chunk, there = tuple(part.chunk for part in found), tuple(part.there for part in found)
            if any(part.part is not None for part in found):
                box = tuple(None if part.part is None else (part.part.start, part.part.stop) for part in found)
                boxes = self.boxes.setdefault(chunk, {})
                moves.append(Move(there, len(results), boxes.setdefault(box, len(boxes))))
                results.append((self.name, *chunk))
            elif self.readers is None:
                moves.append(Move(there, len(results)))
                results.append((self.chunk_name, *chunk))
            else:
                moves.append(Move(there, self.readers[chunk]))
                sources |= dict.fromkeys(self.readers[chunk].keys)
        shape = [
            sum(self.chunks[axis]) if label >= len(self.parts) else parts[-1].there.stop
            for axis, (label, parts) in enumerate(zip(self.labels, axes, strict=True))
        ]
        return Recipe(tuple(moves), tuple(shape))

    def rims(self) -> dict[Any, Any]:
        """Return the tasks that cut the rims, once all blocks have said what they read."""
        graph: dict[Any, Any] = {}
        for chunk, found in self.boxes.items():
            boxes = [tuple(slice(None) if one is None else slice(*one) for one in box) for box in found]
            reader = None if self.readers is None else self.readers[chunk]
            given = [(self.chunk_name, *chunk)] if reader is None else reader.keys
            graph[self.name, *chunk] = (partial(rim, reader, boxes), *given)
        return graph


def in_neighbourhoods(
    function: Callable[..., Any],
    groups: Sequence[tuple[Sequence[Array], Sequence[int]]],
    chunks: Sequence[Chunks],
    own: Sequence[Chunks],
    reaches: Sequence[int],
    tuples: Sequence[Array],
) -> Array:
    """Return what a function makes of every block.

    Parameters
    ----------
    function
        Called as ``function(own, recipes, keys, results, sources, *tuples)``: where the block's own voxels lie in what
        it reads, and what `Recipe.arrays` needs. ``keys`` are those of the ``sources``.
    groups
        Arrays of equal chunks, and their labels, as `Arrays` takes them.
    chunks, own
        The chunks of the arrays, and those of the blocks, of the batch and of each axis that blocks are cut along.
    reaches
        How far a block reads beyond its own voxels, along each of these axes.
    tuples
        Arrays of one chunk for each block of the batch.
    """
    parts = [parts_read(*three) for three in zip(chunks, own, reaches, strict=True)]
    places = [own_voxels(*two) for two in zip(own, reaches, strict=True)]
    gathered = [Arrays(*group, parts) for group in groups]
    name = "block-" + tokenize(function, [one.name for one in gathered], own, [x.name for x in tuples])
    graph: dict[Any, Any] = {}
    for block in product(*(range(len(sizes)) for sizes in own)):
        results: list[Any] = []
        sources: dict[Any, None] = {}
        recipes = tuple(one.recipe(block, results, sources) for one in gathered)
        box = tuple(of_axis[place] for of_axis, place in zip(places[1:], block[1:], strict=True))
        task = partial(function, box, recipes, tuple(sources))
        graph[name, *block] = (task, results, list(sources), *((x.name, block[0]) for x in tuples))
    for one in gathered:
        graph |= one.rims()
    dependencies = [*tuples, *(x for one in gathered for x in one.arrays)]
    layers = HighLevelGraph.from_collections(name, graph, dependencies=dependencies)
    one_each = tuple((1,) * len(sizes) for sizes in own)
    return da.Array(layers, name, one_each, dtype=object, meta=np.empty((0,) * len(own), dtype=object))
