"""The Dask adapter: losses of chunked arrays that stay lazy, and gradients in the chunks of their inputs.

A measure is computed of one block of every input after the other, with as many voxels around it as its own voxels'
values read, by the adapter of the chunks' framework. The blocks' sums are added up in a tree; where the gradient needs
them first, the inputs are read once more. Nothing is computed before the user asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from array_api_compat import device
from array_api_compat.dask import array as xp
from dask.array.overlap import ensure_minimum_chunksize, overlap
from dask.array.utils import meta_from_array

from agnoreg.backend import Backend, Dtypes, Execution, Operations, backend_of
from agnoreg.engine.evaluator import Evaluator, finalize
from agnoreg.engine.measure import Measure
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg_dask._private import again, allocator
from agnoreg_dask.counting import DaskCounting

Array = Any
Chunks = tuple[int, ...]

#: The first axis of every array; the axes of which blocks are cut follow as 1, 2, ...
BATCH = 0
#: The place of an axis that is in one block, for each array another.
WHOLE = 100


class DaskDtypes(Dtypes):
    """NumPy's dtypes."""

    def default_float(self) -> Any:
        """Return NumPy's, float64."""
        return xp.float64


class DaskOperations(Operations):
    """Operations of chunks."""

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return the arrays where ``there`` holds, elsewhere a number."""
        return tuple(da.where(there, x, da.full_like(x, fill)) for x in arrays)

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Let the chunks' framework correlate each chunk, and as many voxels around it as a kernel reaches."""
        depths = {axis: len(taps) // 2 for axis, taps in enumerate(kernels, start=1) if taps is not None}
        chunks, depths = _chunks_for(x.chunks, depths)
        function = partial(_correlated, kernels=tuple(kernels), transpose=transpose)
        whole = x.rechunk(tuple(chunks))
        if any(depths.values()):
            result = da.map_overlap(function, whole, depth=depths, boundary="none", allow_rechunk=False, meta=x._meta)
        else:
            result = whole.map_blocks(function, meta=x._meta)
        return result.rechunk(x.chunks)


class DaskExecution(Execution):
    """Graphs, of which nothing is computed before the user asks."""

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the measure computed block by block."""
        return _InBlocks(measure)


class DaskBackend(Backend):
    """Dask arrays, whose chunks are NumPy's or CuPy's. Values and gradients are lazy; there is no autodiff."""

    def __init__(self) -> None:
        super().__init__(
            "dask",
            xp,
            dtypes=DaskDtypes,
            execution=DaskExecution,
            operations=DaskOperations,
            counting=DaskCounting,
        )

    def owns(self, array: Array) -> bool:
        """Return whether this is a Dask array."""
        return isinstance(array, da.Array)

    def device(self, array: Array) -> Any:
        """Return ``"cpu"`` where the chunks are NumPy's, and what array-api-compat says elsewhere."""
        return device(array)

    def shape(self, array: Array) -> tuple[int, ...]:
        """Return the shape.

        Raises
        ------
        ValueError
            If a size is unknown, as after boolean indexing.
        """
        if any(np.isnan(size) for size in array.shape):
            raise ValueError(
                f"A Dask array has the shape {array.shape}, whose unknown sizes a loss must know: call "
                "compute_chunk_sizes() on it first."
            )
        return tuple(array.shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Return a NumPy array in chunks of the size that Dask's configuration says (``array.chunk-size``)."""
        return da.from_array(array, chunks="auto")

    def to_numpy(self, array: Array) -> Any:
        """Compute the array."""
        result = array.compute()
        return backend_of(result).to_numpy(result)


def _correlated(block: Array, kernels: Any, transpose: bool) -> Array:
    return backend_of(block).operations.conv3d(block, kernels, transpose)


def _chunks_for(given: Sequence[Chunks], depths: Mapping[int, int]) -> tuple[list[Chunks], dict[int, int]]:
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


def _overlapped(x: Array, depths: dict[int, int]) -> Array:
    """Return the array whose chunks also hold what lies around them."""
    return overlap(x, depths, "none", allow_rechunk=False) if any(depths.values()) else x


class _InBlocks:
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


# --- the graph --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What the function of a block is told beside the block."""

    measure: Measure
    #: How many axes blocks are cut along.
    axes: int
    #: How many voxels count, where no mask says.
    count: int
    wrt: tuple[int, ...] = ()
    scale: float = 1.0


class _Work:
    """One evaluation of a measure: the graph of its passes over blocks.

    What a block gives is any tuple of arrays. Dask takes it for a chunk of an array of objects, with a place for each
    block; `value` and `_images` make arrays of it.
    """

    def __init__(self, measure: Measure, backend: Backend, arrays: tuple[Array, ...]) -> None:
        self.backend = backend
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
        whole = self.measure.value_halo or self.measure.gradient_halo
        return [x.chunks[0], *((x.shape[axis],) if whole else x.chunks[axis] for axis in axes)]

    def _labels(self, x: Array, axes: Sequence[int], beyond: int = 0) -> tuple[int, ...]:
        """Return what each axis of an array is called: the batch, those that blocks are cut along, and others.

        An axis of size 1 along which a mask stays the same is in one block, which all others share.
        """
        labels = [WHOLE + beyond + axis for axis in range(x.ndim)]
        for label, axis in enumerate((0, *axes)):
            if x.shape[axis] == sum(self.chunks[label]):
                labels[axis] = label
        return tuple(labels)

    def _read(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the arrays to be read once more: what several passes share would be kept in memory in between."""
        self.reads += 1
        return arrays if self.reads == 1 else tuple(again(array, self.reads) for array in arrays)

    def _blocks(self, function: Callable[..., Any], reaches: int, *tuples: Array, **told: Any) -> tuple[Array, Any]:
        """Return what a function makes of every block, and the chunks of own voxels.

        A block reads so many times the measure's extent around its own voxels. ``tuples`` are one for each block of the
        batch.
        """
        count = len(self.axes[0])
        extent = ((0,) * count + self.measure.window_radius)[-count:] if count else ()
        arrays = self._read((*self.inputs, *self.mask))
        own, depths = _chunks_for(self.chunks, {axis: reaches * e for axis, e in enumerate(extent, start=1)})
        places = [*self.axes, *self.axes[:1]][: len(arrays)]
        pairs: list[Any] = []
        for place, (x, axes) in enumerate(zip(arrays, places, strict=True)):
            labels = self._labels(x, axes, 10 * place)
            chunks = {axis: own[label] if label < WHOLE else (x.shape[axis],) for axis, label in enumerate(labels)}
            depth = {axis: depths.get(label, 0) for axis, label in enumerate(labels)}
            pairs += [_overlapped(x.rechunk(chunks), depth), labels]
        bounds: list[Any] = []
        for label, sizes in enumerate(own[1:], start=1):
            first = np.asarray([0] + [depths[label]] * (len(sizes) - 1))
            for bound in (first, first + np.asarray(sizes)):
                bounds += [da.from_array(bound, chunks=1), (label,)]
        task = _Task(self.measure, count, self.count, **told)
        objects = [item for x in tuples for item in (x, (BATCH,))]
        out = tuple(range(count + 1))
        blocks = da.blockwise(
            partial(_with_memory, function, task),
            out,
            *bounds,
            *pairs,
            *objects,
            adjust_chunks=dict.fromkeys(out, 1),
            align_arrays=False,
            dtype=object,
            meta=_objects(len(out)),
        )
        return blocks, own

    def _known(self) -> tuple[Array, ...]:
        """Return the constants, and with a mask how much counts, as one tuple for each block of the batch.

        There are none where a measure needs neither.
        """
        measure, backend = self.measure, self.backend
        constants: tuple[Array, ...] = ()
        if measure.constant_count:
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
            weights, _ = self._blocks(_weights_of_block, 1)
            pairs = [_added(weights), (BATCH,), *pairs]
        function = partial(_know, self.measure, self.dtype, bool(self.mask), self.count)
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
        return _added(self._blocks(_sums_of_block, 1, *self.known)[0])

    def finish(self, sums: Array) -> Array:
        """Return the value and the gradient's coefficients, a tuple for each block of the batch."""
        function = partial(_finish, self.measure, self.dtype, self.count, self.parts)
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
        blocks, own = self._blocks(_gradients_of_block, 2, *self.known, finish, wrt=wrt, scale=scale)
        return self._images(blocks, own, wrt, 0)

    def value_and_gradient_pass(self, wrt: tuple[int, ...], scale: float) -> tuple[Array, tuple[Array, ...]]:
        """Return the sums of all blocks, and the gradients."""
        blocks, own = self._blocks(_both_of_block, 2, *self.known, wrt=wrt, scale=scale)
        return _added(blocks), self._images(blocks, own, wrt, 1)

    def image(self) -> Array:
        """Return the value at every voxel."""
        blocks, own = self._blocks(_image_of_block, 1, *self.known)
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
            images.append(image.rechunk(x.chunks))
        return tuple(images)


def _objects(axes: int) -> Any:
    return np.empty((0,) * axes, dtype=object)


def _item(place: int, results: Any) -> Array:
    return _only(results)[place]


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


# --- what is done with a block ----------------------------------------------------------------------------------------


def _only(chunk: Any) -> Any:
    """Return the one block of an axis that is in one."""
    while isinstance(chunk, list):
        (chunk,) = chunk
    return chunk


def _know(measure: Measure, dtype: Any, masked: bool, count: Any, *parts: Any) -> tuple[Any, ...]:
    """Return what counts, and the constants, of some samples."""
    parts = tuple(_only(part) for part in parts)
    sums, constants = (parts[0], parts[1:]) if masked else ((), parts)
    backend = backend_of(*constants, *sums)
    xp = backend.xp
    constants = tuple(xp.reshape(constant, (-1,)) for constant in constants)
    if masked:
        count, more = measure.effective_count_or_nan(xp, dtype, sums)
        constants += more
    return count, constants


def _with_memory(function: Callable[..., Any], task: _Task, *parts: Any) -> Any:
    """Work on a block with an allocator that keeps what slabs free, and give that back in the end."""
    library = allocator()
    results = function(task, *parts)
    if library is not None:
        library.malloc_trim(0)
    return results


def _run(task: _Task, parts: tuple[Any, ...], known: tuple[Any, ...] | None) -> Evaluator:
    """Return the evaluation of a block, of what `_Work._blocks` hands on."""
    bounds, blocks = parts[: 2 * task.axes], tuple(_only(part) for part in parts[2 * task.axes :])
    backend = backend_of(*blocks[: task.measure.inputs])
    blocks = tuple(
        backend.prepare(block) if backend.owns(block) else backend.from_numpy(block, backend.device(blocks[0]))
        for block in blocks
    )
    count, constants = known if known is not None else (task.count, ())
    own = None
    if any(task.measure.window_radius):
        slices = [slice(int(a[0]), int(b[0])) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
        x, y, z = [slice(0, 1)] * (3 - len(slices)) + slices
        own = (x, y, z)
    return Evaluator(task.measure, backend, blocks, constants, count, own)


def _given(task: _Task, parts: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
    """Split a block's arrays from what is known of its samples, where something is."""
    last = _only(parts[-1])
    return (parts[:-1], last) if isinstance(last, tuple) else (parts, None)


def _weights_of_block(task: _Task, *parts: Any) -> tuple[Any, ...]:
    return (_run(task, parts, None).sums_of_weights(),)


def _sums_of_block(task: _Task, *parts: Any) -> tuple[Any, ...]:
    return (task.measure.sum_up(_run(task, *_given(task, parts))),)


def _both_of_block(task: _Task, *parts: Any) -> tuple[Any, ...]:
    sums, gradients = task.measure.value_and_gradient_pass(_run(task, *_given(task, parts)), task.wrt, task.scale)
    return (sums, *gradients)


def _gradients_of_block(task: _Task, *parts: Any) -> tuple[Array, ...]:
    _, coefficients = _only(parts[-1])
    run = _run(task, *_given(task, parts[:-1]))
    return run.gradients([coefficient * task.scale for coefficient in coefficients], task.wrt)


def _image_of_block(task: _Task, *parts: Any) -> tuple[Array, ...]:
    run = _run(task, *_given(task, parts))
    assert isinstance(run.measure, StreamingMeasure)
    return (run.measure.voxel_values(run),)


def _finish(measure: Measure, dtype: Any, count: Any, parts: int, sums: Any, known: Any = None) -> tuple[Any, ...]:
    """Return the value of some samples, and the coefficients of their gradient."""
    count = count if known is None else known[0]
    return finalize(measure, backend_of(*sums).xp, dtype, sums, count, parts)


backend = DaskBackend()
