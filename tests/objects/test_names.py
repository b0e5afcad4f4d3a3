"""Names: of losses in configurations, of classes in packages, and those that DeepReg's own users know."""

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest
from every import LOSSES

import agnoreg
from agnoreg.engine import kernels
from agnoreg.loss import image, kernel, label
from agnoreg.objects import registration, weighted

#: The short names of the losses, and the names they are registered by.
SHORT = {
    "GMI": "gmi",
    "LNCC": "lncc",
    "GNCC": "gncc",
    "SSD": "ssd",
    "Dice": "dice",
    "Jaccard": "jaccard",
    "CrossEntropy": "cross-entropy",
    "Gradient": "gradient",
    "GradientNorm": "gradient",
    "Bending": "bending",
    "BendingEnergy": "bending",
    "L1": "l1",
    "Tversky": "tversky",
    "NGF": "ngf",
}

#: The reference page of DeepReg's losses: every name, with the names of its arguments.
REFERENCE = {
    "image": {
        "GlobalMutualInformation": "num_bins sigma_ratio name",
        "GlobalMutualInformationLoss": "name",
        "GlobalNormalizedCrossCorrelation": "name",
        "GlobalNormalizedCrossCorrelationLoss": "name",
        "LocalNormalizedCrossCorrelation": "kernel_size kernel_type smooth_nr smooth_dr name",
        "LocalNormalizedCrossCorrelationLoss": "name",
        "LocalNormalizedCrossCorrelation.calc_ncc": "y_true y_pred",
    },
    "label": {
        "CrossEntropy": "binary background_weight smooth name",
        "CrossEntropyLoss": "scales kernel",
        "DiceLoss": "scales kernel",
        "DiceScore": "binary background_weight smooth_nr smooth_dr name",
        "JaccardIndex": "binary background_weight smooth_nr smooth_dr name",
        "JaccardLoss": "scales kernel",
        "SumSquaredDifference": "name",
        "SumSquaredDifferenceLoss": "scales kernel",
        "compute_centroid": "mask grid",
        "compute_centroid_distance": "y_true y_pred grid",
        "foreground_proportion": "y",
    },
    "deform": {
        "BendingEnergy": "name",
        "GradientNorm": "l1 name",
        "gradient_dx": "fx",
        "gradient_dxyz": "fxyz fn",
        "gradient_dy": "fy",
        "gradient_dz": "fz",
    },
    "util": {"MultiScaleMixin": "scales kernel", "NegativeLossMixin": "", "separable_filter": "tensor kernel"},
    "kernel": {
        "rectangular_kernel1d": "kernel_size",
        "triangular_kernel1d": "kernel_size",
        "gaussian_kernel1d_size": "kernel_size",
        "gaussian_kernel1d_sigma": "sigma",
        "cauchy_kernel1d": "sigma",
    },
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in REFERENCE for name in REFERENCE[module]])
def test_deepregs_names_take_deepregs_arguments(module, name):
    found = importlib.import_module(f"agnoreg.loss.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    assert set(REFERENCE[module][name].split()) <= set(inspect.signature(found).parameters)
    if inspect.isclass(found):
        assert {"call", "get_config"} <= set(dir(found))


def test_deepregs_kernels_have_their_numbers():
    np.testing.assert_array_equal(kernel.rectangular_kernel1d(3), [1, 1, 1])
    np.testing.assert_array_equal(kernel.triangular_kernel1d(5), [1, 2, 3, 2, 1])
    assert {"rectangular_kernel1d", "triangular_kernel1d"} <= set(kernel.__all__)


def test_the_package_of_losses_has_the_classes_of_its_modules():
    modules = (image, label, agnoreg.loss.deform, agnoreg.loss.util, weighted, registration)
    classes = {
        name: one
        for module in modules
        for name, one in vars(module).items()
        if inspect.isclass(one) and issubclass(one, agnoreg.Loss) and not name.startswith("_") and name != "ImageLoss"
    }
    assert len(classes) > 20
    for name, cls in classes.items():
        assert getattr(agnoreg.loss, name) is cls
        assert name in agnoreg.loss.__all__


@pytest.mark.parametrize("short", SHORT)
def test_a_short_name_is_the_registered_loss_which_is_to_be_minimised(short):
    cls = getattr(agnoreg, short)
    assert cls is agnoreg.registered_losses()[SHORT[short]]
    assert cls().direction == "lower"
    assert short in agnoreg.__all__


def test_every_loss_of_ours_has_a_short_name():
    assert set(LOSSES) == set(SHORT.values())


@pytest.mark.parametrize("short", SHORT)
def test_keras_has_the_same_loss_under_the_same_name(short):
    pytest.importorskip("keras", reason="Keras is not installed")
    import agnoreg_keras

    assert set(agnoreg_keras.__all__) == {*SHORT, "Loss"}
    assert type(getattr(agnoreg_keras, short)().loss) is getattr(agnoreg, short)


# --- names in configurations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("mse", agnoreg.SSD),
        ("ncc", agnoreg.GNCC),
        ("mi", agnoreg.GMI),
        ("MSE", agnoreg.SSD),
        ("LNCC", agnoreg.LNCC),
        ("Cross-Entropy", agnoreg.CrossEntropy),
        ("dicescore", label.DiceScore),
        ("BENDINGENERGY", agnoreg.BendingEnergy),
        *((short, agnoreg.registered_losses()[name]) for short, name in SHORT.items() if short != "CrossEntropy"),
    ],
)
def test_a_name_may_be_an_alias_and_have_capitals(name, cls):
    for config in (name, {"name": name}, {"class": name, "config": {}}):
        assert agnoreg.build_loss(config) == cls()


def test_an_alias_is_no_registered_name_and_gives_way_to_one(monkeypatch):
    assert not {"mse", "ncc", "mi"} & set(agnoreg.registered_losses())
    for table in ("_by_name", "_by_class"):
        monkeypatch.setattr(agnoreg.objects.registry, table, dict(getattr(agnoreg.objects.registry, table)))

    @agnoreg.register_loss("mse")
    class MyOwnError(label.SumSquaredDifference):
        pass

    assert type(agnoreg.build_loss("mse")) is MyOwnError


def test_capitals_count_where_they_tell_two_names_apart(monkeypatch):
    for table in ("_by_name", "_by_class"):
        monkeypatch.setattr(agnoreg.objects.registry, table, dict(getattr(agnoreg.objects.registry, table)))

    @agnoreg.register_loss("LNCC")
    class MyOwnCorrelation(image.LocalNormalizedCrossCorrelationLoss):
        pass

    assert type(agnoreg.build_loss("LNCC")) is MyOwnCorrelation
    assert type(agnoreg.build_loss("lncc")) is agnoreg.LNCC
    with pytest.raises(ValueError, match="Unknown loss 'Lncc'"):
        agnoreg.build_loss("Lncc")


def test_a_name_takes_its_arguments_by_keyword():
    assert agnoreg.build_loss("lncc", kernel_size=7) == agnoreg.build_loss({"name": "lncc", "kernel_size": 7})
    assert agnoreg.build_loss("ssd", weight=2.0) == agnoreg.build_loss({"name": "ssd", "weight": 2.0})
    assert agnoreg.build_loss("dice", name="mine", scales=[0, 1]) == agnoreg.Dice(name="mine", scales=(0, 1))
    with pytest.raises(TypeError, match=r"lncc has no argument 'kernelsize'\. Did you mean 'kernel_size'"):
        agnoreg.build_loss("lncc", kernelsize=7)
    for config in ({"name": "lncc"}, ["lncc"]):
        with pytest.raises(TypeError, match=r"Arguments by keyword belong to a loss's name, got .*kernel_size"):
            agnoreg.build_loss(config, kernel_size=7)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("regularisation", "regularization"), ("Image", "image"), ("labels", "label"), ("regularizer", "regularization")],
)
def test_an_unknown_section_is_answered_by_the_nearest(rng, wrong, right):
    with pytest.raises(TypeError, match=f"got the keys .*{wrong}.*Did you mean '{right}'"):
        agnoreg.build_loss({"image": "ssd", wrong: "lncc"} if right != "image" else {wrong: "lncc"})
    loss = agnoreg.build_loss({"image": "ssd", "label": "dice", "regularization": {"name": "bending", "weight": 0.0}})
    pair = tuple(rng.random((2, 1, 5, 5, 5)))
    given = {name: value for name, value in {"image": pair, "label": pair}.items() if name != right}
    with pytest.raises(TypeError, match=f"no section {wrong}.*Did you mean '{right}'"):
        loss(**given, **{wrong: pair})


def test_an_unknown_argument_is_answered_by_the_nearest_weight_included():
    with pytest.raises(TypeError, match=r"lncc has no argument 'wieght'\. Did you mean 'weight'"):
        agnoreg.build_loss({"name": "lncc", "wieght": 2})


# --- windows of even size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, (3, 4, 5)])
@pytest.mark.parametrize("kernel_type", ["rectangular", "gaussian"])
def test_an_even_window_warns_that_it_lies_off_centre(rng, monkeypatch, size, kernel_type):
    t, p = rng.random((2, 1, 5, 5, 5))
    for make in (
        lambda: agnoreg.LNCC(kernel_size=size, kernel_type=kernel_type),
        lambda: agnoreg.functional.lncc(t, p, kernel_size=size, kernel_type=kernel_type),
    ):
        monkeypatch.setattr(kernels, "_warned", [])
        with pytest.warns(agnoreg.EvenWindowWarning, match="even kernel_size, here 4, puts windows off-centre"):
            make()


@pytest.mark.filterwarnings("error")
def test_a_window_of_odd_size_does_not_warn(rng, monkeypatch):
    monkeypatch.setattr(kernels, "_warned", [])
    t, p = rng.random((2, 1, 5, 5, 5))
    agnoreg.LNCC(kernel_size=(3, 1, 5))(t, p)
    agnoreg.functional.lncc(t, p, kernel_size=9, kernel_type="triangular")


def test_the_warning_comes_once():
    code = (
        "import agnoreg, numpy as np\n"
        "x = np.random.default_rng(0).random((1, 5, 5, 5))\n"
        "for _ in range(3):\n"
        "    loss = agnoreg.LNCC(kernel_size=4)\n"
        "    agnoreg.LNCC(kernel_size=(3, 3, 6))\n"
        "    agnoreg.value_and_grad(loss, x, x)\n"
        "    agnoreg.functional.lncc(x, x, kernel_size=4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("EvenWindowWarning:") == 1
