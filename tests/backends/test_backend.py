"""Finding the adapter of an array, dtypes, and what the base class gives to any framework."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import agnoreg
from agnoreg.backend import Backend
from agnoreg.backend.windows import window_sum
from agnoreg.engine.accelerated import Evaluation, KernelMeasure, recast
from agnoreg.measures.ssd import SquaredDifference

ROOT = Path(agnoreg.__file__).parents[1]


def test_backends_are_found_by_array_and_by_name(backend, rng):
    x = backend.from_numpy(rng.random((1, 2)))
    assert agnoreg.backend_of(x) is backend
    assert agnoreg.get_backend(backend.name) is backend
    np.testing.assert_array_equal(backend.to_numpy(backend.from_numpy(np.arange(3))), [0, 1, 2])


def test_an_unknown_backend_lists_the_known():
    with pytest.raises(
        ValueError,
        match="Unknown backend 'tensorlow': the installed adapters are cupy, dask, jax, numpy, tensorflow, torch",
    ):
        agnoreg.get_backend("tensorlow")
    with pytest.raises(ValueError, match="Unknown backend 'json'"):
        agnoreg.get_backend("json")


def test_available_backends_states_each():
    states = agnoreg.available_backends()
    assert states["numpy"] == states["torch"] == states["tensorflow"] == states["jax"] == "ok"
    assert states["cupy"] == "ok" or re.match("(absent|broken): ", states["cupy"])


def test_cupy_imports_without_a_card_and_says_so():
    pytest.importorskip("cupy", reason="CuPy has no wheel for this platform")
    backend = agnoreg.get_backend("cupy")
    state = agnoreg.available_backends()["cupy"]
    if backend.execution.unusable():
        assert state.startswith("broken: no CUDA device: ")
    else:
        assert state == "ok"
        x = backend.from_numpy(np.ones((1, 4)))
        assert agnoreg.backend_of(x) is backend


def test_memory_maps_and_subclasses_are_numpy_arrays(tmp_path, rng):
    x = rng.random((1, 4, 4, 4))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert agnoreg.build_loss("ssd")(mapped, x) == 0
    value, gradient = agnoreg.value_and_grad(agnoreg.build_loss("ssd"), np.ma.masked_array(x), mapped)
    assert type(value) is type(gradient) is np.ndarray
    with pytest.raises(TypeError, match="has masked voxels"):
        agnoreg.functional.ssd(np.ma.masked_array(x, mask=x > 0.5), x)


def test_other_byte_orders_and_precisions_keep_their_digits(rng):
    x, y = rng.random((2, 1, 4, 4, 4))
    for dtype in (">f8", np.longdouble):
        value, gradient = agnoreg.value_and_grad(agnoreg.build_loss("ssd"), x.astype(dtype), y.astype(dtype))
        assert value.dtype == np.float64
        assert value == agnoreg.build_loss("ssd")(x, y)
        assert gradient.dtype in (np.float64, np.longdouble)
    assert agnoreg.functional.ssd(x.astype(">f4"), y.astype(">f4")).dtype == np.float32


@pytest.mark.parametrize("dtype", ["M8[D]", "U3", [("a", "f4")], object])
def test_dtypes_that_are_no_numbers_are_refused(dtype):
    x = np.zeros((1, 2), dtype=dtype)
    with pytest.raises(TypeError, match="takes real numbers"):
        agnoreg.functional.ssd(x, x)


#: The table of docs/dtypes.md: what a loss of arrays of this dtype is computed in and returned as.
FLOAT32 = ("bool", "uint8", "int8", "uint16", "int16", "float16", "float32")
DEFAULT = ("int32", "int64", "uint32", "uint64")
DEFAULT_FLOAT = {
    "numpy": "float64",
    "torch": "float32",
    "tensorflow": "float32",
    "jax": "float64",
    "array_api_strict": "float64",
}


def expected_dtype(name, framework):
    if name in FLOAT32:
        return "float32"
    return DEFAULT_FLOAT[framework] if name in DEFAULT else "float64"


@pytest.mark.parametrize("dtype", [*FLOAT32, *DEFAULT, "float64"])
def test_the_table_of_dtypes(backend, dtype):
    if backend.name == "array_api_strict" and dtype == "float16":
        with pytest.raises(TypeError):
            backend.from_numpy(np.ones((1, 4), dtype=dtype))
        return
    x = backend.from_numpy(np.ones((1, 4), dtype=dtype))
    alone = expected_dtype(dtype, backend.name)
    value, gradient = agnoreg.value_and_grad(agnoreg.build_loss("dice"), x, x)
    assert str(backend.to_numpy(value).dtype) == alone
    assert str(backend.to_numpy(gradient).dtype) == (dtype if dtype.startswith("float") else alone)
    for other in ("float32", "float64", "uint8", "int64"):
        y = backend.from_numpy(np.ones((1, 4), dtype=other))
        wider = "float64" if "float64" in (alone, expected_dtype(other, backend.name)) else "float32"
        assert str(backend.to_numpy(agnoreg.functional.dice(x, y)).dtype) == wider


def test_the_documented_table_is_the_tested_one():
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", (ROOT / "docs" / "dtypes.md").read_text(), flags=re.MULTILINE)
    documented = {name.strip(): value for names, value, _ in rows[2:] for name in names.split(",")}
    for framework, default in DEFAULT_FLOAT.items():
        for name in (*FLOAT32, *DEFAULT, "float64"):
            value = documented[name]
            if name in DEFAULT:
                value = default
                assert "default float" in documented[name]
            assert value == expected_dtype(name, framework), (framework, name)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("width", range(1, 12))
def test_windows_by_doubling_are_sums_of_shifted_copies(width, transpose, rng):
    x = rng.integers(-9, 9, (2, 13, 5)).astype(float)
    for taps in (
        (1.0,) * width,
        tuple(float(min(i, width - 1 - i) + 1) for i in range(width)),
        tuple(rng.random(width).tolist()),
    ):
        matrix = np.zeros((13, 13))
        for i in range(13):
            for j, tap in enumerate(taps):
                if 0 <= i + j - (width - 1) // 2 < 13:
                    matrix[i, i + j - (width - 1) // 2] = tap
        expected = np.einsum("ij,bjk->bik", matrix.T if transpose else matrix, x)
        np.testing.assert_allclose(
            window_sum(array_api_strict, array_api_strict.asarray(x), taps, 1, transpose), expected
        )


def test_conv3d_and_its_transpose_are_adjoint(backend, rng):
    x, y = rng.random((2, 2, 7, 6, 5, 3))
    kernels = ((1.0, 2.0, 0.5, 4.0), None, (1.0,) * 4)
    forward = backend.to_numpy(backend.operations.conv3d(backend.from_numpy(x), kernels))
    back = backend.to_numpy(backend.operations.conv3d(backend.from_numpy(y), kernels, transpose=True))
    assert (forward * y).sum() == pytest.approx((x * back).sum())


def test_scatter_add_adds_what_meets(rng):
    index, weights = np.asarray([0, 2, 2, 4]), np.asarray([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    for name in ("numpy", "torch", "tensorflow", "jax"):
        backend = agnoreg.get_backend(name)
        added = backend.to_numpy(
            backend.operations.scatter_add(backend.from_numpy(index), backend.from_numpy(weights), 6)
        )
        assert added.dtype == np.float32
        np.testing.assert_array_equal(added, [1, 0, 5, 0, 4, 0])
    with pytest.raises(NotImplementedError, match="has no scatter_add"):
        Backend("other", array_api_strict).operations.scatter_add(None, None, 6)


def test_an_adapter_may_compute_a_measure_in_its_own_way(monkeypatch, rng):
    seen = []

    class Own:
        def __init__(self, measure):
            self.measure = measure

        def compute(self, backend, arrays):
            seen.append(self.measure.kernel_size)
            return self.measure.compute(backend, arrays)

    backend = agnoreg.get_backend("numpy")
    t, p = rng.random((2, 1, 6, 6, 6))
    monkeypatch.setattr(backend, "kernels", False)
    expected = agnoreg.functional.lncc(t, p, kernel_size=5)
    monkeypatch.setattr(backend.execution, "override", lambda measure, arrays: Own(measure))
    np.testing.assert_array_equal(agnoreg.functional.lncc(t, p, kernel_size=5), expected)
    assert seen == [5]


def test_the_extras_of_frameworks_that_have_kernels_on_the_host_bring_numba():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    having = {
        name
        for name in ("torch", "tensorflow", "jax", "dask")
        if "host" in agnoreg.get_backend(name).execution.memories
    }
    assert having == {name for name in ("torch", "tensorflow", "jax", "dask") if "agnoreg[numba]" in extras[name]}
    assert having == {"torch", "tensorflow", "jax"}


def test_an_author_of_an_adapter_meets_ten_members_and_five_parts():
    backend = Backend("other", array_api_strict)
    parts = {"dtypes", "execution", "operations", "autodiff", "counting"}
    members = {name for name in dir(backend) if not name.startswith("_")}
    assert parts < members
    assert len(members - parts) <= 10, members


def test_adapters_import_no_kernels_and_kernels_no_adapter():
    adapters = {"numpy", "cupy", "torch", "tensorflow", "jax", "dask", "keras"}
    for path in (ROOT / "backends").rglob("*.py"):
        own = path.relative_to(ROOT / "backends").parts[0].removesuffix(".py").removeprefix("agnoreg_")
        found = set(re.findall(r"^\s*(?:from|import) agnoreg_(\w+)", path.read_text(), flags=re.MULTILINE)) - {own}
        assert not found & ({"cpu", "cuda"} if own in adapters else adapters), path


class Doubled(KernelMeasure, SquaredDifference):
    """The squared difference by somebody else's kernels."""

    def add_up(self, call):
        t, p = call.images
        return (np.sum((t - p) ** 2, axis=(1, 2, 3), dtype=float),)

    def slope(self, call, coefficients, index):
        own, other = call.images[index], call.images[1 - index]
        return 2.0 * coefficients[0][:, None, None, None] * (own - other)


class Others:
    """An accelerator that somebody else has installed."""

    def __init__(self):
        self.calls = 0

    def missing(self):
        return "without theirs: slower"

    def evaluation(self, measure, backend, memory, arrays, otherwise):
        if type(measure) is not SquaredDifference:
            return None
        self.calls += 1
        given = tuple(map(memory.take, arrays))
        return Evaluation(recast(measure, Doubled), memory, given, measure.to_canonical(backend, given), otherwise)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_an_accelerator_of_anybodys_gives_sums_and_gradients_and_the_core_keeps_the_books(name, monkeypatch, rng):
    backend, others = agnoreg.get_backend(name), Others()
    t, p = (backend.from_numpy(x) for x in rng.random((2, 3, 4, 5, 6)))
    loss, dice = agnoreg.build_loss({"name": "ssd", "reduction": "none"}), agnoreg.build_loss("dice")
    cotangent = backend.from_numpy(np.asarray([1.0, -2.0, 0.5]))

    def computed():
        measure = loss.measure()
        value, saved = measure.forward(backend, (t, p), (0, 1))
        later = measure.backward(backend, (t, p), (1, 0), (0, 1), saved, cotangent)
        return value, *later, loss(t, p), *measure.value_and_gradients(backend, (t, p), (1,), 3.0)[1]

    expected, other = [*map(backend.to_numpy, computed())], backend.to_numpy(dice(t, p))
    monkeypatch.setattr("agnoreg.engine.chosen.accelerators", lambda kind: (others,) if kind == "host" else ())
    for got, wanted in zip(map(backend.to_numpy, computed()), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert others.calls == 4
    np.testing.assert_allclose(backend.to_numpy(dice(t, p)), other, rtol=1e-12)


def test_a_backend_is_told_to_be_ok_with_what_kernels_would_bring():
    # Frameworks that cannot be imported take no time.
    code = """
import sys
sys.modules.update(dict.fromkeys([sys.argv[1], "torch", "tensorflow", "cupy", "jax", "dask"]))
import agnoreg
print(agnoreg.available_backends()["numpy"])
"""
    for module in ("numba", "filelock"):
        done = subprocess.run([sys.executable, "-c", code, module], capture_output=True, text=True, check=True)
        expected = f"ok (without {module.capitalize()}: several times slower; pip install numba filelock)"
        assert done.stdout.strip() == expected


def test_the_core_names_no_framework():
    for path in (ROOT / "agnoreg").rglob("*.py"):
        source = path.read_text().lower()
        for name in ("torch", "tensorflow", "cupy", "jax", "keras"):
            assert name not in source, path
