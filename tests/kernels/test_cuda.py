"""The CUDA kernels without a card: they compile, and emulated on the CPU they compute what they should."""

import os
import platform
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import agnoreg_cpu
import agnoreg_cuda
import agnoreg_torch
import numpy as np
import pytest
import torch
from agnoreg_cuda.fields import CudaBending, CudaCompactBending, CudaCompactGradient, CudaGradient
from agnoreg_cuda.histograms import FARTHEST, CudaParzenInformation
from agnoreg_cuda.local_correlation import CudaLocalCorrelation
from cuda_on_cpu import COMPILER, ORDERS, EmulatedCard

import agnoreg
from agnoreg.engine.chosen import evaluator_of
from agnoreg.engine.function import apply
from agnoreg.measures.lncc import LocalCorrelation
from agnoreg.measures.mutual_information import ParzenInformation
from conformance import reference

ROOT = Path(agnoreg.__file__).parents[1]

_skipped = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, to emulate the kernels with")


def emulated(test):
    """Mark a test that runs the kernels on the CPU, for which they are compiled."""
    return pytest.mark.needs_compiler(_skipped(test))


# --- compiling --------------------------------------------------------------------------------------------------------

FIELDS = (CudaGradient, CudaCompactGradient, CudaBending, CudaCompactBending)
#: The widest window of which the kernels have room in shared memory.
WIDEST = 32
WIDTHS = (*range(1, 12), 16, 17, 31, WIDEST)
BINS = {(23, 0.5), (2, 0.5), (11, 0.8), (32, 0.5), (33, 1.0), (64, 0.5), (64, 1.4)}
#: Local correlation by other formulas and in other windows, and whether voxels have weights.
CORRELATIONS = [
    (CudaLocalCorrelation(5, padding="truncate"), True),
    (CudaLocalCorrelation(23, padding="truncate"), True),
    (CudaLocalCorrelation(5, convention="monai"), False),
    (CudaLocalCorrelation(5, convention="exact"), True),
    (CudaLocalCorrelation(5, convention="exact", squared=False, flat_value=0.5, padding="zero"), False),
    (CudaLocalCorrelation(5, squared=False, flat_value=0.5), False),
    (CudaLocalCorrelation(5, "triangular", convention="monai"), True),
    (CudaLocalCorrelation((5, 1, 4), "gaussian"), False),
    (CudaLocalCorrelation(5, spatial_dims=2, convention="ants"), True),
]
PROGRAMS = [CudaLocalCorrelation(width).program(False) for width in WIDTHS]
PROGRAMS += [measure.program(weighted) for measure, weighted in CORRELATIONS]
PROGRAMS += [CudaParzenInformation(bins, ratio).program for bins, ratio in sorted(BINS)]
PROGRAMS += [kind().program for kind in FIELDS] + [CudaBending(spatial_dims=dims).program for dims in (1, 2)]


on_linux = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason=f"NVRTC comes with the test extra on Linux x86-64 alone, not on {sys.platform} {platform.machine()}",
)


@on_linux
@pytest.mark.parametrize("architecture", ["compute_80", "compute_90"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name + "".join(program.constants))
def test_every_kernel_compiles(program, architecture):
    from cupy.cuda import nvrtc

    compiled = nvrtc.createProgram(program.code, f"{program.name}.cu", (), ())
    try:
        # CuPy adds -ftz=true.
        nvrtc.compileProgram(compiled, (f"--gpu-architecture={architecture}", "-ftz=true", *program.options))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(compiled))
    assert not nvrtc.getProgramLog(compiled).strip("\0 \n"), nvrtc.getProgramLog(compiled)
    assembly = nvrtc.getPTX(compiled)
    assembly = assembly.decode() if isinstance(assembly, bytes) else assembly
    assert ".entry" in assembly
    assert not re.search(r"\b(red|atom)\.", assembly), "an atomic operation, whose order is not fixed"


@on_linux
@pytest.mark.parametrize(
    "program",
    [CudaLocalCorrelation().program(False), CudaLocalCorrelation(convention="ants").program(True)],
    ids=["default", "ants"],
)
def test_windows_of_9_voxels_stay_in_registers(program):
    from cupy.cuda import nvrtc

    compiled = nvrtc.createProgram(program.code, f"{program.name}.cu", (), ())
    options = ("--gpu-architecture=sm_90", "-ftz=true", "--ptxas-options=-v", *program.options)
    nvrtc.compileProgram(compiled, options)
    spilled = re.findall(r"(\d+) bytes spill stores", nvrtc.getProgramLog(compiled))
    assert len(spilled) == 4, "a number for each kernel"
    assert set(spilled) == {"0"}


# --- emulated on the CPU ----------------------------------------------------------------------------------------------


@pytest.fixture
def images(rng):
    """Return a maker of two float32 images that resemble each other."""

    def make(*shape, low=0.0, high=1.0):
        t = rng.uniform(low, high, size=shape)
        return tuple(x.astype(np.float32) for x in (t, 0.7 * t + 0.3 * rng.uniform(low, high, size=shape)))

    return make


#: So few voxels that windows of any width take the reference no time.
SMALL = 100


def check(measure, arrays, value_limit=1e-5, gradient_limit=1e-4, **card):
    """Compare value and gradients with the float64 reference of the same images.

    That takes each window of LNCC by itself. Of more voxels than a few it is NumPy's adapter in float64 instead, which
    the conformance suite compares with the reference.
    """
    names = {
        LocalCorrelation: ("LocalNormalizedCrossCorrelation", ("kernel_size", "smooth_nr", "smooth_dr")),
        ParzenInformation: ("GlobalMutualInformation", ("num_bins", "sigma_ratio")),
    }
    cls, options = names[type(measure)]
    backend = EmulatedCard(**card)
    value, gradients = measure.value_and_gradients(backend, arrays, (0, 1))
    assert backend.launched.names, "no kernel ran"
    doubles = tuple(x.astype(np.float64) for x in arrays)
    if cls == "GlobalMutualInformation" or arrays[0].size < SMALL:
        expected, exact = reference.evaluate(cls, {name: getattr(measure, name) for name in options}, *doubles)
    else:
        expected, exact = measure.value_and_gradients(agnoreg.get_backend("numpy"), doubles, (0, 1))
    assert value.dtype == np.float32
    assert np.max(np.abs(value - expected) / np.maximum(np.abs(expected), 1e-2)) <= value_limit
    for gradient, right in zip(gradients, exact, strict=True):
        assert gradient.dtype == np.float32
        assert np.max(np.abs(gradient - right)) <= gradient_limit * (np.max(np.abs(right)) or 1.0)
    return value, gradients


EMULATED_WIDTHS = (*range(1, 12), 16, 31, 32)
#: A few voxels, no multiple of a tile, exactly a tile, and several tiles.
SHAPES = [
    *((width, (1, 3, 5, 4)) for width in EMULATED_WIDTHS),
    *((width, (2, 12, 19, 37)) for width in EMULATED_WIDTHS if width < 16),
    *((width, (1, 4, 17, 33)) for width in EMULATED_WIDTHS if width >= 16),
    *((width, shape) for width in (8, 9, 10) for shape in ((1, 33, 16, 32), (2, 5, 33, 70))),
]


@emulated
@pytest.mark.parametrize(("width", "shape"), SHAPES, ids=str)
def test_local_correlation(width, shape, images):
    check(LocalCorrelation(width), images(*shape))


@emulated
@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_local_correlation_in_any_number_of_blocks(multiprocessors, images):
    check(LocalCorrelation(5), images(2, 40, 10, 9), multiprocessors=multiprocessors)


@emulated
@pytest.mark.parametrize(("bins", "ratio"), sorted(BINS | {(23, 0.05), (5, 1.0)}))
@pytest.mark.parametrize("shape", [(2, 12, 19, 37), (1, 3, 5, 4)], ids=str)
def test_mutual_information(bins, ratio, shape, images):
    check(ParzenInformation(bins, ratio), images(*shape, low=-0.1, high=1.1))


@emulated
def test_mutual_information_of_a_large_background(images):
    t, p = images(1, 40, 40, 40)
    t[:, 2:], p[:, 2:] = 0.0, 1.0
    t[:, :1] = 1.0
    check(ParzenInformation(), (t, p))


@emulated
@pytest.mark.parametrize("kind", ["bool", "weights", "of all samples"])
@pytest.mark.parametrize("bins", [23, 64])
def test_mutual_information_with_a_mask(bins, kind, images, rng):
    measure, (t, p) = ParzenInformation(bins), images(2, 7, 9, 8, low=-0.1, high=1.1)
    mask = rng.random((1 if kind == "of all samples" else 2, 7, 9, 8)) > 0.3
    if kind == "weights":
        mask = (mask * rng.uniform(0.1, 2.0, mask.shape)).astype(np.float32)
    left_out = np.broadcast_to(mask == 0, t.shape)
    t[left_out], p[left_out] = np.nan, np.inf
    card = EmulatedCard()
    value, gradients = measure.value_and_gradients(card, (t, p, mask), (0, 1))
    assert "histogram_gradient" in card.launched.names
    doubles = (t.astype(np.float64), p.astype(np.float64), mask)
    expected, exact = measure.value_and_gradients(agnoreg.get_backend("numpy"), doubles, (0, 1))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for gradient, right in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-4 * np.abs(right).max())
        np.testing.assert_array_equal(gradient[left_out], 0)
    _, saved = measure.forward(card, (t, p, mask), (0, 1))
    later = measure.backward(card, (t, p, mask), (0, 1), (0, 1), saved, np.asarray([2.0, -0.5], np.float32))
    for gradient, found in zip(gradients, later, strict=True):
        np.testing.assert_array_equal(found, gradient * np.asarray([2.0, -0.5], np.float32)[:, None, None, None])


@emulated
@pytest.mark.parametrize("measure", [LocalCorrelation(), ParzenInformation()], ids=["lncc", "gmi"])
def test_the_order_in_which_threads_run_changes_nothing(measure, images):
    arrays = images(2, 12, 19, 37)
    results = [measure.value_and_gradients(EmulatedCard(order=order), arrays, (0, 1)) for order in ORDERS]
    for value, gradients in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        for gradient, first in zip(gradients, results[0][1], strict=True):
            np.testing.assert_array_equal(gradient, first)


@emulated
@pytest.mark.parametrize("measure", [LocalCorrelation(), ParzenInformation()], ids=["lncc", "gmi"])
def test_only_what_is_asked_for_is_computed(measure, images):
    arrays = images(2, 12, 10, 9)
    card = EmulatedCard()
    value, (by_t, by_p) = measure.value_and_gradients(card, arrays, (0, 1), 3.0)
    for wrt, expected in (((1,), (by_p,)), ((0,), (by_t,)), ((1, 0), (by_p, by_t)), ((1, 1), (by_p, by_p))):
        card.launched.names.clear()
        found, gradients = measure.value_and_gradients(card, arrays, wrt, 3.0)
        np.testing.assert_array_equal(found, value)
        for gradient, right in zip(gradients, expected, strict=True):
            np.testing.assert_array_equal(gradient, right)
        assert sum("gradient" in name for name in card.launched.names) == len(set(wrt))
    card.launched.names.clear()
    np.testing.assert_array_equal(measure.value(card, arrays), value)
    assert not any("gradient" in name for name in card.launched.names)


@emulated
@pytest.mark.parametrize("measure", [LocalCorrelation(5), ParzenInformation()], ids=["lncc", "gmi"])
def test_a_gradient_that_is_asked_for_later_is_the_same(measure, images):
    arrays, card = images(2, 12, 10, 9), EmulatedCard()
    cotangent = np.asarray([2.0, -0.5], np.float32)
    value, (by_t, by_p) = measure.value_and_gradients(card, arrays, (0, 1))
    card.launched.names.clear()
    found, saved = measure.forward(card, arrays, (0, 1))
    for wrt, expected in (((1,), (by_p,)), ((0, 1), (by_t, by_p))):
        gradients = measure.backward(card, arrays, wrt, (0, 1), saved, cotangent)
        for gradient, right in zip(gradients, expected, strict=True):
            # The cotangents are powers of two, which are exact.
            np.testing.assert_array_equal(gradient, right * cotangent[:, None, None, None])
    np.testing.assert_array_equal(found, value)
    assert any("gradient" in name for name in card.launched.names)


@emulated
@pytest.mark.parametrize("measure", [LocalCorrelation(5), ParzenInformation()], ids=["lncc", "gmi"])
def test_views_and_channels_are_taken_as_they_come(measure, images):
    t, p = images(2, 8, 7, 9, 1)
    value, (gradient,) = measure.value_and_gradients(EmulatedCard(), (t, p), (1,))
    assert gradient.shape == t.shape
    views = tuple(np.ascontiguousarray(x.swapaxes(1, 3)).swapaxes(1, 3) for x in (t, p))
    found, (strided,) = measure.value_and_gradients(EmulatedCard(), views, (1,))
    np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(strided, gradient)


@emulated
@pytest.mark.slow
def test_the_conformance_suite_passes_on_the_emulated_kernels():
    command = [sys.executable, "-m", "pytest", "conformance", "--backend", "numpy", "-p", "cuda_on_cpu.plugin"]
    # The kernels are of float32: what is of another dtype is computed by the core, here as elsewhere.
    # Each formula in each window is a program of its own to compile: `test_cuda_lncc` has some of the others.
    local = "LocalNormalized and not (gaussian or triangular or squared or flat_value or of)"
    images = f"(({local}) or GlobalMutual) and (test_reference or test_numerics or test_golden or test_masks)"
    fields = "(BendingEnergy or GradientNorm) and (test_reference or test_golden)"
    command += ["-q", "-p", "no:cacheprovider"]
    command += ["-k", f"({images} or {fields}) and not (float64 or slabs or value_alone or the_reference)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    launches = int(done.stdout.partition("kernels emulated: ")[2].split()[0])
    assert launches > 500


# --- which way is taken -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "dtype", "shape"),
    [
        (LocalCorrelation(WIDEST + 1), np.float32, (1, 8, 8, 8)),
        (LocalCorrelation(), np.float64, (1, 8, 8, 8)),
        (LocalCorrelation(), np.int64, (1, 8, 8, 8)),
        (LocalCorrelation(), np.float32, (1, 2048, 1024, 1024)),
        (LocalCorrelation(), np.float32, (70_000, 1, 1, 1)),
        (ParzenInformation(65), np.float32, (1, 8, 8, 8)),
        (ParzenInformation(23, 2.0), np.float32, (1, 8, 8, 8)),
        (ParzenInformation(), np.float64, (1, 8, 8, 8)),
        (ParzenInformation(), np.float32, (1, 2048, 1024, 1024)),
    ],
    ids=str,
)
def test_the_cores_path_is_taken_where_no_kernel_serves(measure, dtype, shape):
    image = np.broadcast_to(np.zeros((), dtype=dtype), shape)
    assert EmulatedCard().emulated(measure, (image, image)) is measure


def test_weights_left_out_are_negligible():
    for ratio in np.linspace(0.02, 1.4, 70):
        measure = CudaParzenInformation(64, ratio)
        assert measure.radius <= FARTHEST
        # A voxel midway between two bins: the first one left out, beside the nearest.
        beyond = np.exp(((0.5) ** 2 - (measure.radius + 0.5) ** 2) / (2 * ratio**2))
        assert beyond < np.finfo(np.float32).eps / 2


def test_the_grid_covers_the_image_and_fills_the_card():
    measure = CudaLocalCorrelation()
    for shape in ((1, 160, 192, 224), (4, 64, 64, 64), (1, 1, 5, 5), (1, 7, 300, 3)):
        (across, down, deep), chunk = measure._grid(shape, 132)
        assert across * 32 >= shape[3]
        assert down * 16 >= shape[2]
        assert deep == shape[0] * -(-shape[1] // chunk)
    blocks, chunk = measure._grid((1, 160, 192, 224), 132)
    assert np.prod(blocks) >= 0.9 * 2 * 132


class Recorder:
    """Stands in for a queue: it notes what it is asked to launch."""

    multiprocessors = 132

    def __init__(self):
        self.launched = []

    def active(self):
        return nullcontext()

    def launch(self, program, name, grid, block, arguments):
        self.launched.append((name, grid, block, arguments))


# Its own module for torch.func.jvp calls what it has deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is (deprecated|not supported):DeprecationWarning")
@pytest.mark.parametrize("measure", [LocalCorrelation(), ParzenInformation()], ids=["lncc", "gmi"])
def test_pytorchs_tensors_and_memory_go_to_the_kernels(measure, monkeypatch):
    # As on a card, but for the card: tensors of the CPU are taken for ones on it.
    monkeypatch.setattr(agnoreg_torch.execution, "on_card", lambda tensor: True)
    recorder = Recorder()
    backend = agnoreg_torch.backend
    monkeypatch.setattr(agnoreg_torch.execution.TorchCudaMemory, "stream", lambda self, array: (0, 0))
    monkeypatch.setattr(agnoreg_torch.execution.TorchCudaMemory, "current", lambda self, array: nullcontext())
    monkeypatch.setattr(agnoreg_cuda, "queue_of", lambda device, stream: recorder)
    t = torch.rand(1, 8, 9, 10)
    p = torch.rand(1, 8, 9, 10, requires_grad=True)
    measure.value_and_gradients(backend, (t, p.detach()), (1,))
    assert {t.data_ptr(), p.data_ptr()} <= set(recorder.launched[0][3] + recorder.launched[1][3])
    assert "gradient" in recorder.launched[-1][0]
    for _, grid, block, arguments in recorder.launched:
        assert len(grid) == 3
        assert block in (128, 256)
        assert all(type(value) in (int, np.int32, np.float32, np.float64) for value in arguments)
    # In a training step, too.
    recorder.launched.clear()
    apply(measure, backend, (t, p)).backward()
    assert "gradient" in recorder.launched[-1][0]
    # What PyTorch records, batches or differentiates itself must not go to the kernels.
    recorder.launched.clear()
    with agnoreg.native_autodiff():
        measure.value(backend, (t, p))
    torch.func.vmap(lambda a: measure.value(backend, (t, a)))(p.detach()[None])
    torch.func.jvp(lambda a: measure.value(backend, (t, a)), (p.detach(),), (t,))
    with torch.autograd.forward_ad.dual_level():
        measure.value(backend, (t, torch.autograd.forward_ad.make_dual(p.detach(), t)))
    assert not recorder.launched


def test_without_a_card_pytorch_takes_the_cores_path(monkeypatch):
    monkeypatch.setattr(agnoreg_cpu, "usable", lambda: False)
    t = torch.rand(1, 8, 9, 10)
    measure = LocalCorrelation()
    assert evaluator_of(measure, agnoreg_torch.backend, (t, t)) is measure
