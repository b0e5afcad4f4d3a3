"""What frameworks do not make public: a name that has vanished is told here, and what is computed stays right."""

import importlib

import numpy as np
import pytest

import agnoreg
from agnoreg.backend.private import PrivateNames

MODULES = {
    "torch": "agnoreg_torch._private",
    "tensorflow": "agnoreg_tensorflow._private",
    "jax": "agnoreg_jax._private",
    "dask": "agnoreg_dask._private",
    "numba": "agnoreg_cpu._private",
}


@pytest.mark.parametrize("framework", MODULES)
def test_no_private_name_of_a_framework_has_vanished(framework):
    pytest.importorskip(framework, reason=f"{framework} has no wheel for this platform")
    missing = importlib.import_module(MODULES[framework]).names.missing
    assert not missing, f"{framework} no longer has {', '.join(missing)}: see what {MODULES[framework]} does instead."


def test_a_name_that_vanished_is_named_and_its_default_taken():
    names = PrivateNames()
    assert names.find("json.decoder.scanstring") is not None
    assert names.find("json.decoder.vanished", 3) == 3
    assert names.find("json.vanished.scanner") is names.find("vanished.scanner") is None
    assert names.missing == ["json.decoder.vanished", "json.vanished.scanner", "vanished.scanner"]


def images(backend):
    rng = np.random.default_rng(4)
    return tuple(backend.from_numpy(rng.random((2, 7, 8, 9), dtype=np.float32)) for _ in range(2))


def all_but(module):
    """Return the private names that a module found, and None: each is taken away alone, then all of them."""
    found = [name for name in vars(module) if name.startswith("_") and not name.startswith("__")]
    values = [name for name in found if callable(getattr(module, name)) and not _own(module, name)]
    return [[name] for name in values] + [values]


def _own(module, name):
    return getattr(getattr(module, name), "__module__", None) == module.__name__


@pytest.mark.parametrize("name", ["lncc", "dice"])
def test_without_pytorchs_private_names_numbers_and_gradients_stay(name, monkeypatch):
    torch = pytest.importorskip("torch")
    from agnoreg_torch import _private

    loss = agnoreg.build_loss(name)
    t, p = images(agnoreg.get_backend("torch"))
    mask = torch.ones_like(t)

    def computed():
        q = p.clone().requires_grad_()
        value = loss(t, q)
        masked = loss(t, q, mask=mask)
        (gradient,) = torch.autograd.grad(value, q)
        mapped = torch.func.vmap(lambda a, b: loss(a[None], b[None]))(t, p)
        return value, masked, gradient, mapped, torch.func.grad(lambda b: loss(t, b))(p)

    expected = computed()
    chosen = all_but(_private)
    assert len(chosen) == 1 + len(_private.names.missing) + 8
    for vanished in chosen:
        with monkeypatch.context() as patch:
            for one in vanished:
                patch.setattr(_private, one, None)
            for got, wanted in zip(computed(), expected, strict=True):
                torch.testing.assert_close(got, wanted, rtol=2e-5, atol=1e-7)


def test_without_jaxs_private_names_numbers_and_gradients_stay(monkeypatch):
    jax = pytest.importorskip("jax")
    from agnoreg_jax import _private

    loss = agnoreg.build_loss("dice")
    t, p = images(agnoreg.get_backend("jax"))

    def computed():
        jax.clear_caches()
        return loss(t, p), jax.grad(lambda p: loss(t, p))(p), jax.jit(loss)(t, p)

    expected = computed()
    for name in ("_Tracer", "_SymbolicZero"):
        monkeypatch.setattr(_private, name, None)
    for got, wanted in zip(computed(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_without_dasks_private_names_numbers_and_gradients_stay(monkeypatch):
    pytest.importorskip("dask")
    from agnoreg_dask import _private

    loss = agnoreg.build_loss("lncc")
    backend = agnoreg.get_backend("dask")
    t, p = images(backend)
    expected = [backend.to_numpy(one) for one in agnoreg.value_and_grad(loss, t, p)]
    for name in ("_DataNode", "_Task", "_convert_legacy_graph", "_clone_key"):
        monkeypatch.setattr(_private, name, None)
    for got, wanted in zip(agnoreg.value_and_grad(loss, t, p), expected, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(got), wanted)
