"""Kernels in TensorFlow's graphs; NumPy's adapter is what the results are compared with."""

import agnoreg_cpu
import numpy as np
import pytest
import tensorflow as tf
from agnoreg_tensorflow import _private

import agnoreg

pytestmark = pytest.mark.skipif(not agnoreg_cpu.usable(), reason="kernels are compiled by Numba")

CONFIGURATIONS = {
    "lncc": {"name": "lncc", "kernel_size": 5},
    "gmi": {"name": "gmi"},
    "dice": {"name": "dice"},
    "bending": {"name": "bending"},
}
SHAPE = (2, 9, 10, 11)


@pytest.fixture(params=CONFIGURATIONS)
def loss(request):
    """A loss that kernels serve, in float32."""
    return agnoreg.build_loss(CONFIGURATIONS[request.param])


def arrays_of(loss, rng):
    return [rng.random((*SHAPE, 3) if loss.inputs == 1 else SHAPE, dtype=np.float32) for _ in range(loss.inputs)]


def step_of(loss, **options):
    """Return a traced function of any batch: the value, and three times its gradient."""

    @tf.function(**options)
    def step(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays[-1])
            value = loss(*arrays)
            more = 3.0 * value
        return value, tape.gradient(more, arrays[-1])

    return step


def calls(function, *arrays):
    """Return how many operations of a graph are calls of Python."""
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in arrays]
    return sum("PyFunc" in one.type for one in function.get_concrete_function(*specs).graph.get_operations())


def test_a_graph_of_any_batch_calls_kernels_once_for_value_and_gradient(rng, loss):
    arrays = arrays_of(loss, rng)
    step = step_of(loss, input_signature=[tf.TensorSpec((None, *x.shape[1:]), tf.float32) for x in arrays])
    concrete = step.get_concrete_function()
    assert sum("PyFunc" in one.type for one in concrete.graph.get_operations()) == 1
    for some in (slice(None), slice(1)):
        given = [x[some] for x in arrays]
        expected, gradient = agnoreg.value_and_grad(loss, *given)
        value, slope = step(*map(tf.constant, given))
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_allclose(slope, 3.0 * gradient, rtol=0, atol=3e-6 * np.abs(gradient).max())


def test_a_mask_is_an_argument_of_the_kernels(rng):
    loss = agnoreg.build_loss(CONFIGURATIONS["lncc"])
    t, p = arrays_of(loss, rng)
    mask = rng.random(SHAPE) > 0.3
    expected = agnoreg.value_and_grad(loss, t, p, mask=mask)[0]
    assert float(tf.function(loss)(tf.constant(t), tf.constant(p), mask=tf.constant(mask))) == pytest.approx(expected)


def test_no_python_is_called_for_xla_nor_in_what_is_saved_nor_where_kernels_are_off(rng, monkeypatch, tmp_path):
    loss = agnoreg.build_loss(CONFIGURATIONS["dice"])
    given = arrays_of(loss, rng)
    expected, gradient = agnoreg.value_and_grad(loss, *given)
    arrays = [tf.constant(x) for x in given]
    assert calls(step_of(loss), *arrays) == 1
    inner = step_of(loss)
    for compiled in (step_of(loss, jit_compile=True), tf.function(lambda *x: inner(*x), jit_compile=True)):
        value, slope = compiled(*arrays)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(slope, 3.0 * gradient, rtol=0, atol=1e-4 * np.abs(gradient).max())

    @tf.function
    def native(*arrays):
        with agnoreg.native_autodiff():
            return loss(*arrays)

    assert calls(native, *arrays) == 0
    # Traced by saving it.
    module = tf.Module()
    module.step = step_of(loss, input_signature=[tf.TensorSpec(SHAPE, tf.float32)] * 2)
    tf.saved_model.save(module, tmp_path, options=tf.saved_model.SaveOptions(experimental_custom_gradients=False))
    loaded = tf.saved_model.load(tmp_path)
    assert calls(loaded.step, *arrays) == 0
    np.testing.assert_allclose(loaded.step(*arrays)[0], expected, rtol=1e-5)
    for name in ("in_xla_context", "in_save_context"):
        with monkeypatch.context() as patch:
            patch.setattr(_private, name, None)
            assert calls(step_of(loss), *arrays) == 0
    monkeypatch.setattr(agnoreg.get_backend("tensorflow"), "kernels", False)
    assert calls(step_of(loss), *arrays) == 0


@pytest.mark.parametrize("name", ["gmi", "dice"])
def test_a_tape_around_what_xla_compiled_or_not_gets_its_gradient(rng, name):
    loss = agnoreg.build_loss(CONFIGURATIONS[name])
    given = arrays_of(loss, rng)
    _, gradient = agnoreg.value_and_grad(loss, *given)
    t, p = (tf.constant(x) for x in given)
    inner = tf.function(loss)
    for function in (
        tf.function(loss),
        tf.function(loss, jit_compile=True),
        tf.function(lambda *x: inner(*x), jit_compile=True),
    ):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = function(t, p)
        slope = tape.gradient(value, p)
        np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-4 * np.abs(gradient).max())


def test_the_second_derivative_is_still_refused(rng):
    loss = agnoreg.build_loss(CONFIGURATIONS["lncc"])
    t, p = (tf.constant(x) for x in arrays_of(loss, rng))

    @tf.function
    def twice(p):
        with tf.GradientTape() as outer:
            outer.watch(p)
            with tf.GradientTape() as inner:
                inner.watch(p)
                value = loss(t, p)
            gradient = inner.gradient(value, p)
        return outer.gradient(gradient, p)

    with pytest.raises(Exception, match="native_autodiff"):
        twice(p)


def test_a_function_that_was_traced_by_itself_is_refused_by_xla_with_the_reason(rng):
    loss = agnoreg.build_loss(CONFIGURATIONS["dice"])
    arrays = [tf.constant(x) for x in arrays_of(loss, rng)]
    inner = tf.function(loss)
    inner(*arrays)
    with pytest.raises(tf.errors.InvalidArgumentError, match="agnoreg_kernels_are_of_this_process_and_not_for_XLA"):
        tf.function(lambda *x: inner(*x), jit_compile=True)(*arrays)
