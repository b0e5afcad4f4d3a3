"""Arguments of every kind: a loss that works, or a ValueError or TypeError in one line that names the argument."""

import dataclasses
import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from every import LOSSES, METRICS
from hypothesis import given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg import functional
from agnoreg.loss import label
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.weighted import WeightedLoss

PLACES = [(name, item.name) for name, cls in METRICS.items() for item in dataclasses.fields(cls)]
SHAPES = {1: (2, 7), 2: (2, 6, 7), 3: (2, 5, 6, 7)}


class Awkward:
    """What can be neither shown nor compared nor taken for a truth value, as a missing value of pandas."""

    def _refuse(self, *_):
        raise RuntimeError("No.")

    __repr__ = __str__ = __eq__ = __bool__ = _refuse
    __hash__ = object.__hash__


def nested(depth):
    value = 1.0
    for _ in range(depth):
        value = [value]
    return value


ODD = [
    *[None, True, False, 0, 1, 2, 3, -1, 7.0, 2.0, 2.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")],
    *[10**400, -(10**400), 10**5000, 1 << 40, 1j, Fraction(1, 2), Fraction(10**400), Decimal("1.5"), Decimal("nan")],
    *["", "1", "1e-5", "x" * 300, "mean", "none", "channels_first", "monai", "ants", "gaussian", "compact", "\ud800"],
    *[
        b"",
        b"3",
        b"\x03\x05\x03",
        bytearray(b"\x03" * 3),
        {1, 2, 3},
        (),
        [],
        {},
        set(),
        frozenset({3}),
        range(3),
        (3, 3, 3),
        [3, 5],
        (1, "2"),
        [None] * 3,
    ],
    *[
        [[3]],
        nested(60),
        nested(5000),
        {"a": 1},
        [{}],
        [[]] * 3,
        (float("nan"),) * 3,
        (10**400,) * 3,
        list(range(-1, 1000)),
    ],
    *[
        np.float32(0.5),
        np.float64("nan"),
        np.int64(3),
        np.uint8(2),
        np.bool_(True),
        np.longdouble(0.25),
        np.str_("sum"),
    ],
    *[np.asarray(3), np.asarray(0.5), np.asarray("sum"), np.asarray([3, 3, 3]), np.zeros((0,)), np.zeros((2, 2))],
    *[np.asarray([1, "x"], dtype=object), np.datetime64("2020-01-01"), np.asarray(None), np.ma.masked],
    *[object(), object, print, lambda: 3, Awkward(), [Awkward()], iter([1]), NotImplemented, ..., agnoreg, agnoreg.SSD],
]
odd = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def in_one_line(error, *names):
    """Check that an error says in one line of bounded length what it is about."""
    assert type(error) in (ValueError, TypeError), repr(error)
    message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 2500
    assert any(name in message or name.replace("_", " ") in message.lower() for name in names), message


def works(loss):
    """Check that a loss is configuration that can be stored, and has values."""
    assert hash(loss) == hash(loss)
    config = json.loads(json.dumps(loss.get_config()))
    assert type(loss).from_config(config) == loss
    dims = getattr(loss, "spatial_dims", 3)
    assert type(dims) is int
    shape = SHAPES[dims]
    first = getattr(loss, "data_format", None) == "channels_first"
    if loss.inputs == 1:
        shape = (shape[0], dims, *shape[1:]) if first else (*shape, dims)
    elif getattr(loss, "data_format", None):
        shape = (shape[0], 2, *shape[1:]) if first else (*shape, 2)
    arrays = np.random.default_rng(0).random((loss.inputs, *shape))
    with np.errstate(all="ignore"):
        assert loss.call(*arrays).shape == (2,)


def tried(make, *names):
    try:
        loss = make()
    except Exception as error:
        in_one_line(error, *names)
        return
    if isinstance(loss, agnoreg.Loss) and loss.inputs:
        works(loss)


def takes_memory(argument, value):
    """Say whether a value is good, but takes time or memory that a test does not."""
    return argument in ("num_bins", "kernel_size", "scales") and isinstance(value, int | float) and 100 < value < 1e309


#: Constants so large or small that the values overflow are right to be so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow:RuntimeWarning",
    "ignore:invalid value:RuntimeWarning",
    "ignore:divide by zero:RuntimeWarning",
    "ignore::agnoreg.EvenWindowWarning",
)


@pytest.mark.parametrize(("name", "argument"), PLACES, ids=[f"{name}-{argument}" for name, argument in PLACES])
def test_any_value_of_any_argument_gives_a_loss_that_works_or_an_error_that_names_it(name, argument):
    for value in ODD:
        if not takes_memory(argument, value):
            tried(lambda value=value: METRICS[name](**{argument: value}), argument)
            tried(lambda value=value: agnoreg.build_loss(name, **{argument: value}), argument, "configuration")


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=odd)
def test_whatever_is_drawn_for_an_argument_gives_a_loss_or_an_error_that_names_it(place, value):
    name, argument = place
    if not takes_memory(argument, value):
        tried(lambda: METRICS[name](**{argument: value}), argument)


#: What an error may speak of, at any of the places below.
SPOKEN_OF = ("configuration", "loss", "weight", "scales", "reduction", "name")


@pytest.mark.parametrize(
    "make",
    [
        lambda value: agnoreg.build_loss(value),
        lambda value: agnoreg.build_loss([value]),
        lambda value: agnoreg.build_loss({"name": value}),
        lambda value: agnoreg.build_loss({"name": "ssd", "weight": value}),
        lambda value: agnoreg.build_loss({"name": "ssd", "scales": value}),
        lambda value: agnoreg.build_loss({"class": value, "config": {}}),
        lambda value: agnoreg.build_loss({"class": "DiceLoss", "config": value}),
        lambda value: agnoreg.build_loss({"class": "DiceLoss", "config": {"scales": value}}),
        lambda value: agnoreg.build_loss({"class": "WeightedLoss", "config": {"losses": value, "weights": [1]}}),
        lambda value: agnoreg.build_loss({"class": "WeightedLoss", "config": {"losses": [value], "weights": [1]}}),
        lambda value: agnoreg.build_loss({"class": "WeightedLoss", "config": {"losses": [], "weights": value}}),
        lambda value: agnoreg.build_loss({"class": "RegistrationLoss", "config": {"image": value}}),
        lambda value: agnoreg.build_loss({"class": "RegistrationLoss", "config": {"image": {"losses": value}}}),
        lambda value: agnoreg.build_loss({"image": value}),
        lambda value: agnoreg.build_loss({"regularization": [value]}),
        lambda value: agnoreg.build_loss({"name": "dice", "class": value}),
        lambda value: WeightedLoss(value, (1.0,)),
        lambda value: WeightedLoss((value,), (1.0,)),
        lambda value: WeightedLoss((agnoreg.SSD(),), value),
        lambda value: WeightedLoss((agnoreg.SSD(),), (value,)),
        lambda value: WeightedLoss((agnoreg.SSD(),), (1.0,), reduction=value),
        lambda value: RegistrationLoss(image=value),
        lambda value: RegistrationLoss(label=agnoreg.SSD(), name=value),
        lambda value: agnoreg.register_loss(value),
        lambda value: agnoreg.save_loss(value, "nowhere.json"),
    ],
)
def test_any_value_at_any_place_of_a_configuration_gives_a_loss_or_an_error_in_one_line(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in ODD:
        tried(lambda value=value: make(value), *SPOKEN_OF)


def test_a_configuration_that_holds_itself_is_refused():
    config = {"image": []}
    config["image"].append(config)
    listed = []
    listed.append(listed)
    for one in (config, listed, {"name": "dice", "scales": listed}):
        with pytest.raises(ValueError, match="nested more than 50 deep"):
            agnoreg.build_loss(one)


@pytest.mark.parametrize(("given", "stored"), [(2.0, 2), (np.int64(2), 2), (np.float32(2), 2), (np.asarray(2), 2)])
@pytest.mark.parametrize("name", METRICS)
def test_a_number_of_axes_is_stored_as_an_integer(name, given, stored):
    loss = METRICS[name](spatial_dims=given)
    assert loss == METRICS[name](spatial_dims=stored)
    assert type(loss.spatial_dims) is int


@pytest.mark.parametrize("wrong", [True, False, 0, 4, 2.5, "2", None, (2,), float("nan"), 10**400])
@pytest.mark.parametrize("name", METRICS)
def test_what_is_no_number_of_axes_is_refused(name, wrong):
    with pytest.raises(ValueError, match="spatial_dims must be one of 1, 2, 3, got"):
        METRICS[name](spatial_dims=wrong)


@pytest.mark.parametrize(
    ("given", "stored"),
    [(np.float32(0.5), 0.5), (Fraction(1, 2), 0.5), (np.asarray(0.5), 0.5), (np.longdouble(0.5), 0.5), (np.int8(1), 1)],
)
def test_a_number_of_any_type_is_stored_as_pythons_own(given, stored):
    loss = label.DiceScore(smooth_nr=given, background_weight=given)
    for found in (loss.smooth_nr, loss.background_weight):
        assert found == stored
        assert type(found) is type(stored)


# --- arrays -----------------------------------------------------------------------------------------------------------

IMAGES = ("ssd", "gncc", "lncc", "lncc_map", "dice", "jaccard", "cross_entropy", "mutual_information")


def test_an_array_without_axes_is_refused_where_an_image_belongs(backend, rng):
    none, image_, field = (
        backend.from_numpy(np.asarray(x)) for x in (0.5, rng.random((1, 5, 5, 5)), np.ones((1, 5, 5, 5, 3)))
    )
    calls = [
        *(
            (name, lambda f, a=a, b=b: f(a, b))
            for name in IMAGES
            for a, b in ((none, none), (none, image_), (image_, none))
        ),
        *((name, lambda f: f(none)) for name in ("gradient_norm", "bending_energy", "foreground_proportion")),
        *((name, lambda f: f(none)) for name in ("gradient_dx", "gradient_dy", "gradient_dz")),
        ("separable_filter", lambda f: f(none, [1.0])),
        ("compute_centroid", lambda f: f(none, field)),
        ("compute_centroid_distance", lambda f: f(none, none, field)),
        ("warp", lambda f: f(none, field)),
        ("warp", lambda f: f(image_, none)),
        ("ssd", lambda f: f(image_, image_, mask=none)),
    ]
    for name, call in calls:
        with pytest.raises(ValueError, match=r"\(\)"):
            call(getattr(functional, name))


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_batch_has_no_values_and_an_empty_gradient(backend, name):
    loss = LOSSES[name](reduction="none")
    shape = (0, 5, 6, 7, 3) if loss.inputs == 1 else (0, 5, 6, 7)
    for dtype, expected in (("float32", "float32"), ("float64", "float64")):
        arrays = [backend.from_numpy(np.zeros(shape, dtype=dtype)) for _ in range(loss.inputs)]
        values, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=range(loss.inputs))
        for found in (loss(*arrays), loss(*arrays, mask=backend.from_numpy(np.ones(shape[:4], dtype=bool))), values):
            found = backend.to_numpy(found)
            assert (found.shape, found.dtype) == ((0,), expected)
        assert [tuple(gradient.shape) for gradient in gradients] == [shape] * loss.inputs
        assert np.isnan(backend.to_numpy(dataclasses.replace(loss, reduction="mean")(*arrays)))
        assert backend.to_numpy(dataclasses.replace(loss, reduction="sum")(*arrays)) == 0


def test_an_empty_batch_is_differentiated_by_the_framework():
    import torch

    t, p = torch.zeros((2, 0, 5, 5, 5), requires_grad=True)
    agnoreg.LNCC()(t, p).backward()
    import jax
    import jax.numpy as jnp

    x = jnp.zeros((0, 5, 5, 5))
    for step in (jax.grad(agnoreg.LNCC()), jax.jit(jax.grad(agnoreg.LNCC()))):
        assert step(x, x).shape == x.shape


@pytest.mark.parametrize("name", ["lncc", "gmi", "dice", "bending", "gradient"])
def test_an_empty_batch_is_answered_in_a_graph_as_it_is_eagerly(name):
    import tensorflow as tf

    loss = agnoreg.build_loss(name, reduction="none")
    shape = (6, 6, 6, 3) if loss.inputs == 1 else (6, 6, 6)

    def step(*arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays[-1])
            values = loss(*arrays)
        mean, total = (dataclasses.replace(loss, reduction=reduction)(*arrays) for reduction in ("mean", "sum"))
        return values, mean, total, tape.gradient(values, arrays[-1])

    traced = tf.function(step, input_signature=[tf.TensorSpec((None, *shape))] * loss.inputs)
    arrays = [tf.zeros((0, *shape))] * loss.inputs
    for values, mean, total, gradient in (step(*arrays), traced(*arrays)):
        assert values.shape == (0,)
        assert np.isnan(mean.numpy())
        assert total.numpy() == 0
        assert gradient.shape == (0, *shape)


def test_a_registration_of_an_empty_batch_is_answered_likewise(backend):
    loss = agnoreg.build_loss(
        {"image": "lncc", "label": {"name": "dice", "scales": [0, 1]}, "regularization": "bending"}
    )
    pair = (backend.from_numpy(np.zeros((0, 6, 6, 6))),) * 2
    sections = {"image": pair, "label": pair, "regularization": backend.from_numpy(np.zeros((0, 6, 6, 6, 3)))}
    total, terms = loss(**sections, return_terms=True)
    assert all(np.isnan(backend.to_numpy(x)) for x in (total, *terms.values()))
    _, gradient = agnoreg.value_and_grad(loss, **sections)
    assert tuple(gradient.shape) == (0, 6, 6, 6, 3)


def test_samples_without_voxels_are_refused(backend):
    empty = backend.from_numpy(np.zeros((2, 0, 5, 5)))
    for name in ("lncc", "ssd", "dice", "gmi"):
        with pytest.raises(ValueError, match=r"y_true must not be empty, got shape \(2, 0, 5, 5\)"):
            agnoreg.build_loss(name)(empty, empty)
