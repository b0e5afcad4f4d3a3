"""A few pairs, one after the other in this process: starting a cluster would take longer than they do."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from agnoreg.evaluate.batch.table_in import Pair
from agnoreg.evaluate.batch.work import evaluate_row, failed, with_page
from agnoreg.files import one_line

__all__ = ["FEW", "computed"]

#: Up to as many pairs are computed here where nothing is said about processes.
FEW = 8


def computed(
    pairs: Sequence[Pair], settings: Mapping[str, Any], ended: SimpleQueue[Any]
) -> Iterator[tuple[Pair, dict[str, Any], dict[str, Any]]]:
    """Yield each pair, its files when its computation began, and the result.

    A daemon thread computes them, so that Ctrl-C does not wait for the pair at hand: the thread ends with the process.
    """
    stopped = threading.Event()
    # While a pair is written, at most one more is computed, so that Ctrl-C ends the run soon.
    wanted = threading.Semaphore(1)

    def compute() -> None:
        for pair in pairs:
            wanted.acquire()
            if stopped.is_set():
                return
            files = pair.files()
            try:
                result = evaluate_row(pair.paths, with_page(settings, pair.id))
            except BaseException as error:  # The caller would wait for the result forever.
                result = failed(f"{type(error).__name__}: {one_line(error)}")
            ended.put((pair, files, result))

    threading.Thread(target=compute, name="agnoreg pairs", daemon=True).start()
    try:
        for _ in pairs:
            if (done := ended.get()) is None:
                raise KeyboardInterrupt
            wanted.release()
            yield done
    finally:
        stopped.set()
        wanted.release()
