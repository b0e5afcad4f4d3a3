"""Threads that share the work of one call. Kernels release Python's global lock, so Python threads suffice."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from threading import Lock, Thread
from typing import Any

#: Where a part of a range begins and ends.
Part = tuple[int, int]


def parts(size: int, count: int, grain: int = 1) -> list[Part]:
    """Divide a range into nearly equal parts, each a multiple of the grain except for the last."""
    grains = -(-size // grain)
    count = max(1, min(count, grains))
    bounds = [min(size, grains * i // count * grain) for i in range(count + 1)]
    return list(pairwise(bounds))


class _Thread:
    """A thread that runs one job after another; handing jobs over by a lock is faster than by a queue."""

    def __init__(self) -> None:
        self._begin, self._done = Lock(), Lock()
        self._begin.acquire()
        self._done.acquire()
        self._work: Callable[[], list[Any]] | None = None
        self._outcome: list[Any] | BaseException = []
        Thread(target=self._loop, name="agnoreg", daemon=True).start()

    def begin(self, work: Callable[[], list[Any]]) -> None:
        """Start a job."""
        self._work = work
        self._begin.release()

    def end(self) -> list[Any] | BaseException:
        """Wait for the job, and return its result or the error that it raised."""
        self._done.acquire()
        outcome, self._outcome = self._outcome, []
        return outcome

    def _loop(self) -> None:
        while True:
            self._begin.acquire()
            assert self._work is not None
            try:
                self._outcome = self._work()
            except BaseException as error:
                self._outcome = error
            # The arrays of a call are its caller's alone when it is over.
            self._work = None
            self._done.release()


class _Pool:
    """Threads that are started on first use; a forked process starts its own."""

    def __init__(self) -> None:
        self._idle: list[_Thread] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._idle.clear)

    def run(self, body: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], threads: int) -> list[Any]:
        """Return what ``body`` returns of each job; every thread does about as many, this one the last."""

        def work(start: int, stop: int) -> list[Any]:
            return [body(*job) for job in jobs[start:stop]]

        shares = parts(len(jobs), threads)
        others: list[_Thread] = []
        for share in shares[:-1]:
            other = self._thread()
            if other is None:
                break
            other.begin(partial(work, *share))
            others.append(other)
        try:
            own = [result for share in shares[len(others) :] for result in work(*share)]
        finally:
            # Also where this thread's share failed: nothing goes on behind the caller's back.
            outcomes = [other.end() for other in others]
            self._idle += others
        results: list[Any] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results += outcome
        return results + own

    def _thread(self) -> _Thread | None:
        """Return an idle thread; None if Python is shutting down and starts no more threads."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        try:
            return _Thread()
        except RuntimeError:
            return None


run = _Pool().run
