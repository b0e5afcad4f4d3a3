"""What is done with a block: by kernels where the chunks' framework has them, otherwise by the core."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.accelerated import Evaluation
from agnoreg.engine.chosen import evaluator_of
from agnoreg.engine.evaluator import Box, Evaluator, finalize
from agnoreg.engine.measure import Measure
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg_dask._private import allocator
from agnoreg_dask.neighbourhoods import Recipe

Array = Any


@dataclass(frozen=True)
class Task:
    """What the function of a block is told beside the block."""

    measure: Measure
    #: How many voxels count, where no mask says.
    count: int
    #: Whether the user allows kernels.
    kernels: bool = True
    wrt: tuple[int, ...] = ()
    scale: float = 1.0


def only(chunk: Any) -> Any:
    """Return the one block of an axis that is in one."""
    while isinstance(chunk, list):
        (chunk,) = chunk
    return chunk


def know(measure: Measure, dtype: Any, masked: bool, count: Any, *parts: Any) -> tuple[Any, ...]:
    """Return what counts, and the constants, of some samples."""
    parts = tuple(only(part) for part in parts)
    sums, constants = (parts[0], parts[1:]) if masked else ((), parts)
    backend = backend_of(*constants, *sums)
    xp = backend.xp
    constants = tuple(xp.reshape(constant, (-1,)) for constant in constants)
    if masked:
        count, more = measure.effective_count_or_nan(xp, dtype, sums)
        constants += more
    return count, constants


def of_chunks(function: Callable[..., Any], count: int, *parts: Any) -> Any:
    """Work on a block that reads nothing beside its own voxels, of so many arrays."""
    arrays = tuple(only(part) for part in parts[:count])
    return _with_memory(function, None, arrays, *map(only, parts[count:]))


def of_neighbourhood(
    function: Callable[..., Any],
    groups: Sequence[Sequence[int]],
    own: tuple[slice, ...],
    recipes: Sequence[Recipe],
    keys: Sequence[Any],
    results: Sequence[Any],
    sources: Sequence[Any],
    *known: Any,
) -> Any:
    """Work on a block that is put together by recipes; ``groups`` are the places of each one's arrays."""
    arrays: dict[int, Array] = {}
    for places, recipe in zip(groups, recipes, strict=True):
        arrays.update(zip(places, recipe.arrays(results, dict(zip(keys, sources, strict=True))), strict=True))
    x, y, z = [slice(0, 1)] * (3 - len(own)) + list(own)
    return _with_memory(function, (x, y, z), tuple(arrays[place] for place in sorted(arrays)), *known)


def _with_memory(function: Callable[..., Any], *given: Any) -> Any:
    """Work on a block with an allocator that keeps what slabs free, and give that back in the end."""
    library = allocator()
    results = function(*given)
    if library is not None:
        library.malloc_trim(0)
    return results


@dataclass(frozen=True)
class _Block:
    """A block's arrays, with the voxels around it, and what is known of the whole ones."""

    backend: Backend
    arrays: tuple[Array, ...]
    constants: tuple[Array, ...]
    count: Any
    #: The block's own voxels; None where there are no others.
    own: Box | None


def _block(task: Task, own: Box | None, arrays: tuple[Array, ...], known: tuple[Any, ...] | None) -> _Block:
    """Return a block, its arrays prepared by the adapter of the chunks' framework."""
    backend = backend_of(*arrays[: task.measure.inputs])
    arrays = tuple(
        backend.prepare(array) if backend.owns(array) else backend.from_numpy(array, backend.device(arrays[0]))
        for array in arrays
    )
    count, constants = (task.count, ()) if known is None else known
    # What counts the weights needs no constants.
    if task.measure.constants_of_blocks and count is not None:
        constants = (*_own_constants(task.measure, backend, arrays), *constants)
    return _Block(backend, arrays, constants, count, own)


def _own_constants(measure: Measure, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the constants of a block, which need not be those of the whole arrays."""
    inputs, masks = arrays[: measure.inputs], arrays[measure.inputs :]
    weights = [measure.slab_weights(backend, mask, inputs)[0] for mask in masks]
    dtype = backend.dtypes.compute(*inputs)
    return measure.constants(backend, dtype, measure.to_canonical(backend, inputs), *weights)


def _core(task: Task, block: _Block) -> Evaluator:
    """Return the evaluation of a block by the core."""
    return Evaluator(task.measure, block.backend, block.arrays, block.constants, block.count, block.own)


def _kernels(task: Task, block: _Block) -> Evaluation | None:
    """Return the evaluation of a block by kernels, or None if they do not support it."""
    measure, backend = task.measure, block.backend
    if not task.kernels or measure.fitted(backend.shape(block.arrays[0])) is not measure:
        return None
    found = evaluator_of(measure, backend, block.arrays)
    if not isinstance(found, Evaluation):
        # A block may be a view of a larger array, and kernels need arrays that lie in one piece.
        inputs = tuple(backend.xp.asarray(x, copy=True) for x in block.arrays[: measure.inputs])
        found = evaluator_of(measure, backend, (*inputs, *block.arrays[measure.inputs :]))
    takes = isinstance(found, Evaluation) and found.of_block(block.constants, block.count, block.own)
    return found if takes else None


def weights(task: Task, own: Box | None, arrays: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return the sums of a block's weights."""
    return (_core(task, _block(task, own, arrays, (None, ()))).sums_of_weights(),)


def sums(task: Task, own: Box | None, arrays: tuple[Array, ...], known: Any = None) -> tuple[Any, ...]:
    """Return the sums of a block's own voxels."""
    block = _block(task, own, arrays, known)
    kernels = _kernels(task, block)
    return (task.measure.sum_up(_core(task, block)) if kernels is None else kernels.sums(),)


def sums_and_gradients(task: Task, own: Box | None, arrays: tuple[Array, ...], known: Any = None) -> tuple[Any, ...]:
    """Return the sums of a block's own voxels, and the gradients there."""
    block = _block(task, own, arrays, known)
    kernels = _kernels(task, block)
    if kernels is None:
        found, gradients = task.measure.value_and_gradient_pass(_core(task, block), task.wrt, task.scale)
    else:
        found, gradients = kernels.sums_and_gradients(task.wrt, task.scale)
    return (found, *gradients)


def gradients(
    task: Task, own: Box | None, arrays: tuple[Array, ...], finished: tuple[Any, ...], known: Any = None
) -> tuple[Array, ...]:
    """Return the gradients at a block's own voxels, from the coefficients of the whole arrays."""
    block, (_, coefficients) = _block(task, own, arrays, known), finished
    run = _kernels(task, block) or _core(task, block)
    return run.gradients([coefficient * task.scale for coefficient in coefficients], task.wrt)


def image(task: Task, own: Box | None, arrays: tuple[Array, ...], known: Any = None) -> tuple[Array, ...]:
    """Return the value at each of a block's own voxels."""
    run = _core(task, _block(task, own, arrays, known))
    assert isinstance(run.measure, StreamingMeasure)
    return (run.measure.voxel_values(run),)


def finish(measure: Measure, dtype: Any, count: Any, parts: int, sums: Any, known: Any = None) -> tuple[Any, ...]:
    """Return the value of some samples, and the coefficients of their gradient."""
    count = count if known is None else known[0]
    return finalize(measure, backend_of(*sums).xp, dtype, sums, count, parts)
