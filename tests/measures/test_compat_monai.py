"""Code written for MONAI gets MONAI's numbers from agnoreg, on arrays of any framework."""

import inspect
import pickle
import warnings

import numpy as np
import pytest
import torch

import agnoreg
from agnoreg.compat import monai as compat

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monai.losses

# MONAI's own.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")

IMAGES = {1: (2, 2, 15), 2: (2, 3, 9, 11), 3: (2, 2, 7, 8, 9)}
FIELDS = {1: (2, 1, 9), 2: (2, 2, 7, 9), 3: (2, 3, 6, 7, 8)}
LNCC, GMI, DICE = "LocalNormalizedCrossCorrelationLoss", "GlobalMutualInformationLoss", "DiceLoss"

#: Class, arguments and number of spatial axes.
CASES = [
    *[(LNCC, {"spatial_dims": dims, "kernel_size": 5}, dims) for dims in IMAGES],
    (LNCC, {}, 3),
    (LNCC, {"kernel_type": "triangular", "kernel_size": 7}, 3),
    (LNCC, {"kernel_type": "gaussian", "smooth_nr": 1e-4, "smooth_dr": 1e-2}, 3),
    *[(GMI, {}, dims) for dims in IMAGES],
    (GMI, {"num_bins": 16, "sigma_ratio": 1.0, "smooth_nr": 1e-5, "smooth_dr": 1e-6}, 3),
    *[(DICE, {}, dims) for dims in IMAGES],
    (DICE, {"include_background": False}, 2),
    (DICE, {"squared_pred": True}, 3),
    (DICE, {"jaccard": True}, 3),
    (DICE, {"jaccard": True, "include_background": False}, 2),
    (DICE, {"smooth_nr": 0.0, "smooth_dr": 1.0}, 3),
    *[("BendingEnergyLoss", {"normalize": normalize}, dims) for dims in FIELDS for normalize in (False, True)],
    *[("DiffusionLoss", {"normalize": normalize}, dims) for dims in FIELDS for normalize in (False, True)],
]
cases = pytest.mark.parametrize(("name", "arguments", "dims"), CASES)


def inputs(name, dims, rng):
    """Return MONAI's inputs of a loss: a prediction and a target, or a field."""
    if name in ("BendingEnergyLoss", "DiffusionLoss"):
        return (rng.standard_normal(FIELDS[dims]),)
    target = rng.random(IMAGES[dims])
    return 0.6 * target + 0.4 * rng.random(IMAGES[dims]), target


def library(name, arguments, arrays):
    """Return MONAI's number and its gradient with respect to the prediction."""
    leaf, *others = (torch.tensor(x, dtype=torch.float64) for x in arrays)
    leaf.requires_grad_()
    value = getattr(monai.losses, name)(**arguments)(leaf, *others)
    return float(value.detach()), torch.autograd.grad(value, leaf)[0].numpy()


@cases
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_is_monais_on_every_framework(backend, rng, name, arguments, dims, reduction):
    arrays = inputs(name, dims, rng)
    arguments = arguments | {"reduction": reduction}
    expected, _ = library(name, arguments, arrays)
    value = getattr(compat, name)(**arguments)(*map(backend.from_numpy, arrays))
    assert backend.owns(value)
    assert backend.shape(value) == ()
    np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=1e-4)


@cases
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_gradient_is_monais(rng, name, arguments, dims, reduction):
    arrays = inputs(name, dims, rng)
    arguments = arguments | {"reduction": reduction}
    _, expected = library(name, arguments, arrays)
    leaf, *others = map(torch.tensor, arrays)
    getattr(compat, name)(**arguments)(leaf.requires_grad_(), *others).backward()
    np.testing.assert_allclose(leaf.grad, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@cases
def test_without_a_reduction_a_sample_has_the_mean_of_what_monai_returns_for_it(rng, name, arguments, dims):
    arrays = inputs(name, dims, rng)
    values = getattr(compat, name)(**arguments, reduction="none")(*arrays)
    whole = getattr(monai.losses, name)(**arguments, reduction="none")(*map(torch.tensor, arrays))
    assert values.shape == (2,)
    np.testing.assert_allclose(values, whole.reshape(2, -1).mean(dim=1), rtol=1e-4)


@cases
def test_a_loss_is_monais_in_tensorflow_and_its_gradient_too(rng, name, arguments, dims):
    import tensorflow as tf

    arrays = inputs(name, dims, rng)
    expected, slope = library(name, arguments, arrays)
    loss = getattr(compat, name)(**arguments)

    @tf.function
    def step(pred, *others):
        with tf.GradientTape() as tape:
            tape.watch(pred)
            value = loss(pred, *others)
        return value, tape.gradient(value, pred)

    value, gradient = step(*map(tf.constant, arrays))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-3 * np.abs(slope).max())


@pytest.mark.parametrize("name", compat.__all__)
def test_the_arguments_their_order_and_their_defaults_are_monais(name):
    def arguments(cls):
        parameters = inspect.signature(cls).parameters.values()
        return [(parameter.name, parameter.default) for parameter in parameters]

    assert arguments(getattr(compat, name)) == arguments(getattr(monai.losses, name))
    called = list(inspect.signature(getattr(compat, name).__call__).parameters)
    assert called == list(inspect.signature(getattr(monai.losses, name).forward).parameters)


def test_masks_that_are_empty_or_equal_score_as_in_monai(rng):
    full = (rng.random((1, 2, 6, 7)) > 0.5) * 1.0
    empty = np.zeros_like(full)
    for pair in ((empty, empty), (empty, full), (full, empty), (full, full)):
        expected, _ = library(DICE, {}, pair)
        np.testing.assert_allclose(compat.DiceLoss()(*pair), expected, rtol=1e-4, atol=1e-12)


def test_the_only_channel_is_no_background(rng):
    pair = rng.random((2, 1, 1, 6, 7))
    loss = compat.DiceLoss(include_background=False)
    with pytest.warns(UserWarning, match="include_background=False is ignored"):
        value = loss(*pair)
    np.testing.assert_array_equal(value, compat.DiceLoss()(*pair))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("to_onehot_y", True),
        ("sigmoid", True),
        ("softmax", True),
        ("other_act", np.tanh),
        ("batch", True),
        ("weight", [1.0, 2.0]),
        ("soft_label", True),
        ("ignore_index", 0),
    ],
)
def test_an_argument_without_counterpart_is_refused_by_its_name(argument, value):
    with pytest.raises(ValueError, match=f"does not support {argument}"):
        compat.DiceLoss(**{argument: value})


def test_what_is_not_supported_or_wrong_is_refused(rng):
    with pytest.raises(ValueError, match="kernel_type must be one of gaussian, got 'b-spline'"):
        compat.GlobalMutualInformationLoss(kernel_type="b-spline")
    with pytest.raises(ValueError, match="jaccard=True together with squared_pred=True"):
        compat.DiceLoss(jaccard=True, squared_pred=True)
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        compat.LocalNormalizedCrossCorrelationLoss(kernel_size=4)
    for arguments in ({}, {"jaccard": True}, {"include_background": False}):
        with pytest.raises(ValueError, match="must have one shape"):
            compat.DiceLoss(**arguments)(rng.random((1, 2, 8, 8)), rng.random((1, 3, 8, 8)))
    with pytest.raises(ValueError, match="Labels must be"):
        compat.DiceLoss()(*rng.random((2, 3, 4)))
    for name in compat.__all__:
        with pytest.raises(ValueError, match="reduction must be one of mean, sum, none"):
            getattr(compat, name)(reduction="median")
    for cls in (compat.BendingEnergyLoss, compat.DiffusionLoss):
        with pytest.raises(ValueError, match="normalize must be True or False"):
            cls(normalize=1)
        with pytest.raises(ValueError, match="A displacement field must be"):
            cls()(rng.random((2, 3)))
        for normalize in (False, True):
            with pytest.raises(ValueError, match="A displacement field must be"):
                cls(normalize=normalize)(rng.random((2, 3, 8, 8)))


@pytest.mark.parametrize("name", compat.__all__)
def test_a_loss_can_be_compared_pickled_and_passed_monais_own_names_of_reductions(name):
    cls = getattr(compat, name)
    assert pickle.loads(pickle.dumps(cls())) == cls()
    assert cls(reduction="sum") != cls()
    assert cls(reduction=monai.utils.LossReduction.SUM) == cls(reduction="sum")


@cases
@pytest.mark.slow
def test_a_loss_compiles_as_one_graph(rng, name, arguments, dims):
    arrays = [torch.tensor(x) for x in inputs(name, dims, rng)]
    loss = getattr(compat, name)(**arguments)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *x: loss(*x), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arrays), loss(*arrays))


# Of such labels, and of such images' mutual information, the value means little.
@pytest.mark.filterwarnings("ignore::agnoreg.InputWarning")
@pytest.mark.parametrize("name", compat.__all__)
def test_images_of_half_precision_and_of_integers_are_computed_in_float32(rng, name):
    arrays = [(200 * x).astype(np.int16) for x in inputs(name, 3, rng)]
    value = getattr(compat, name)()(*arrays)
    assert value.dtype == np.float32


def test_predictions_come_first(rng):
    pred, target = map(torch.tensor, inputs(LNCC, 3, rng))
    loss = compat.LocalNormalizedCrossCorrelationLoss()
    (first,) = torch.autograd.grad(loss(pred.requires_grad_(), target), pred)
    (named,) = torch.autograd.grad(loss(target=target, pred=pred), pred)
    torch.testing.assert_close(first, named)
    wrapped = agnoreg.loss.image.LocalNormalizedCrossCorrelationLoss(
        kernel_size=3, data_format="channels_first", convention="monai"
    )
    _, gradient = agnoreg.value_and_grad(wrapped, target, pred)
    torch.testing.assert_close(first, gradient)
