"""The losses in models of Keras 3, on each of its backends, each in a process of its own."""

import doctest
import inspect
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from every import LOSSES

import agnoreg

keras = pytest.importorskip("keras", reason="Keras is not installed")

import agnoreg_keras  # noqa: E402

#: What is saved in users' files: these names never change.
FROZEN = {
    "GMI": "gmi",
    "LNCC": "lncc",
    "GNCC": "gncc",
    "SSD": "ssd",
    "Dice": "dice",
    "Jaccard": "jaccard",
    "CrossEntropy": "cross-entropy",
    "Gradient": "gradient",
    "Bending": "bending",
    "L1": "l1",
    "Tversky": "tversky",
    "NGF": "ngf",
}

#: Those of them that have the names of their classes, too.
AGAIN = {"GradientNorm": "Gradient", "BendingEnergy": "Bending"}

BACKENDS = ("tensorflow", "torch", "jax")


#: The tests of what these processes found go to one worker of pytest's, which starts them once.
def started_together(test):
    """Mark a test of what the processes found."""
    return pytest.mark.slow(pytest.mark.xdist_group("processes of Keras")(test))


def run(backend, command, folder):
    """Run `keras_process` with one of Keras's backends and return what it found."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    script = Path(__file__).with_name("keras_process.py")
    done = subprocess.run(
        [sys.executable, script, command, folder], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def check(errors, value=1e-5, gradient=1e-5):
    for name, (of_value, of_gradient) in errors.items():
        assert of_value <= value, name
        assert of_gradient <= gradient, name


@pytest.fixture(scope="module")
def started(request, tmp_path_factory):
    """Start the processes of all backends that are asked for at once, and return what will be found of each."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = {one["processes"] for one in parameters if "processes" in one}

    def both(backend, folder):
        return run(backend, "train", folder), run(backend, "load", folder)

    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        yield {
            backend: pool.submit(both, backend, tmp_path_factory.mktemp("models"))
            for backend, state in agnoreg.available_backends().items()
            if backend in asked and state == "ok"
        }


@pytest.fixture(params=BACKENDS)
def processes(request, started):
    """Return the backend, what one process of it found, and what another one did with what the first saved."""
    if request.param not in started:
        pytest.skip(agnoreg.available_backends()[request.param])
    return request.param, *started[request.param].result()


@started_together
def test_a_step_of_fit_is_numpys(processes):
    _, trained, _ = processes
    # float32 against float64, each sample times its weight.
    check(trained["errors"])
    # The gradient goes through bfloat16, of 8 bits, and its sum over the batch, too.
    check({"mixed": trained["mixed"]}, gradient=2**-7)


@started_together
def test_a_saved_model_is_the_same_in_a_new_process(processes):
    _, trained, loaded = processes
    assert all(map(math.isfinite, loaded["saved"].values()))
    assert loaded["saved"] == pytest.approx(trained["saved"], rel=1e-6, abs=0.0)


@started_together
def test_a_step_of_a_large_image_takes_bounded_memory(processes):
    backend, _, loaded = processes
    print(f"Keras on {backend}, a step of LNCC of 96^3: {loaded['large']['MB']:.0f} MB")
    check(loaded["large"]["errors"])
    # An image takes 3.4 MB: this is what the framework takes for its own, and slabs.
    assert loaded["large"]["MB"] < {"tensorflow": 300, "torch": 150, "jax": 350}[backend]


@pytest.mark.slow
def test_two_devices_make_the_step_of_one(tmp_path):
    if (state := agnoreg.available_backends()["tensorflow"]) != "ok":
        pytest.skip(state)
    found = run("tensorflow", "distribute", tmp_path)
    assert found.pop("replicas") == 2
    check(found)


@started_together
def test_volumes_of_several_sizes_and_weights_of_voxels_are_fitted_as_numpy_does(processes):
    backend, _, loaded = processes
    found = loaded["varied"]
    assert len(found["errors"]) == (4 if backend == "tensorflow" else 3)
    check(found["errors"])
    if backend == "tensorflow":
        assert "jit_compile=False" in found["compiled"]


# --- configuration ----------------------------------------------------------------------------------------------------

#: Tried in this order for an argument that is not what the default says.
OTHERS = [7, 0.25, True, (1.0, 2.0, 2.5), (0, 1), 2, "channels_first", "triangular", "truncate", "compact", "cauchy"]
OTHERS += ["monai", "voxelmorph", "exact"]
#: Arguments that take one value alone.
SINGLE = {("JaccardLoss", "convention")}


def variants(cls):
    """Yield each argument of a class with another value than its default."""
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in ("name", "reduction") or (cls.__name__, name) in SINGLE:
            continue
        default = getattr(cls(), name)
        others = [not default] if isinstance(default, bool) else OTHERS
        for other in others:
            try:
                loss = cls(**{name: other})
            except (ValueError, TypeError):
                continue
            if getattr(loss, name) != default and type(getattr(loss, name)) in (type(default), type(other)):
                yield name, other
                break
        else:
            raise AssertionError(f"{cls.__name__} takes none of the values for {name}, {parameter}.")


def again(loss):
    """Return what Keras makes of a loss that went through a file."""
    return keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))


@pytest.mark.parametrize("short", FROZEN)
def test_every_argument_of_every_loss_is_in_its_configuration(short):
    cls, kind = LOSSES[FROZEN[short]], getattr(agnoreg_keras, short)
    found = list(variants(cls))
    assert found
    for name, value in found:
        loss = kind(**{name: value}, reduction="sum", name="mine")
        assert loss.loss == cls(**{name: value})
        for back in (again(loss), again(agnoreg_keras.Loss(loss.loss, reduction="sum", name="mine"))):
            assert back.loss == loss.loss
            assert (back.reduction, back.name, back.dtype) == ("sum", "mine", "float32")
        assert cls.from_config(json.loads(json.dumps(loss.loss.get_config()))) == loss.loss


def test_registered_names_are_frozen():
    assert {name for name in agnoreg_keras.__all__ if name != "Loss"} == {*FROZEN, *AGAIN}
    for again, name in AGAIN.items():
        assert getattr(agnoreg_keras, again) is getattr(agnoreg_keras, name)
    assert set(FROZEN.values()) == set(LOSSES)
    for short, name in FROZEN.items():
        kind = getattr(agnoreg_keras, short)
        assert keras.saving.get_registered_name(kind) == f"agnoreg>{short}"
        assert keras.saving.get_registered_object(f"agnoreg>{short}") is kind
        assert type(kind().loss) is LOSSES[name]
        assert kind().name == name
        assert kind.__module__ == "agnoreg_keras"
    assert keras.saving.get_registered_name(agnoreg_keras.Loss) == "agnoreg>Loss"


def test_a_sum_of_sums_comes_back():
    inner = agnoreg.build_loss(
        [{"name": "lncc", "kernel_size": 3}, {"name": "dice", "scales": [0, 1.5], "weight": 0.3}]
    )
    loss = agnoreg_keras.Loss(agnoreg.loss.WeightedLoss((inner, agnoreg.build_loss("ssd")), (2.0, 1.0), name="both"))
    assert again(loss).loss == loss.loss
    assert again(loss).name == "both"


def test_a_loss_of_ones_own_comes_back(rng):
    @agnoreg.register_loss("keras-test-mae")
    class PowerOfError(agnoreg.Loss):
        power: float = 1.0

        def call(self, y_true, y_pred):
            xp = agnoreg.backend_of(y_true).xp
            return xp.mean(xp.abs(y_true - y_pred) ** self.power, axis=(1, 2, 3))

    loss = agnoreg_keras.Loss({"name": "keras-test-mae", "power": 2.0})
    x, y = rng.random((2, 2, 3, 4, 5), dtype="float32")
    assert again(loss).loss == PowerOfError(power=2.0)
    np.testing.assert_allclose(float(again(loss)(x, y)), np.mean((x - y) ** 2), rtol=1e-6)


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", FROZEN)
def test_weights_weigh_samples(rng, short):
    loss = getattr(agnoreg_keras, short)(reduction="none")
    x, y = rng.random((2, 3, 9, 8, 7, 3 if loss.loss.inputs == 1 else 1), dtype="float32")
    weights = np.array([0.5, 0.0, 3.0], "float32")
    values = loss.loss.call(*(x.astype("float64"), y.astype("float64"))[-loss.loss.inputs :])
    assert values.shape == (3,)
    for reduction, expected in {
        "none": values * weights,
        None: values * weights,
        "sum": np.sum(values * weights),
        "sum_over_batch_size": np.mean(values * weights),
        "mean": np.mean(values * weights),
        "mean_with_sample_weight": np.average(values, weights=weights),
    }.items():
        found = getattr(agnoreg_keras, short)(reduction=reduction)(x, y, sample_weight=weights)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5)


def as_numpy(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("short", FROZEN)
def test_weights_of_voxels_are_a_mask(rng, short):
    loss = getattr(agnoreg_keras, short)(reduction="none")
    x, y = rng.random((2, 3, 9, 8, 7, 3 if loss.loss.inputs == 1 else 1), dtype="float32")
    mask = np.arange(8)[:, None] + rng.random((3, 9, 8, 7)) > 2.0
    arrays = (x.astype("float64"), y.astype("float64"))[-loss.loss.inputs :]
    for weights in (mask, mask * np.uint8(255), mask * rng.random(mask.shape), mask[:1], mask[:, :, :, :1]):
        expected = loss.loss.call(*arrays, mask=weights)
        for given in (weights, weights[..., None]):
            found = loss(x, y, sample_weight=given)
            np.testing.assert_allclose(as_numpy(found), expected, rtol=2e-5, atol=1e-6)
    mean = getattr(agnoreg_keras, short)()
    np.testing.assert_allclose(as_numpy(mean(x, y, sample_weight=weights)), expected.mean(), rtol=2e-5, atol=1e-6)
    assert loss._mask is None


def test_a_sample_all_of_whose_voxels_weigh_nothing_counts_as_0(rng):
    loss = agnoreg_keras.SSD(reduction="none")
    x, y = rng.random((2, 3, 4, 5, 6, 1), dtype="float32")
    weights = np.ones((3, 4, 5, 6), "float32")
    weights[1] = 0.0
    values = as_numpy(loss(x, y, sample_weight=weights))
    assert values[1] == 0.0
    np.testing.assert_array_equal(values[[0, 2]], as_numpy(loss(x, y))[[0, 2]])


def test_weights_of_samples_may_have_axes_of_size_1(rng):
    loss = agnoreg_keras.SSD()
    x, y = rng.random((2, 3, 4, 5, 6, 1), dtype="float32")
    weights = np.array([0.5, 0.0, 3.0], "float32")
    expected = as_numpy(loss(x, y, sample_weight=weights))
    for shape in ((3, 1), (3, 1, 1, 1), (3, 1, 1, 1, 1)):
        np.testing.assert_array_equal(as_numpy(loss(x, y, sample_weight=weights.reshape(shape))), expected)
    assert float(loss(x, y, sample_weight=2.0)) == pytest.approx(2 * float(loss(x, y)), rel=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 5, 4, 6), (2, 4, 5, 6), (3, 4, 5, 6, 2), (3, 4, 5, 6, 1, 1)])
def test_weights_of_neither_samples_nor_voxels_are_refused(rng, shape):
    x, y = rng.random((2, 3, 4, 5, 6, 1), dtype="float32")
    with pytest.raises(ValueError, match=r"one weight a sample, shape \(batch,\), or one a voxel.*\(3, 4, 5, 6, 1\)"):
        agnoreg_keras.SSD()(x, y, sample_weight=np.ones(shape, "float32"))


@pytest.mark.parametrize(
    "loss",
    [
        agnoreg_keras.LNCC(),
        agnoreg_keras.Dice(scales=[0, 1]),
        agnoreg_keras.SSD(scales=[0, 2]),
        agnoreg_keras.Loss([{"name": "ssd"}, {"name": "lncc", "weight": 0.5}]),
    ],
    ids=["lncc", "dice", "ssd", "sum"],
)
def test_a_plane_with_its_channel_is_no_volume_of_one_slice(rng, loss):
    x, y = rng.random((2, 2, 16, 12, 1), dtype="float32")
    with pytest.raises(ValueError, match=r"\(2, 16, 12, 1\).*spatial_dims=2"):
        loss(x, y)


def test_planes_and_rows_with_their_channels_are_taken_as_what_they_are(rng):
    x, y = rng.random((2, 2, 16, 12, 1), dtype="float32")
    for kind, more in ((agnoreg_keras.LNCC, {}), (agnoreg_keras.Dice, {"scales": [0, 1]})):
        loss = kind(spatial_dims=2, **more)
        np.testing.assert_allclose(as_numpy(loss(x, y)), loss.loss(x[..., 0], y[..., 0]), rtol=1e-5)
        with pytest.raises(ValueError, match="spatial_dims=1"):
            loss(x[:, 0], y[:, 0])
    # Where the axes do not matter they are not asked for.
    for kind in (agnoreg_keras.GMI, agnoreg_keras.GNCC, agnoreg_keras.SSD, agnoreg_keras.Dice):
        assert np.isfinite(float(kind()(x, y)))
    thin = agnoreg_keras.LNCC(padding="truncate")
    assert np.isfinite(float(thin(x, y)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_of_agnoreg_is_reduced_as_it_says_itself(rng, reduction):
    x, y = rng.random((2, 3, 9, 8, 7), dtype="float32")
    own = agnoreg.build_loss({"name": "lncc", "kernel_size": 3, "reduction": reduction})
    np.testing.assert_allclose(keras.ops.convert_to_numpy(agnoreg_keras.Loss(own)(x, y)), own(x, y), rtol=1e-5)


def test_the_example_of_the_docstring_runs():
    results = doctest.testmod(agnoreg_keras)
    assert results.attempted
    assert not results.failed


def test_what_keras_cannot_minimise_is_refused():
    with pytest.raises(ValueError, match="better when higher"):
        agnoreg_keras.Loss(agnoreg.loss.label.DiceScore())
    whole = agnoreg.build_loss({"image": {"name": "lncc"}, "regularization": {"name": "bending"}})
    with pytest.raises(TypeError, match="the loss of its section"):
        agnoreg_keras.Loss(whole)
    with pytest.raises(ValueError, match="Did you mean"):
        agnoreg_keras.Loss("lnc")


def test_without_keras_the_error_says_what_to_install():
    code = "import sys; sys.modules['keras'] = None; import agnoreg_keras"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: Keras is not installed: pip install agnoreg[keras]."
