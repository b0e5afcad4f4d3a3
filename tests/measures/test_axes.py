"""Options of LNCC; images that are no volumes of one channel, in every function."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_a_slice_is_a_volume_of_one_plane(images):
    t, p = images(2, 9, 11)
    plane = functional.lncc(t, p, kernel_size=5, spatial_dims=2)
    np.testing.assert_allclose(functional.lncc(t[:, None], p[:, None], kernel_size=(1, 5, 5)), plane, rtol=1e-12)
    np.testing.assert_allclose(functional.lncc(t[..., None], p[..., None], kernel_size=(5, 5, 1)), plane, rtol=1e-12)


def test_a_line_is_a_plane_of_one_line(images):
    t, p = images(2, 17)
    line = functional.lncc(t, p, kernel_size=5, spatial_dims=1)
    found = functional.lncc(t[:, None], p[:, None], kernel_size=(1, 5), spatial_dims=2)
    np.testing.assert_allclose(found, line, rtol=1e-12)


def test_axes_may_change_places_together_with_the_window(images):
    t, p = images(2, 6, 7, 8)
    expected = functional.lncc(t, p, kernel_size=(3, 5, 7))
    for order in itertools.permutations(range(3)):
        axes = (0, *(axis + 1 for axis in order))
        found = functional.lncc(t.transpose(axes), p.transpose(axes), kernel_size=[(3, 5, 7)[axis] for axis in order])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_channels_have_the_mean_of_their_values_wherever_they_are(backend, images):
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


def test_channels_are_not_guessed(images):
    t, p = images(1, 6, 7, 8, 2)
    with pytest.raises(ValueError, match="Last dimension of y_true is not one"):
        functional.lncc(t, p)
    with pytest.raises(ValueError, match=r"y_true must have at least 5 axes, \(batch, channels, dim1, dim2, dim3\)"):
        functional.lncc(t[..., 0], p[..., 0], data_format="channels_first")
    with pytest.raises(ValueError, match="must be one of channels_last, channels_first"):
        functional.lncc(t, p, data_format="last")


def test_a_missing_axis_is_explained(images):
    t, p = images(2, 7, 8)
    with pytest.raises(
        ValueError, match=r"shape \(2, 7, 8\)\. Give a single sample .*, array\[None\]; planes .*=2"
    ):
        functional.lncc(t, p)
    with pytest.raises(ValueError, match=r"ddf\[None\]"):
        functional.warp(np.zeros((5, 6, 7)), np.zeros((5, 6, 7, 3)))


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


@pytest.mark.parametrize("dims", [1, 2])
def test_what_losses_are_made_of_takes_planes_and_lines(dims):
    rng = np.random.default_rng(0)
    sizes, lifted = (6, 5)[:dims], (1,) * (3 - dims)
    image, ddf = rng.normal(size=(2, *sizes)), rng.normal(size=(2, *sizes, dims))
    volume = image.reshape(2, *lifted, *sizes)
    field = np.concatenate([np.zeros((2, *sizes, 3 - dims)), ddf], axis=-1).reshape(2, *lifted, *sizes, 3)
    warped = functional.warp(image, ddf)
    np.testing.assert_array_equal(warped, functional.warp(volume, field).reshape(image.shape))
    cotangent = rng.normal(size=image.shape)
    by_image, by_ddf = functional.warp_adjoint(image, ddf, cotangent)
    expected = functional.warp_adjoint(volume, field, cotangent.reshape(volume.shape))
    np.testing.assert_array_equal(by_image, expected[0].reshape(image.shape))
    np.testing.assert_array_equal(by_ddf, expected[1][..., 3 - dims :].reshape(ddf.shape))
    kernel = [0.25, 0.5, 0.25]
    smooth = image
    for axis in range(1, dims + 1):
        smooth = np.apply_along_axis(np.convolve, axis, smooth, kernel, "same")
    np.testing.assert_allclose(functional.separable_filter(image, kernel, spatial_dims=dims), smooth, rtol=1e-13)
    inner = (slice(None),) + (slice(1, -1),) * dims
    for axis, derivative in enumerate((functional.gradient_dx, functional.gradient_dy)[:dims], start=1):
        np.testing.assert_allclose(
            derivative(image, spatial_dims=dims), np.gradient(image, axis=axis)[inner], atol=1e-15
        )
    slopes = functional.gradient_dxyz(ddf, lambda f: functional.gradient_dx(f, spatial_dims=dims))
    np.testing.assert_allclose(slopes, np.gradient(ddf, axis=1)[inner], atol=1e-15)
    grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1)[None]
    label = np.zeros((1, *sizes))
    label[(0, *(3 for _ in sizes))] = 1.0
    np.testing.assert_allclose(functional.compute_centroid(label, grid), np.full((1, dims), 3.0), rtol=1e-4)
    assert functional.foreground_proportion(label) == 1 / label.size


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([3, 4, 9]))
def test_inverted_contrast_is_best_when_squared_and_worst_when_signed(seed, size):
    x = np.random.default_rng(seed).random((1, 9, 9, 9)) * 10.0
    options = {"kernel_size": size, "padding": "truncate"}
    np.testing.assert_allclose(functional.lncc(x, -x, **options), 1.0, rtol=1e-6)
    np.testing.assert_allclose(functional.lncc(x, x, squared=False, **options), 1.0, rtol=1e-5)
    np.testing.assert_allclose(functional.lncc(x, -x, squared=False, **options), -1.0, rtol=1e-5)


def test_the_range_says_whether_lncc_is_squared():
    assert LocalNormalizedCrossCorrelation().value_range == (0.0, 1.0)
    low, high = LocalNormalizedCrossCorrelation(squared=False).value_range
    assert low == -1.0
    assert 1.0 <= high < 1.01


def test_flat_windows_have_the_value_that_was_asked_for(images):
    t, p = images(1, 12, 7, 7)
    t[:, :6] = 0.25
    # Windows of 3 planes are flat up to plane 4, but for what the zeros beyond the border make of them.
    options = {"kernel_size": (3, 1, 1), "padding": "truncate"}
    for value in (-0.5, 0.0, 2.0):
        image = LocalNormalizedCrossCorrelation(**options, flat_value=value).calc_ncc(t, p)
        np.testing.assert_array_equal(image[:, :5], value)
        assert np.all(image[:, 5:] != value)
    _, gradient = agnoreg.value_and_grad(functional.lncc, t, p, **options, flat_value=0.0)
    np.testing.assert_array_equal(gradient[:, :4], 0.0)


def test_truncated_windows_do_not_see_an_offset(images):
    t, p = images(1, 8, 7, 6)
    plain = functional.lncc(t, p, kernel_size=5, padding="truncate")
    np.testing.assert_allclose(functional.lncc(t + 3, p - 2, kernel_size=5, padding="truncate"), plain, rtol=1e-12)
    assert abs(functional.lncc(t + 3, p - 2, kernel_size=5) - plain) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "reflect"}, "padding must be one of zero, truncate, got 'reflect'"),
        ({"squared": 1}, "squared must be True or False, got 1"),
        ({"flat_value": "0"}, "flat_value must be a finite number or None, got '0'"),
        ({"convention": "elastix"}, "convention must be one of deepreg, monai, voxelmorph, ants, exact, got 'elastix'"),
        ({"convention": "ants", "kernel_type": "gaussian"}, "'ants' supports only kernel_type='rectangular'"),
        ({"convention": "monai", "kernel_size": 4}, "'monai' supports only odd kernel sizes"),
        ({"convention": "monai", "squared": False}, "'monai' supports only squared=True"),
    ],
)
def test_options_of_lncc_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        LocalNormalizedCrossCorrelation(**options)
