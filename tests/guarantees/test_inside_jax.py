"""Losses inside JAX: compiled, mapped, differentiated in either mode, and with 32 bits alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from every import LOSSES, PAIRS, arrays_for
from python_process import run_python

import agnoreg
from agnoreg import functional
from conformance.settings import quickly


def quick_jit(function):
    """Compile a function quickly rather than well, for it runs but once or twice."""
    import jax

    return jax.jit(function, compiler_options=quickly())


def soft_mask(cls, rng, shape=(2, 11, 12, 13)):
    """Return weights of voxels, some of them 0, without an axis of components."""
    return np.maximum(rng.random(shape) - 0.02, 0.0)


@pytest.fixture
def x64():
    """Let JAX have float64."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_and_its_gradient_compile_by_jit(rng, name, masked):
    import jax

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng)
    masks = {"mask": soft_mask(loss, rng)} if masked else {}
    expected, gradient = agnoreg.value_and_grad(loss, *arrays, **masks)

    def of(arrays, masks):
        return loss(*arrays, **masks)

    # Everything is an argument, the mask too: nothing that a value is asked of may be known.
    value = quick_jit(of)(arrays, masks)
    slope = quick_jit(jax.grad(of))(arrays, masks)[-1]
    assert float(value) == pytest.approx(float(expected), rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-10 * np.abs(gradient).max())


@pytest.mark.usefixtures("x64")
def test_shapes_are_checked_while_traced_and_values_are_not(rng):
    import jax

    loss = agnoreg.build_loss("ssd")
    t, p = arrays_for(PAIRS["ssd"], rng)
    with pytest.raises(ValueError, match="one shape"):
        quick_jit(loss)(t, p[:, 1:])
    # An empty mask warns where it can be seen; traced, it gives what it gives without one.
    with pytest.warns(agnoreg.EmptyMaskWarning):
        assert np.isnan(loss(*map(jax.numpy.array, (t, p)), mask=jax.numpy.zeros(t.shape)))
    assert np.isnan(quick_jit(lambda t, p, mask: loss(t, p, mask=mask))(t, p, np.zeros(t.shape)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
def test_forward_mode_is_the_gradient_times_the_direction(rng, name):
    import jax

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng)
    directions = tuple(rng.standard_normal(x.shape) for x in arrays)
    _, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=tuple(range(loss.inputs)))
    expected = sum(float((gradient * x).sum()) for gradient, x in zip(gradients, directions, strict=True))
    for function in (loss, quick_jit(loss)):
        _, found = jax.jvp(function, arrays, directions)
        assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lncc", "gmi", "ssd", "dice", "bending"])
def test_a_hessian_of_8_cubed_is_the_derivative_of_the_gradient(rng, name):
    import jax

    loss = agnoreg.build_loss({"name": name, "kernel_size": 3} if name == "lncc" else name)
    # Not so close to the ends of [0, 1], beyond which mutual information does not change, that a step reaches them.
    *fixed, moving = (0.1 + 0.8 * x for x in arrays_for(LOSSES[name], rng, (1, 8, 8, 8)))
    given = [jax.numpy.array(x) for x in fixed]
    hessian = quick_jit(jax.hessian(lambda x: loss(*given, x)))(moving)
    hessian = np.asarray(hessian).reshape(moving.size, moving.size)
    assert np.abs(hessian - hessian.T).max() <= 1e-10 * np.abs(hessian).max()
    direction = rng.standard_normal(moving.shape)
    ends = [agnoreg.value_and_grad(loss, *fixed, moving + step * direction)[1] for step in (1e-6, -1e-6)]
    slope = (ends[0] - ends[1]).ravel() / 2e-6
    np.testing.assert_allclose(hessian @ direction.ravel(), slope, rtol=0, atol=1e-6 * np.abs(slope).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_mapped_with_its_mask(rng, name):
    import jax

    loss = LOSSES[name]()
    arrays, mask = arrays_for(LOSSES[name], rng), soft_mask(loss, rng)

    def slope(arrays, mask):
        return jax.grad(lambda last: loss(*(x[None] for x in arrays[:-1]), last[None], mask=mask[None]))(arrays[-1])

    mapped = quick_jit(jax.vmap(slope))(arrays, mask)
    shared = quick_jit(jax.vmap(slope, in_axes=(0, None)))(arrays, mask[0])
    for i in range(2):
        for found, own in ((mapped[i], mask[i]), (shared[i], mask[0])):
            _, expected = agnoreg.value_and_grad(loss, *(x[i : i + 1] for x in arrays), mask=own[None])
            np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stencil", ["central", "compact"])
@pytest.mark.parametrize("function", [functional.bending_energy, functional.gradient_norm], ids=lambda f: f.__name__)
def test_a_spacing_may_be_traced_mapped_and_differentiated(rng, function, stencil):
    import jax

    field, spacing = rng.standard_normal((2, 7, 8, 6, 3)), np.array([0.7, 1.5, 2.0])

    def of(field, spacing):
        return function(field, spacing=spacing, stencil=stencil)

    expected = of(field, spacing)
    for given in (spacing, tuple(spacing)):
        np.testing.assert_allclose(quick_jit(of)(field, given), expected, rtol=1e-12)
    np.testing.assert_allclose(of(jax.numpy.array(field), jax.numpy.array(spacing)), expected, rtol=1e-12)
    assert of(jax.numpy.array(field, dtype="float32"), jax.numpy.array(spacing)).dtype == np.float32
    # One number for all axes.
    np.testing.assert_allclose(quick_jit(of)(field, 1.5), of(field, 1.5), rtol=1e-12)
    spacings = np.stack([spacing, 2.0 * spacing])
    mapped = jax.vmap(lambda u, step: of(u[None], step)[0])(field, spacings)
    np.testing.assert_allclose(mapped, [of(field, s)[i] for i, s in enumerate(spacings)], rtol=1e-12)
    by_field, by_spacing = quick_jit(jax.grad(lambda u, s: of(u, s).sum(), argnums=(0, 1)))(field, spacing)
    _, gradient = agnoreg.value_and_grad(function, field, spacing=spacing, stencil=stencil)
    np.testing.assert_allclose(by_field, gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())
    for axis in range(3):
        ends = [of(field, spacing + step * np.eye(3)[axis]).sum() for step in (1e-5, -1e-5)]
        assert float(by_spacing[axis]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    with pytest.raises(ValueError, match="spacing must be a positive number"):
        of(jax.numpy.array(field), jax.numpy.array(-1.0))


@pytest.mark.slow
def test_nothing_of_64_bit_is_asked_for_where_there_is_none():
    # -W error: JAX warns whoever asks it for float64 in vain. These are some of the suite's checks of float32 and less.
    checks = "test_golden or test_ct or test_adapter or two_dtypes or finite or raised and 1000"
    command = [sys.executable, "-W", "error", "-m", "pytest", "conformance", "--backend", "jax", "--widest", "float32"]
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", "-k", checks],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(agnoreg.__file__).parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr


X32 = """
import warnings
warnings.simplefilter("error")
import jax
import numpy as np
import agnoreg

assert not jax.config.jax_enable_x64
rng = np.random.default_rng(0)
for name, cls in agnoreg.registered_losses().items():
    loss = cls()
    shape = (1, 9, 8, 7)
    arrays = [rng.random((*shape, 3) if loss.inputs == 1 else shape) for _ in range(loss.inputs)]
    mask = rng.random(shape)
    expected, gradient = agnoreg.value_and_grad(loss, *arrays, mask=mask)
    *fixed, moving, mask = (jax.numpy.array(x) for x in (*arrays, mask))
    value, slope = jax.jit(jax.value_and_grad(lambda x: loss(*fixed, x, mask=mask)))(moving)
    assert value.dtype == slope.dtype == np.float32
    assert abs(value - expected) <= 1e-5 * max(abs(expected), 1e-2), name
    assert np.abs(slope - gradient).max() <= 1e-4 * np.abs(gradient).max(), name
image, field = jax.numpy.ones((1, 6, 6, 6)), 0.3 * jax.numpy.ones((1, 6, 6, 6, 3))
assert agnoreg.functional.warp(image, field).dtype == np.float32
assert jax.jit(jax.grad(lambda u: agnoreg.functional.warp(image, u).sum()))(field).dtype == np.float32
assert agnoreg.functional.warp_adjoint(image, field, image)[0].dtype == np.float32
print("right")
"""


def test_results_say_their_precision_and_are_as_good():
    flags = " ".join(f"--{name}={value}" for name, value in quickly().items())
    assert run_python(X32, XLA_FLAGS=flags).strip() == "right"
