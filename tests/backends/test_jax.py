"""The JAX adapter inside JAX's transformations, in optimisation steps, in loops, and with float64 or without.

NumPy's adapter is what its results are compared with.
"""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from every import LOSSES

import agnoreg
from conformance.settings import quickly

SHAPE = (1, 12, 13, 14)


@pytest.fixture(autouse=True)
def float64():
    """Let JAX have float64, which most of these tests compare with."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def four_planes(monkeypatch):
    """Force slabs of 4 planes of such an image, whatever a loss makes of a plane; kernels know no slabs."""
    monkeypatch.setattr(agnoreg.Backend, "kernels", False)
    # A plane with the gaps of a window of 9, of bending energy and of the gradient norm takes 672, 816 and 720 numbers.
    sizes = {"streaming": 3300, "windows": 4 * 13 * 14, "bins": 4 * 13 * 14 * 23, "voxels": 4 * 13 * 14}
    monkeypatch.setattr(type(agnoreg.get_backend("jax").execution), "slab_sizes", sizes)


def quick_jit(function):
    """Compile a function quickly rather than well, for it runs but once."""
    return jax.jit(function, compiler_options=quickly())


def arrays_for(loss, rng, shape=SHAPE, dtype=np.float64):
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [rng.random(size).astype(dtype) for _ in range(loss.inputs)]


def error(found, expected):
    """Return the largest difference, relative to the largest expected number."""
    expected = np.asarray(expected)
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


# --- optimisation -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_step_of_an_optimiser_is_the_one_that_numpys_gradient_gives(rng, name, dtype):
    loss = LOSSES[name]()
    *fixed, moving = arrays_for(loss, rng, dtype=dtype)
    expected, gradient = agnoreg.value_and_grad(loss, *fixed, moving)
    optimiser = optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(moving, state):
        value, slope = jax.value_and_grad(lambda x: loss(*fixed_arrays, x))(moving)
        updates, state = optimiser.update(slope, state)
        return value, slope, optax.apply_updates(moving, updates), state

    fixed_arrays, array = [jnp.asarray(x) for x in fixed], jnp.asarray(moving)
    value, slope, moved, _ = step(array, optimiser.init(array))
    assert value.dtype == slope.dtype == moved.dtype == dtype
    limit = 1e-11 if dtype == "float64" else 2e-5
    assert abs(float(value) - float(expected)) <= limit * max(abs(float(expected)), 1e-2)
    assert error(slope, gradient) <= limit
    np.testing.assert_allclose(moved, moving - 0.1 * gradient, rtol=0, atol=0.1 * limit * np.abs(gradient).max() + 1e-7)


@pytest.mark.parametrize("name", ["lncc", "bending"])
def test_adam_lowers_the_loss(rng, name):
    loss = LOSSES[name]()
    *fixed, moving = (jnp.asarray(x) for x in arrays_for(loss, rng))
    optimiser = optax.adam(0.02)
    state, values = optimiser.init(moving), []
    step = jax.jit(jax.value_and_grad(lambda x: loss(*fixed, x)))
    for _ in range(8):
        value, slope = step(moving)
        updates, state = optimiser.update(slope, state)
        moving = optax.apply_updates(moving, updates)
        values.append(float(value))
    assert all(after < before for before, after in itertools.pairwise(values))


# --- second derivatives -----------------------------------------------------------------------------------------------

SECOND = {
    "lncc": {"name": "lncc", "kernel_size": 3},
    "signed lncc": {"name": "lncc", "kernel_size": 3, "squared": False},
    "gmi": {"name": "gmi", "num_bins": 6},
    "gncc": {"name": "gncc"},
    "ssd": {"name": "ssd"},
    "dice": {"name": "dice"},
    "cross-entropy": {"name": "cross-entropy", "background_weight": 0.3},
    "bending": {"name": "bending", "spacing": (0.7, 1.5, 2.0)},
    "a weighted sum": [{"name": "gncc", "weight": 2.0}, {"name": "dice", "scales": [0, 1], "weight": 0.5}],
}


@pytest.mark.parametrize("name", SECOND)
def test_a_hessian_is_the_difference_of_numpys_gradients_and_what_jax_derives_itself(rng, name):
    loss = agnoreg.build_loss(SECOND[name])
    # Not close to 0 or 1, where logarithms bend too much for a difference.
    *fixed, moving = (0.1 + 0.8 * x for x in arrays_for(loss, rng, (1, 5, 6, 5)))
    given = [jnp.asarray(x) for x in fixed]

    def of(x):
        return loss(*given, x)

    hessian = np.asarray(quick_jit(jax.hessian(of))(jnp.asarray(moving))).reshape(moving.size, moving.size)
    scale = np.abs(hessian).max()
    assert np.abs(hessian - hessian.T).max() <= 1e-10 * scale
    with agnoreg.native_autodiff():
        native = np.asarray(quick_jit(jax.hessian(of))(jnp.asarray(moving))).reshape(hessian.shape)
    assert np.abs(hessian - native).max() <= 1e-9 * scale
    for _ in range(3):
        direction = rng.standard_normal(moving.shape)
        ends = [agnoreg.value_and_grad(loss, *fixed, moving + step * direction)[1] for step in (1e-6, -1e-6)]
        slope = (ends[0] - ends[1]).ravel() / 2e-6
        assert np.abs(hessian @ direction.ravel() - slope).max() <= 1e-6 * np.abs(slope).max()


def test_a_mask_leaves_rows_of_the_hessian_empty_and_the_others_right(rng):
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 3})
    t, p = arrays_for(loss, rng, (1, 5, 6, 5))
    mask = rng.random(t.shape) > 0.3
    function = quick_jit(jax.hessian(lambda p, mask: loss(jnp.asarray(t), p, mask=mask)))
    spoiled = np.where(mask, p, np.nan)
    hessian = np.asarray(function(jnp.asarray(spoiled), jnp.asarray(mask))).reshape(p.size, p.size)
    assert not hessian[~mask.ravel()].any()
    direction = rng.standard_normal(p.shape)
    ends = [agnoreg.value_and_grad(loss, t, p + step * direction, mask=mask)[1] for step in (1e-6, -1e-6)]
    slope = (ends[0] - ends[1]).ravel() / 2e-6
    assert np.abs(hessian @ direction.ravel() - slope).max() <= 1e-6 * np.abs(slope).max()


# --- loops ------------------------------------------------------------------------------------------------------------


def equations(jaxpr):
    """Yield the equations of a jaxpr and of those in it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


@pytest.mark.usefixtures("four_planes")
@pytest.mark.parametrize(("name", "loops"), [("lncc", 1), ("gmi", 2), ("dice", 2), ("ssd", 1), ("bending", 1)])
def test_what_is_traced_is_a_loop_whose_size_the_number_of_planes_does_not_change(rng, name, loops):
    loss = LOSSES[name]()
    counts = []
    for planes in (24, 48, 96):
        arrays = [jnp.asarray(x) for x in arrays_for(loss, rng, (1, planes, 13, 14))]
        jaxpr = jax.make_jaxpr(jax.value_and_grad(loss, argnums=loss.inputs - 1))(*arrays)
        names = [equation.primitive.name for equation in equations(jaxpr.jaxpr)]
        assert names.count("scan") + names.count("while") == loops
        counts.append(len(names))
    # The last slab may be a smaller one, of its own.
    assert max(counts) <= counts[0] + 60
    assert counts[1] == counts[2]


def test_planes_from_a_traced_start_are_those_from_the_same_number(rng):
    backend = agnoreg.get_backend("jax")
    x = jnp.asarray(rng.random((2, 7, 3)))
    for count in (2, 7, 9):
        planes = jax.jit(lambda start, count=count: backend.execution.planes(x, start, count, beyond=True))
        for start in range(12):
            expected = backend.execution.planes(x, start, count, beyond=True)
            np.testing.assert_array_equal(planes(start), expected)
    inner = jax.jit(lambda start: backend.execution.planes(x, start, 3))
    for start in range(5):
        np.testing.assert_array_equal(inner(start), x[:, start : start + 3])


LARGE = """
from contextlib import suppress
from pathlib import Path
import jax
import jax.numpy as jnp
import numpy as np
import agnoreg

# Its own path is what takes memory, or does not.
agnoreg.Backend.kernels = False

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

rng = np.random.default_rng(0)
for name in ("lncc", "gmi", "bending"):
    loss = agnoreg.build_loss(name)
    def arrays(n):
        shape = (1, n, n, n, 3) if loss.inputs == 1 else (1, n, n, n)
        return [rng.random(shape, dtype=np.float32) for _ in range(loss.inputs)]
    step = jax.jit(jax.value_and_grad(loss, argnums=loss.inputs - 1))
    jax.block_until_ready(step(*map(jnp.array, arrays(12))))
    given = arrays(96)
    on_device = [jnp.array(x) for x in given]
    compiled = step.lower(*on_device).compile()
    with suppress(OSError):
        # The peak begins anew, where the system lets it.
        Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    value, gradient = jax.block_until_ready(compiled(*on_device))
    after = peak()
    expected, slope = agnoreg.value_and_grad(loss, *given)
    close = np.abs(np.asarray(gradient) - slope).max() / np.abs(slope).max()
    temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20
    print(name, given[0].nbytes / 2**20, after - before, temporary, abs(value - expected), close)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_96_cubed_takes_little_memory_and_gives_numpys_gradient():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print("\nloss, MiB of an input, MiB more at the peak, MiB of XLA's temporaries, errors of value and gradient:")
    print(done.stdout)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["lncc", "gmi", "bending"]
    for _, size, more, temporary, by_value, by_gradient in rows:
        # An unrolled loop over such slabs would hold everything that each of them makes.
        assert float(temporary) <= 48.0
        assert float(more) <= float(temporary) + 4 * float(size) + 32.0
        assert float(by_value) <= 1e-7
        assert float(by_gradient) <= 1e-4


# --- dtypes and devices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(rng, dtype):
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 5})
    t, p = (jnp.asarray(x, dtype=dtype) for x in arrays_for(loss, rng))
    exact_value, exact = agnoreg.value_and_grad(loss, *(np.asarray(x).astype(np.float64) for x in (t, p)))
    value, gradient = jax.value_and_grad(loss, argnums=1)(t, p)
    assert value.dtype == jnp.float32
    assert gradient.dtype == p.dtype
    assert float(value) == pytest.approx(float(exact_value), rel=1e-5)
    assert error(np.asarray(gradient).astype(np.float64), exact) <= {"float16": 2**-10, "bfloat16": 2**-7}[dtype]


def test_labels_of_integers_have_no_gradient_and_get_in_no_ones_way(rng):
    labels, p = (rng.random(SHAPE) > 0.5).astype(np.int16), rng.random(SHAPE)
    loss = agnoreg.build_loss("dice")
    _, expected = agnoreg.value_and_grad(loss, labels.astype(np.float64), p)
    slope = jax.jit(jax.grad(loss, argnums=1))(jnp.asarray(labels), jnp.asarray(p))
    np.testing.assert_allclose(slope, expected, rtol=1e-10)
    with pytest.raises(TypeError, match=r"floating-point arrays, input 0 is int16"):
        agnoreg.get_backend("jax").autodiff.value_and_grad(lambda x: x, (jnp.asarray(labels),), (0,))


TWO_DEVICES = """
import jax
import jax.numpy as jnp
import agnoreg
from agnoreg.functional import ssd

first, second = jax.devices()
x = jnp.ones((1, 4))
a, b = jax.device_put(x, first), jax.device_put(x, second)
assert ssd(x, b).devices() == ssd(b, x).devices() == {second}
try:
    ssd(a, b)
except TypeError as error:
    print(error)
"""


def test_arrays_on_two_devices_are_refused_and_one_that_is_on_none_goes_along():
    code = "import os; os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'\n" + TWO_DEVICES
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"two devices: .*cpu:0 and .*cpu:1", done.stdout, flags=re.IGNORECASE)


def test_from_numpy_takes_a_devices_name_and_copies(rng):
    backend, x = agnoreg.get_backend("jax"), rng.random((2, 3))
    for device in (None, "cpu", "cpu:0", jax.devices("cpu")[0]):
        array = backend.from_numpy(x, device)
        assert array.devices() == {jax.devices("cpu")[0]}
        np.testing.assert_array_equal(array, x)
    x[:] = 0
    assert array.all()
