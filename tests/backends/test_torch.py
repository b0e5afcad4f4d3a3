"""The PyTorch adapter: the gradient behind backward(), and what it refuses."""

import numpy as np
import pytest
import torch
from every import LOSSES

import agnoreg
from agnoreg import functional
from agnoreg.engine.planes import PlaneBatch


def tensors(loss, shape=(2, 8, 9, 7), dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(loss.inputs)]


@pytest.mark.parametrize("name", LOSSES)
def test_backward_gives_the_gradient_of_value_and_grad(name):
    loss = LOSSES[name]()
    arrays = [array.requires_grad_() for array in tensors(loss)]
    (loss(*arrays) * 3).backward()
    _, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=range(loss.inputs))
    for array, gradient in zip(arrays, gradients, strict=True):
        torch.testing.assert_close(array.grad, 3 * gradient)
        assert not gradient.requires_grad


@pytest.mark.parametrize("name", LOSSES)
def test_native_autodiff_gives_the_same_value_and_gradient(name):
    loss = LOSSES[name]()
    arrays = [array.requires_grad_() for array in tensors(loss)]
    value = loss(*arrays)
    gradients = torch.autograd.grad(value, arrays)
    with agnoreg.native_autodiff():
        native = loss(*arrays)
    torch.testing.assert_close(native, value)
    for found, expected in zip(torch.autograd.grad(native, arrays), gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    by_argument = LOSSES[name](native=True)(*arrays)
    torch.testing.assert_close(torch.autograd.grad(by_argument, arrays[-1])[0], gradients[-1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_a_second_derivative_is_refused_not_wrong(name):
    loss = LOSSES[name]()
    (*_, last) = arrays = [array.requires_grad_() for array in tensors(loss, (1, 5, 5, 5))]
    (gradient,) = torch.autograd.grad(loss(*arrays), last, create_graph=True)
    with pytest.raises(RuntimeError, match="native_autodiff"):
        (gradient.sum() + last.sum()).backward()


@pytest.mark.parametrize("name", ["lncc", "dice", "gmi", "ssd", "bending", "gncc"])
def test_native_autodiff_has_right_second_derivatives(name):
    loss = LOSSES[name](native=True)
    (*others, last) = tensors(loss, (1, 5, 5, 6))
    assert torch.autograd.gradgradcheck(lambda x: loss(*others, x), (last.requires_grad_(),), fast_mode=True)


def test_only_what_is_wanted_is_computed(no_kernels, monkeypatch):
    seen = []
    cls = agnoreg.loss.label.DiceScore().measure().__class__
    original = cls.gradient
    monkeypatch.setattr(cls, "gradient", lambda s, slab, c, wrt: (seen.append(wrt), original(s, slab, c, wrt))[1])
    t, p = torch.rand(2, 1, 4, 4, 4)
    loss = agnoreg.build_loss("dice")
    loss(t, p)
    with torch.no_grad():
        loss(t, p.clone().requires_grad_())
    value = loss(t, p.requires_grad_())
    assert seen == []
    value.backward()
    assert seen == [(1,)]


def test_an_input_that_was_written_to_before_backward_is_an_error_not_a_wrong_gradient():
    t, p = torch.rand(1, 4, 4, 4), torch.rand(1, 4, 4, 4)
    value = agnoreg.build_loss("dice")(t, p.requires_grad_())
    t.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_an_input_that_backward_does_not_read_may_be_written_to():
    t, p = torch.rand(1, 6, 6, 6), torch.rand(1, 6, 6, 6)
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": 3})
    _, expected = agnoreg.value_and_grad(loss, t, p)
    value = loss(t, p.requires_grad_())
    t.add_(1.0)
    value.backward()
    torch.testing.assert_close(p.grad, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_jacobians_are_the_gradients_of_the_samples(name):
    loss = LOSSES[name](reduction="none")
    *fixed, moving = tensors(loss, (2, 6, 5, 7))
    jacobian = torch.func.jacrev(lambda x: loss(*fixed, x))(moving)
    vectorized = torch.autograd.functional.jacobian(lambda x: loss(*fixed, x), moving, vectorize=True)
    _, gradient = agnoreg.value_and_grad(loss, *fixed, moving)
    for found in (jacobian, vectorized):
        torch.testing.assert_close(found[0, 0], gradient[0])
        torch.testing.assert_close(found[1, 1], gradient[1])
        assert not found[0, 1].any()
        assert not found[1, 0].any()


@pytest.mark.parametrize("name", ["lncc", "dice"])
def test_a_recorded_gradient_can_be_written_to(name):
    t, p = torch.rand(2, 1, 6, 6, 6)
    loss = agnoreg.build_loss(name)
    _, expected = agnoreg.value_and_grad(loss, t, p)
    (gradient,) = torch.autograd.grad(loss(t, p.requires_grad_()), p, create_graph=True)
    gradient.mul_(2.0)
    torch.testing.assert_close(gradient.detach(), 2.0 * expected)


def test_backward_can_be_called_twice_and_with_another_cotangent():
    t, p = torch.rand(2, 3, 4, 5, 4)
    value = agnoreg.build_loss({"name": "gmi", "reduction": "none"})(t, p.requires_grad_())
    ones = torch.autograd.grad(value, p, torch.ones(3), retain_graph=True)[0]
    weights = torch.tensor([1.0, -2.0, 0.5])
    weighted = torch.autograd.grad(value, p, weights)[0]
    torch.testing.assert_close(weighted, ones * weights[:, None, None, None])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name, dtype):
    loss = LOSSES[name]()
    arrays = tensors(loss, dtype=dtype)
    exact_value, exact = agnoreg.value_and_grad(loss, *[array.double() for array in arrays])
    arrays[-1].requires_grad_()
    value = loss(*arrays)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact_value, rtol=1e-5, atol=1e-7)
    # A cotangent as mixed-precision training scales it, which half precision could not hold after the product with 1/n.
    (value * 1024).backward()
    assert arrays[-1].grad.dtype == dtype
    error = (arrays[-1].grad.double() - 1024 * exact).abs().max() / (1024 * exact).abs().max()
    assert error <= torch.finfo(dtype).eps


def test_grad_of_the_caller_is_not_touched():
    t, p = (x.requires_grad_() for x in torch.rand(2, 1, 6, 6, 6))
    p.grad = marker = torch.full_like(p, 7)
    value, gradient = agnoreg.value_and_grad(agnoreg.build_loss("lncc"), t, p)
    assert p.grad is marker
    assert t.grad is None
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_autocast_changes_no_value():
    loss = agnoreg.build_loss("gmi")
    t, p = torch.rand(2, 1, 8, 8, 8)
    outside = loss(t, p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(t, p)
    torch.testing.assert_close(inside, outside, rtol=0, atol=0)


def test_a_subclass_and_a_parameter_give_the_same_value():
    class Named(torch.Tensor):
        pass

    t, p = torch.rand(2, 1, 6, 6, 6, dtype=torch.float64)
    expected = functional.lncc(t, p, kernel_size=3)
    found = functional.lncc(t.as_subclass(Named), torch.nn.Parameter(p), kernel_size=3)
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy())


def test_a_training_step_lowers_the_loss():
    fixed = torch.rand(1, 10, 10, 10)
    warped = torch.rand(1, 10, 10, 10, requires_grad=True)
    loss = agnoreg.build_loss([{"name": "lncc", "kernel_size": 5}, {"name": "ssd"}])
    optimizer = torch.optim.Adam([warped], lr=0.05)
    trace = []
    for _ in range(20):
        optimizer.zero_grad()
        value = loss(fixed, warped)
        value.backward()
        optimizer.step()
        trace.append(value.item())
    assert trace[-1] < trace[0] - 0.1


def test_streaming_takes_one_core_and_leaves_the_number_of_threads_as_it_was():
    execution = agnoreg.get_backend("torch").execution
    tiles = [PlaneBatch(start, 1, 2, 0) for start in range(2)]
    before, seen = torch.get_num_threads(), []

    def body(tile, state):
        seen.append(torch.get_num_threads())
        return state, (), (torch.full((1, 1, 3), float(tile.start)),)

    def broken(tile, state):
        raise ValueError("no such plane")

    torch.set_num_threads(3)
    try:
        _, (image,) = execution.scan(tiles, body, ())
        with pytest.raises(ValueError, match="no such plane"):
            execution.scan(tiles, broken, ())
        assert torch.get_num_threads() == 3
        execution.loop(tiles, lambda tile: body(tile, ())[1:])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert seen == ([1, 1] if torch.backends.openmp.is_available() else [3, 3]) + [3, 3]
    torch.testing.assert_close(image, torch.tensor([[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]))
