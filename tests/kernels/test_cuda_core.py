"""Kernels by way of cuda.core, without a card: NVRTC compiles them, and a stand-in hands launches to the emulator."""

import inspect
import sys
from contextlib import nullcontext
from dataclasses import replace

import agnoreg_torch
import cuda_core_stand_in
import numpy as np
import pytest
import torch
from agnoreg_cuda import by_cuda_core, by_cupy, queues
from agnoreg_cuda.fields import CudaBending
from agnoreg_cuda.histograms import CudaParzenInformation
from agnoreg_cuda.local_correlation import CudaLocalCorrelation
from cuda_on_cpu import COMPILER, EmulatedCard

import agnoreg
from agnoreg.backend.accelerators import missing
from agnoreg.engine.function import apply
from agnoreg.measures.families.central_differences import SecondDerivativeEnergy
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg.measures.mutual_information import ParzenInformation

emulated = pytest.mark.needs_compiler(
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, to emulate the kernels with")
)
MEASURES = {"lncc": LocalCorrelation(5), "gmi": ParzenInformation(), "bending": SecondDerivativeEnergy()}
STREAM = 4096


KEPT = (by_cuda_core.usable, by_cuda_core._code, by_cuda_core._kernel, by_cuda_core._multiprocessors)


def forget():
    for kept in KEPT:
        kept.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """Put the stand-in in cuda.core's place."""
    for name, module in cuda_core_stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    forget()
    cuda_core_stand_in.LAUNCHED.clear()
    cuda_core_stand_in.COMPILED.clear()
    yield cuda_core_stand_in
    forget()


@pytest.fixture
def card(monkeypatch, stand_in):
    """Take PyTorch's tensors of the CPU for ones on a card, with a stream of their own."""
    memory = agnoreg_torch.execution.TorchCudaMemory
    entered = []
    monkeypatch.setattr(agnoreg_torch.execution, "on_card", lambda tensor: True)
    monkeypatch.setattr(memory, "stream", lambda self, array: (1, STREAM))
    monkeypatch.setattr(memory, "current", lambda self, array: entered.append(array) or nullcontext())
    monkeypatch.setattr(by_cupy, "usable", lambda: pytest.fail("CuPy was asked for"))
    return entered


@emulated
@pytest.mark.parametrize("name", MEASURES)
def test_pytorchs_tensors_are_computed_by_the_kernels_without_cupy(name, card, stand_in, rng):
    measure = MEASURES[name]
    shape = (2, 6, 7, 9, 3)[: 5 if measure.inputs == 1 else 4]
    arrays = tuple(rng.uniform(size=shape).astype(np.float32) for _ in range(measure.inputs))
    expected, wanted = measure.value_and_gradients(EmulatedCard(), arrays, tuple(range(len(arrays))))
    tensors = tuple(torch.from_numpy(array).requires_grad_() for array in arrays)
    value = apply(measure, agnoreg_torch.backend, tensors)
    value.sum().backward()
    np.testing.assert_array_equal(value.detach().numpy(), expected)
    for x, gradient in zip(tensors, wanted, strict=True):
        np.testing.assert_array_equal(x.grad.numpy(), gradient)
    assert {(stream, arch) for _, stream, arch in stand_in.LAUNCHED} == {(STREAM, "sm_90")}
    # The card is made the current one for every evaluation.
    assert len(card) >= 1
    # Later calls compile nothing, so that a CUDA graph can capture them.
    compiled = len(stand_in.COMPILED)
    measure.value_and_gradients(agnoreg_torch.backend, tuple(x.detach() for x in tensors), (0,))
    assert len(stand_in.COMPILED) == compiled


@emulated
@pytest.mark.parametrize("convention", ["monai", "exact"])
def test_pytorchs_masks_and_maps_reach_them_too(convention, card, stand_in, rng):
    options = {"kernel_size": 3, "convention": convention}
    loss, measure = agnoreg.LNCC(**options), LocalCorrelation(**options)
    arrays, mask = rng.uniform(size=(2, 2, 6, 7, 9)).astype(np.float32), rng.uniform(size=(2, 6, 7, 9)) > 0.3
    value, (gradient,) = measure.value_and_gradients(EmulatedCard(), (*arrays, mask), (1,))
    t, p = map(torch.from_numpy, arrays)
    p.requires_grad_()
    found = loss(t, p, mask=torch.from_numpy(mask))
    found.backward()
    # The loss is minus the mean of two samples' values.
    np.testing.assert_allclose(found.item(), -value.mean(), rtol=1e-6)
    # PyTorch adds up the images' centres in another order.
    assert np.abs(p.grad.numpy() + gradient / 2).max() <= 2e-6 * np.abs(gradient).max()
    # PyTorch differentiates a map itself: kernels make it only where it does not.
    stand_in.LAUNCHED.clear()
    recorded = agnoreg.functional.lncc_map(t, p, **options)
    assert recorded.requires_grad
    assert not stand_in.LAUNCHED
    image = agnoreg.functional.lncc_map(t, p.detach(), **options)
    assert [name for name, *_ in stand_in.LAUNCHED].count("correlate") == 1
    np.testing.assert_allclose(image.numpy(), recorded.detach().numpy(), rtol=0, atol=1e-6)


@emulated
def test_the_default_stream_is_named(stand_in, rng):
    queue = queues.queue_of(0, 0)
    assert isinstance(queue, by_cuda_core.CoreQueue)
    assert queue.multiprocessors == 3
    partial, total = rng.uniform(size=(1, 5)), np.empty(1)
    program = CudaLocalCorrelation(3).program(False)
    queue.launch(program, "total_of_partial", (1, 1, 1), 256, (partial.ctypes.data, np.int32(5), total.ctypes.data))
    np.testing.assert_allclose(total, partial.sum())
    assert [("total_of_partial", stand_in.LEGACY_DEFAULT_STREAM.handle, "sm_90")] == stand_in.LAUNCHED


def test_cuda_core_comes_first_then_cupy_and_cupys_own_stream_is_cupys(stand_in, monkeypatch):
    monkeypatch.setattr(by_cupy, "usable", lambda: True)
    assert isinstance(queues.queue_of(1, STREAM), by_cuda_core.CoreQueue)
    assert isinstance(queues.queue_of(1, None), by_cupy.CuPyQueue)
    monkeypatch.setattr(by_cuda_core, "usable", lambda device: False)
    assert queues.queue_of(1, STREAM) == by_cupy.CuPyQueue(1, STREAM)
    monkeypatch.setattr(by_cupy, "usable", lambda: False)
    assert queues.queue_of(1, STREAM) is None
    assert queues.queue_of(1, None) is None


def test_a_card_that_nvrtc_does_not_know_is_left_to_the_core(stand_in, monkeypatch):
    def refuse(self, target_type, **_):
        raise RuntimeError("nvrtc: error: invalid value for --gpu-architecture (-arch)")

    monkeypatch.setattr(stand_in.Program, "compile", refuse)
    assert not by_cuda_core.usable(0)


def test_what_to_install_is_said_where_a_card_is(monkeypatch):
    memories = agnoreg_torch.backend.execution.memories
    monkeypatch.setattr(by_cuda_core, "installed", lambda: False)
    monkeypatch.setattr(by_cupy, "usable", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "cuda-core" not in missing(memories)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "pip install cuda-core" in missing(memories)
    monkeypatch.setattr(by_cuda_core, "installed", lambda: True)
    assert "cuda-core" not in missing(memories)


# --- cuda.core itself -------------------------------------------------------------------------------------------------


@pytest.fixture
def real():
    """Return cuda.core as it is installed."""
    return pytest.importorskip("cuda.core", reason="cuda.core is not installed, or lacks cuda.bindings")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Keep what cuda.core compiles in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    return tmp_path


def parameters(function):
    """Return the parameters of a function, also of one that says them in the first line of its docstring alone."""
    try:
        found = list(inspect.signature(function).parameters)
    except ValueError:
        words = function.__doc__.splitlines()[0].partition("(")[2].rpartition(")")[0].split(",")
        found = [word.partition(":")[0].split()[-1].partition("=")[0] for word in words]
    return [name for name in found if name != "self"]


@pytest.mark.parametrize(
    "name",
    ["ProgramOptions", "Program", "Program.compile", "ObjectCode.get_kernel", "Device", "Stream.from_handle",
     "LaunchConfig", "launch"],
)  # fmt: skip
def test_the_stand_in_takes_what_cuda_core_takes(name, real):
    own, theirs = cuda_core_stand_in, real
    for part in name.split("."):
        own, theirs = getattr(own, part), getattr(theirs, part)
    mine, found = parameters(own), parameters(theirs)
    assert [parameter for parameter in found if parameter in mine] == mine
    # What comes in order is the same up to the last that the stand-in has, but for what is passed by name.
    if name not in ("ProgramOptions", "LaunchConfig"):
        assert found[: len(mine)] == mine


def test_cuda_core_has_what_is_read_of_it(real):
    assert hasattr(real, "LEGACY_DEFAULT_STREAM")
    assert isinstance(inspect.getattr_static(real.Device, "arch"), property)
    assert isinstance(inspect.getattr_static(real.Device, "properties"), property)
    from cuda.core import _device

    assert hasattr(_device.DeviceProperties, "multiprocessor_count")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    "program",
    [
        CudaLocalCorrelation(9).program(False),
        CudaLocalCorrelation(3, "gaussian", flat_value=1.0).program(True),
        CudaParzenInformation().program,
        CudaBending().program,
    ],
    ids=lambda program: program.name,
)
def test_cuda_core_compiles_the_kernels(program, arch, real, elsewhere):
    assert bytes(by_cuda_core.compiled(program, arch).code[:4]) == b"\x7fELF"


def test_what_was_compiled_is_kept(real, elsewhere):
    def kept():
        return {path: path.stat().st_ino for path in elsewhere.rglob("*") if path.is_file() and path.stat().st_size}

    program = CudaLocalCorrelation(1).program(False)
    first = by_cuda_core.compiled(program, "sm_80")
    files = kept()
    assert files
    assert bytes(by_cuda_core.compiled(program, "sm_80").code) == bytes(first.code)
    assert kept() == files, "compiled anew"
    by_cuda_core.compiled(program, "sm_90")
    by_cuda_core.compiled(replace(program, constants=(*program.constants, "-DOTHER=1")), "sm_80")
    assert len(kept()) == len(files) + 2


def test_without_a_place_to_keep_them_kernels_are_compiled_all_the_same(real, tmp_path, monkeypatch):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    monkeypatch.setenv("LOCALAPPDATA", str(in_the_way))
    assert by_cuda_core.compiled(CudaLocalCorrelation(1).program(False), "sm_80").code
