"""What the TensorFlow adapter gives the core: arrays, the loop and gradients, eagerly, traced and compiled."""

import itertools
import math

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

from agnoreg_tensorflow import _private, backend  # noqa: E402

import agnoreg  # noqa: E402
from agnoreg.engine.function import Differentiable  # noqa: E402
from agnoreg.engine.slabs import PlaneRange  # noqa: E402

xp = backend.xp
MODES = ["eager", "traced"]


def run(mode, function, *arrays):
    """Call ``function`` on the arrays as tensors, and return its results as NumPy arrays."""
    tensors = [tf.constant(array) for array in arrays]
    if mode != "eager":
        signature = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in arrays]
        function = tf.function(function, input_signature=signature, jit_compile=mode == "compiled")
    return tf.nest.map_structure(lambda x: x.numpy(), function(*tensors))


def same(found, expected, rtol=0.0):
    """Check the values, the shape and the dtype."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=0)


def numbers(dtype, shape=(3, 4), seed=0):
    """Return random numbers of any dtype; unsigned ones are not negative."""
    low = 0 if dtype.startswith("u") else -5
    return np.random.default_rng(seed).uniform(low, 5, shape).astype(dtype)


# --- what an array of TensorFlow is -----------------------------------------------------------------------------------


def test_a_variable_is_an_array():
    variable = tf.Variable([[1.0, -2.0]])
    assert agnoreg.backend_of(variable, tf.constant([1.0])) is backend
    assert tf.is_tensor(backend.prepare(variable))
    assert backend.shape(backend.prepare(variable)) == (1, 2)
    same(xp.abs(variable).numpy(), np.array([[1, 2]], "float32"))
    same(xp.add(variable, variable).numpy(), np.array([[2, -4]], "float32"))
    same(xp.sum(variable, axis=1).numpy(), np.array([-1], "float32"))
    with tf.GradientTape() as tape:
        y = backend.prepare(variable) * 3.0
    np.testing.assert_array_equal(tape.gradient(y, variable), [[3, 3]])


def test_a_variable_of_keras_is_an_array_too():
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    variable = keras.Variable(np.array([[1.0, -2.0]], "float32"))
    assert agnoreg.backend_of(variable, tf.constant([1.0])) is backend
    with tf.GradientTape() as tape:
        value = backend.autodiff.differentiable(Weighted(), (tf.constant([[3.0, 4.0]]), backend.prepare(variable)))
    np.testing.assert_array_equal(value, [3 + 16])
    np.testing.assert_array_equal(tape.gradient(value, variable.value), [[6, -16]])


def test_only_dense_arrays_of_tensorflow_are_owned():
    for array in (tf.constant(1.0), tf.Variable(1.0)):
        assert backend.owns(array)
    for other in (1.0, [1.0], np.ones(2), tf.sparse.from_dense([1.0]), tf.ragged.constant([[1.0], []])):
        assert not backend.owns(other)


def test_a_device_has_one_name():
    assert backend.device(tf.constant(1.0)) == backend.device(tf.Variable(1.0))
    with tf.device("cpu"):
        assert backend.device(tf.constant(1.0)) == backend.device(tf.identity(tf.Variable(1.0))) == "CPU:0"


def test_a_traced_tensor_and_a_constant_are_not_on_two_devices():
    constant, variable = tf.constant([1.0]), tf.Variable([1.0])

    @tf.function
    def traced(x):
        assert agnoreg.backend_of(x, constant, variable, tf.zeros(1)) is backend
        assert backend.device(x) is backend.device(constant) is None
        return x

    traced(constant)


def test_an_unknown_size_besides_the_batchs_is_an_error_that_names_the_argument():
    def shape_of(y_pred):
        return tf.constant([size or -1 for size in backend.shape(y_pred)])

    known = tf.function(shape_of).get_concrete_function(tf.TensorSpec([None, 2, 3]))
    np.testing.assert_array_equal(known(tf.ones((5, 2, 3))), [-1, 2, 3])
    for shape in ([None, None, 3], None):
        with pytest.raises(ValueError, match=r"Only the batch size may be unknown .*got y_pred"):
            tf.function(shape_of).get_concrete_function(tf.TensorSpec(shape, name="y_pred"))


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", ">f4", "<i2", ">u2"]
)
def test_numpy_arrays_go_to_tensors_and_back(dtype):
    x = numbers("uint8", (3, 4)).astype(dtype)
    for array in (x, x[::-1, ::2], x.T, x[0, 0]):
        for device in (None, "cpu"):
            tensor = backend.from_numpy(array, device=device)
            assert agnoreg.backend_of(tensor) is backend
            same(backend.to_numpy(tensor), np.asarray(array).astype(np.dtype(dtype).newbyteorder("=")))
    same(backend.to_numpy(tf.Variable([1.0])), np.array([1], "float32"))


def test_dtypes_that_losses_are_computed_in():
    for dtype in ("bool", "uint8", "int16", "float16", "bfloat16", "float32", "int32", "int64"):
        assert backend.dtypes.compute(xp.ones(1, dtype=getattr(xp, dtype))) == xp.float32
    assert backend.dtypes.compute(xp.ones(1), xp.ones(1, dtype=xp.float64)) == xp.float64
    assert backend.dtypes.default_float() == xp.asarray(1.0).dtype
    with pytest.raises(TypeError, match="real numbers"):
        backend.dtypes.compute(tf.constant(1j))


@pytest.mark.parametrize("mode", [*MODES, "compiled"])
def test_scatter_add_equals_numpys(mode):
    index = np.array([0, 3, 3, 1, 3])
    for dtype in ("float32", "float64", "int64"):
        weights = numbers(dtype, (5,))
        expected = np.zeros(6, dtype)
        np.add.at(expected, index, weights)
        same(run(mode, lambda i, w: backend.operations.scatter_add(i, w, 6), index, weights), expected, 1e-6)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_window_sums_are_those_of_the_generic_backend(mode, transpose):
    x = numbers("float64", (2, 6, 5, 7))
    kernels = ((1.0,) * 3, (0.5, 1.0, 2.0, 3.0), None)
    generic = agnoreg.get_backend("array_api_strict")
    expected = np.asarray(generic.operations.conv3d(strict.asarray(x), kernels, transpose))
    same(run(mode, lambda a: backend.operations.conv3d(a, kernels, transpose), x), expected, 1e-12)


# --- the loop ---------------------------------------------------------------------------------------------------------


def tiles_of(planes, count, halo):
    """Cut ``planes`` planes into tiles of ``count`` with a halo that ends at the border."""
    return [
        PlaneRange(i, min(count, planes - i), min(halo, i), min(halo, planes - min(i + count, planes)))
        for i in range(0, planes, count)
    ]


def sums_and_differences(x, tiles):
    """Return each sample's sum of squares, and the central difference along axis 1 (one-sided at the border)."""

    def body(tile):
        slab = backend.execution.planes(x, tile.start - tile.before, tile.before + tile.count + tile.after)
        own = slab[:, tile.before : tile.before + tile.count]
        left = slab[:, : tile.count] if tile.before else xp.concat([own[:, :1], slab[:, : tile.count - 1]], axis=1)
        right = slab[:, -tile.count :] if tile.after else xp.concat([slab[:, 1 - tile.count :], own[:, -1:]], axis=1)
        return (xp.sum(own * own, axis=(1, 2)), xp.sum(own, axis=(1, 2))), (right - left, own)

    return backend.execution.loop(tiles, body)


def padded_difference(x):
    """Return what the slabs' differences add up to."""
    y = np.pad(x, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return y[:, 2:] - y[:, :-2]


@pytest.mark.parametrize("mode", [*MODES, "compiled"])
@pytest.mark.parametrize(("planes", "count"), [(3, 4), (8, 4), (16, 4), (20, 4), (22, 4), (41, 3)])
def test_a_loop_over_slabs_gives_the_whole(planes, count, mode):
    x = numbers("float64", (2, planes, 5))
    (squares, sums), (difference, copy) = run(mode, lambda a: sums_and_differences(a, tiles_of(planes, count, 1)), x)
    same(squares, np.sum(x * x, (1, 2)), 1e-12)
    same(sums, np.sum(x, (1, 2)), 1e-10)
    same(difference, padded_difference(x))
    same(copy, x)


def test_a_traced_loop_is_unrolled_up_to_four_tiles_and_not_beyond():
    for count, expected in ((4, 4), (5, 4), (40, 4)):
        seen = []

        def body(tile, seen=seen):
            seen.append(tile)
            return (tf.zeros(2),), ()

        @tf.function
        def traced(body=body, count=count):
            return backend.execution.loop(tiles_of(4 * count, 4, 1), body)

        traced.get_concrete_function()
        assert len(seen) == expected
        assert {tf.is_tensor(tile.start) for tile in seen} == ({False} if count == 4 else {False, True})


def test_tiles_that_are_not_uniform_are_unrolled():
    uneven = [
        PlaneRange(0, 2, 0, 1),
        PlaneRange(2, 2, 1, 1),
        PlaneRange(4, 3, 1, 1),
        PlaneRange(7, 2, 1, 1),
        PlaneRange(9, 1, 1, 1),
        PlaneRange(10, 2, 1, 0),
    ]
    x = numbers("float64", (2, 12, 3))
    (squares, _), (difference, _) = run("traced", lambda a: sums_and_differences(a, uneven), x)
    same(squares, np.sum(x * x, (1, 2)), 1e-12)
    same(difference, padded_difference(x))


def test_a_traced_loop_knows_its_shapes():
    seen = []

    @tf.function(input_signature=[tf.TensorSpec([None, 22, 5])])
    def traced(x):
        (squares, _), (difference, _) = sums_and_differences(x, tiles_of(22, 4, 1))
        seen.append((squares.shape.as_list(), difference.shape.as_list()))

    traced.get_concrete_function()
    assert seen == [([None], [None, 22, 5])]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_tensorflow_differentiates_through_a_traced_loop(jit_compile):
    x = numbers("float64", (2, 22, 3))

    @tf.function(jit_compile=jit_compile)
    def gradient(a):
        with tf.GradientTape() as tape:
            tape.watch(a)
            (squares, _), (difference, _) = sums_and_differences(a, tiles_of(22, 4, 1))
            total = tf.reduce_sum(squares) + tf.reduce_sum(difference**2)
        return tape.gradient(total, a)

    with tf.GradientTape() as tape:
        a = tf.constant(x)
        tape.watch(a)
        y = tf.concat([a[:, :1], a, a[:, -1:]], 1)
        total = tf.reduce_sum(a**2) + tf.reduce_sum((y[:, 2:] - y[:, :-2]) ** 2)
    same(gradient(tf.constant(x)).numpy(), tape.gradient(total, a).numpy(), 1e-12)


# --- gradients --------------------------------------------------------------------------------------------------------


class Weighted(Differentiable):
    """``sum_i w_i * t_i * p_i ** 2`` per sample, with a gradient that says it was asked for.

    ``factor`` makes the closed-form gradient differ from the one that TensorFlow would find, so that a test can tell
    which one it got.
    """

    def __init__(self, factor=1.0):
        self.factor = factor
        self.asked = []

    def value(self, backend, arrays):
        t, p = (xp.astype(array, backend.dtypes.compute(*arrays)) for array in arrays)
        return xp.sum(xp.reshape(t * p**2, (-1, math.prod(t.shape[1:]))), axis=1)

    def value_and_gradients(self, backend, arrays, wrt):
        self.asked.append(wrt)
        t, p = (xp.astype(array, backend.dtypes.compute(*arrays)) for array in arrays)
        gradients = (p**2 * self.factor, t * p * (2.0 * self.factor))
        return self.value(backend, arrays), tuple(gradients[i] for i in wrt)


def two_images(dtype="float32"):
    return tf.constant(numbers(dtype, (3, 4, 2))), tf.constant(numbers(dtype, (3, 4, 2), seed=1))


def traced_with_unknown_batch(function, jit_compile=False):
    return tf.function(function, input_signature=[tf.TensorSpec([None, 4, 2])] * 2, jit_compile=jit_compile)


WAYS = {
    "eager": lambda loss: loss,
    "traced": traced_with_unknown_batch,
    "compiled": lambda loss: traced_with_unknown_batch(loss, jit_compile=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_closed_form_gradient_meets_its_cotangent(way):
    function = Weighted(factor=10.0)
    loss = WAYS[way](lambda t, p: backend.autodiff.differentiable(function, (t, p)))
    t, p = two_images()
    cotangent = tf.constant([1.0, -2.0, 0.5])
    with tf.GradientTape() as tape:
        tape.watch([t, p])
        value = loss(t, p)
    by_t, by_p = tape.gradient(value, [t, p], output_gradients=cotangent)
    np.testing.assert_allclose(value, np.sum(t * p**2, (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(by_t, 10 * p**2 * cotangent[:, None, None], rtol=1e-5)
    np.testing.assert_allclose(by_p, 20 * t * p * cotangent[:, None, None], rtol=1e-5)


def test_eagerly_a_gradient_is_computed_with_the_value_if_a_tape_records_its_input():
    function, (t, p) = Weighted(), two_images()
    backend.autodiff.differentiable(function, (t, p))
    assert function.asked == []
    for watched, asked in (([p], (1,)), ([t], (0,)), ([t, p], (0, 1))):
        function = Weighted()
        with tf.GradientTape() as tape:
            tape.watch(watched)
            value = backend.autodiff.differentiable(function, (t, p))
            with tape.stop_recording():
                backend.autodiff.differentiable(function, (t, p))
        tape.gradient(value, watched)
        assert function.asked == [asked]


def test_a_traced_function_computes_only_the_gradients_that_it_returns():
    function, (t, p) = Weighted(), two_images()

    @tf.function
    def gradient(t, p):
        with tf.GradientTape() as tape:
            tape.watch(p)
            value = backend.autodiff.differentiable(function, (t, p))
        # The tape watches p alone, so its gradient was computed with the value.
        assert function.asked == [(1,)]
        return tape.gradient(value, p)

    np.testing.assert_allclose(gradient(t, p), 2 * t * p, rtol=1e-6)
    assert function.asked == [(1,)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_gradient_has_its_inputs_dtype(dtype):
    t, p = (tf.cast(image, dtype) for image in two_images())
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = backend.autodiff.differentiable(Weighted(), (t, p)) * 1e-6
    gradient = tape.gradient(value, p)
    assert value.dtype == (tf.float64 if dtype == "float64" else tf.float32)
    assert gradient.dtype == p.dtype
    # The cotangent 1e-6 would lose its digits in float16: the product is made in float32 and cast last.
    wide = tf.cast(t, tf.float64) * tf.cast(p, tf.float64) * 2e-6
    np.testing.assert_allclose(
        tf.cast(gradient, tf.float64), tf.cast(tf.cast(wide, dtype), tf.float64), rtol=1e-2, atol=6e-8
    )


def test_integer_inputs_have_no_gradient_and_do_not_hinder_the_others():
    labels, p = tf.constant(numbers("uint8", (3, 4, 2))), two_images()[1]
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = backend.autodiff.differentiable(Weighted(), (labels, p))
    np.testing.assert_allclose(tape.gradient(value, p), 2 * tf.cast(labels, tf.float32) * p)
    assert backend.autodiff.differentiable(Weighted(), (labels, labels)).shape == (3,)


@pytest.mark.parametrize("way", ["eager", "traced", "compiled"])
def test_a_variable_gets_its_gradient(way):
    t, p = two_images()
    variable = tf.Variable(p)
    inner = tf.function(
        lambda: backend.autodiff.differentiable(Weighted(), (t, variable)), jit_compile=way == "compiled"
    )
    with tf.GradientTape() as tape:
        value = backend.autodiff.differentiable(Weighted(), (t, variable)) if way == "eager" else inner()
    np.testing.assert_allclose(tape.gradient(value, variable), 2 * t * p, rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_the_gradient_flows_on_into_what_made_the_input(way):
    t, p = two_images()
    scale = tf.Variable(2.0)
    loss = WAYS[way](lambda t, p: backend.autodiff.differentiable(Weighted(), (t, p * scale)))
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(loss(t, p))
    np.testing.assert_allclose(tape.gradient(value, scale), np.sum(2 * t * p**2 * 2.0), rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_persistent_and_nested_tapes_work(way):
    t, p = two_images()
    loss = WAYS[way](lambda t, p: backend.autodiff.differentiable(Weighted(), (t, p)))
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(p)
        with tf.GradientTape(persistent=True) as inner:
            inner.watch([t, p])
            value = loss(t, p)
        inner.gradient(value, p)
        twice = 2.0 * value
    for tape, target, factor in ((inner, value, 1), (outer, value, 1), (outer, twice, 2)):
        np.testing.assert_allclose(tape.gradient(target, p), factor * 2 * t * p, rtol=1e-6)
    np.testing.assert_allclose(inner.gradient(value, t), p**2, rtol=1e-6)


def test_a_jacobian_keeps_samples_apart():
    t, p = two_images()
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = backend.autodiff.differentiable(Weighted(), (t, p))
    jacobian = tape.jacobian(value, p)
    for i, j in itertools.product(range(3), repeat=2):
        np.testing.assert_allclose(jacobian[i, j], 2 * t[i] * p[i] if i == j else np.zeros((4, 2)), rtol=1e-6)


def second_derivative(loss, t, p, source):
    with tf.GradientTape() as outer:
        outer.watch([t, p])
        with tf.GradientTape() as inner:
            inner.watch([t, p])
            value = loss(t, p)
        gradient = inner.gradient(value, p)
    return outer.gradient(gradient, {"t": t, "p": p}[source])


@pytest.mark.parametrize("source", ["t", "p"])
def test_a_second_derivative_is_refused(source):
    t, p = two_images()

    def loss(t, p):
        return backend.autodiff.differentiable(Weighted(), (t, p))

    with pytest.raises(RuntimeError, match="native_autodiff"):
        second_derivative(loss, t, p, source)
    for jit_compile in (False, True):
        with pytest.raises(RuntimeError, match="native_autodiff"):
            tf.function(lambda t, p: second_derivative(loss, t, p, source), jit_compile=jit_compile)(t, p)


@pytest.mark.parametrize("source", ["t", "p"])
@pytest.mark.parametrize("way", ["traced", "compiled"])
def test_a_second_derivative_of_a_traced_loss_is_refused_when_it_runs(way, source):
    t, p = two_images()
    loss = WAYS[way](lambda t, p: backend.autodiff.differentiable(Weighted(), (t, p)))
    with pytest.raises(tf.errors.OpError, match="native_autodiff"):
        second_derivative(loss, t, p, source)


@pytest.mark.parametrize("way", ["eager", "traced"])
def test_forward_mode_is_refused(way):
    t, p = two_images()
    loss = WAYS[way](lambda t, p: backend.autodiff.differentiable(Weighted(), (t, p)))
    with (
        pytest.raises((RuntimeError, tf.errors.OpError), match="native_autodiff"),
        tf.autodiff.ForwardAccumulator(p, tf.ones_like(p)) as accumulator,
    ):
        accumulator.jvp(loss(t, p))


def test_what_is_recorded_is_what_a_tape_keeps():
    t, p = two_images()
    whole = tf.constant([1, 2])

    def agree(recorded, *others):
        for x in recorded:
            assert _private.recorded(x)
            assert _private.kept_by_a_tape(x)
        for x in others:
            assert not _private.recorded(x)
            assert not _private.kept_by_a_tape(x)

    agree([], t, p, whole)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(p)
        agree([p, p + 1.0], t, whole)
        with tf.GradientTape() as inner:
            inner.watch(t)
            agree([t, p, t * 2.0])
            with tape.stop_recording():
                agree([t], p)
        agree([p], t)
    agree([], t, p)
    with tf.autodiff.ForwardAccumulator(p, tf.ones_like(p)):
        assert [_private.recorded(x) for x in (p, p + 1.0, t, whole)] == [True, True, False, False]
    agree([], t, p)


def test_where_tensorflow_does_not_say_what_it_records_a_probe_finds_out(monkeypatch):
    for name in ("could_possibly_record", "record_operation", "should_record_backprop", "pack_tangents"):
        monkeypatch.setattr(_private, name, None)
    t, p = two_images()
    with tf.GradientTape() as tape:
        tape.watch(p)
        value = backend.autodiff.differentiable(Weighted(), (t, p))
    np.testing.assert_allclose(tape.gradient(value, p), 2 * t * p, rtol=1e-6)
    np.testing.assert_allclose(backend.autodiff.differentiable(Weighted(), (t, p)), value)
    test_a_second_derivative_is_refused("t")
    test_persistent_and_nested_tapes_work("eager")
    test_forward_mode_is_refused("eager")


@pytest.mark.parametrize("name", ["ssd", "lncc"])
def test_a_gradient_that_is_made_with_the_value_meets_any_cotangent(name):
    t, p = (tf.constant(numbers("float32", (3, 4, 5, 4), seed=i)) for i in range(2))
    loss = agnoreg.build_loss({"name": name, "reduction": "none"})
    _, expected = agnoreg.value_and_grad(loss, t, p)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(p)
        value = loss(t, p)
    for cotangent in (tf.ones(3), tf.constant([1.0, -2.0, 0.5])):
        gradient = tape.gradient(value, p, output_gradients=cotangent)
        np.testing.assert_allclose(gradient, expected * cotangent[:, None, None, None], rtol=1e-6)


def test_a_loss_with_a_loop_has_its_gradient_in_a_traced_function():
    class Looped(Weighted):
        def value(self, backend, arrays):
            return self.value_and_gradients(backend, arrays, ())[0]

        def value_and_gradients(self, backend, arrays, wrt):
            def body(tile):
                t, p = (backend.execution.planes(array, tile.start, tile.count) for array in arrays)
                return (xp.sum(t * p**2, axis=(1, 2)),), tuple((p**2, 2.0 * t * p)[i] for i in wrt)

            (value,), gradients = backend.execution.loop(tiles_of(23, 3, 0), body)
            return value, gradients

    t, p = (tf.constant(numbers("float32", (2, 23, 2), seed=i)) for i in range(2))
    for jit_compile in (False, True):

        @tf.function(input_signature=[tf.TensorSpec([None, 23, 2])] * 2, jit_compile=jit_compile)
        def loss(t, p):
            return backend.autodiff.differentiable(Looped(), (t, p))

        with tf.GradientTape() as tape:
            tape.watch(p)
            value = loss(t, p)
        np.testing.assert_allclose(value, np.sum(t * p**2, (1, 2)), rtol=1e-4)
        np.testing.assert_allclose(tape.gradient(value, p), 2 * t * p, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_keras_compile_and_fit_learn(jit_compile):
    keras = pytest.importorskip("keras", reason="Keras is not installed")
    keras.utils.set_random_seed(0)
    asked = []

    class Distance(Weighted):
        def value(self, backend, arrays):
            t, p = arrays
            return xp.mean((t - p) ** 2, axis=(1, 2))

        def value_and_gradients(self, backend, arrays, wrt):
            asked.append(wrt)
            t, p = arrays
            gradients = (t - p) * (2.0 / 8), (p - t) * (2.0 / 8)
            return self.value(backend, arrays), tuple(gradients[i] for i in wrt)

    def loss(y_true, y_pred):
        return backend.autodiff.differentiable(Distance(), (y_true, y_pred))

    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.SGD(0.2), loss=loss, jit_compile=jit_compile)
    x = numbers("float32", (10, 4, 2)) / 5
    history = model.fit(x, 2 * x, batch_size=4, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.1 * history[0]
    assert set(asked) == {(1,)}


# --- differentiating a user's function --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*MODES, "compiled"])
def test_value_and_grad_differentiates_any_function(mode):
    x, y = numbers("float32", (3, 4)), numbers("float32", (3, 4), seed=1)

    def call(a, b):
        return tf.reduce_sum(tf.sin(a) * tf.stop_gradient(b), axis=1)

    value, (by_y, by_x) = run(mode, lambda a, b: backend.autodiff.value_and_grad(call, (a, b), (1, 0)), x, y)
    np.testing.assert_allclose(value, np.sum(np.sin(x) * y, 1), rtol=1e-5)
    np.testing.assert_allclose(by_x, np.cos(x) * y, rtol=1e-5)
    np.testing.assert_array_equal(by_y, np.zeros_like(y))


def test_value_and_grad_takes_gathered_planes_and_variables():
    variable = tf.Variable(numbers("float32", (3, 4)))
    _, (gradient,) = backend.autodiff.value_and_grad(
        lambda a: tf.reduce_sum(tf.gather(a, [0, 0]), axis=1), (variable,), (0,)
    )
    np.testing.assert_array_equal(gradient, [[2] * 4, [0] * 4, [0] * 4])


def test_value_and_grad_leaves_other_tapes_alone():
    x, weight = tf.constant(numbers("float32", (3, 4))), tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        value, (gradient,) = backend.autodiff.value_and_grad(lambda a: tf.reduce_sum(weight * a**2, axis=1), (x,), (0,))
        after = tf.reduce_sum(x * 3.0)
    np.testing.assert_allclose(gradient, 4 * x)
    for target in (value, gradient):
        assert tape.gradient(target, [x, weight]) == [None, None]
    np.testing.assert_array_equal(tape.gradient(after, x), np.full((3, 4), 3))


def test_value_and_grad_refuses_to_differentiate_by_integers():
    with pytest.raises(TypeError, match=r"input 0 is .*int32"):
        backend.autodiff.value_and_grad(lambda a: a, (tf.constant([1, 2]),), (0,))
