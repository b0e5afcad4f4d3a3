"""The TensorFlow adapter inside tapes, traced functions and Keras."""

import numpy as np
import pytest
import tensorflow as tf
from every import LOSSES

import agnoreg


def arrays_of(loss, rng, shape=(2, 8, 9, 7), dtype=np.float64):
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [rng.random(size).astype(dtype) for _ in range(loss.inputs)]


@pytest.mark.parametrize("name", LOSSES)
def test_a_tape_gives_the_gradient_of_value_and_grad(rng, name):
    loss = LOSSES[name]()
    arrays = [tf.Variable(x) for x in arrays_of(loss, rng)]
    with tf.GradientTape() as tape:
        value = loss(*arrays) * 3.0
    gradients = tape.gradient(value, arrays)
    _, expected = agnoreg.value_and_grad(loss, *arrays, argnums=range(loss.inputs))
    for found, one in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), 3 * one.numpy(), atol=1e-12)


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("name", LOSSES)
def test_a_traced_function_takes_any_batch(rng, name):
    loss = LOSSES[name]()
    tail = (12, 9, 7, 3) if loss.inputs == 1 else (12, 9, 7)
    spec = [tf.TensorSpec((None, *tail), tf.float64)] * loss.inputs

    @tf.function(input_signature=spec)
    def step(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays[-1])
            value = loss(*arrays)
        return value, tape.gradient(value, arrays[-1]), *agnoreg.value_and_grad(loss, *arrays)

    for batch in (1, 3):
        arrays = arrays_of(loss, rng, (batch, 12, 9, 7))
        expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays)
        value, gradient, own_value, own_gradient = step(*[tf.constant(x) for x in arrays])
        for found in (value, own_value):
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
        for found in (gradient, own_gradient):
            np.testing.assert_allclose(found.numpy(), expected_gradient, atol=1e-9 * abs(expected_gradient).max())


@pytest.mark.parametrize("name", LOSSES)
def test_a_second_derivative_is_refused_not_wrong(rng, name):
    loss = LOSSES[name]()
    (*others, last) = [tf.constant(x) for x in arrays_of(loss, rng, (1, 5, 5, 5))]
    with tf.GradientTape() as outer:
        outer.watch(last)
        with tf.GradientTape() as inner:
            inner.watch(last)
            value = loss(*others, last)
        gradient = inner.gradient(value, last)
    with pytest.raises(RuntimeError, match="native_autodiff"):
        outer.gradient(gradient, last)


@pytest.mark.parametrize("name", ["lncc", "dice", "gmi", "bending"])
def test_native_autodiff_gives_the_same_gradient(rng, name):
    loss = LOSSES[name]()
    arrays = [tf.constant(x) for x in arrays_of(loss, rng)]
    _, expected = agnoreg.value_and_grad(loss, *arrays)
    with agnoreg.native_autodiff(), tf.GradientTape() as tape:
        tape.watch(arrays[-1])
        value = loss(*arrays)
    np.testing.assert_allclose(tape.gradient(value, arrays[-1]).numpy(), expected.numpy(), atol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(rng, dtype):
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 5})
    t, p = (tf.cast(x, dtype) for x in arrays_of(loss, rng))
    exact_value, exact = agnoreg.value_and_grad(loss, tf.cast(t, "float64"), tf.cast(p, "float64"))
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = loss(t, p)
    gradient = tape.gradient(value, p)
    assert value.dtype == tf.float32
    assert gradient.dtype == p.dtype
    np.testing.assert_allclose(value.numpy(), exact_value.numpy(), rtol=1e-5)
    scale = np.abs(exact.numpy()).max()
    eps = {"float16": 2**-10, "bfloat16": 2**-7}[dtype]
    assert np.abs(tf.cast(gradient, "float64").numpy() - exact.numpy()).max() <= eps * scale


@pytest.mark.parametrize(
    "config", [{"name": "lncc", "kernel_size": 3}, {"name": "dice", "scales": [0, 1]}, {"name": "gmi"}]
)
def test_keras_compiles_and_fits_with_a_loss(rng, config):
    keras = pytest.importorskip("keras", reason="Keras comes with TensorFlow")
    keras.utils.set_random_seed(1)
    loss = agnoreg.build_loss(config)
    model = keras.Sequential(
        [keras.Input((8, 8, 8, 1)), keras.layers.Conv3D(1, 3, padding="same", activation="sigmoid")]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss)
    x = rng.random((4, 8, 8, 8, 1)).astype("float32")
    history = model.fit(x, x, batch_size=3, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    expected = float(loss(tf.constant(x), model(x)))
    np.testing.assert_allclose(model.evaluate(x, x, batch_size=4, verbose=0), expected, rtol=1e-4)


# Keras's own variables raise it while a model is saved.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_saved_keras_model_loads_as_the_documents_say(rng, tmp_path):
    keras = pytest.importorskip("keras", reason="Keras comes with TensorFlow")
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 3})
    model = keras.Sequential([keras.Input((6, 6, 6, 1)), keras.layers.Conv3D(1, 3, padding="same")])
    model.compile(optimizer="sgd", loss=loss)
    x = rng.random((2, 6, 6, 6, 1)).astype("float32")
    expected = model.evaluate(x, x, verbose=0)
    model.save(tmp_path / "model.keras")
    known = {type(loss).__name__: type(loss)}
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects=known)
    np.testing.assert_allclose(again.evaluate(x, x, verbose=0), expected, rtol=1e-5)
