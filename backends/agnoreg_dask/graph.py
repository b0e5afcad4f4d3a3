"""The graph of a measure: a task for each block and pass, and the sums of all blocks in a tree.

A block has as many voxels around it as its own voxels' values read. Where the gradient needs the sums first, the inputs
are read once more.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.array.utils import meta_from_array

from agnoreg.backend import Backend
from agnoreg.engine.measure import Measure
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg_dask import block
from agnoreg_dask._private import again
from agnoreg_dask.neighbourhoods import Array, Chunks, in_neighbourhoods, joined
from agnoreg_dask.overlap import chunks_for

#: The first axis of every array; the axes of which blocks are cut follow as 1, 2, ...
BATCH = 0
#: The place of an axis that is in one block, for each array another.
WHOLE = 100


class InBlocks:
    """A measure that is computed block by block."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value, ``(B,)``."""
        work = _Work(self.measure, backend, arrays)
        return work.value(work.finish(work.sums()))

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float = 1.0
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and ``scale`` times the gradient of its sum over the batch."""
        work = _Work(self.measure, backend, arrays)
        if self.measure.fused_value_and_gradient:
            sums, gradients = work.value_and_gradient_pass(wrt, scale)
            return work.value(work.finish(sums)), gradients
        finish = work.finish(work.sums())
        return work.value(finish), work.gradients(finish, wrt, scale)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel, in the chunks of the first array."""
        return _Work(self.measure, backend, arrays).image()


class _Work:
    """One evaluation of a measure: the graph of its passes over blocks.

    What a block gives is any tuple of arrays. Dask takes it for a chunk of an array of objects, with a place for each
    block; `value` and `_images` make arrays of it.
    """

    def __init__(self, measure: Measure, backend: Backend, arrays: tuple[Array, ...]) -> None:
        self.backend = backend
        #: The chunks that gradients have; chunks without voxels are left out until then.
        self.given = [x.chunks for x in arrays]
        arrays = tuple(map(_without_empty_chunks, arrays))
        self.inputs = arrays[: measure.inputs]
        self.dtype = backend.dtypes.compute(*self.inputs)
        self.axes = [measure.spatial_axes(array.ndim) for array in self.inputs]
        mask = measure.mask(backend, arrays)
        # Of no chunks at all, so that an arrangement is but a shape.
        blank = tuple(da.zeros(x.shape, chunks=x.shape, dtype=np.bool_) for x in self.inputs)
        shape = backend.shape(measure.to_canonical(backend, blank)[0])
        self.parts = measure.parts(backend.shape(arrays[0]))
        self.measure = measure.for_global_shape(shape)
        self.count = measure.count(shape)
        self.chunks = self._chunks(self.inputs[-1], self.axes[-1])
        self.mask = () if mask is None else (mask,)
        #: How often the arrays were read.
        self.reads = 0
        self.known = self._known()

    def _chunks(self, x: Array, axes: Sequence[int]) -> list[Chunks]:
        """Return the chunks of the batch and of each axis that blocks are cut along."""
        # Only what streams leaves out the values of a block's neighbours, along each of the axes.
        whole = any(self.measure.window_radius) and not isinstance(self.measure, StreamingMeasure)
        return [x.chunks[0], *((x.shape[axis],) if whole else x.chunks[axis] for axis in axes)]

    def _labels(self, x: Array, axes: Sequence[int]) -> tuple[int, ...]:
        """Return what each axis of an array is called: the batch, those that blocks are cut along, and others.

        An axis of size 1 along which a mask stays the same is in one block, which all others share.
        """
        labels = [WHOLE + axis for axis in range(x.ndim)]
        for label, axis in enumerate((0, *axes)):
            if x.shape[axis] == sum(self.chunks[label]):
                labels[axis] = label
        return tuple(labels)

    def _cut(self, x: Array, labels: Sequence[int]) -> Array:
        """Return an array in the chunks of the batch and of the axes that blocks are cut along, others in one."""
        sizes = zip(labels, x.shape, strict=True)
        return x.rechunk(tuple(self.chunks[label] if label < WHOLE else (size,) for label, size in sizes))

    def _read(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the arrays to be read once more: what several passes share would be kept in memory in between."""
        self.reads += 1
        return arrays if self.reads == 1 else tuple(again(array, self.reads) for array in arrays)

    def _blocks(self, function: Callable[..., Any], reaches: int, *tuples: Array, **told: Any) -> tuple[Array, Any]:
        """Return what a function makes of every block, and the chunks of own voxels.

        A block reads so many times the measure's extent around its own voxels; where it has one, several chunks make a
        block. ``tuples`` are one for each block of the batch.
        """
        count = len(self.axes[0])
        extent = ((0,) * count + self.measure.window_radius)[-count:] if count else ()
        arrays = self._read((*self.inputs, *self.mask))
        task = block.Task(self.measure, self.count, self.backend.kernels, **told)
        places = [*self.axes, *self.axes[:1]][: len(arrays)]
        labels = [self._labels(x, axes) for x, axes in zip(arrays, places, strict=True)]
        arrays = tuple(self._cut(x, names) for x, names in zip(arrays, labels, strict=True))
        if any(extent):
            reach = {axis: reaches * e for axis, e in enumerate(extent, start=1)}
            return self._neighbourhoods(partial(function, task), arrays, labels, reach, tuples)
        pairs = [
            item
            for place, (x, names) in enumerate(zip(arrays, labels, strict=True))
            for item in (x, tuple(label if label < WHOLE else label + 10 * place for label in names))
        ]
        objects = [item for x in tuples for item in (x, (BATCH,))]
        out = tuple(range(count + 1))
        blocks = da.blockwise(
            partial(block.of_chunks, partial(function, task), len(arrays)),
            out,
            *pairs,
            *objects,
            adjust_chunks=dict.fromkeys(out, 1),
            align_arrays=False,
            dtype=object,
            meta=_objects(len(out)),
        )
        return blocks, self.chunks

    def _neighbourhoods(
        self,
        function: Callable[..., Any],
        arrays: tuple[Array, ...],
        labels: Sequence[tuple[int, ...]],
        reach: dict[int, int],
        tuples: tuple[Array, ...],
    ) -> tuple[Array, Any]:
        """Return what a function makes of every block of several chunks and what lies around these, and the blocks."""
        # Of each voxel that blocks are cut along there are as many numbers as the other axes hold.
        numbers = max(x.size // max(1, int(np.prod([sum(one) for one in self.chunks]))) for x in self.inputs)
        own = joined(chunks_for(self.chunks, reach), numbers)
        alike: dict[Any, list[int]] = {}
        for place, (x, names) in enumerate(zip(arrays, labels, strict=True)):
            alike.setdefault((names, x.chunks), []).append(place)
        groups = tuple(tuple(found) for found in alike.values())
        blocks = in_neighbourhoods(
            partial(block.of_neighbourhood, function, groups),
            [([arrays[place] for place in found], names) for (names, _), found in alike.items()],
            self.chunks,
            own,
            (0, *reach.values()),
            tuples,
        )
        return blocks, own

    def _known(self) -> tuple[Array, ...]:
        """Return constants of the whole arrays, and with a mask how much counts, a tuple for each block of the batch.

        There are none where a measure needs neither.
        """
        measure, backend = self.measure, self.backend
        constants: tuple[Array, ...] = ()
        if measure.constant_count and not measure.constants_of_blocks:
            arrays = self._read((*self.inputs, *self.mask))
            inputs, mask = arrays[: measure.inputs], arrays[measure.inputs :]
            weights = [measure.slab_weights(backend, x, self.inputs)[0] for x in mask]
            constants = measure.constants(backend, self.dtype, measure.to_canonical(backend, inputs), *weights)
        if not constants and not self.mask:
            return ()
        rows = [da.reshape(x, (-1, self.parts)) for x in constants]
        rows = [x.rechunk((self.chunks[0], -1)) for x in rows]
        pairs = [item for x in rows for item in (x, (BATCH, WHOLE))]
        if self.mask:
            weights, _ = self._blocks(block.weights, 1)
            pairs = [_added(weights), (BATCH,), *pairs]
        function = partial(block.know, self.measure, self.dtype, bool(self.mask), self.count)
        return (
            da.blockwise(
                function,
                (BATCH,),
                *pairs,
                adjust_chunks={BATCH: 1},
                align_arrays=False,
                dtype=object,
                meta=_objects(1),
            ),
        )

    def sums(self) -> Array:
        """Return the sums of all blocks, a tuple for each block of the batch."""
        return _added(self._blocks(block.sums, 1, *self.known)[0])

    def finish(self, sums: Array) -> Array:
        """Return the value and the gradient's coefficients, a tuple for each block of the batch."""
        function = partial(block.finish, self.measure, self.dtype, self.count, self.parts)
        pairs = [item for x in (sums, *self.known) for item in (x, (BATCH,))]
        return da.blockwise(function, (BATCH,), *pairs, align_arrays=False, dtype=object, meta=_objects(1))

    def value(self, finish: Array) -> Array:
        """Return the value, ``(B,)``."""
        meta = meta_from_array(self.inputs[0]._meta, ndim=1, dtype=self.dtype)
        return da.blockwise(
            partial(_item, 0),
            (BATCH,),
            finish,
            (BATCH,),
            adjust_chunks={BATCH: self.chunks[0]},
            dtype=self.dtype,
            meta=meta,
        )

    def gradients(self, finish: Array, wrt: tuple[int, ...], scale: float) -> tuple[Array, ...]:
        """Return the gradients, in the chunks of their inputs, once the coefficients are there."""
        blocks, own = self._blocks(block.gradients, 2, finish, *self.known, wrt=wrt, scale=scale)
        return self._images(blocks, own, wrt, 0)

    def value_and_gradient_pass(self, wrt: tuple[int, ...], scale: float) -> tuple[Array, tuple[Array, ...]]:
        """Return the sums of all blocks, and the gradients."""
        blocks, own = self._blocks(block.sums_and_gradients, 2, *self.known, wrt=wrt, scale=scale)
        return _added(blocks), self._images(blocks, own, wrt, 1)

    def image(self) -> Array:
        """Return the value at every voxel."""
        blocks, own = self._blocks(block.image, 1, *self.known)
        return self._images(blocks, own, (0,), 0)[0]

    def _images(self, blocks: Array, own: list[Chunks], wrt: tuple[int, ...], first: int) -> tuple[Array, ...]:
        """Return images like inputs, from the ``first`` of what blocks gave on."""
        images = []
        for place, index in enumerate(wrt, start=first):
            x, axes = self.inputs[index], self.axes[index]
            labels = self._labels(x, axes)
            image = da.blockwise(
                partial(_item, place),
                labels,
                blocks,
                tuple(range(blocks.ndim)),
                new_axes={label: x.shape[axis] for axis, label in enumerate(labels) if label >= WHOLE},
                adjust_chunks=dict(enumerate(own)),
                dtype=self.dtype,
                meta=meta_from_array(x._meta, ndim=x.ndim, dtype=self.dtype),
            )
            images.append(image.rechunk(self.given[index]))
        return tuple(images)


def _without_empty_chunks(x: Array) -> Array:
    return x.rechunk(tuple(tuple(size for size in sizes if size) or (0,) for sizes in x.chunks))


def _objects(axes: int) -> Any:
    return np.empty((0,) * axes, dtype=object)


def _item(place: int, results: Any) -> Array:
    return block.only(results)[place]


def _added(blocks: Array) -> Array:
    """Return the sums that blocks gave first, added up over all blocks in a tree, a tuple for each of the batch."""
    axes = tuple(range(1, blocks.ndim))
    if not axes:
        return blocks.map_blocks(_first, dtype=object, meta=_objects(1))
    return da.reduction(
        blocks,
        _first,
        _sum,
        combine=_sum,
        axis=axes,
        concatenate=False,
        dtype=object,
        meta=_objects(1),
    )


def _first(results: Any, **_: Any) -> Any:
    return results[0]


def _sum(tuples: Any, **_: Any) -> Any:
    """Return the sums of the tuples in nested lists."""
    if not isinstance(tuples, list):
        return tuples
    first, *others = map(_sum, tuples)
    for other in others:
        first = tuple(a + b for a, b in zip(first, other, strict=True))
    return first
