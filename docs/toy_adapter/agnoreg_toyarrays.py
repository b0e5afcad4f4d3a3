"""agnoreg's adapter of the toy framework."""

from typing import Any

import toyarrays

from agnoreg.backend import Backend


class ToyBackend(Backend):
    """What agnoreg asks of the framework beyond the Array API standard."""

    types = (toyarrays.Array,)

    def owns(self, array: Any) -> bool:
        return isinstance(array, toyarrays.Array)

    def from_numpy(self, array: Any, device: Any = None) -> Any:
        return toyarrays.Array(array.copy())

    def to_numpy(self, array: Any) -> Any:
        return array._inside.copy()


backend = ToyBackend("toyarrays", toyarrays)
