"""Which checks of a case run where: all of them on most backends, fewer where every check is dear.

JAX, TensorFlow, Dask and the strict namespace take long over each check: they compile, plan or look at every operation.
What these checks ask of them is whether their loops and hooks are right, and those do not see a loss's numbers. So one
case of each kind of work is checked there, and all cases on NumPy, PyTorch and every adapter that is not agnoreg's own.
Value and gradients against the reference in float64 are checked everywhere, of every case.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest

from .cases import Case
from .chosen import Chosen

DEAR = ("jax", "tensorflow", "dask", "array_api_strict")


def unless(dear: tuple[str, ...] = DEAR) -> pytest.MarkDecorator:
    """Return the mark of a check that is left out on these backends."""
    return pytest.mark.more(dear)


def kind_of_work(case: Case) -> Hashable:
    """Return what of a case decides how its planes pass by and how its gradient is hung on autodiff."""
    options = dict(case.options)
    size = options.get("kernel_size", 9)
    size = size if isinstance(size, int) else size[0]
    names = ("kernel_type", "padding", "stencil")
    return case.cls, bool(case.masked), "scales" in options, size % 2, *(options.get(name) for name in names)


def formula(case: Case) -> Hashable:
    """Return what of a case decides by which formula its voxels are computed: all options but numbers and layouts."""
    chosen = [item for item in case.options if isinstance(item[1], str | bool) and item[0] != "data_format"]
    return kind_of_work(case), *sorted(chosen)


def firsts(cases: Iterable[Case], kind: Callable[[Case], Hashable]) -> list[Case]:
    """Return the first case of each kind."""
    found: dict[Hashable, Case] = {}
    for case in cases:
        found.setdefault(kind(case), case)
    return list(found.values())


def one_of_each(cases: list[Case], kind: Callable[[Case], Hashable], dear: tuple[str, ...] = DEAR) -> list[Any]:
    """Return all cases as parameters of a test, on the backends that are dear only the first of each kind."""
    kept = firsts(cases, kind)
    return [pytest.param(case, id=str(case), marks=() if case in kept else unless(dear)) for case in cases]


def _parameters(item: pytest.Item) -> tuple[Any, Any]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("backend"), parameters.get("case")


def left_out(item: pytest.Item) -> bool:
    """Return whether a test is one more of a kind, on a backend where it is dear."""
    chosen, _ = _parameters(item)
    return isinstance(chosen, Chosen) and any(chosen.name in mark.args[0] for mark in item.iter_markers("more"))


def by_case(item: pytest.Item) -> tuple[str, str] | None:
    """Return the backend and the case of a test, None where it has none: tests of one case share what is compiled."""
    chosen, case = _parameters(item)
    return (chosen.name, str(case)) if isinstance(chosen, Chosen) and isinstance(case, Case) else None
