"""Which checks of a case run where: all of them on most backends, fewer where every check is dear.

JAX, TensorFlow, Dask and the strict namespace take long over each check: they compile, plan or look at every operation. What
these checks ask of them is whether their loops and hooks are right, and those do not see a loss's numbers. So one case of
each kind of work is checked there, and all cases on the others: NumPy, PyTorch, and every adapter that is not agnoreg's own.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest

from .cases import Case
from .chosen import Chosen

#: On these backends what is marked as `MORE` is left out.
DEAR = frozenset({"jax", "tensorflow", "dask", "array_api_strict"})
MORE = pytest.mark.more


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


def one_of_each(cases: Iterable[Case], kind: Callable[[Case], Hashable]) -> list[Any]:
    """Return all cases as parameters of a test, marked as `MORE` but for the first of each kind."""
    seen, parameters = set(), []
    for case in cases:
        first = kind(case) not in seen
        seen.add(kind(case))
        parameters.append(pytest.param(case, id=str(case), marks=() if first else MORE))
    return parameters


def _parameters(item: pytest.Item) -> tuple[Any, Any]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("backend"), parameters.get("case")


def left_out(item: pytest.Item) -> bool:
    """Whether a test is one more of a kind, on a backend where it is dear."""
    chosen, _ = _parameters(item)
    return item.get_closest_marker("more") is not None and isinstance(chosen, Chosen) and chosen.name in DEAR


def by_case(item: pytest.Item) -> tuple[str, str] | None:
    """Return the backend and the case of a test, None where it has none: tests of one case share what is compiled."""
    chosen, case = _parameters(item)
    return (chosen.name, str(case)) if isinstance(chosen, Chosen) and isinstance(case, Case) else None
