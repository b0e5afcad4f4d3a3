"""What users of other libraries suffer from and what must be impossible here, one test or more for each complaint."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from every import LOSSES, METRICS

import agnoreg
from agnoreg import functional
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import LocalNormalizedCrossCorrelation
from agnoreg.loss.kernel import gaussian_kernel1d_sigma, rectangular
from conformance.settings import quickly

PAIRS = {name: cls for name, cls in LOSSES.items() if cls.inputs == 2}


def arrays_for(cls, rng, shape=(2, 11, 12, 13), dtype=np.float64):
    """Return random inputs in [0, 1] for a loss."""
    if cls.inputs == 1:
        return (rng.standard_normal((*shape, 3)).astype(dtype),)
    return tuple(rng.random(shape).astype(dtype) for _ in range(2))


def ball(n, radius=0.6):
    """Return a mask of a ball in the middle."""
    axis = np.linspace(-1, 1, n)
    return np.sqrt(sum(x**2 for x in np.meshgrid(axis, axis, axis, indexing="ij"))) < radius


# --- 1: LNCC explodes in flat regions ---------------------------------------------------------------------------------


def flat_images(rng, n=20):
    """Return the images that break E[x^2] - E[x]^2 in float32."""
    a, b, mask = rng.random((n, n, n)), rng.random((n, n, n)), ball(n)
    half = np.where(np.arange(n)[:, None, None] < n // 2, 0.3, a)
    return {
        "constant": (np.full_like(a, 7.3), b),
        "two constants": (np.full_like(a, 7.3), np.full_like(a, 1000.1)),
        "half constant": (half, b),
        "offset 1000": (a + 1000, b + 1000),
        "CT": (np.where(mask, 50 + 10 * a, -1000), np.where(mask, 50 + 10 * b, -1000 + b)),
        "bimodal": (np.where(mask, 1000 + a, -1000), np.where(mask, 1000 + b, -1000)),
    }


@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("kernel_size", [3, 9, 11])
@pytest.mark.parametrize("case", ["constant", "two constants", "half constant", "offset 1000", "CT", "bimodal"])
def test_pain_01_lncc_is_right_in_flat_regions(rng, case, kernel_size, kernel_type):
    metric = LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
    t, p = (x[None].astype(np.float32) for x in flat_images(rng)[case])
    value, gradient = agnoreg.value_and_grad(metric, t, p)
    exact = metric(t.astype(np.float64), p.astype(np.float64))
    assert value.dtype == np.float32
    assert 0 <= value <= 1
    assert abs(value - exact) <= 1e-3 * max(abs(exact), 1e-2)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("constants", [(1e-5, 1e-5), (1e-3, 1e-2)])
def test_pain_01_flat_windows_contribute_one_constant(constants):
    metric = LocalNormalizedCrossCorrelation(kernel_size=3, smooth_nr=constants[0], smooth_dr=constants[1])
    image = np.full((1, 9, 9, 9), 4.7, dtype=np.float32)
    interior = metric.calc_ncc(image, image + 1)[0, 1:-1, 1:-1, 1:-1, 0]
    np.testing.assert_allclose(interior, constants[0] / constants[1], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("offset", [0, 10])
def test_pain_01_lncc_is_invariant_to_affine_intensity_away_from_the_border(rng, scale, offset):
    # The small constants are part of the formula: with the default ones an image of contrast 1e-3 is nearly flat.
    metric = LocalNormalizedCrossCorrelation(kernel_size=5, smooth_nr=1e-12, smooth_dr=1e-12)
    t, p = (x.astype(np.float32) for x in rng.random((2, 1, 14, 14, 14)))
    changed = (t * np.float32(scale) + np.float32(offset * scale)).astype(np.float32)
    inner = (slice(None), *[slice(2, -2)] * 3)
    a, b = metric.calc_ncc(t, p)[inner], metric.calc_ncc(changed, p)[inner]
    assert abs(a.mean() - b.mean()) < 1e-3


# --- 2: sign, range and direction are unclear -------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_pain_02_value_lies_in_the_stated_range(rng, name):
    loss = METRICS[name]()
    low, high = loss.value_range
    for _ in range(5):
        values = loss.call(*arrays_for(METRICS[name], rng))
        assert np.all(values >= low)
        assert np.all(values <= high)


@pytest.mark.parametrize("name", METRICS)
def test_pain_02_equal_inputs_have_the_stated_value(rng, name):
    for options in ({}, {"binary": True}):
        if options and not hasattr(METRICS[name], "binary"):
            continue
        loss = METRICS[name](**options)
        if loss.identity_value is None:
            continue
        (x, *_) = arrays_for(METRICS[name], rng)
        inputs = (np.zeros_like(x),) if loss.inputs == 1 else (x, x)
        np.testing.assert_allclose(loss.call(*inputs), loss.identity_value, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_pain_02_every_registered_loss_is_minimised(name):
    assert LOSSES[name]().direction == "lower"


@pytest.mark.parametrize("name", PAIRS)
def test_pain_02_equal_images_are_not_worse_than_others(rng, name):
    x, y = ((a >= 0.5) * 1.0 for a in arrays_for(PAIRS[name], rng))
    loss = PAIRS[name]()
    assert loss(x, x) <= loss(x, y)


@pytest.mark.parametrize("name", [name for name in METRICS if name + "Loss" in METRICS])
def test_pain_02_metrics_and_their_losses_state_opposite_directions(rng, name):
    metric, loss = METRICS[name](), METRICS[name + "Loss"]()
    x, y = arrays_for(METRICS[name], rng)
    if metric.direction == "higher":
        assert loss.direction == "lower"
        assert loss.value_range == tuple(-v for v in reversed(metric.value_range))
        np.testing.assert_allclose(loss.call(x, y), -metric.call(x, y))
    else:
        np.testing.assert_allclose(loss.call(x, y), metric.call(x, y))


# --- 7: importing is slow, or breaks ----------------------------------------------------------------------------------


def run_python(code, **environment):
    """Run code in a new interpreter and return what it prints."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Numba brings scipy along with the first loss.
@pytest.mark.parametrize(
    ("before", "others"),
    [("sys.modules.update(numba=None)", ["scipy"]), ("pass", [])],
    ids=["without numba", "with numba"],
)
def test_pain_07_import_loads_no_framework(before, others, capsys):
    others = ["torch", "tensorflow", "jax", "cupy", "dask", "keras", "nibabel", *others]
    code = (
        f"import sys; {before}\n"
        "import time; start = time.perf_counter(); import agnoreg\n"
        "print(f'import agnoreg: {time.perf_counter() - start:.2f} s', file=sys.stdout)\n"
        "assert 'scipy' not in sys.modules\n"
        "import numpy as np; agnoreg.build_loss('ssd')(np.zeros((1, 2)), np.ones((1, 2)))\n"
        f"print([m for m in {others} if m in sys.modules])"
    )
    timing, loaded = run_python(code).strip().splitlines()
    with capsys.disabled():
        print(f"\n{timing}")
    assert loaded == "[]"


@pytest.mark.parametrize("error", ["ImportError('no libcuda.so.1')", "OSError('undefined symbol')"])
def test_pain_07_a_framework_that_fails_to_import_is_reported_and_harms_nothing(tmp_path, error):
    for name in ("torch", "cupy"):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    code = (
        "import agnoreg, numpy as np\n"
        "assert agnoreg.build_loss('ssd')(np.zeros((1, 2)), np.ones((1, 2))) == 1\n"
        "import json; print(json.dumps(agnoreg.available_backends()))"
    )
    states = json.loads(run_python(code, PYTHONPATH=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3").strip().splitlines()[-1])
    assert states["numpy"] == "ok"
    for name in ("torch", "cupy"):
        assert states[name].startswith("broken: ")
        assert error.split("'")[1] in states[name]


def test_pain_07_a_framework_that_is_absent_says_which_extra_installs_it(monkeypatch):
    code = (
        "import sys; sys.modules['cupy'] = None; sys.modules['torch'] = None\n"
        "import agnoreg\n"
        "for name in ('cupy', 'torch'):\n"
        "    try: agnoreg.get_backend(name)\n"
        "    except ImportError as error: print(error)"
    )
    cupy, torch = run_python(code).strip().splitlines()
    assert "pip install agnoreg[cupy12] or agnoreg[cupy13]" in cupy
    assert "pip install agnoreg[torch]" in torch


# --- 10: integers wrap, dtypes do not mix -----------------------------------------------------------------------------

INTEGERS = ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64")


def test_pain_10_uint8_differences_do_not_wrap(backend):
    one, two = (backend.from_numpy(np.full((1, 2, 2, 2), v, dtype=np.uint8)) for v in (1, 2))
    assert float(functional.ssd(one, two)[0]) == 1


@pytest.mark.parametrize("other", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_pain_10_integers_give_the_value_of_the_same_numbers_as_float64(backend, rng, dtype, other):
    t = (rng.random((2, 6, 7, 8)) < 0.5).astype(dtype)
    p = (rng.random((2, 6, 7, 8)) < 0.5).astype(other)
    for name in ("dice", "jaccard", "ssd", "gncc", "lncc"):
        loss = agnoreg.build_loss(name)
        exact = loss.call(t.astype(np.float64), p.astype(np.float64))
        value = backend.to_numpy(loss.call(backend.from_numpy(t), backend.from_numpy(p)))
        np.testing.assert_allclose(value, exact, rtol=1e-5 if value.dtype == np.float32 else 1e-12, atol=1e-7)


def test_pain_10_uint8_dice_does_not_overflow(backend):
    label = np.full((1, 16, 16, 16), 1, dtype=np.uint8)
    value = functional.dice(backend.from_numpy(label), backend.from_numpy(label))
    assert float(value[0]) == pytest.approx(1)


def test_pain_10_counts_above_two_to_the_24_are_exact():
    # One voxel of 2^24 + 2^20 differs, which no single float32 sum could see.
    label = np.ones((1, 1088, 128, 128), dtype=bool)
    other = label.copy()
    other[0, 0, 0, 0] = False
    n = label.size
    value = agnoreg.loss.label.DiceScore(binary=True, smooth_nr=0, smooth_dr=0).measure()
    backend = agnoreg.get_backend("numpy")
    from agnoreg.engine.evaluator import Evaluator

    product, both = Evaluator(value, backend, (label, other)).sums()
    # As integers: a float32 is compared with a number that is rounded to float32 first.
    assert int(product[0]) == n - 1
    assert int(both[0]) == 2 * n - 1


# --- 11: gradients are NaN where values are not -----------------------------------------------------------------------


def degenerate(cls, rng):
    """Return inputs at which square roots, quotients and norms have no derivative."""
    if cls.inputs == 1:
        shape = (1, 6, 6, 6, 3)
        return {"no displacement": (np.zeros(shape),), "translation": (np.ones(shape),)}
    x = rng.random((1, 6, 6, 6))
    zero, single = np.zeros_like(x), np.zeros_like(x)
    single[0, 3, 3, 3] = 1
    return {
        "equal": (x, x),
        "constant": (np.full_like(x, 0.5), np.full_like(x, 0.5)),
        "constant and not": (np.full_like(x, 0.5), x),
        "empty": (zero, zero),
        "empty and not": (zero, x),
        "one voxel": (single, single),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_pain_11_gradients_are_finite_where_values_are(backend, rng, name, dtype):
    loss = LOSSES[name]()
    for case, arrays in degenerate(LOSSES[name], rng).items():
        given = [backend.from_numpy(x.astype(dtype)) for x in arrays]
        value, gradients = agnoreg.value_and_grad(loss, *given, argnums=range(loss.inputs))
        assert np.isfinite(backend.to_numpy(value)), case
        for gradient in gradients:
            assert np.all(np.isfinite(backend.to_numpy(gradient))), case


# --- 15: no gradients
# ---------------------------------------------------------------------------------------------------


def directional(loss, arrays, index, direction, step):
    """Return the central difference of the loss along a direction of one input."""
    ends = []
    for sign in (1, -1):
        moved = list(arrays)
        moved[index] = moved[index] + sign * step * direction
        ends.append(float(loss(*moved)))
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("name", LOSSES)
def test_pain_15_every_input_of_every_loss_has_its_gradient(backend, rng, name):
    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng, (2, 8, 7, 9))
    given = [backend.from_numpy(x) for x in arrays]
    for index in range(loss.inputs):
        direction = rng.standard_normal(arrays[index].shape)
        _, gradient = agnoreg.value_and_grad(loss, *given, argnums=index)
        expected = directional(loss, arrays, index, direction, 1e-6)
        found = float((backend.to_numpy(gradient) * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_pain_15_a_function_without_gradient_says_what_to_add(backend, rng):
    class MeanAbsoluteError(agnoreg.Loss):
        def call(self, y_true, y_pred):
            xp = agnoreg.backend_of(y_true).xp
            return xp.mean(xp.abs(y_true - y_pred), axis=(1, 2, 3))

    arrays = [backend.from_numpy(x) for x in rng.random((2, 2, 3, 4, 5))]
    if backend.name in ("torch", "tensorflow", "jax"):
        _, gradient = agnoreg.value_and_grad(MeanAbsoluteError(), *arrays)
        sign = np.sign(backend.to_numpy(arrays[1]) - backend.to_numpy(arrays[0]))
        np.testing.assert_allclose(backend.to_numpy(gradient), sign / (2 * 60))
    else:
        with pytest.raises(NotImplementedError, match=r"MeanAbsoluteError|call.*gradient\(self"):
            agnoreg.value_and_grad(MeanAbsoluteError(), *arrays)


# --- 23: windows that do not score equal images 1
# -----------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [3, 4, 5, 7, 9, 15, 21, 31])
@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
def test_pain_23_equal_images_score_the_optimum_for_every_window(rng, kernel_size, kernel_type):
    if kernel_type == "triangular" and kernel_size % 2 == 0:
        with pytest.raises(ValueError, match="odd"):
            LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
        return
    metric = LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
    x, y = rng.random((2, 1, 12, 13, 14)).astype(np.float32)
    assert metric(x, x) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(metric.kernel, metric.kernel[::-1])
    assert metric.kernel_vol == pytest.approx(metric.kernel.sum() ** 3)
    np.testing.assert_allclose(metric(x, y), metric(y, x), rtol=1e-6)


# --- 25: odd shapes of reductions
# ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_pain_25_reductions_agree(backend, rng, name):
    given = [backend.from_numpy(x) for x in arrays_for(LOSSES[name], rng, (3, 7, 7, 7))]
    none, mean, total = (LOSSES[name](reduction=r)(*given) for r in ("none", "mean", "sum"))
    assert tuple(none.shape) == (3,)
    assert tuple(mean.shape) == tuple(total.shape) == ()
    assert agnoreg.backend_of(none, mean, total) is backend
    np.testing.assert_allclose(backend.to_numpy(mean), backend.to_numpy(none).mean(), rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(total), backend.to_numpy(none).sum(), rtol=1e-12)


def test_pain_25_a_composite_returns_its_named_terms(backend, rng):
    loss = agnoreg.build_loss(
        {
            "image": [{"name": "lncc", "kernel_size": 5}, {"name": "gmi", "weight": 0.5}],
            "label": {"name": "dice", "scales": [0, 1], "weight": 2.0},
            "regularization": [{"name": "bending", "weight": 0.1}, {"name": "gradient"}],
        }
    )
    t, p = (backend.from_numpy(x) for x in rng.random((2, 2, 8, 8, 8)))
    ddf = backend.from_numpy(rng.standard_normal((2, 8, 8, 8, 3)))
    total, terms = loss(image=(t, p), label=(t, p), regularization=ddf, return_terms=True)
    assert list(terms) == [
        "image/LocalNormalizedCrossCorrelationLoss",
        "image/GlobalMutualInformationLoss",
        "label/DiceLoss",
        "regularization/BendingEnergy",
        "regularization/GradientNorm",
    ]
    np.testing.assert_allclose(float(total), sum(float(term) for term in terms.values()), rtol=1e-12)
    np.testing.assert_allclose(float(total), float(loss(image=(t, p), label=(t, p), regularization=ddf)), rtol=1e-12)


# --- 27: another metric for a mis-spelled name ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "near"), [("lnc", "lncc"), ("dise", "dice"), ("mutual", "known"), ("", "known")])
def test_pain_27_an_unknown_name_lists_the_known_and_the_nearest(name, near):
    with pytest.raises(ValueError, match="Unknown loss") as error:
        agnoreg.build_loss({"name": name})
    assert near in str(error.value)
    assert all(known in str(error.value) for known in LOSSES)


def test_pain_27_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"no argument 'kernelsize'\. Did you mean 'kernel_size'"):
        agnoreg.build_loss({"name": "lncc", "kernelsize": 3})


def test_pain_27_no_two_metrics_compute_the_same(rng):
    x, y = rng.random((2, 1, 12, 12, 12))
    values = [float(cls()(x, y)) for cls in PAIRS.values()]
    assert len({round(abs(value), 6) for value in values}) == len(values)


# --- 32: two frameworks, two devices
# ------------------------------------------------------------------------------------


def test_pain_32_arrays_of_two_frameworks_are_refused(backend, rng):
    x = rng.random((1, 4, 4, 4))
    other = agnoreg.get_backend("numpy" if backend.name != "numpy" else "torch")
    with pytest.raises(TypeError, match="two frameworks") as error:
        functional.ssd(backend.from_numpy(x), other.from_numpy(x))
    assert type(backend.from_numpy(x)).__name__ in str(error.value)
    assert type(other.from_numpy(x)).__name__ in str(error.value)
    assert "from_numpy" in str(error.value)


def test_pain_32_tensors_on_two_devices_are_refused():
    import torch

    with pytest.raises(TypeError, match="two devices: cpu and meta"):
        functional.ssd(torch.zeros(1, 4), torch.zeros(1, 4, device="meta"))


@pytest.mark.parametrize("name", LOSSES)
def test_pain_32_no_loss_leaves_its_device(name):
    import torch

    # A tensor on the device "meta" has no data: whoever reads a value, or copies to the host, fails.
    loss = LOSSES[name]()
    shape = (2, 8, 8, 8) if loss.inputs == 2 else (2, 8, 8, 8, 3)
    arrays = [torch.zeros(shape, device="meta") for _ in range(loss.inputs)]
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    assert value.device.type == gradient.device.type == "meta"
    assert loss(*[array.requires_grad_() for array in arrays]).device.type == "meta"


# --- 33: TensorFlow's tensors and variables ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_pain_33_tensorflow_tensors_and_variables_are_taken(rng, name):
    import tensorflow as tf

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng, (2, 7, 8, 9))
    expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays)
    for kind in (tf.constant, tf.Variable):
        value, gradient = agnoreg.value_and_grad(loss, *[kind(x) for x in arrays])
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-10)
        np.testing.assert_allclose(
            gradient.numpy(), expected_gradient, atol=1e-12 + 1e-9 * abs(expected_gradient).max()
        )


# --- 34: Python floats and 0-d results --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", METRICS)
def test_pain_34_parameters_do_not_change_the_dtype(backend, rng, name, dtype):
    loss = METRICS[name]()
    arrays = [backend.from_numpy(x) for x in arrays_for(METRICS[name], rng, (2, 7, 8, 9), dtype)]
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    for result in (value, loss.call(*arrays), gradient):
        assert str(backend.to_numpy(result).dtype) == dtype
        assert agnoreg.backend_of(result) is backend
    assert tuple(value.shape) == ()


# --- loss objects
# -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_pain_12_and_25_configuration_makes_the_same_object_again(name):
    loss = METRICS[name](name="mine", reduction="sum")
    again = METRICS[name].from_config(json.loads(json.dumps(loss.get_config())))
    assert again == loss
    assert hash(again) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_fields_and_kernels_are_what_they_say():
    assert BendingEnergy().inputs == GradientNorm().inputs == 1
    assert rectangular(9).sum() == 9
    assert gaussian_kernel1d_sigma(2).sum() == pytest.approx(1)


# --- 6: half precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", LOSSES)
def test_pain_06_half_precision_is_computed_in_float32(rng, name, dtype):
    import torch

    loss = LOSSES[name]()
    halves = [torch.tensor(x).to(getattr(torch, dtype)) for x in arrays_for(loss, rng)]
    value, gradient = agnoreg.value_and_grad(loss, *halves)
    wide, _ = agnoreg.value_and_grad(loss, *[x.float() for x in halves])
    assert value.dtype == torch.float32
    assert gradient.dtype == halves[0].dtype
    torch.testing.assert_close(value, wide, rtol=1e-6, atol=0)


def test_pain_06_a_sum_beyond_the_largest_half_is_right():
    ones = np.ones((1, 128, 128, 128), np.float16)
    assert agnoreg.build_loss({"name": "dice"})(ones, ones) == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_pain_06_autocast_changes_nothing(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in arrays_for(loss, rng)]
    value = loss(*arrays)
    expected = torch.autograd.grad(value, arrays)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(*arrays)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, value)
    for found, wanted in zip(torch.autograd.grad(inside, arrays), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", LOSSES)
def test_pain_06_and_19_no_loss_convolves_on_pytorch(rng, name):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    called = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(str(function))
            return function(*args, **(kwargs or {}))

    loss = LOSSES[name]()
    with Names():
        agnoreg.value_and_grad(loss, *[torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng)])
    assert called
    # TF32 and reduced precision reach convolutions, and on a card they are slow for a window's size.
    assert not [function for function in called if "conv" in function.replace("_to_copy", "")]


# --- 16: compilers and function transforms ----------------------------------------------------------------------------


# PyTorch's own compiler instantiates autograd.Function, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.slow
def test_pain_16_every_loss_compiles_as_one_graph(rng, name, no_kernels):
    # Without kernels, which round otherwise: the same operations give the same digits.
    import torch

    loss = LOSSES[name]()
    *fixed, moving = (torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng))
    torch._dynamo.reset()
    compiled = torch.compile(lambda *arrays: loss(*arrays), fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, loss):
        leaf = moving.clone().requires_grad_()
        value = function(*fixed, leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-9)


FIRST = """
import torch
import agnoreg

loss = agnoreg.build_loss("lncc")
t, p = torch.rand(2, 1, 6, 6, 6)
print(torch.compile(lambda *arrays: loss(*arrays), fullgraph=True, backend="aot_eager")(t, p).item())
"""


@pytest.mark.slow
def test_pain_16_the_first_call_of_a_process_may_be_compiled():
    # No adapter has seen a tensor before: they are asked for their arrays while the call is traced.
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert -1.0 <= float(done.stdout) <= 0.0


@pytest.mark.parametrize("name", LOSSES)
def test_pain_16_every_loss_is_mapped_and_differentiated_by_functions(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float64)[:, None] for x in arrays_for(loss, rng)]
    last = len(arrays) - 1
    mapped = torch.func.vmap(torch.func.grad(loss, argnums=last))(*arrays)
    for i in range(2):
        _, gradient = agnoreg.value_and_grad(loss, *[x[i] for x in arrays], argnums=last)
        torch.testing.assert_close(mapped[i], gradient, rtol=1e-9, atol=1e-14)


# --- 17 and 20: memory ------------------------------------------------------------------------------------------------

MEMORY = """
import sys
from pathlib import Path

import numpy as np
import agnoreg

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

loss = agnoreg.build_loss(eval(sys.argv[1]))
arrays = [np.random.default_rng(i).random((1, 96, 160, 160) + (3,) * (loss.inputs == 1), np.float32)
          for i in range(loss.inputs)]
small = [x[:, :12, :12, :12].copy() for x in arrays]
agnoreg.value_and_grad(loss, *small)
Path("/proc/self/clear_refs").write_text("5")
before = peak()
agnoreg.value_and_grad(loss, *arrays)
print((peak() - before) / (arrays[0].nbytes / 2**20))
"""


@pytest.mark.parametrize("name", [*LOSSES, "gmi with 64 bins"])
@pytest.mark.slow
def test_pain_17_and_20_no_loss_takes_many_times_its_input(name):
    config = {"name": "gmi", "num_bins": 64} if name == "gmi with 64 bins" else {"name": name}
    done = subprocess.run([sys.executable, "-c", MEMORY, repr(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The gradient itself is one input's size; peers take 30 to 160.
    assert float(done.stdout) < 9.0


# --- 35: determinism --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_pain_35_every_loss_runs_under_deterministic_algorithms_and_repeats_bit_by_bit(rng, name):
    import torch

    loss = LOSSES[name]()
    arrays = [torch.tensor(x, dtype=torch.float32) for x in arrays_for(loss, rng)]
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (agnoreg.value_and_grad(loss, *arrays) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


# --- 28, 29 and 30: JAX -----------------------------------------------------------------------------------------------


def quick_jit(function):
    """Compile a function quickly rather than well, for it runs but once or twice."""
    import jax

    return jax.jit(function, compiler_options=quickly())


def soft_mask(cls, rng, shape=(2, 11, 12, 13)):
    """Return weights of voxels, some of them 0, without an axis of components."""
    return np.maximum(rng.random(shape) - 0.02, 0.0)


@pytest.fixture
def x64():
    """Let JAX have float64."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LOSSES)
def test_pain_28_every_loss_and_its_gradient_compile_by_jit(rng, name, masked):
    import jax

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng)
    masks = {"mask": soft_mask(loss, rng)} if masked else {}
    expected, gradient = agnoreg.value_and_grad(loss, *arrays, **masks)

    def of(arrays, masks):
        return loss(*arrays, **masks)

    # Everything is an argument, the mask too: nothing that a value is asked of may be known.
    value = quick_jit(of)(arrays, masks)
    slope = quick_jit(jax.grad(of))(arrays, masks)[-1]
    assert float(value) == pytest.approx(float(expected), rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-10 * np.abs(gradient).max())


@pytest.mark.usefixtures("x64")
def test_pain_28_shapes_are_checked_while_traced_and_values_are_not(rng):
    import jax

    loss = agnoreg.build_loss("ssd")
    t, p = arrays_for(PAIRS["ssd"], rng)
    with pytest.raises(ValueError, match="one shape"):
        quick_jit(loss)(t, p[:, 1:])
    # An empty mask warns where it can be seen; traced, it gives what it gives without one.
    with pytest.warns(agnoreg.EmptyMaskWarning):
        assert np.isnan(loss(*map(jax.numpy.array, (t, p)), mask=jax.numpy.zeros(t.shape)))
    assert np.isnan(quick_jit(lambda t, p, mask: loss(t, p, mask=mask))(t, p, np.zeros(t.shape)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
def test_pain_29_forward_mode_is_the_gradient_times_the_direction(rng, name):
    import jax

    loss = LOSSES[name]()
    arrays = arrays_for(LOSSES[name], rng)
    directions = tuple(rng.standard_normal(x.shape) for x in arrays)
    _, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=tuple(range(loss.inputs)))
    expected = sum(float((gradient * x).sum()) for gradient, x in zip(gradients, directions, strict=True))
    for function in (loss, quick_jit(loss)):
        _, found = jax.jvp(function, arrays, directions)
        assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["lncc", "gmi", "ssd", "dice", "bending"])
def test_pain_29_a_hessian_of_8_cubed_is_the_derivative_of_the_gradient(rng, name):
    import jax

    loss = agnoreg.build_loss({"name": name, "kernel_size": 3} if name == "lncc" else name)
    # Not so close to the ends of [0, 1], beyond which mutual information does not change, that a step reaches them.
    *fixed, moving = (0.1 + 0.8 * x for x in arrays_for(LOSSES[name], rng, (1, 8, 8, 8)))
    given = [jax.numpy.array(x) for x in fixed]
    hessian = quick_jit(jax.hessian(lambda x: loss(*given, x)))(moving)
    hessian = np.asarray(hessian).reshape(moving.size, moving.size)
    assert np.abs(hessian - hessian.T).max() <= 1e-10 * np.abs(hessian).max()
    direction = rng.standard_normal(moving.shape)
    ends = [agnoreg.value_and_grad(loss, *fixed, moving + step * direction)[1] for step in (1e-6, -1e-6)]
    slope = (ends[0] - ends[1]).ravel() / 2e-6
    np.testing.assert_allclose(hessian @ direction.ravel(), slope, rtol=0, atol=1e-6 * np.abs(slope).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOSSES)
def test_pain_29_every_loss_is_mapped_with_its_mask(rng, name):
    import jax

    loss = LOSSES[name]()
    arrays, mask = arrays_for(LOSSES[name], rng), soft_mask(loss, rng)

    def slope(arrays, mask):
        return jax.grad(lambda last: loss(*(x[None] for x in arrays[:-1]), last[None], mask=mask[None]))(arrays[-1])

    mapped = quick_jit(jax.vmap(slope))(arrays, mask)
    shared = quick_jit(jax.vmap(slope, in_axes=(0, None)))(arrays, mask[0])
    for i in range(2):
        for found, own in ((mapped[i], mask[i]), (shared[i], mask[0])):
            _, expected = agnoreg.value_and_grad(loss, *(x[i : i + 1] for x in arrays), mask=own[None])
            np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stencil", ["central", "compact"])
@pytest.mark.parametrize("function", [functional.bending_energy, functional.gradient_norm], ids=lambda f: f.__name__)
def test_pain_29_a_spacing_may_be_traced_mapped_and_differentiated(rng, function, stencil):
    import jax

    field, spacing = rng.standard_normal((2, 7, 8, 6, 3)), np.array([0.7, 1.5, 2.0])

    def of(field, spacing):
        return function(field, spacing=spacing, stencil=stencil)

    expected = of(field, spacing)
    for given in (spacing, tuple(spacing)):
        np.testing.assert_allclose(quick_jit(of)(field, given), expected, rtol=1e-12)
    np.testing.assert_allclose(of(jax.numpy.array(field), jax.numpy.array(spacing)), expected, rtol=1e-12)
    assert of(jax.numpy.array(field, dtype="float32"), jax.numpy.array(spacing)).dtype == np.float32
    # One number for all axes.
    np.testing.assert_allclose(quick_jit(of)(field, 1.5), of(field, 1.5), rtol=1e-12)
    spacings = np.stack([spacing, 2.0 * spacing])
    mapped = jax.vmap(lambda u, step: of(u[None], step)[0])(field, spacings)
    np.testing.assert_allclose(mapped, [of(field, s)[i] for i, s in enumerate(spacings)], rtol=1e-12)
    by_field, by_spacing = quick_jit(jax.grad(lambda u, s: of(u, s).sum(), argnums=(0, 1)))(field, spacing)
    _, gradient = agnoreg.value_and_grad(function, field, spacing=spacing, stencil=stencil)
    np.testing.assert_allclose(by_field, gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())
    for axis in range(3):
        ends = [of(field, spacing + step * np.eye(3)[axis]).sum() for step in (1e-5, -1e-5)]
        assert float(by_spacing[axis]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)
    with pytest.raises(ValueError, match="spacing must be a positive number"):
        of(jax.numpy.array(field), jax.numpy.array(-1.0))


@pytest.mark.slow
def test_pain_30_nothing_of_64_bit_is_asked_for_where_there_is_none():
    # -W error: JAX warns whoever asks it for float64 in vain. These are some of the suite's checks of float32 and less.
    checks = "test_golden or test_ct or test_adapter or two_dtypes or finite or raised and 1000"
    command = [sys.executable, "-W", "error", "-m", "pytest", "conformance", "--backend", "jax", "--widest", "float32"]
    done = subprocess.run(
        [*command, "-q", "-p", "no:cacheprovider", "-k", checks],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(agnoreg.__file__).parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr


X32 = """
import warnings
warnings.simplefilter("error")
import jax
import numpy as np
import agnoreg

assert not jax.config.jax_enable_x64
rng = np.random.default_rng(0)
for name, cls in agnoreg.registered_losses().items():
    loss = cls()
    shape = (1, 9, 8, 7)
    arrays = [rng.random((*shape, 3) if loss.inputs == 1 else shape) for _ in range(loss.inputs)]
    mask = rng.random(shape)
    expected, gradient = agnoreg.value_and_grad(loss, *arrays, mask=mask)
    *fixed, moving, mask = (jax.numpy.array(x) for x in (*arrays, mask))
    value, slope = jax.jit(jax.value_and_grad(lambda x: loss(*fixed, x, mask=mask)))(moving)
    assert value.dtype == slope.dtype == np.float32
    assert abs(value - expected) <= 1e-5 * max(abs(expected), 1e-2), name
    assert np.abs(slope - gradient).max() <= 1e-4 * np.abs(gradient).max(), name
image, field = jax.numpy.ones((1, 6, 6, 6)), 0.3 * jax.numpy.ones((1, 6, 6, 6, 3))
assert agnoreg.functional.warp(image, field).dtype == np.float32
assert jax.jit(jax.grad(lambda u: agnoreg.functional.warp(image, u).sum()))(field).dtype == np.float32
assert agnoreg.functional.warp_adjoint(image, field, image)[0].dtype == np.float32
print("right")
"""


def test_pain_30_results_say_their_precision_and_are_as_good():
    flags = " ".join(f"--{name}={value}" for name, value in quickly().items())
    assert run_python(X32, XLA_FLAGS=flags).strip() == "right"
