"""Sign, range and direction of every loss are stated, and true; no two losses are the same."""

import numpy as np
import pytest
from every import LOSSES, METRICS, PAIRS, arrays_for


@pytest.mark.parametrize("name", METRICS)
def test_value_lies_in_the_stated_range(rng, name):
    loss = METRICS[name]()
    low, high = loss.value_range
    for _ in range(5):
        values = loss.call(*arrays_for(METRICS[name], rng))
        assert np.all(values >= low)
        assert np.all(values <= high)


@pytest.mark.parametrize("name", METRICS)
def test_equal_inputs_have_the_stated_value(rng, name):
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
def test_every_registered_loss_is_minimised(name):
    assert LOSSES[name]().direction == "lower"


@pytest.mark.parametrize("name", PAIRS)
def test_equal_images_are_not_worse_than_others(rng, name):
    x, y = ((a >= 0.5) * 1.0 for a in arrays_for(PAIRS[name], rng))
    loss = PAIRS[name]()
    assert loss(x, x) <= loss(x, y)


@pytest.mark.parametrize("name", [name for name in METRICS if name + "Loss" in METRICS])
def test_metrics_and_their_losses_state_opposite_directions(rng, name):
    metric, loss = METRICS[name](), METRICS[name + "Loss"]()
    x, y = arrays_for(METRICS[name], rng)
    if metric.direction == "higher":
        assert loss.direction == "lower"
        assert loss.value_range == tuple(-v for v in reversed(metric.value_range))
        np.testing.assert_allclose(loss.call(x, y), -metric.call(x, y))
    else:
        np.testing.assert_allclose(loss.call(x, y), metric.call(x, y))


def test_no_two_metrics_compute_the_same(rng):
    x, y = rng.random((2, 1, 12, 12, 12))
    # With equal weights Tversky's index is Dice, by definition.
    options = {"tversky": {"alpha": 0.3, "beta": 0.7}}
    values = [float(cls(**options.get(name, {}))(x, y)) for name, cls in PAIRS.items()]
    assert len({round(abs(value), 6) for value in values}) == len(values)
