"""What the command says on stderr: its errors, its warnings, and what it is doing where that takes long."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: After how many seconds it is said what is computed.
PATIENCE = 2.0


def fail(message: str, code: int = 2) -> int:
    """Print an error as one line, and return the exit code."""
    print(f"agnoreg: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def warn(message: str) -> None:
    """Print a warning as one line."""
    print(f"agnoreg: warning: {' '.join(message.split())}", file=sys.stderr)


def inform(message: str) -> None:
    """Print what is good to know as one line: on stderr, as stdout may hold JSON alone."""
    print(f"agnoreg: {' '.join(message.split())}", file=sys.stderr)


@contextmanager
def activity(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield what takes the words for what is being done: on a terminal they are shown after two seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda text: None
        return
    status = console.status("")
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda text: status.update(f"{text} ...")
    finally:
        timer.cancel()
        timer.join()
        status.stop()
