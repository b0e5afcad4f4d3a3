"""What is measured in whole processes rather than calls: each is a table of its own on the page."""

from collections.abc import Callable
from importlib import import_module

from benchmarks.tables import Table


def _of(module: str) -> Callable[[], Table]:
    # Imported when it runs: Dask's needs what an environment of one framework may lack.
    return lambda: import_module(f"benchmarks.{module}").measured()


#: By the names that ``--section`` takes.
WHOLE = {"first-call": _of("first_call"), "compiling": _of("compiling"), "busy": _of("busy"), "dask": _of("scaling")}
