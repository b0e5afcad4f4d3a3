"""Threads that share the work of one call. Kernels let go of Python's lock, so these are Python's own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Any

#: More threads than these are never started; they are when there is work for them.
MOST = 1024
#: Where a part of a range begins and ends.
Part = tuple[int, int]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parts(size: int, count: int, grain: int = 1) -> list[Part]:
    """Divide a range into so many parts that are as good as alike, of whole grains but for the last."""
    grains = -(-size // grain)
    count = max(1, min(count, grains))
    bounds = [min(size, grains * i // count * grain) for i in range(count + 1)]
    return list(pairwise(bounds))


class _Pool:
    """Threads that are started when they are first needed; a process that was forked starts its own."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._executor = None

    def run(self, body: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], threads: int) -> list[Any]:
        """Return what ``body`` returns of each job; every thread does about as many, this one the first."""
        shares = parts(len(jobs), threads)

        def work(start: int, stop: int) -> list[Any]:
            return [body(*job) for job in jobs[start:stop]]

        if len(shares) == 1:
            return work(*shares[0])
        others = [self._submit(work, *share) for share in shares[1:]]
        done = work(*shares[0])
        for other, share in zip(others, shares[1:], strict=True):
            done += work(*share) if other is None else other.result()
        return done

    def _submit(self, work: Callable[..., Any], start: int, stop: int) -> Future[Any] | None:
        """Have a thread do some work; None where Python shuts down and starts none any more."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(MOST, thread_name_prefix="agnoreg")
        try:
            return self._executor.submit(work, start, stop)
        except RuntimeError:
            return None


run = _Pool().run
