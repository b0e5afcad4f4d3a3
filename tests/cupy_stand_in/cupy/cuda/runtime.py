"""What is asked of the CUDA runtime."""

from cupy import _card

is_hip = False


class CUDARuntimeError(RuntimeError):
    """An error of the runtime."""


def getDeviceCount():  # noqa: N802
    return _card.CARDS


def getDevice():  # noqa: N802
    return _card.thread.device
