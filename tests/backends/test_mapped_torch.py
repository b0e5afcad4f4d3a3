"""Losses under PyTorch's functions of functions: mapped, differentiated, and both, in whatever order."""

import numpy as np
import pytest
import torch

import agnoreg
from conformance.cases import CASES, MASKED

SHAPE = (2, 6, 7, 8)
#: Every class with every option once, and with every kind of mask.
VARIANTS = list({(case.cls, case.options): case for case in CASES}.values()) + MASKED
#: As many are mapped over.
COUNT = 2


def given(case, dtype=torch.float64):
    """Return a loss of values of samples, with COUNT sets of its arrays, each with masks, and which array moves."""
    loss, sets = case.build(reduction="none"), []
    for seed in range(COUNT):
        arrays = case.arrays(SHAPE, seed)
        sets.append((*arrays, *case.masks(*arrays).values()))
    names = list(case.masks(*case.arrays(SHAPE)))

    def values(*arrays):
        masks = arrays[case.inputs :]
        return loss(*arrays[: case.inputs], **dict(zip(names, masks, strict=True)))

    def tensor(x):
        x = torch.tensor(np.stack(x))
        return x if x.dtype == torch.bool else x.to(dtype)

    return values, tuple(tensor(x) for x in zip(*sets, strict=True)), case.inputs - 1


def expected(values, arrays, last):
    """Return the values and gradients of each set by PyTorch's `backward`, one after the other."""
    found = []
    for one in zip(*arrays, strict=True):
        leaf = one[last].clone().requires_grad_()
        value = values(*one[:last], leaf, *one[last + 1 :])
        found.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    return tuple(torch.stack(x) for x in zip(*found, strict=True))


def agrees(found, exact):
    scale = exact[torch.isfinite(exact)].abs().max()
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-9 * scale.item(), equal_nan=True)


@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_mapped_and_differentiated_in_either_order_is_one_by_one(case):
    values, arrays, last = given(case)
    value, gradient = expected(values, arrays, last)

    def total(*arrays):
        return values(*arrays).sum()

    agrees(torch.func.vmap(values)(*arrays), value)
    agrees(torch.func.vmap(torch.func.grad(total, argnums=last))(*arrays), gradient)
    agrees(torch.func.grad(lambda *x: torch.func.vmap(total)(*x).sum(), argnums=last)(*arrays), gradient)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "no kernels"])
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_many_gradients_of_one_value_are_its_samples(monkeypatch, case, kernels):
    monkeypatch.setattr(agnoreg.Backend, "kernels", kernels)
    values, arrays, last = given(case)
    _, (gradient, _) = expected(values, arrays, last)
    one = [x[0] for x in arrays]
    rows = torch.func.jacrev(values, argnums=last)(*one)
    leaf = one[last] = one[last].clone().requires_grad_()
    value = values(*one)
    (batched,) = torch.autograd.grad(value, leaf, torch.eye(len(value), dtype=value.dtype), is_grads_batched=True)
    for found in (rows, batched):
        for i, row in enumerate(found):
            agrees(row[i], gradient[i])
            assert not row[1 - i].any()


FORMULAS = [case for case in [*CASES, *MASKED] if not case.options and "Loss" not in case.cls]
#: Those whose images are worked on together, in windows, with each kind of window; fields and masks.
TOGETHER = list({(case.cls, dict(case.options).get("kernel_type"), case.masked): case for case in VARIANTS}.values())


@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_one_array_alone_may_be_mapped_over(case):
    values, arrays, last = given(case)

    def total(*arrays):
        return values(*arrays).sum()

    for place in range(len(arrays)):
        shared = tuple(x if i == place else x[:1].expand(x.shape) for i, x in enumerate(arrays))
        value, gradient = expected(values, shared, last)
        given_ = tuple(x if i == place else x[0] for i, x in enumerate(arrays))
        where = tuple(0 if i == place else None for i in range(len(arrays)))
        agrees(torch.func.vmap(values, in_dims=where)(*given_), value)
        agrees(torch.func.vmap(torch.func.grad(total, argnums=last), in_dims=where)(*given_), gradient)


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_a_second_derivative_is_refused_with_a_mask_and_mapped_too(case):
    values, arrays, last = given(case)

    def squares(*arrays):
        gradient = torch.func.grad(lambda *x: values(*x).sum(), argnums=last)(*arrays)
        return (gradient**2).sum()

    one = [x[0] for x in arrays]
    leaf = one[last] = one[last].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(values(*one).sum(), leaf, create_graph=True)
    for second in (
        lambda: torch.autograd.grad((gradient**2).sum() + leaf.sum(), leaf),
        lambda: torch.func.grad(squares, argnums=last)(*[x[0] for x in arrays]),
        lambda: torch.func.vmap(torch.func.grad(squares, argnums=last))(*arrays),
        lambda: torch.func.grad(lambda *x: torch.func.vmap(squares)(*x).sum(), argnums=last)(*arrays),
    ):
        with pytest.raises(RuntimeError, match="native_autodiff"):
            second()


# PyTorch's own, when it first makes a dual tensor.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_forward_mode_is_the_gradient_times_the_tangent(case):
    values, arrays, last = given(case)
    _, gradient = expected(values, arrays, last)
    tangent = torch.rand(gradient.shape, dtype=gradient.dtype, generator=torch.Generator().manual_seed(1))
    exact = (gradient * tangent).flatten(2).sum(-1)

    def pushed(function, x, direction):
        return torch.func.jvp(lambda moving: function(*x[:last], moving, *x[last + 1 :]), (x[last],), (direction,))[1]

    agrees(pushed(values, [x[0] for x in arrays], tangent[0]), exact[0])
    agrees(pushed(torch.func.vmap(values), arrays, tangent), exact)
    agrees(torch.func.vmap(lambda *x: pushed(values, x[:-1], x[-1]))(*arrays, tangent), exact)


def test_the_sign_of_nan_is_nan():
    found = agnoreg.get_backend("torch").operations.sign(torch.tensor([-2.0, -0.0, 0.0, 3.0, torch.nan]))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 0.0, 1.0, torch.nan]), equal_nan=True)
