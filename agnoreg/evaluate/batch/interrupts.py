"""Ctrl-C while pairs are computed elsewhere than in the main thread."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

__all__ = ["ended_pairs"]


@contextmanager
def ended_pairs() -> Iterator[SimpleQueue[Any]]:
    """Make a queue for the pairs that have ended, into which Ctrl-C puts None; a second Ctrl-C raises as usual.

    A KeyboardInterrupt is not enough: Python ignores one that is raised while an object is deleted.
    """
    ended: SimpleQueue[Any] = SimpleQueue()
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        ended.put(None)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield ended
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
