"""Inputs that are probably not what is meant: a warning where that is certain, and silence everywhere else."""

import warnings

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch

import agnoreg
from agnoreg import InputWarning, functional
from agnoreg.engine import doubts

SHAPE = (2, 8, 9, 10)
LABELS = ("dice", "jaccard", "cross-entropy")
#: What is seen without waiting.
SEEING = ("numpy", "torch", "tensorflow")


@pytest.fixture(autouse=True)
def nothing_seen():
    doubts.forget()


def said(function, *arrays, **keywords):
    """Return what a call warns of, each text once, as Python's default has it."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default", InputWarning)
        function(*arrays, **keywords)
    assert all(one.category is InputWarning for one in found)
    return [str(one.message) for one in found]


@pytest.fixture(params=SEEING)
def seeing(request):
    return agnoreg.get_backend(request.param)


def label_map(rng, dtype="uint8"):
    return rng.integers(0, 5, SHAPE).astype(dtype)


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32"])
@pytest.mark.parametrize("name", LABELS)
def test_a_map_of_several_labels_is_no_label(rng, seeing, name, dtype):
    loss, labels = agnoreg.build_loss(name), seeing.from_numpy(label_map(rng, dtype))
    (text,) = said(loss, labels, labels)
    assert "one mask for each label" in text
    assert "labels == 3" in text
    ones = seeing.from_numpy(np.ones(SHAPE, dtype))
    assert said(loss, ones[:1], labels[:1]) == [text]
    assert not said(loss, ones, ones)


@pytest.mark.parametrize("name", LABELS)
def test_a_mask_of_255_and_logits_are_no_labels(rng, name):
    loss, label = agnoreg.build_loss(name), (rng.random(SHAPE) > 0.5).astype("float32")
    assert said(loss, label.astype("uint8") * 255, label.astype("uint8"))
    with np.errstate(invalid="ignore"):
        assert said(loss, label, rng.normal(scale=4.0, size=SHAPE))


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_kind_pass(rng, seeing, name):
    loss = agnoreg.build_loss(name)
    label, soft = rng.random(SHAPE) > 0.5, rng.random(SHAPE)
    # What cubic interpolation makes of a label, without what has no logarithm.
    overshot = np.where(label, 1.2, 0.01).astype("float32")
    with_nan = np.where(label, soft, np.nan)
    for x in (label, label.astype("uint8"), label.astype("int64"), soft, overshot, with_nan):
        assert not said(loss, seeing.from_numpy(x), seeing.from_numpy(x))


def test_a_threshold_takes_every_label(rng):
    labels = label_map(rng)
    assert not said(functional.dice, labels, labels, binary=True)
    assert not said(functional.dice, labels, labels, convention="ants")
    assert not said(functional.jaccard, labels, labels, binary=True)
    assert not said(functional.cross_entropy, labels, labels, binary=True)


@pytest.mark.parametrize("name", [*LABELS, "gmi"])
def test_what_a_mask_leaves_out_is_not_looked_at(rng, seeing, name):
    loss, there = agnoreg.build_loss(name), rng.random(SHAPE) > 0.5
    outside = np.where(there, rng.random(SHAPE), 1000.0)
    given = [seeing.from_numpy(outside)] * 2
    for mask in (there, there.astype("uint8") * 255, there.astype("float32")):
        assert not said(loss, *given, mask=seeing.from_numpy(mask))
        doubts.forget()
    assert said(loss, *given, mask=seeing.from_numpy(~there[:1]))


# --- images -----------------------------------------------------------------------------------------------------------

UNSCALED = {
    "8 bit": lambda rng: rng.integers(0, 256, SHAPE).astype("uint8"),
    "Hounsfield units": lambda rng: rng.integers(-1000, 1000, SHAPE).astype("int16"),
    "standardised": lambda rng: rng.normal(size=SHAPE),
    "far above": lambda rng: rng.random(SHAPE) + 1000.0,
}


@pytest.mark.parametrize("kind", UNSCALED)
def test_mutual_information_of_images_that_were_never_scaled_says_so(rng, seeing, kind):
    fixed, moving = seeing.from_numpy(rng.random(SHAPE)), seeing.from_numpy(UNSCALED[kind](rng))
    for arrays in ((fixed, moving), (moving, fixed)):
        (text,) = said(agnoreg.build_loss("gmi"), *arrays)
        assert "Scale both images to [0, 1] first" in text
        doubts.forget()
    for other in ("ssd", "gncc", {"name": "lncc", "kernel_size": 3}):
        assert not said(agnoreg.build_loss(other), moving, moving)


def test_mutual_information_of_scaled_images_with_voxels_beyond_is_silent(rng, seeing):
    loss, image = agnoreg.build_loss("gmi"), rng.random(SHAPE)
    by_percentiles = np.where(rng.random(SHAPE) < 0.05, 20.0, image)
    for x in (image, 1.4 * image - 0.2, by_percentiles, image > 0.5, np.where(image > 0.5, image, np.nan)):
        assert not said(loss, seeing.from_numpy(x), seeing.from_numpy(x))


# --- when and how often -----------------------------------------------------------------------------------------------


def test_it_is_said_once_for_each_function(rng):
    labels = label_map(rng)
    dice, jaccard = agnoreg.build_loss("dice"), agnoreg.build_loss("jaccard")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        for size in range(4, 9):
            dice(labels[:, :size], labels[:, :size])
            jaccard(labels[:, :size], labels[:, :size])
    assert len(found) == 2
    assert len({str(one.message) for one in found}) == 2


@pytest.mark.parametrize("name", ["dice", "gmi"])
def test_each_shape_and_dtype_is_looked_at_once(rng, monkeypatch, name):
    seen, own = [], doubts.beyond
    monkeypatch.setattr(doubts, "beyond", lambda backend, arrays, mask: seen.append(1) or own(backend, arrays, mask))
    loss, image = agnoreg.build_loss(name), rng.random(SHAPE)
    for _ in range(3):
        loss(image, image)
        agnoreg.value_and_grad(loss, image, image)
    assert len(seen) == 1
    loss(image[:1], image[:1])
    loss(image.astype("float32"), image.astype("float32"))
    assert len(seen) == 3


def test_of_a_large_image_a_grid_is_looked_at(monkeypatch):
    found, own = [], doubts._sparse
    monkeypatch.setattr(doubts, "_sparse", lambda x: found.append(own(x).shape) or own(x))
    zeros = np.zeros((1, 300, 128, 100), "uint8")
    agnoreg.build_loss("ssd")(zeros, zeros)
    assert not found
    agnoreg.build_loss("dice")(zeros, zeros)
    assert set(found) == {(1, 75, 64, 100)}


@pytest.mark.parametrize("name", ["dice", "gmi"])
def test_nobody_looks_where_that_would_wait_or_be_recorded(rng, name):
    loss, image = agnoreg.build_loss(name), (100.0 * rng.random(SHAPE)).astype("float32")
    tensor = torch.tensor(image)

    def seldom():
        jax_image = jax.numpy.asarray(image)
        loss(jax_image, jax_image)
        jax.jit(loss)(jax_image, jax_image)
        tf.function(loss)(tf.constant(image), tf.constant(image))
        torch.func.vmap(loss)(tensor[None], tensor[None])
        torch.compiler.reset()
        torch.compile(loss, backend="eager", fullgraph=True)(tensor, tensor)

    assert not said(seldom)
    leaf = tensor.clone().requires_grad_()
    assert said(loss, tensor, leaf)


def test_looking_changes_no_gradient(rng):
    labels = torch.tensor(label_map(rng, "float32"))
    gradients = []
    for _ in range(2):
        leaf = labels.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            agnoreg.build_loss("dice")(labels, leaf).backward()
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "config",
    [
        "dice",
        {"name": "dice", "scales": [0, 1]},
        [{"name": "ssd"}, {"name": "dice", "weight": 0.1}],
        {"class": "DiceScore", "config": {}},
    ],
    ids=str,
)
def test_what_is_made_of_a_loss_looks_too(rng, config):
    loss, labels = agnoreg.build_loss(config), label_map(rng)
    assert said(loss, labels, labels)
    doubts.forget()
    assert said(agnoreg.value_and_grad, loss, labels.astype("float32"), labels.astype("float32"))


def test_a_registration_looks_at_each_section(rng):
    whole = agnoreg.build_loss({"image": {"name": "gmi"}, "label": {"name": "dice"}})
    labels = label_map(rng)
    assert len(said(whole, image=(100 * labels, labels), label=(labels, labels))) == 2


# --- images of one voxel along an axis --------------------------------------------------------------------------------

SLICE, SMALL = (2, 9, 8, 1), {"name": "lncc", "kernel_size": 3}


@pytest.mark.parametrize("shape", [SLICE, (2, 1, 9, 8), (2, 9, 1, 8), (2, 9, 8, 1, 1)])
def test_windows_of_a_slice_that_was_given_as_a_volume_are_said_to_hold_zeros(rng, backend, shape):
    x, y = (backend.from_numpy(x) for x in rng.random((2, *shape)))
    (text,) = said(agnoreg.build_loss(SMALL), x, y)
    assert "spatial_dims" in text
    assert "padding='truncate'" in text
    assert said(agnoreg.value_and_grad, agnoreg.build_loss(SMALL), x, y) == [text]


def test_a_row_that_was_given_as_a_slice_is_one_too(rng):
    loss = agnoreg.build_loss({**SMALL, "spatial_dims": 2})
    assert said(loss, *rng.random((2, 2, 9, 1)))
    # Its last axis is that of the channel.
    assert not said(loss, *rng.random((2, 2, 9, 8, 1)))
    assert not said(agnoreg.build_loss({**SMALL, "spatial_dims": 1}), *rng.random((2, 2, 9, 1)))


def test_by_data_format_the_channels_are_no_axis_of_the_image(rng):
    for dims, shape, data_format in ((2, (2, 1, 9, 8), "channels_first"), (2, (2, 9, 8, 1), "channels_last")):
        assert not said(
            agnoreg.build_loss({**SMALL, "spatial_dims": dims, "data_format": data_format}), *rng.random((2, *shape))
        )
    loss = agnoreg.build_loss({**SMALL, "data_format": "channels_first"})
    assert said(loss, *rng.random((2, 2, 3, 9, 8, 1)))
    assert not said(loss, *rng.random((2, 2, 1, 9, 8, 3)))


@pytest.mark.parametrize("more", [{"padding": "truncate"}, {"kernel_size": (3, 3, 1)}, {"convention": "ants"}], ids=str)
def test_windows_without_zeros_of_a_thin_volume_are_as_they_should_be(rng, more):
    assert not said(agnoreg.build_loss({**SMALL, **more}), *rng.random((2, *SLICE)))


def test_scales_of_a_slice_that_was_given_as_a_volume_are_said_to_smooth_it_with_zeros(rng):
    x, y = rng.random((2, *SLICE))
    for name in ("dice", "ssd", "cross-entropy", "jaccard"):
        assert not said(agnoreg.build_loss(name), x, y)
        (text,) = said(agnoreg.build_loss({"name": name, "scales": [0, 1]}), x, y)
        assert "spatial_dims" in text
        assert not said(agnoreg.build_loss({"name": name, "scales": [0, 1], "spatial_dims": 2}), x, y)
    # Without windows the axes do not matter.
    for name in ("gmi", "gncc"):
        assert not said(agnoreg.build_loss(name), x, y)


def test_sizes_are_seen_while_a_function_is_traced(rng):
    loss, (x, y) = agnoreg.build_loss(SMALL), rng.random((2, *SLICE), dtype="float32")
    torch.compiler.reset()
    t = torch.tensor(x)
    for function, image in (
        (jax.jit(loss), jax.numpy.asarray(x)),
        (tf.function(loss), tf.constant(x)),
        (torch.compile(loss, backend="eager", fullgraph=True), t),
        (torch.func.vmap(loss), t[None]),
        (torch.func.grad(loss), t),
    ):
        assert said(function, image, image)
    # The graph is that of the loss alone.
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        torch.testing.assert_close(compiled(t, torch.tensor(y)), torch.tensor(loss(x, y)), rtol=1e-5, atol=1e-6)
