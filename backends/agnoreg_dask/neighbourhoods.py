"""Blocks with the voxels around them, put together from the chunks in which they lie.

Dask's time is that of its tasks, about a millisecond each, and of what workers send each other. So blocks are several
chunks, of which each is read once and whole; a block gets of other chunks only what it reads, one task for all inputs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, product
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import concatenate3
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

Array = Any
Chunks = tuple[int, ...]
#: What is read along an axis: the place of a chunk, and which part of it, None for all.
Part = tuple[int, slice | None]
#: Chunks are joined as long as a block has no more numbers of each input.
NUMBERS = 4 << 20


def joined(chunks: Sequence[Chunks], numbers: int) -> list[Chunks]:
    """Return chunks of blocks: neighbouring ones are joined along the axis along which they are shortest.

    The first of ``chunks`` are those of the batch, which are not joined; ``numbers`` is how many a voxel has.
    """
    found = list(chunks)
    while True:
        sizes = [max(one) for one in found]
        able = [axis for axis in range(1, len(found)) if len(found[axis]) > 1]
        for axis in sorted(able, key=lambda axis: (sizes[axis], -axis)):
            pairs = [sum(found[axis][k : k + 2]) for k in range(0, len(found[axis]), 2)]
            if numbers * np.prod(sizes) // sizes[axis] * max(pairs) <= NUMBERS:
                found[axis] = tuple(pairs)
                break
        else:
            return found


def parts_read(chunks: Chunks, own: Chunks, reach: int) -> list[list[Part]]:
    """Return for each block what it reads along an axis, its own voxels and as many as it reaches beyond."""
    bounds = list(accumulate(chunks, initial=0))
    found = []
    for start, stop in zip(accumulate(own, initial=0), accumulate(own), strict=False):
        first, last = max(0, start - reach), min(bounds[-1], stop + reach)
        parts: list[Part] = []
        for place, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
            if low < last and high > first:
                whole = first <= low and high <= last
                parts.append((place, None if whole else slice(max(first - low, 0), min(last, high) - low)))
        found.append(parts)
    return found


def own_voxels(own: Chunks, reach: int) -> list[slice]:
    """Return where each block's own voxels lie in what it reads along an axis."""
    before = [min(reach, start) for start in accumulate(own, initial=0)]
    return [slice(first, first + size) for first, size in zip(before, own, strict=False)]


def together(*chunks: Array) -> Any:
    """Return the chunks of several arrays as one result."""
    return chunks


def cut(chunks: tuple[Array, ...], index: tuple[slice, ...]) -> tuple[Array, ...]:
    """Return a part of each chunk. It is a copy, so that the chunk itself need not be kept."""
    return tuple(chunk[index].copy() for chunk in chunks)


def assembled(pieces: Any, axes: int) -> tuple[Array, ...]:
    """Return the arrays whose pieces lie in nested lists, a tuple of pieces at each place."""
    one = pieces
    for _ in range(axes):
        one = one[0]
    return tuple(_one_array(pieces, axes, place) for place in range(len(one)))


def _one_array(pieces: Any, axes: int, place: int) -> Array:
    if _single(pieces, axes):
        for _ in range(axes):
            pieces = pieces[0]
        return pieces[place]
    return concatenate3(_picked(pieces, axes, place))


def _single(pieces: Any, axes: int) -> bool:
    return not axes or (len(pieces) == 1 and _single(pieces[0], axes - 1))


def _picked(pieces: Any, axes: int, place: int) -> Any:
    return [_picked(piece, axes - 1, place) for piece in pieces] if axes else pieces[place]


def gathered(
    function: Callable[..., Any],
    groups: Sequence[tuple[Sequence[Array], Sequence[int]]],
    chunks: Sequence[Chunks],
    own: Sequence[Chunks],
    reaches: Sequence[int],
    tuples: Sequence[Array],
) -> Array:
    """Return what a function makes of every block: of its own voxels' place, its arrays and the ``tuples``.

    Parameters
    ----------
    function
        Called as ``function(own, pieces of each group, *tuples)``.
    groups
        Arrays of equal chunks, and the label of each of their axes: a place in ``chunks``, or more for an axis in one
        chunk.
    chunks, own
        The chunks of the arrays, and those of the blocks.
    reaches
        How far a block reads beyond its own voxels, along each of these axes.
    tuples
        Arrays of one chunk for each block of the batch.
    """
    parts = [parts_read(*three) for three in zip(chunks, own, reaches, strict=True)]
    places = [own_voxels(*two) for two in zip(own, reaches, strict=True)]
    name = "block-" + tokenize(function, [[x.name for x in xs] for xs, _ in groups], own, [x.name for x in tuples])
    pairs = [
        da.blockwise(
            together,
            labels,
            *(item for x in arrays for item in (x, labels)),
            dtype=object,
            align_arrays=False,
            meta=np.empty((0,) * len(labels), dtype=object),
        )
        for arrays, labels in groups
    ]
    graph: dict[Any, Any] = {}

    def piece(pair: Array, found: tuple[Part, ...]) -> Any:
        key = (pair.name, *(place for place, _ in found))
        if all(part is None for _, part in found):
            return key
        index = tuple(slice(None) if part is None else part for _, part in found)
        bounds = (item for part in index for item in (part.start or 0, part.stop or 0))
        cut_key = (f"cut-{pair.name}", *key[1:], *bounds)
        graph[cut_key] = (partial(cut, index=index), key)
        return cut_key

    def nested(pair: Array, axes: Sequence[Sequence[Part]], found: tuple[Part, ...] = ()) -> Any:
        if not axes:
            return piece(pair, found)
        return [nested(pair, axes[1:], (*found, part)) for part in axes[0]]

    whole: list[Part] = [(0, None)]
    for block in product(*(range(len(sizes)) for sizes in own)):
        lists = [
            nested(pair, [parts[label][block[label]] if label < len(own) else whole for label in labels])
            for pair, (_, labels) in zip(pairs, groups, strict=True)
        ]
        box = tuple(places[axis][block[axis]] for axis in range(1, len(own)))
        graph[name, *block] = (partial(function, box), lists, *((x.name, block[0]) for x in tuples))
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[*pairs, *tuples])
    return da.Array(
        layers,
        name,
        tuple((1,) * len(sizes) for sizes in own),
        dtype=object,
        meta=np.empty((0,) * len(own), dtype=object),
    )
