"""Losses inside torch.compile: one operator, which the compiler does not look into, and its gradient."""

import pytest
import torch
from agnoreg_torch import compiled
from every import LOSSES, METRICS
from torch._dynamo.testing import CompileCounterWithBackend

import agnoreg
from agnoreg import functional
from agnoreg.engine import chosen, words
from agnoreg.measures.families.pointwise import Pointwise

SHAPE = (2, 5, 6, 7)
#: Some of each kind: streaming, with bins, pointwise, a ratio, of a field, and a sum of filtered ones.
CONFIGS = {
    "lncc": {"name": "lncc", "kernel_size": 3},
    "gmi": {"name": "gmi", "num_bins": 8},
    "ssd": {"name": "ssd"},
    "dice": {"name": "dice", "scales": [0, 1]},
    "bending": {"name": "bending"},
}


@pytest.fixture(autouse=True)
def fresh():
    """Forget what was compiled before, and what torch.compile may not trace twice as often as the tests do."""
    torch._dynamo.reset()


def tensors(loss, shape=SHAPE, dtype=torch.float64, seed=3):
    generator = torch.Generator().manual_seed(seed)
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [torch.rand(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(loss.inputs)]


def compile_it(function, backend="aot_eager", **keywords):
    """Return a compiled function, and what counts how often it was compiled and holds the graphs."""
    counter = CompileCounterWithBackend(backend)
    return torch.compile(function, backend=counter, fullgraph=True, **keywords), counter


def targets(counter):
    """Return what is called in a function's latest graph to make tensors."""
    nodes = [node for node in counter.graphs[-1].graph.nodes if node.op in ("call_function", "call_method")]
    # Beside tensors there are comparisons of sizes.
    return [node.target for node in nodes if not isinstance(node.meta["example_value"], torch.SymBool | bool)]


def with_gradients(function, arrays, wrt, **keywords):
    leaves = [array.clone().requires_grad_(index in wrt) for index, array in enumerate(arrays)]
    value = function(*leaves, **keywords)
    if wrt:
        (value * torch.arange(1, value.numel() + 1, dtype=value.dtype).reshape(value.shape)).sum().backward()
    return value.detach(), *(leaves[index].grad for index in wrt)


def agree(function, loss, arrays, wrt, **keywords):
    """Check that a compiled loss has the value and the gradients of the eager one."""
    found, expected = (with_gradients(one, arrays, wrt, **keywords) for one in (function, loss))
    for one, wanted in zip(found, expected, strict=True):
        tolerance = {"rtol": 1e-12, "atol": 1e-14} if wanted.dtype == torch.float64 else {}
        torch.testing.assert_close(one, wanted, **tolerance)


# --- The graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_holds_one_operator_for_a_formula_and_serves_every_size(name, dynamic):
    loss = agnoreg.build_loss(CONFIGS[name])
    function, counter = compile_it(loss, dynamic=dynamic)
    agree(function, loss, tensors(loss), [loss.inputs - 1])
    graphs = len(counter.graphs)
    agree(function, loss, tensors(loss, (3, 8, 5, 9)), [loss.inputs - 1])
    assert (len(counter.graphs) == graphs) == dynamic
    called = targets(counter)
    # A loss of several scales is one formula a scale. Beside it: what is taken out of it, its sign, weights and mean.
    formulas = 2 if name == "dice" else 1
    assert called.count(torch.ops.agnoreg.loss) + called.count(torch.ops.agnoreg.loss.default) == formulas
    assert len(called) <= 8 * formulas


def test_what_the_operator_says_of_itself_is_so():
    loss = agnoreg.build_loss({"name": "ssd"})
    numbers = []
    text = compiled._text(compiled._described(loss.measured_by(type(loss)), numbers))
    for dtype in (torch.float64, torch.float16):
        first, second = (x.requires_grad_() for x in tensors(loss, dtype=dtype))
        mask = torch.rand(SHAPE) > 0.5
        arguments = ([0, 1], first, second, None), ([1], first.detach(), second, mask), ([], first, second, None)
        for wrt, *rest in arguments:
            torch.library.opcheck(torch.ops.agnoreg.loss.default, (text, numbers, wrt, *rest))


def test_compiled_code_runs_the_kernels(monkeypatch):
    asked = []
    monkeypatch.setattr(chosen, "accelerators", lambda kind: asked.append(kind) or ())
    function, _ = compile_it(agnoreg.build_loss(CONFIGS["lncc"]))
    function(*torch.rand(2, 1, 6, 6, 6))
    assert asked == ["host"]


# --- Values and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrt", [(), (0,), (0, 1)], ids=str)
def test_any_of_the_inputs_may_require_a_gradient(wrt):
    loss = agnoreg.build_loss(CONFIGS["lncc"] | {"reduction": "none"})
    agree(compile_it(loss)[0], loss, tensors(loss), wrt)


@pytest.mark.parametrize("name", ["gmi", "bending"])
def test_masks_are_inputs_of_the_operator(name):
    loss = agnoreg.build_loss(CONFIGS[name])
    function, _ = compile_it(loss)
    arrays = tensors(loss)
    weights = torch.rand(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    agree(function, loss, arrays, [loss.inputs - 1], mask=weights > 0.001)
    agree(function, loss, arrays, [loss.inputs - 1], mask=weights[:1, :, :, :1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8], ids=str)
def test_dtypes_are_as_without_a_compiler(dtype):
    loss = agnoreg.build_loss(CONFIGS["dice"] | {"scales": None} if dtype == torch.uint8 else CONFIGS["lncc"])
    arrays = tensors(loss, dtype=dtype)
    agree(compile_it(loss)[0], loss, arrays, [1] if dtype.is_floating_point else [])


def test_autocast_changes_no_value():
    loss = agnoreg.build_loss(CONFIGS["gmi"])
    t, p = torch.rand(2, 1, 5, 6, 7)

    def step(t, p):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(t, p)

    torch.testing.assert_close(compile_it(step)[0](t, p), loss(t, p), rtol=0, atol=0)


def test_one_tensor_may_be_both_images_and_have_other_uses():
    loss = agnoreg.build_loss({"name": "ssd"})

    def step(x, y):
        return loss(x, x * y) + loss(y, y).sum() + x.mean()

    agree(compile_it(step)[0], step, tensors(loss), [0, 1])


def test_channels_first_and_a_view_that_is_not_contiguous():
    loss = agnoreg.build_loss(CONFIGS["lncc"] | {"data_format": "channels_first"})
    arrays = [x.transpose(2, 4) for x in tensors(loss, (2, 3, 5, 6, 7))]
    agree(compile_it(loss)[0], loss, arrays, [0, 1])


@pytest.mark.parametrize("name", ["lncc", "dice"])
def test_value_and_grad_is_the_operator_too(name):
    loss = agnoreg.build_loss(CONFIGS[name])
    arrays = tensors(loss)
    function, counter = compile_it(lambda *given: agnoreg.value_and_grad(loss, *given))
    torch.testing.assert_close(function(*arrays), agnoreg.value_and_grad(loss, *arrays))
    # The whole loss is one operator, whatever it is made of.
    assert sum("agnoreg" in str(target) for target in targets(counter)) == 1


def test_a_parameter_may_be_an_argument_of_what_is_compiled():
    def function(t, p, size, smooth_nr):
        return functional.lncc(t, p, kernel_size=size, smooth_nr=smooth_nr)

    t, p = torch.rand(2, 1, 5, 6, 7)
    for dynamic in (None, True):
        torch._dynamo.reset()
        made, _ = compile_it(function, dynamic=dynamic)
        for size, smooth_nr in ((3, 1e-5), (5, 1e-5), (5, 1e-2), (3, 0.3)):
            torch.testing.assert_close(made(t, p, size, smooth_nr), function(t, p, size, smooth_nr))


def test_a_program_that_was_exported_computes_the_loss():
    class Model(torch.nn.Module):
        loss = agnoreg.build_loss(CONFIGS["lncc"])

        def forward(self, t, p):
            return self.loss(t, p)

    t, p = torch.rand(2, 1, 5, 6, 7)
    program = torch.export.export(Model(), (t, p))
    torch.testing.assert_close(program.module()(t, p), Model()(t, p))


# --- What the compiler looks into -------------------------------------------------------------------------------------


def test_a_loss_of_a_users_own_is_traced():
    class Weighted(agnoreg.Loss):
        def call(self, y_true, y_pred):
            return ((y_true - y_pred) ** 2 * factor).mean(dim=(1, 2, 3))

    factor = torch.rand(SHAPE[1:], dtype=torch.float64, requires_grad=True)
    loss = Weighted()
    function, counter = compile_it(loss)
    arrays = tensors(loss)
    expected = torch.autograd.grad(loss(*arrays), factor)
    torch.testing.assert_close(torch.autograd.grad(function(*arrays), factor), expected)
    assert not any("agnoreg" in str(target) for target in targets(counter))


def test_native_autodiff_is_traced():
    loss = agnoreg.build_loss({"name": "ssd", "native": True})
    function, counter = compile_it(loss)
    agree(function, loss, tensors(loss), [0, 1])
    assert not any("agnoreg" in str(target) for target in targets(counter))


def test_functions_of_functions_are_traced():
    loss = agnoreg.build_loss({"name": "dice"})
    t, p = torch.rand(2, 3, 1, 5, 6, 7, dtype=torch.float64)
    gradient = torch.func.vmap(torch.func.grad(loss, argnums=1))
    torch.testing.assert_close(compile_it(gradient)[0](t, p), gradient(t, p))


@pytest.mark.parametrize("dynamic", [False, True])
def test_shapes_that_do_not_fit_are_told_while_the_call_is_traced(dynamic):
    function, _ = compile_it(agnoreg.build_loss("ssd"), dynamic=dynamic)
    with pytest.raises(Exception, match="y_true and y_pred must have one shape"):
        function(torch.rand(1, 5, 5, 5), torch.rand(1, 5, 5, 6))
    function, _ = compile_it(agnoreg.build_loss("bending"), dynamic=dynamic)
    with pytest.raises(Exception, match="A displacement field must be "):
        function(torch.rand(1, 5, 5, 5, 2))


def test_a_filter_takes_a_list():
    x = torch.rand(1, 4, 5, 6)
    function, _ = compile_it(lambda x: functional.separable_filter(x, [0.25, 0.5, 1]))
    torch.testing.assert_close(function(x), functional.separable_filter(x, [0.25, 0.5, 1.0]))


# --- A function as a text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("another_process", [False, True])
@pytest.mark.parametrize("cls", [*LOSSES.values(), *METRICS.values()], ids=lambda cls: cls.__name__)
def test_a_text_and_numbers_say_which_function_it_is(cls, another_process, monkeypatch):
    if another_process:
        monkeypatch.setattr(words, "_classes", {})
    function, numbers = cls().measured_by(cls), []
    assert compiled._is_plain(function)
    text = compiled._text(compiled._described(function, numbers))
    if another_process:
        words._classes.clear()
        compiled._function.cache_clear()
    assert compiled._function(text, tuple(numbers)) == function


def test_two_classes_of_one_name_are_told_apart():
    def made(factor):
        class Scaled(Pointwise):
            def term(self, xp, t, p):
                return (t - p) * factor

        return Scaled()

    for function in [made(2.0), made(3.0)] * 2:
        text = compiled._text(compiled._described(function, []))
        assert compiled._function(text, ()) is not None
        assert type(compiled._function(text, ())) is type(function)


def test_a_text_that_names_no_loss_is_refused():
    with pytest.raises(TypeError, match="names pathlib:Path as a loss, which is none"):
        compiled._function('{"class":"pathlib:Path"}', ())
