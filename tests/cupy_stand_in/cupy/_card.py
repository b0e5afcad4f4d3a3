"""The cards that there are not: which one is current, and a ledger of what a real one would be asked for."""

import threading
import warnings
from collections import Counter
from contextlib import contextmanager
from typing import NamedTuple

#: So many cards, for what must stay on the one that it is on.
CARDS = 2

#: The host waits until the card has done all that it was given.
WAIT = "wait"
#: Memory goes from the card to the host, from the host to the card, and from card to card.
TO_HOST, TO_CARD, BETWEEN = "to the host", "to the card", "between cards"


class Event(NamedTuple):
    """What was noted: its kind, what did it, and how many bytes went where."""

    kind: str
    what: str
    size: int = 0


class PerformanceWarning(RuntimeWarning):
    """CuPy's own: a kernel reads the memory of another card."""


class _Thread(threading.local):
    device = 0


thread = _Thread()
_watching = []


def note(kind, what, size=0):
    for events in _watching:
        events.append(Event(kind, what, size))


@contextmanager
def watched():
    """Collect what happens in this context, in every thread."""
    events = []
    _watching.append(events)
    try:
        yield events
    finally:
        _watching.remove(events)


def counted(events):
    """Return how often each kind of event happened, and by what."""
    return Counter((event.kind, event.what) for event in events)


def check_card(device):
    """Warn, as CuPy does, where a kernel of the current card is given memory of another one."""
    if device != thread.device:
        note(BETWEEN, "a kernel")
        warnings.warn(
            f"The device where the array resides ({device}) is different from the current device ({thread.device}). "
            "Peer access has been activated automatically.",
            PerformanceWarning,
            stacklevel=4,
        )
