"""Choice of the implementation: an accelerator's kernels, the backend's override, or the measure itself."""

from typing import TYPE_CHECKING, Any

from agnoreg.backend import Backend
from agnoreg.backend.accelerators import accelerators
from agnoreg.engine.native import natively_differentiated

if TYPE_CHECKING:
    from agnoreg.backend.accelerators import Memory
    from agnoreg.engine.measure import Measure

Array = Any


def evaluator_of(measure: "Measure", backend: Backend, arrays: tuple[Array, ...]) -> Any:
    """Return the object that evaluates a measure on these arrays; it has the measure's ``compute...`` methods."""
    execution = backend.execution
    otherwise = execution.override(measure, arrays)
    if not backend.kernels:
        return otherwise
    memory = execution.memory(arrays)
    if memory is None or natively_differentiated():
        return otherwise
    found = in_kernels_of(measure, backend, memory, arrays, otherwise)
    return otherwise if found is None else found


def in_kernels_of(
    measure: "Measure", backend: Backend, memory: "Memory", arrays: tuple[Array, ...], otherwise: Any
) -> Any:
    """Return the evaluation of a measure by kernels of this memory, None if none of them supports the arrays."""
    for one in accelerators(memory.kind):
        found = one.evaluation(measure, backend, memory, arrays, otherwise)
        if found is not None:
            return found
    return None
