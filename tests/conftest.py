"""What several tests share."""

import numpy as np
import pytest

import agnoreg

FRAMEWORKS = ("numpy", "torch", "tensorflow", "array_api_strict")


@pytest.fixture(params=FRAMEWORKS)
def backend(request):
    """Each framework's backend."""
    return agnoreg.get_backend(request.param)


@pytest.fixture
def rng():
    """Return a seeded generator."""
    return np.random.default_rng(20)


@pytest.fixture
def small_slabs(monkeypatch):
    """Cut every image into slabs of one or a few planes, as large volumes are."""
    tiny = {"passing": 200, "windows": 200, "bins": 150, "voxels": 150}
    monkeypatch.setattr(agnoreg.Backend, "slab_sizes", tiny)
    for name in ("torch", "tensorflow"):
        monkeypatch.setattr(type(agnoreg.get_backend(name)), "slab_sizes", tiny)
