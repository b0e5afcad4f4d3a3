"""Arrays that are more than arrays: subclasses, memory maps, parameters and variables count as the numbers in them.

That TensorFlow's own tensors and variables are taken is tested in `guarantees/` and in `test_tensorflow`.
"""

import copy

import numpy as np
import pytest
import torch
from every import LOSSES
from torch._subclasses.fake_tensor import FakeTensorMode

import agnoreg

SHAPE = (2, 8, 7, 9)
SECTION = {
    "image": [{"name": "lncc", "kernel_size": 3}, {"name": "gmi", "weight": 0.5}],
    "label": {"name": "dice", "scales": [0, 1], "weight": 2.0},
    "regularization": [{"name": "bending", "weight": 0.1}, {"name": "gradient", "weight": 0.2}],
}


def arrays_of(loss, rng, dtype="float64"):
    size = (*SHAPE, 3) if loss.inputs == 1 else SHAPE
    return [rng.random(size).astype(dtype) for _ in range(loss.inputs)]


def close(found, expected):
    """Check that two arrays hold the same numbers, and plain ones."""
    found, expected = (np.asarray(agnoreg.backend_of(x).to_numpy(x)) for x in (found, expected))
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    tolerance = 1e-12 if expected.dtype == np.float64 else 1e-6
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * abs(expected).max())


@pytest.fixture(params=["whole", "slabs"])
def cut(request):
    """Work on an image as a whole, or in slabs of a plane or two, whose results are written to their places."""
    if request.param == "slabs":
        request.getfixturevalue("small_slabs")


# --- PyTorch ----------------------------------------------------------------------------------------------------------


class Plain(torch.Tensor):
    """A subclass that changes nothing."""


class WithMeta(torch.Tensor):
    """A tensor that carries what is known of its image along, through every function, as image libraries' do."""

    def __new__(cls, data, meta=None):
        tensor = torch.as_tensor(data).as_subclass(cls)
        tensor.meta = meta
        return tensor

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))
        metas = [x.meta for x in flat if isinstance(x, WithMeta) and getattr(x, "meta", None) is not None]
        outputs, _ = torch.utils._pytree.tree_flatten(result)
        for output in outputs:
            if isinstance(output, WithMeta) and metas and getattr(output, "meta", None) is None:
                output.meta = copy.copy(metas[0])
        return result


class Batch(WithMeta):
    """A batch with what is known of each image, which takes the first index of a part of it for one of samples."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs)
        if func is torch.Tensor.__getitem__ and isinstance(args[0], Batch):
            index = args[1][0] if isinstance(args[1], tuple) else args[1]
            samples = getattr(args[0], "meta", None)
            if samples is not None and index is not Ellipsis:
                chosen = samples[index]
                if not chosen:
                    raise ValueError("There are no meta data of such samples.")
                result.meta = chosen
        elif func is torch.Tensor.__setitem__:
            raise ValueError("Meta data cannot be written to.")
        return result


META = {"affine": np.eye(4), "filename": "fixed.nii.gz"}
TENSORS = {
    "a subclass": lambda x: torch.tensor(x).as_subclass(Plain),
    "a tensor with meta data": lambda x: WithMeta(torch.tensor(x), META),
    "a batch with meta data": lambda x: Batch(torch.tensor(x), [META] * len(x)),
    "a parameter": lambda x: torch.nn.Parameter(torch.tensor(x)),
    "a frozen parameter": lambda x: torch.nn.Parameter(torch.tensor(x), requires_grad=False),
    "a buffer": lambda x: torch.nn.Buffer(torch.tensor(x)),
    "a parameter with meta data": lambda x: torch.nn.Parameter(WithMeta(torch.tensor(x), META)),
}


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_tensor_of_any_class_has_the_value_and_the_gradients_of_its_numbers(rng, name, kind):
    loss = LOSSES[name]()
    arrays = arrays_of(loss, rng)
    plain, wrt = [torch.tensor(x) for x in arrays], range(loss.inputs)
    expected, expected_gradients = agnoreg.value_and_grad(loss, *plain, argnums=wrt)
    # All of them of that class, or one beside a plain tensor.
    for which in {tuple(wrt), (0,), (loss.inputs - 1,)}:
        given = [TENSORS[kind](x) if index in which else torch.tensor(x) for index, x in enumerate(arrays)]
        before = [(type(x), getattr(x, "meta", None)) for x in given]
        close(loss(*given), expected)
        value, gradients = agnoreg.value_and_grad(loss, *given, argnums=wrt)
        close(value, expected)
        for found, one in zip(gradients, expected_gradients, strict=True):
            close(found, one)
            assert not found.requires_grad
        for one, x, (cls, meta) in zip(given, arrays, before, strict=True):
            assert type(one) is cls
            assert getattr(one, "meta", None) is meta
            assert one.grad is None
            np.testing.assert_array_equal(one.detach().numpy(), x)


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", [kind for kind in TENSORS if kind not in ("a frozen parameter", "a buffer")])
@pytest.mark.parametrize("name", LOSSES)
def test_backward_leaves_the_gradient_at_a_tensor_of_any_class(rng, name, kind):
    loss = LOSSES[name]()
    arrays = arrays_of(loss, rng)
    _, expected = agnoreg.value_and_grad(loss, *arrays, argnums=range(loss.inputs))
    for which in {tuple(range(loss.inputs)), (0,), (loss.inputs - 1,)}:
        given = [TENSORS[kind](x) if index in which else torch.tensor(x) for index, x in enumerate(arrays)]
        for one in given:
            one.requires_grad_()
        (loss(*given) * 3).backward()
        for one, gradient in zip(given, expected, strict=True):
            close(one.grad, 3 * gradient)
    with agnoreg.native_autodiff():
        leaf = TENSORS[kind](arrays[-1]).requires_grad_()
        loss(*(torch.tensor(x) for x in arrays[:-1]), leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), expected[-1], atol=1e-9 * abs(expected[-1]).max())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("kind", [kind for kind in TENSORS if "meta data" in kind])
def test_a_registration_of_tensors_with_meta_data(rng, kind, dtype):
    loss = agnoreg.build_loss(SECTION)
    pair, field = rng.random((2, *SHAPE)).astype(dtype), rng.random((*SHAPE, 3)).astype(dtype)
    results = []
    for make in (torch.tensor, TENSORS[kind]):
        fixed, warped, ddf = make(pair[0]), make(pair[1]).requires_grad_(), make(field).requires_grad_()
        given = {"image": (fixed, warped), "label": (fixed, warped), "regularization": ddf}
        total, terms = loss(**given, return_terms=True)
        total.backward()
        value, gradients = agnoreg.value_and_grad(loss, **given, argnums=("image", "label", "regularization"))
        results.append([total, *terms.values(), warped.grad, ddf.grad, value, *gradients])
    for found, expected in zip(*reversed(results), strict=True):
        close(found, expected)


def test_meta_data_that_were_computed_with_do_not_change_a_step_of_training(rng):
    loss = agnoreg.build_loss([{"name": "lncc", "kernel_size": 3}, {"name": "ssd"}])
    fixed, start = rng.random((2, 1, 8, 8, 8)).astype("float32")
    steps = []
    for make in (torch.tensor, TENSORS["a tensor with meta data"]):
        gain = torch.nn.Parameter(torch.ones(()))
        optimizer = torch.optim.SGD([gain], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss(make(fixed), make(start) * gain).backward()
            optimizer.step()
        steps.append(gain.detach())
    close(*steps)


def test_the_second_derivative_of_a_subclass_is_refused_too(rng):
    t, p = (TENSORS["a tensor with meta data"](x).requires_grad_() for x in rng.random((2, 1, 5, 5, 5)))
    loss = agnoreg.build_loss("dice")
    (gradient,) = torch.autograd.grad(loss(t, p), p, create_graph=True)
    with pytest.raises(RuntimeError, match="native_autodiff"):
        gradient.sum().backward()


def test_a_subclass_that_was_written_to_before_backward_is_an_error_too(rng):
    t, p = (TENSORS["a tensor with meta data"](x) for x in rng.random((2, 1, 5, 5, 5)))
    value = agnoreg.build_loss("dice")(t, p.requires_grad_())
    t.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


# PyTorch's compiler makes an autograd.Function in ways that it deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["lncc", "bending"])
@pytest.mark.slow
def test_a_compiled_loss_takes_a_subclass(rng, name):
    loss = LOSSES[name]()
    arrays = arrays_of(loss, rng)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager")
    close(compiled(*(TENSORS["a tensor with meta data"](x) for x in arrays)), loss(*map(torch.tensor, arrays)))


def test_a_tensor_that_stands_for_its_operations_stays_as_it_is(rng):
    backend, loss = agnoreg.get_backend("torch"), agnoreg.build_loss("ssd")
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.rand(2, 3, 4))
        assert backend.prepare(fake) is fake
        assert type(loss(fake, fake)) is type(fake)


# --- NumPy ------------------------------------------------------------------------------------------------------------


class Untouchable(np.ndarray):
    """A subclass with attributes, whose own arithmetic nobody may call: only the numbers in it count."""

    def __array_finalize__(self, other):
        self.spacing = getattr(other, "spacing", None)

    def __array_ufunc__(self, *args, **keywords):
        raise AssertionError("A function of the subclass's own was called.")

    def __array_function__(self, *args, **keywords):
        raise AssertionError("A function of the subclass's own was called.")

    def __array_wrap__(self, *args):
        raise AssertionError("A result was made an array of the subclass.")


def mapped(mode="r", order="C", dtype="<f8"):
    """Return what puts an array into a file and maps that."""

    def make(x, path):
        stored = np.memmap(path, dtype=dtype, mode="w+", shape=x.shape, order=order)
        stored[...] = x
        stored.flush()
        return np.memmap(path, dtype=dtype, mode=mode, shape=x.shape, order=order)

    return make


NDARRAYS = {
    "a memory map": mapped(),
    "a memory map that can be written": mapped("r+"),
    "a memory map, copied on writing": mapped("c"),
    "a memory map in Fortran's order": mapped(order="F"),
    "a memory map of the other byte order": mapped(dtype=">f8"),
    "a part of a memory map": lambda x, path: mapped()(np.concatenate([x, x], axis=1), path)[:, : x.shape[1]],
    "a subclass": lambda x, path: x.view(Untouchable),
    "a masked array without a mask": lambda x, path: np.ma.masked_array(x),
    "a record array": lambda x, path: x.view(np.recarray),
    "an array that is read-only": lambda x, path: np.frombuffer(x.tobytes()).reshape(x.shape),
}


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("kind", NDARRAYS)
@pytest.mark.parametrize("name", LOSSES)
def test_an_array_of_any_class_has_the_value_and_the_gradients_of_its_numbers(rng, tmp_path, name, kind):
    loss = LOSSES[name]()
    arrays, wrt = arrays_of(loss, rng), range(loss.inputs)
    expected, expected_gradients = agnoreg.value_and_grad(loss, *arrays, argnums=wrt)
    special = [NDARRAYS[kind](x.copy(), tmp_path / str(index)) for index, x in enumerate(arrays)]
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for which in {tuple(wrt), (0,), (loss.inputs - 1,)}:
        given = [special[index] if index in which else x for index, x in enumerate(arrays)]
        value, gradients = agnoreg.value_and_grad(loss, *given, argnums=wrt)
        for found, one in [
            (loss(*given), expected),
            (value, expected),
            *zip(gradients, expected_gradients, strict=True),
        ]:
            assert type(found) is np.ndarray
            close(found, one)
    for one, x in zip(special, arrays, strict=True):
        np.testing.assert_array_equal(np.asarray(one), x)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_registration_of_memory_maps(rng, tmp_path):
    loss = agnoreg.build_loss(SECTION)
    arrays = [*rng.random((2, *SHAPE)), rng.random((*SHAPE, 3))]
    results = []
    for fixed, warped, ddf in (arrays, [mapped()(x, tmp_path / str(index)) for index, x in enumerate(arrays)]):
        given = {"image": (fixed, warped), "label": (fixed, warped), "regularization": ddf}
        (total, terms), gradients = agnoreg.value_and_grad(loss, **given, argnums=range(5), return_terms=True)
        results.append([total, *terms.values(), *gradients])
    for expected, found in zip(*results, strict=True):
        assert type(found) is np.ndarray
        close(found, expected)


# --- TensorFlow -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_a_variable_of_keras_has_the_value_and_the_gradients_of_its_numbers(rng, name, traced):
    keras = pytest.importorskip("keras", reason="Keras comes with TensorFlow")
    import tensorflow as tf

    loss = LOSSES[name]()
    arrays, wrt = arrays_of(loss, rng), range(loss.inputs)
    expected, expected_gradients = agnoreg.value_and_grad(loss, *arrays, argnums=wrt)
    variables = [keras.Variable(x, dtype="float64") for x in arrays]

    def step():
        with tf.GradientTape() as tape:
            value = loss(*variables)
        gradients = tape.gradient(value, [variable.value for variable in variables])
        return value, gradients, agnoreg.value_and_grad(loss, *variables, argnums=wrt)

    value, of_tape, (same, gradients) = (tf.function(step) if traced else step)()
    for found, one in [(value, expected), (same, expected)]:
        np.testing.assert_allclose(found.numpy(), one, rtol=1e-10)
    for found in (of_tape, gradients):
        for x, one in zip(found, expected_gradients, strict=True):
            np.testing.assert_allclose(x.numpy(), one, atol=1e-9 * abs(one).max())
