"""Choice of the implementation: an accelerator's kernels, the backend's override, or the measure itself."""

from typing import TYPE_CHECKING, Any

from agnoreg.backend import Backend
from agnoreg.backend.accelerators import accelerators
from agnoreg.engine.native import natively_differentiated

if TYPE_CHECKING:
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
    for accelerator in accelerators(memory.kind):
        found = accelerator.evaluation(measure, backend, memory, arrays, otherwise)
        if found is not None:
            return found
    return otherwise
