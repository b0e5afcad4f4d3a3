"""Compiled kernels in JAX on the CPU: as calls of what XLA compiled, and at once of arrays that are there.

NumPy's adapter is what the results are compared with; the core's path on JAX is what their derivatives are.
"""

import os
import subprocess
import sys

import agnoreg_cpu
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agnoreg_jax import compiled, foreign, hosted

import agnoreg
from agnoreg.engine.hosted import Request, request_of, words_of
from conformance.settings import quickly

pytestmark = [
    pytest.mark.skipif(foreign.ffi is None, reason="JAX before 0.5 has no jax.ffi"),
    pytest.mark.skipif(not agnoreg_cpu.usable(), reason="kernels are compiled by Numba"),
]

CONFIGURATIONS = {
    "lncc": {"name": "lncc", "kernel_size": 5},
    "triangular lncc": {"name": "lncc", "kernel_size": 5, "kernel_type": "triangular"},
    "gmi": {"name": "gmi"},
    "bending": {"name": "bending", "spacing": (0.7, 1.5, 2.0)},
}
SHAPE = (2, 10, 11, 12)


@pytest.fixture(params=CONFIGURATIONS)
def loss(request):
    """A loss that kernels serve, in float32."""
    return agnoreg.build_loss(CONFIGURATIONS[request.param])


def images(rng, shape=SHAPE, count=2):
    return [rng.random(shape, dtype=np.float32) for _ in range(count)]


def inputs(rng, loss):
    """Return the fixed inputs of a loss, and the one to differentiate by."""
    *fixed, moving = images(rng, (*SHAPE, 3) if loss.inputs == 1 else SHAPE, loss.inputs)
    return tuple(fixed), moving


def quick_jit(function):
    return jax.jit(function, compiler_options=quickly())


def calls(function, *arrays):
    """Return how often a function, compiled, calls kernels."""
    return jax.jit(function).lower(*arrays).as_text().count(f"custom_call @{hosted.TARGET}")


def check(found, expected, limit=1e-6):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit * np.abs(expected).max())


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_what_is_compiled_calls_kernels_and_eager_arrays_reach_them(rng, loss, masked, monkeypatch):
    fixed, moving = inputs(rng, loss)
    masks = {"mask": rng.random(SHAPE) > 0.1} if masked else {}
    expected, gradient = agnoreg.value_and_grad(loss, *fixed, moving, **masks)

    def of(moving, fixed, masks):
        return loss(*fixed, moving, **masks)

    given = moving, fixed, masks
    assert calls(of, *given) == calls(jax.value_and_grad(of), *given) == 1
    value, slope = quick_jit(jax.value_and_grad(of))(*given)
    check(value, expected)
    check(slope, gradient)
    check(quick_jit(of)(*given), expected)
    # Eager: nothing is compiled, and nothing else than kernels is there to ask.
    monkeypatch.setattr(compiled, "graph_of", None)
    moving, fixed, masks = jax.tree.map(jnp.asarray, given)
    check(loss(*fixed, moving, **masks), expected)
    for value, slope in (
        jax.value_and_grad(of)(moving, fixed, masks),
        agnoreg.value_and_grad(loss, *fixed, moving, **masks),
    ):
        check(value, expected)
        check(slope, gradient)


def test_kernels_are_for_this_backend_alone_to_be_switched_off(rng, loss, monkeypatch):
    fixed, moving = inputs(rng, loss)
    expected, gradient = agnoreg.value_and_grad(loss, *fixed, moving)
    monkeypatch.setattr(agnoreg.get_backend("jax"), "kernels", False)
    step = jax.value_and_grad(lambda moving: loss(*map(jnp.asarray, fixed), moving))
    assert calls(step, moving) == 0
    value, slope = quick_jit(step)(moving)
    check(value, expected, 2e-5)
    check(slope, gradient, 2e-5)


def test_voxelwise_losses_are_xlas_and_native_autodiff_sees_every_operation(rng):
    t, p = images(rng)
    for name in ("ssd", "dice", "gncc"):
        assert calls(agnoreg.build_loss(name), t, p) == 0
    lncc = agnoreg.build_loss(CONFIGURATIONS["lncc"])

    def native(t, p):
        with agnoreg.native_autodiff():
            return lncc(t, p)

    assert calls(lncc, t, p) == 1
    assert calls(native, t, p) == 0


def test_samples_are_mapped_over_with_a_mask_of_each_or_one_for_all(rng):
    loss = agnoreg.build_loss(CONFIGURATIONS["lncc"])
    t, p, mask = images(rng, (3, 2, 9, 8, 7), 3)

    def slope(t, p, mask):
        return jax.grad(lambda p: loss(t, p, mask=mask))(p)

    every = jax.vmap(slope)
    assert calls(every, t, p, mask) == 1
    mapped = quick_jit(every)(t, p, mask)
    shared = quick_jit(jax.vmap(slope, in_axes=(0, 0, None)))(t, p, mask[0, :1])
    # And one sample of a time, twice mapped.
    twice = quick_jit(jax.vmap(jax.vmap(lambda *one: slope(*(x[None] for x in one))[0])))(t, p, mask)
    for i in range(3):
        _, expected = agnoreg.value_and_grad(loss, t[i], p[i], mask=mask[i])
        check(mapped[i], expected)
        check(shared[i], agnoreg.value_and_grad(loss, t[i], p[i], mask=mask[0, :1])[1])
        for j in range(2):
            check(twice[i, j], agnoreg.value_and_grad(loss, t[i, j][None], p[i, j][None], mask=mask[i, j][None])[1][0])


def test_a_second_derivative_goes_the_cores_way_also_through_what_was_compiled(rng, monkeypatch):
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 3})
    t, p, direction = map(jnp.asarray, images(rng, (1, 5, 6, 5), 3))
    # Compiled first, differentiated then: the call of the kernels is already there.
    gradient = jax.jit(jax.grad(lambda p: loss(t, p)))
    assert calls(gradient, p) == 1

    def twice(gradient):
        forward = quick_jit(lambda p: jax.jvp(gradient, (p,), (direction,))[1])
        return forward(p), quick_jit(jax.grad(lambda p: (gradient(p) * direction).sum()))(p)

    found = twice(gradient)
    monkeypatch.setattr(agnoreg.get_backend("jax"), "kernels", False)
    expected = twice(jax.grad(lambda p: loss(t, p)))
    for one, other in zip(found, expected, strict=True):
        check(one, other, 1e-4)


def test_a_mask_may_be_anything_where_what_is_below_it_is_nan(rng):
    loss = agnoreg.build_loss(CONFIGURATIONS["lncc"])
    t, p = images(rng)
    there = rng.random(SHAPE) > 0.3
    _, expected = agnoreg.value_and_grad(loss, t, p, mask=there)
    step = quick_jit(jax.grad(lambda p, mask: loss(jnp.asarray(t), p, mask=mask)))
    for mask in (there, there.astype(np.int16), there.astype(np.float16)):
        check(step(np.where(there, p, np.nan), mask), expected)


def test_what_fails_in_a_kernel_is_raised_where_the_result_is_used(rng, monkeypatch):
    t, p = images(rng)
    step = jax.jit(agnoreg.build_loss(CONFIGURATIONS["lncc"]))
    assert np.isfinite(step(t, p))

    def broken(self, arrays, there):
        raise MemoryError("no room for a gradient")

    monkeypatch.setattr(Request, "run", broken)
    with pytest.raises(Exception, match="MemoryError: no room for a gradient"):
        step(t, p).block_until_ready()


def test_one_gradient_is_written_where_xla_has_memory_for_it_and_of_two_neither(rng, loss):
    fixed, moving = inputs(rng, loss)
    arrays, last = (*fixed, moving), len(fixed)
    measure = loss.measure()
    measure = getattr(measure, "function", measure)
    every = tuple(range(len(arrays)))
    _, *expected = Request(measure, every).run(arrays)
    for wrt in {(last,), every}:
        rooms = tuple(np.full_like(arrays[i], np.nan) for i in wrt)
        _, *found = Request(measure, wrt).run(arrays, rooms)
        for place, index in enumerate(wrt):
            np.testing.assert_array_equal(found[place], expected[index])
            assert np.shares_memory(found[place], rooms[place]) == (len(wrt) == 1)


def test_a_request_is_told_in_words_that_another_process_understands():
    request = Request(agnoreg.build_loss(CONFIGURATIONS["lncc"]).measure(), (1,), 0.5)
    words = words_of(request)
    assert words.startswith(f"agnoreg {agnoreg.__version__} ")
    assert request_of(words) == request
    # What has no words is the core's.
    assert words_of(Request(lambda: None)) == ""


ONE_CORE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import agnoreg

rng = np.random.default_rng(0)
loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 3})
t, p = (rng.random((2, 40, 40, 40), dtype=np.float32) for _ in range(2))
expected, slope = agnoreg.value_and_grad(loss, t, p)
step = jax.jit(jax.value_and_grad(loss, argnums=1))

def right(value, gradient):
    assert abs(float(value) - expected) <= 1e-6
    assert np.abs(np.asarray(gradient) - slope).max() <= 1e-6 * np.abs(slope).max()

# Many at once, each with operations before and after it, and nobody waits for any of them.
@jax.jit
def several(t, p):
    def once(i, state):
        p, total = state
        value, gradient = step(t, jnp.sin(p))
        return p - 0.1 * gradient, total + value + step(t * 2.0, p)[0]
    return jax.lax.fori_loop(0, 4, once, (p, 0.0))

results = [several(t, p + i) for i in range(12)]
assert len({float(total) for _, total in results}) == 12
# On two devices: gathered, or a sample on each.
mesh = Mesh(jax.devices(), ("batch",))
spread = [jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch"))) for x in (t, p)]
right(*step(*spread))
values, gradients = jax.pmap(jax.value_and_grad(loss, argnums=1))(t[:, None], p[:, None])
right(values.mean(), gradients[:, 0] / 2)
if hasattr(jax, "shard_map"):
    def own(t, p):
        value, gradient = jax.value_and_grad(loss, argnums=1)(t, p)
        return value[None] / 2, gradient / 2
    spec = PartitionSpec("batch")
    values, gradient = jax.jit(jax.shard_map(own, mesh=mesh, in_specs=spec, out_specs=spec))(*spread)
    right(values.sum(), gradient)
second = jax.devices()[1]
assert loss(*(jax.device_put(x, second) for x in (t, p))).devices() == {second}
"""


def test_one_core_computes_many_calls_at_once_and_two_devices_share_a_batch():
    done = subprocess.run(
        [sys.executable, "-c", ONE_CORE], capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
