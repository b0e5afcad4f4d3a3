"""What several tests share."""

import os
from pathlib import Path

# Every test compiles something that runs but a few times, and many compile the same: that is kept for all processes of
# all runs. These are JAX's own names, read when JAX is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import forced_slabs
import numpy as np
import pytest
from hypothesis import is_hypothesis_test, settings

import agnoreg
from conformance.settings import set_for

#: How many times as many examples property tests draw, for a thorough run: HYPOTHESIS_TIMES=20 pytest tests -k ...
TIMES = int(os.environ.get("HYPOTHESIS_TIMES", "1"))

# How long an example takes says how busy the machine is, and the first one compiles.
settings.register_profile("agnoreg", deadline=None)
settings.load_profile("agnoreg")

FRAMEWORKS = ("numpy", "torch", "tensorflow", "jax", "array_api_strict")
#: Names in files' names and in parameters that say which framework a test needs.
NAMED = {*FRAMEWORKS, "dask", "cupy", "keras"}


def _others(config):
    """Return the frameworks that ``--backend``, an option of the conformance suite, leaves out; without it none."""
    chosen = config.getoption("--backend", default=None)
    return NAMED - set(chosen) if chosen else set()


def pytest_ignore_collect(collection_path, config):
    """Leave out files of other frameworks than those asked for, which are imported there."""
    return any(name in collection_path.stem for name in _others(config)) or None


def pytest_collection_modifyitems(config, items):
    """Leave out tests that a parameter says to be of another framework than those asked for; draw more examples."""
    tests = {getattr(item, "obj", None) for item in items} if TIMES > 1 else ()
    for test in filter(is_hypothesis_test, tests):
        own = test._hypothesis_internal_use_settings
        test._hypothesis_internal_use_settings = settings(own, max_examples=TIMES * own.max_examples)
    others = _others(config)

    def of_another(item):
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        return any(isinstance(value, str) and value in others for value in values)

    dropped = [item for item in items if of_another(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not of_another(item)]


@pytest.fixture(params=FRAMEWORKS)
def backend(request):
    """Each framework's backend."""
    found = agnoreg.get_backend(request.param)
    with set_for("float64"):
        yield found


@pytest.fixture
def rng():
    """Return a seeded generator."""
    return np.random.default_rng(20)


@pytest.fixture
def no_kernels(monkeypatch):
    """Have everything computed by the core."""
    monkeypatch.setattr(agnoreg.Backend, "kernels", False)


@pytest.fixture
def small_slabs(no_kernels, monkeypatch):
    """Cut every image into slabs of one or a few planes, as large volumes are."""
    # Bins: a weight in each of 23 for some forty voxels.
    tiny = {"streaming": 200, "windows": 200, "bins": 1000, "voxels": 150}
    monkeypatch.setattr(agnoreg.backend.Execution, "slab_sizes", tiny)
    for name in ("torch", "tensorflow", "jax"):
        monkeypatch.setattr(type(agnoreg.get_backend(name).execution), "slab_sizes", tiny)


@pytest.fixture
def four_planes(monkeypatch):
    """Cut every image into slabs of four planes."""
    forced_slabs.force(monkeypatch.setattr)
