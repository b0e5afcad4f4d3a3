"""Many pairs on a cluster of ``dask.distributed``: one that runs, or processes on this machine."""

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from queue import SimpleQueue
from typing import Any

from agnoreg.evaluate.batch.table_in import Pair
from agnoreg.evaluate.batch.work import PAGE, evaluate_on_worker, failed, ready, with_page
from agnoreg.evaluate.evaluation import InputError
from agnoreg.files import one_line

__all__ = ["LostError", "check_cluster", "check_workers", "computed", "connected", "cpus"]

#: How long a scheduler may take to answer, in seconds.
CONNECT_SECONDS = 15
#: The scheduler's HTTP server cannot be left out: on any free port, it is in no other's way.
NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}

OUT_OF_MEMORY = "most likely out of memory. Fewer workers, or a larger limit, leave each more."
DIED = f"The worker process died twice while it computed this pair, the second time alone: {OUT_OF_MEMORY}"


class LostError(Exception):
    """The cluster is gone; the message says how."""


def computed(
    client: Any, pairs: Iterable[Pair], settings: Mapping[str, Any], ended: SimpleQueue[Any]
) -> Iterator[tuple[Pair, dict[str, Any], dict[str, Any]]]:
    """Yield each pair, its files when it was sent off, and what its worker returned, in the order in which they end.

    When a process dies, all pairs that its threads were computing are lost, and any of them may have been the cause.
    Each is therefore computed again at the end, alone, and fails only if the process dies again.
    """
    suspects = []
    for pair, files, result in _sent(client, pairs, settings, ended, at_once=None):
        if result is None:
            suspects.append(pair)
        else:
            yield pair, files, result
    for pair, files, result in _sent(client, suspects, settings, ended, at_once=1):
        yield pair, files, failed(DIED) if result is None else result


def _sent(
    client: Any, pairs: Iterable[Pair], settings: Mapping[str, Any], ended: SimpleQueue[Any], at_once: int | None
) -> Iterator[tuple[Pair, dict[str, Any], dict[str, Any] | None]]:
    """Send pairs to the workers, as many at once as these have threads: `computed`, with None where a worker died."""
    from distributed import KilledWorker

    waiting = iter(pairs)
    away: dict[Any, tuple[Pair, dict[str, Any]]] = {}

    def send() -> None:
        # Of a cluster that grows and shrinks. Where it has no thread, one pair waits for the first.
        room = at_once or max(1, sum(client.nthreads().values()))
        for pair in itertools.islice(waiting, max(0, room - len(away))):
            future = client.submit(evaluate_on_worker, dict(pair.paths), with_page(settings, pair.id), pure=False)
            away[future] = pair, pair.files()
            future.add_done_callback(ended.put)

    try:
        send()
        while away:
            future = ended.get()
            if future is None:
                raise KeyboardInterrupt
            pair, files = away.pop(future)
            if future.status == "finished":
                yield pair, files, future.result()
            elif future.status != "error":
                raise LostError("The connection to the scheduler was lost")
            elif isinstance(error := future.exception(), KilledWorker):
                yield pair, files, None
            else:
                yield pair, files, failed(f"{type(error).__name__}: {one_line(error)}")
            del future
            send()
    except OSError as error:
        raise LostError(f"The connection to the scheduler was lost: {one_line(error)}") from error


# --- the cluster ------------------------------------------------------------------------------------------------------


def cpus() -> int:
    """Return how many processes the local cluster has where nothing is said."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def check_cluster(scheduler: str | None, workers: int | None, memory_limit: str | None) -> Any:
    """Return the memory limit as the local cluster takes it."""
    if scheduler is not None and (workers is not None or memory_limit is not None):
        raise InputError("--workers and --memory-limit are of the local cluster: --scheduler has workers of its own.")
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}.")
    if memory_limit is None:
        return "auto"
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory_limit))
    except ValueError:
        size = -1
    if size < 0:
        raise InputError(f"--memory-limit must be a size such as 4GiB, or 0 for none, got {memory_limit!r}.")
    return size


@contextmanager
def connected(scheduler: str | None, workers: int, memory_limit: Any) -> Iterator[Any]:
    """Connect to a scheduler, or start a cluster on this machine."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        _knock(scheduler)
        logger = logging.getLogger("distributed.client")
        level = logger.level
        logger.setLevel(logging.CRITICAL)  # That a connection is lost is said in one line.
        try:
            with Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False) as client:
                yield client
        finally:
            logger.setLevel(level)
        return
    # Nothing is kept on a worker, so that one short of memory has nothing to spill, and must not wait to have less.
    memory = {f"distributed.worker.memory.{act}": False for act in ("target", "spill", "pause")}
    # A death is a row's error: neither is it logged, nor is the pair handed on to kill three workers more.
    with (
        dask.config.set(memory),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={"allowed_failures": 0, **NO_DASHBOARD},
            preload=[__name__],
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def dask_setup(worker: Any) -> None:
    """Prepare a worker of the local cluster: it ignores Ctrl-C, which the terminal sends to the client as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _knock(scheduler: str) -> None:
    """Raise InputError if nothing answers; a client that cannot connect would take long to close."""
    from distributed import Security, connect

    async def knock() -> None:
        security = Security().get_connection_args("client")
        connection = await connect(scheduler, timeout=CONNECT_SECONDS, **security)
        await connection.close()

    try:
        # In a thread of its own, as an event loop may run in this one: a notebook's.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, knock()).result()
    except Exception as error:  # No address, no answer, or one that is no scheduler's and whatever that makes.
        raise InputError(
            f"The scheduler {scheduler} cannot be reached within {CONNECT_SECONDS} s: {one_line(error)}. An address is "
            "such as tcp://10.0.0.1:8786."
        ) from error


def check_workers(client: Any, settings: Mapping[str, Any], tell: Callable[[str], None] | None) -> None:
    """Wait for the first worker, and check that it can compute, before every row fails for the same reason."""
    from distributed import KilledWorker

    backend = settings["backend"]
    if not client.nthreads():
        if tell is not None:
            tell("the scheduler has no worker yet; waiting for the first.")
        client.wait_for_workers(1)
    try:
        found = client.submit(ready, backend, settings["device"], PAGE in settings, pure=False).result()
    except InputError:
        raise
    except KilledWorker as error:
        raise InputError(f"A worker process died while it loaded the backend {backend}: {OUT_OF_MEMORY}") from error
    except Exception as error:
        raise InputError(f"The workers cannot compute: {type(error).__name__}: {one_line(error)}") from error
    if found != version("agnoreg"):
        raise InputError(
            f"The workers have agnoreg {found}, and this is {version('agnoreg')}: install one version on both."
        )
