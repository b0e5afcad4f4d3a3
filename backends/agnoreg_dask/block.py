"""What is done with a block: by kernels where the chunks' framework has them, otherwise by the core."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.accelerated import Evaluation
from agnoreg.engine.chosen import evaluator_of
from agnoreg.engine.evaluator import Box, Evaluator, finalize
from agnoreg.engine.measure import Measure
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg_dask._private import allocator

Array = Any


@dataclass(frozen=True)
class Task:
    """What the function of a block is told beside the block."""

    measure: Measure
    #: How many axes blocks are cut along.
    axes: int
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


def with_memory(function: Callable[..., Any], task: Task, *parts: Any) -> Any:
    """Work on a block with an allocator that keeps what slabs free, and give that back in the end."""
    library = allocator()
    results = function(task, *parts)
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


def _read(task: Task, parts: tuple[Any, ...], known: tuple[Any, ...] | None) -> _Block:
    """Return a block, of what `graph.Work.blocks` hands on."""
    bounds, arrays = parts[: 2 * task.axes], tuple(only(part) for part in parts[2 * task.axes :])
    backend = backend_of(*arrays[: task.measure.inputs])
    arrays = tuple(
        backend.prepare(array) if backend.owns(array) else backend.from_numpy(array, backend.device(arrays[0]))
        for array in arrays
    )
    count, constants = known if known is not None else (task.count, ())
    own = None
    if any(task.measure.window_radius):
        slices = [slice(int(a[0]), int(b[0])) for a, b in zip(bounds[::2], bounds[1::2], strict=True)]
        x, y, z = [slice(0, 1)] * (3 - len(slices)) + slices
        own = (x, y, z)
    return _Block(backend, arrays, constants, count, own)


def _given(task: Task, parts: tuple[Any, ...]) -> _Block:
    """Split a block's arrays from what is known of its samples, where something is, and return the block."""
    last = only(parts[-1])
    return _read(task, parts[:-1], last) if isinstance(last, tuple) else _read(task, parts, None)


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
        # A block may be a part of a larger array, which does not lie in one piece as a copy does.
        inputs = tuple(backend.xp.asarray(x, copy=True) for x in block.arrays[: measure.inputs])
        found = evaluator_of(measure, backend, (*inputs, *block.arrays[measure.inputs :]))
    takes = isinstance(found, Evaluation) and found.of_block(block.constants, block.count, block.own)
    return found if takes else None


def weights(task: Task, *parts: Any) -> tuple[Any, ...]:
    """Return the sums of a block's weights."""
    return (_core(task, _read(task, parts, None)).sums_of_weights(),)


def sums(task: Task, *parts: Any) -> tuple[Any, ...]:
    """Return the sums of a block's own voxels."""
    block = _given(task, parts)
    kernels = _kernels(task, block)
    return (task.measure.sum_up(_core(task, block)) if kernels is None else kernels.sums(),)


def sums_and_gradients(task: Task, *parts: Any) -> tuple[Any, ...]:
    """Return the sums of a block's own voxels, and the gradients there."""
    block = _given(task, parts)
    kernels = _kernels(task, block)
    if kernels is None:
        found, gradients = task.measure.value_and_gradient_pass(_core(task, block), task.wrt, task.scale)
    else:
        found, gradients = kernels.sums_and_gradients(task.wrt, task.scale)
    return (found, *gradients)


def gradients(task: Task, *parts: Any) -> tuple[Array, ...]:
    """Return the gradients at a block's own voxels, from the coefficients of the whole arrays."""
    block, (_, coefficients) = _given(task, parts[:-1]), only(parts[-1])
    run = _kernels(task, block) or _core(task, block)
    return run.gradients([coefficient * task.scale for coefficient in coefficients], task.wrt)


def image(task: Task, *parts: Any) -> tuple[Array, ...]:
    """Return the value at each of a block's own voxels."""
    run = _core(task, _given(task, parts))
    assert isinstance(run.measure, StreamingMeasure)
    return (run.measure.voxel_values(run),)


def finish(measure: Measure, dtype: Any, count: Any, parts: int, sums: Any, known: Any = None) -> tuple[Any, ...]:
    """Return the value of some samples, and the coefficients of their gradient."""
    count = count if known is None else known[0]
    return finalize(measure, backend_of(*sums).xp, dtype, sums, count, parts)
