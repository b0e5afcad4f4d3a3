"""Options, the backends of a run, and the table at its end.

``--backend NAME`` (repeatable)
    The backends to check: by default every registered one, and array_api_strict.
``--device NAME``
    Where their arrays are made, as the adapter's ``from_numpy`` takes it.
``--widest float32``
    Leave out what needs dtypes of 64 bit, as where a framework is set to have none; JAX is set so.
``--every-check``
    Leave nothing out: by default some checks of agnoreg's own adapters run for one case of each kind (`selection`).
``--report FILE``
    Write the table as Markdown.
"""

import importlib.util
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from .arrays import Maker
from .chosen import Chosen, choose, registered
from .report import Records, lines
from .selection import by_case, left_out
from .settings import set_for

CHOSEN = pytest.StashKey[list[Chosen]]()
RECORDS = pytest.StashKey[Records]()
COUNTS = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this suite."""
    group = parser.getgroup("agnoreg conformance")
    group.addoption(
        "--backend",
        action="append",
        metavar="NAME",
        help="a backend to check, repeatable; by default every registered one and array_api_strict",
    )
    group.addoption("--device", metavar="NAME", help="the device that arrays are made on, as the backend names it")
    group.addoption(
        "--widest",
        choices=("float64", "float32"),
        default="float64",
        help="the widest dtype to check; float32 leaves out all of 64 bit",
    )
    group.addoption("--every-check", action="store_true", help="leave out no case on any backend")
    group.addoption("--report", metavar="FILE", help="write the table of worst errors to FILE as Markdown")


def _chosen(config: pytest.Config) -> list[Chosen]:
    # Looked up when the first test asks, so that a run of other tests imports no framework for this suite.
    if CHOSEN not in config.stash:
        names = config.getoption("--backend") or registered()
        config.stash[CHOSEN] = choose(names, config.getoption("--device"))
    return config.stash[CHOSEN]


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a backend that nobody knows, and begin with no errors recorded."""
    config.addinivalue_line("markers", "more(backends): one more of its kind, left out on these backends")
    # pytest-xdist's mark, for where it is not installed.
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one process")
    for name in config.getoption("--backend") or []:
        if name not in registered() and importlib.util.find_spec(name) is None:
            raise pytest.UsageError(f"--backend {name}: no such backend; the known ones are {', '.join(registered())}.")
    if config.getoption("--report") and config.getoption("numprocesses", default=None):
        raise pytest.UsageError("--report needs the errors of all tests in one process: leave out -n.")
    config.stash[RECORDS] = Records()
    config.stash[COUNTS] = {"passed": 0, "failed": 0, "skipped": 0}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``backend`` once for each chosen one that can be used here.

    ``test_can_be_used`` skips the others, by name and with the reason; so does every test where there is no other.
    """
    if "chosen" in metafunc.fixturenames:
        metafunc.parametrize("chosen", _chosen(metafunc.config), ids=lambda one: one.name)
    if "backend" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config)
        usable = [one for one in chosen if one.backend is not None]
        metafunc.parametrize("backend", usable or chosen, ids=lambda one: one.name, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is dear and checked elsewhere, and have the tests of a case follow each other in one process."""
    if not config.getoption("--every-check"):
        dropped = [item for item in items if left_out(item)]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not left_out(item)]
    places: dict[tuple[str, str], int] = {}
    order = []
    for number, item in enumerate(items):
        if Path(__file__).parent in item.path.parents:
            # Windows of even size are to be computed however they lie.
            item.add_marker(pytest.mark.filterwarnings("ignore:An even kernel_size:UserWarning"))
        case = by_case(item)
        if case is not None:
            item.add_marker(pytest.mark.xdist_group("-".join(case)))
        order.append((number if case is None else places.setdefault(case, number), number))
    items[:] = [items[number] for _, number in sorted(order)]


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Any:
    """Return the adapter of the test's backend."""
    if request.param.backend is None:
        pytest.skip(request.param.reason)
    return request.param.backend


@pytest.fixture
def arrays(request: pytest.FixtureRequest) -> Callable[..., Maker]:
    """Return a function from a backend to a maker of its arrays on the chosen device."""
    device, widest = request.config.getoption("--device"), request.config.getoption("--widest")
    return lambda backend: Maker(backend, device, widest)


@pytest.fixture(autouse=True)
def settings(request: pytest.FixtureRequest) -> Generator[None]:
    """Set frameworks to have the widest dtype, for the time of the test."""
    with set_for(request.config.getoption("--widest")):
        yield


@pytest.fixture
def maker(backend: Any, arrays: Callable[[Any], Maker]) -> Maker:
    """Return a maker of the test's backend's arrays on the chosen device."""
    return arrays(backend)


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return ``record(loss_name, kind, value_error, gradient_error)``, which fills a cell of the table."""
    records = request.config.stash[RECORDS]

    def add(loss: str, kind: str, value: float | None, gradient: float | None = None) -> None:
        records.add(loss, kind, request.getfixturevalue("backend").name, value, gradient)

    return add


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count this suite's own outcomes: other tests may run beside it."""
    report = yield
    if report.when == "call" or not report.passed:
        item.config.stash[COUNTS][report.outcome] += 1
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, and write it where ``--report`` says."""
    if CHOSEN not in config.stash:
        return
    text = list(lines(config.stash[RECORDS], config.stash[CHOSEN], config.getoption("--device"), config.stash[COUNTS]))
    terminalreporter.section("agnoreg conformance")
    for line in text:
        terminalreporter.write_line(line)
    if path := config.getoption("--report"):
        Path(path).write_text("# Conformance\n\n" + "\n".join(text) + "\n", encoding="utf-8")
        terminalreporter.write_line(f"\nwritten to {path}")
