"""PyTorch's backward pass: whose memory a gradient is, and that it is right however often it is asked for."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from agnoreg_torch import _private
from agnoreg_torch.autodiff import _Value
from every import LOSSES
from torch.utils.checkpoint import checkpoint

import agnoreg
from agnoreg.engine.function import evaluate
from agnoreg.measures.families.pointwise import Pointwise

#: Losses whose value and gradient share one pass.
SHARED = ["lncc", "ssd", "bending"]


@pytest.fixture(params=[True, False], ids=["kernels", "core"])
def kernels(request, monkeypatch):
    monkeypatch.setattr(agnoreg.get_backend("torch"), "kernels", request.param)


def tensors(loss, shape=(3, 6, 7, 8), dtype=torch.float32):
    generator = torch.Generator().manual_seed(5)
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(loss.inputs)]


def gradient_of(loss, *arrays):
    return agnoreg.value_and_grad(loss, *arrays)[1]


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_backward_hands_over_the_memory_of_the_gradient(name, factor, monkeypatch):
    made, keep = [], _Value.keep

    def recorded(ctx, backend, function, wrt, arrays, saved, *more):
        made.extend(one.data_ptr() for one in saved)
        keep(ctx, backend, function, wrt, arrays, saved, *more)

    loss = LOSSES[name]()
    *fixed, moving = tensors(loss)
    # Before the call that is looked at, since what compiles a kernel leaves references to its callers' arrays behind.
    expected = factor * gradient_of(loss, *fixed, moving)
    monkeypatch.setattr(_Value, "keep", staticmethod(recorded))
    (loss(*fixed, moving.requires_grad_()) * factor).backward()
    assert made == [moving.grad.data_ptr()]
    torch.testing.assert_close(moving.grad, expected)


@pytest.mark.parametrize("vanished", [False, True], ids=["", "not known whether it is kept"])
@pytest.mark.parametrize("name", [*SHARED, "cross-entropy", "dice"])
def test_a_graph_that_is_kept_gives_another_gradient_each_time(name, vanished, kernels, monkeypatch):
    if vanished:
        monkeypatch.setattr(_private, "_keeps_graph", None)
    loss = LOSSES[name](reduction="none")
    *fixed, moving = tensors(loss)
    expected = gradient_of(loss, *fixed, moving)
    value = loss(*fixed, moving.requires_grad_())
    for cotangent in (torch.ones(3), torch.tensor([1.0, -2.0, 0.5]), torch.ones(3)):
        (gradient,) = torch.autograd.grad(value, moving, cotangent, retain_graph=True)
        torch.testing.assert_close(gradient, expected * cotangent.reshape(-1, *(1,) * (moving.ndim - 1)))
        # It is the caller's, who may write to it: the next one is another.
        gradient.zero_()
    (gradient,) = torch.autograd.grad(value, moving, torch.full((3,), 3.0))
    torch.testing.assert_close(gradient, 3.0 * expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(value, moving, torch.ones(3))


@pytest.mark.parametrize("name", [*SHARED, "dice"])
def test_gradients_of_several_losses_add_up_in_the_memory_that_was_there(name):
    loss, other = LOSSES[name](), LOSSES["gradient" if LOSSES[name]().inputs == 1 else "gmi"]()
    *fixed, moving = tensors(loss)
    first, second = (gradient_of(one, *fixed, moving) for one in (loss, other))
    moving.requires_grad_()
    moving.grad = there = torch.ones_like(moving)
    (2.0 * loss(*fixed, moving) + other(*fixed, moving)).backward()
    loss(*fixed, moving).backward()
    assert moving.grad is there
    torch.testing.assert_close(there, 1.0 + 3.0 * first + second)


def test_a_hook_that_keeps_the_gradient_has_its_own(kernels):
    loss = agnoreg.build_loss("ssd")
    t, p = tensors(loss)
    seen = []
    p.requires_grad_().register_hook(seen.append)
    loss(t, p).backward()
    expected = p.grad.clone()
    p.grad.zero_()
    torch.testing.assert_close(seen[0], expected)


class Symmetric(Pointwise):
    """Half the mean of ``(t + p)^2``, whose gradients by both images are one array."""

    fused_value_and_gradient = True

    def value_and_gradients(self, backend, arrays, wrt, scale=1.0):
        t, p = arrays
        gradient = (t + p) * (scale / t[0].numel())
        return ((t + p) ** 2 / 2).mean(dim=(1, 2, 3)), tuple(gradient.view(t.shape) for _ in wrt)


def test_two_gradients_in_the_same_memory_are_both_right():
    t, p = torch.rand(2, 1, 3, 4, 5, dtype=torch.float64)
    expected = 5.0 * (t + p) / 60
    (5.0 * evaluate(Symmetric(), t.requires_grad_(), p.requires_grad_())).sum().backward()
    torch.testing.assert_close(t.grad, expected)
    torch.testing.assert_close(p.grad, expected)
    t.grad.zero_()
    torch.testing.assert_close(p.grad, expected)


class Weighed(agnoreg.Loss):
    """The sum of products, whose gradient by one image is the other one."""

    def call(self, y_true, y_pred):
        return (y_true * y_pred).sum(dim=(1, 2, 3))

    def gradient(self, y_true, y_pred, wrt):
        return tuple((y_pred, y_true)[index] for index in wrt)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_a_users_gradient_stays_the_users(factor):
    t, p = torch.rand(2, 1, 3, 4, 5)
    before = t.clone()
    (factor * Weighed()(t, p.requires_grad_())).backward()
    p.grad.add_(1.0)
    assert torch.equal(t, before)
    torch.testing.assert_close(p.grad, factor * before + 1.0)


@pytest.mark.parametrize("name", [*SHARED, "dice", "gmi"])
def test_gradcheck_passes(name):
    loss = LOSSES[name](reduction="none")
    arrays = [array.requires_grad_() for array in tensors(loss, (2, 5, 5, 5), torch.float64)]
    assert torch.autograd.gradcheck(loss, arrays, fast_mode=True)


@pytest.mark.parametrize("name", [*SHARED, "dice"])
def test_a_checkpoint_computes_the_same_gradient_again(name):
    loss = LOSSES[name]()
    *fixed, moving = tensors(loss)
    expected = gradient_of(loss, *fixed, moving)
    checkpoint(loss, *fixed, moving.requires_grad_(), use_reentrant=False).backward()
    torch.testing.assert_close(moving.grad, expected)


@pytest.mark.parametrize("name", [*SHARED, "dice"])
def test_saved_tensors_may_be_kept_elsewhere(name):
    loss = LOSSES[name]()
    *fixed, moving = tensors(loss)
    expected = gradient_of(loss, *fixed, moving)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.numpy(force=True).copy(), torch.from_numpy):
        value = 2.0 * loss(*fixed, moving.requires_grad_())
    value.backward()
    torch.testing.assert_close(moving.grad, 2.0 * expected)


@pytest.mark.parametrize("name", SHARED)
def test_threads_that_differentiate_at_once_get_their_own_gradients(name):
    loss = LOSSES[name]()
    *fixed, moving = tensors(loss, dtype=torch.float64)
    expected = gradient_of(loss, *fixed, moving)

    def differentiated(factor):
        own = moving.clone().requires_grad_()
        (factor * loss(*fixed, own)).backward()
        return own.grad

    with ThreadPoolExecutor(4) as pool:
        for factor, found in zip(range(1, 9), pool.map(differentiated, range(1, 9)), strict=True):
            torch.testing.assert_close(found, factor * expected)
