"""Cards by their numbers."""

from cupy import _card
from cupy.cuda.runtime import CUDARuntimeError


class Device:
    """A card; as a context, the current one."""

    def __init__(self, device=None):
        self.id = _card.thread.device if device is None else int(device)
        self._before = []

    def __enter__(self):
        self._before.append(_card.thread.device)
        self.use()
        return self

    def __exit__(self, *_):
        _card.thread.device = self._before.pop()

    def use(self):
        if not 0 <= self.id < _card.CARDS:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _card.thread.device = self.id

    def synchronize(self):
        _card.note(_card.WAIT, "synchronize")

    @property
    def attributes(self):
        return {"MultiProcessorCount": 3}

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return self.id == other.id if isinstance(other, Device) else NotImplemented

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"
