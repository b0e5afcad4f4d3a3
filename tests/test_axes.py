"""Options of LNCC for images that are no volumes of one channel."""

import itertools

import numpy as np
import pytest

import agnoreg
from agnoreg import functional
from agnoreg.loss.image import LocalNormalizedCrossCorrelation


@pytest.fixture
def images(rng):
    """Return a maker of two images that resemble each other."""

    def make(*shape):
        t = rng.random(shape)
        return t, 0.7 * t + 0.3 * rng.random(shape)

    return make


def test_pain_21_a_slice_is_a_volume_of_one_plane(images):
    t, p = images(2, 9, 11)
    plane = functional.lncc(t, p, kernel_size=5, spatial_dims=2)
    np.testing.assert_allclose(functional.lncc(t[:, None], p[:, None], kernel_size=(1, 5, 5)), plane, rtol=1e-12)
    np.testing.assert_allclose(functional.lncc(t[..., None], p[..., None], kernel_size=(5, 5, 1)), plane, rtol=1e-12)


def test_pain_21_a_line_is_a_plane_of_one_line(images):
    t, p = images(2, 17)
    line = functional.lncc(t, p, kernel_size=5, spatial_dims=1)
    found = functional.lncc(t[:, None], p[:, None], kernel_size=(1, 5), spatial_dims=2)
    np.testing.assert_allclose(found, line, rtol=1e-12)


def test_pain_09_axes_may_change_places_together_with_the_window(images):
    t, p = images(2, 6, 7, 8)
    expected = functional.lncc(t, p, kernel_size=(3, 5, 7))
    for order in itertools.permutations(range(3)):
        axes = (0, *(axis + 1 for axis in order))
        found = functional.lncc(t.transpose(axes), p.transpose(axes), kernel_size=[(3, 5, 7)[axis] for axis in order])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_pain_24_channels_have_the_mean_of_their_values_wherever_they_are(backend, images):
    t, p = images(2, 6, 7, 8, 3)
    single = [functional.lncc(t[..., c], p[..., c], kernel_size=5) for c in range(3)]
    last = {"kernel_size": 5, "data_format": "channels_last"}
    first = {"kernel_size": 5, "data_format": "channels_first"}
    found = {}
    for name, options, arrays in (
        ("last", last, (t, p)),
        ("first", first, tuple(np.moveaxis(x, -1, 1).copy() for x in (t, p))),
    ):
        loss = LocalNormalizedCrossCorrelation(**options, reduction="none")
        value, gradient = agnoreg.value_and_grad(loss, *map(backend.from_numpy, arrays))
        found[name] = backend.to_numpy(gradient)
        np.testing.assert_allclose(backend.to_numpy(value), np.mean(single, axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.moveaxis(found["first"], 1, -1), found["last"], atol=1e-15)


def test_pain_24_channels_are_not_guessed(images):
    t, p = images(1, 6, 7, 8, 2)
    with pytest.raises(ValueError, match="Last dimension of y_true is not one"):
        functional.lncc(t, p)
    with pytest.raises(ValueError, match=r"y_true must have at least 5 axes, \(batch, channels, dim1, dim2, dim3\)"):
        functional.lncc(t[..., 0], p[..., 0], data_format="channels_first")
    with pytest.raises(ValueError, match="must be one of channels_last, channels_first"):
        functional.lncc(t, p, data_format="last")


def test_the_map_has_the_images_own_shape(images):
    for shape, options in (
        ((2, 2, 6, 7, 8), {"data_format": "channels_first"}),
        ((2, 6, 7, 8, 2), {"data_format": "channels_last"}),
        ((2, 7, 8, 3), {"data_format": "channels_last", "spatial_dims": 2}),
    ):
        t, p = images(*shape)
        values = functional.lncc_map(t, p, kernel_size=3, **options)
        assert values.shape == shape
        expected = functional.lncc(t, p, kernel_size=3, **options)
        np.testing.assert_allclose(values.reshape(2, -1).mean(axis=1), expected, rtol=1e-12)
    assert functional.lncc_map(*images(2, 7, 8), kernel_size=3, spatial_dims=2).shape == (2, 7, 8, 1)


@pytest.mark.parametrize("kernel_size", [(3, 3), (3, 3, 3, 3), (3, 0, 3), "9"])
def test_a_window_that_does_not_fit_is_refused(kernel_size):
    with pytest.raises(ValueError, match="kernel_size"):
        LocalNormalizedCrossCorrelation(kernel_size=kernel_size)


def test_a_window_an_axis_survives_its_configuration():
    loss = agnoreg.build_loss({"name": "lncc", "kernel_size": [3, 5, 7]})
    assert loss.kernel_size == (3, 5, 7)
    assert loss.kernel_vol == 105.0
    assert type(loss).from_config(loss.get_config()) == loss
