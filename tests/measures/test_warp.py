"""The linear warp and its adjoint: against SciPy, finite differences, autodiff, and the adjoint's definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from agnoreg.backend import Backend, BackendNotAvailableError, get_backend
from agnoreg.functional.warp import warp, warp_adjoint

SHAPE = (2, 7, 6, 5)


def adapter(name: str) -> Backend:
    try:
        return get_backend(name)
    except BackendNotAvailableError as error:
        pytest.skip(str(error))


def images(seed=0, shape=SHAPE, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def fields(seed=1, shape=SHAPE, reach=4.0, dtype=np.float64):
    """Displacements that reach beyond the border, none of them within 0.05 of a grid line."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(-round(reach), round(reach), size=(*shape[:4], 3))
    return (whole + rng.uniform(0.05, 0.95, size=whole.shape)).astype(dtype)


def scipy_warp(image, ddf):
    """Sample with SciPy: mode grid-constant, because constant does not interpolate between the border and the zeros."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in image.shape[1:4]], indexing="ij"))
    return np.stack(
        [
            map_coordinates(one, grid + np.moveaxis(u, -1, 0), order=1, mode="grid-constant", cval=0.0)
            for one, u in zip(image, ddf, strict=True)
        ]
    )


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1.0, 4.0, 20.0])
def test_values_are_those_of_scipy(reach):
    image, ddf = images(), fields(reach=reach)
    np.testing.assert_allclose(warp(image, ddf), scipy_warp(image, ddf), rtol=0, atol=1e-13)


def test_inside_the_image_scipy_s_constant_mode_is_the_same():
    image, ddf = images(shape=(1, 9, 9, 9)), fields(shape=(1, 9, 9, 9), reach=2.0)
    grid = np.stack(np.meshgrid(*[np.arange(9)] * 3, indexing="ij"))
    points = grid + np.moveaxis(ddf[0], -1, 0)
    inside = np.all((points >= 0) & (points <= 8), axis=0)
    expected = map_coordinates(image[0], points, order=1, mode="constant", cval=0.0)
    assert inside.sum() > 100
    np.testing.assert_allclose(warp(image, ddf)[0][inside], expected[inside], rtol=0, atol=1e-13)


def test_many_slabs_and_many_blocks_of_samples_give_what_one_gives(monkeypatch):
    image, ddf, cotangent = images(), fields(), images(2)
    whole = (warp(image, ddf), *warp_adjoint(image, ddf, cotangent))
    for elements in (1, 60, 210):
        monkeypatch.setattr(
            type(get_backend("numpy").execution), "slab_elements", lambda self, array, kind, n=elements: n
        )
        for one, other in zip(whole, (warp(image, ddf), *warp_adjoint(image, ddf, cotangent)), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)


def test_channels_are_warped_one_by_one():
    image, ddf = images(shape=(*SHAPE, 3)), fields()
    together = warp(image, ddf)
    assert together.shape == image.shape
    for channel in range(3):
        np.testing.assert_array_equal(together[..., channel], warp(image[..., channel], ddf))


def test_the_zero_field_is_the_identity():
    image = images(dtype=np.float32)
    np.testing.assert_array_equal(warp(image, np.zeros((*SHAPE, 3), np.float32)), image)


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, -2, 0), (0, 0, 3), (2, -1, 1), (-7, 0, 0), (0, 0, 1000)])
def test_an_integer_shift_moves_voxels_and_brings_in_zeros(shift):
    image = images(dtype=np.float32)
    expected = np.zeros_like(image)
    for index in np.ndindex(image.shape[1:]):
        source = tuple(i + s for i, s in zip(index, shift, strict=True))
        if all(0 <= i < n for i, n in zip(source, image.shape[1:], strict=True)):
            expected[(slice(None), *index)] = image[(slice(None), *source)]
    ddf = np.broadcast_to(np.asarray(shift, np.float32), (*SHAPE, 3))
    np.testing.assert_array_equal(warp(image, ddf), expected)


def test_half_a_voxel_over_the_border_is_half_the_border_s_voxel():
    ddf = np.zeros((1, 3, 1, 1, 3))
    ddf[..., 0] = [[[-0.5]], [[0.0]], [[0.5]]]
    np.testing.assert_array_equal(warp(np.full((1, 3, 1, 1), 8.0), ddf)[0, :, 0, 0], [4.0, 8.0, 4.0])


@pytest.mark.parametrize("huge", [1e9, -1e9, 1e30, -1e30])
def test_a_point_far_outside_is_zero(huge):
    ddf = np.full((*SHAPE, 3), huge, np.float32)
    np.testing.assert_array_equal(warp(images(dtype=np.float32), ddf), np.zeros(SHAPE))


def test_float32_is_as_accurate_far_from_the_origin_as_near_it():
    shape = (1, 2, 3, 4000)
    image, ddf = images(shape=shape, dtype=np.float32), fields(shape=shape, reach=1.0, dtype=np.float32)
    exact = warp(image.astype(np.float64), ddf.astype(np.float64))
    np.testing.assert_allclose(warp(image, ddf), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("of_image", "of_ddf", "expected"),
    [
        ("float64", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("float32", "float32", "float32"),
        ("float16", "float32", "float32"),
        ("uint8", "float32", "float32"),
        ("bool", "float16", "float32"),
    ],
)
def test_dtypes(of_image, of_ddf, expected):
    image = (images() > 0).astype(of_image)
    ddf = fields().astype(of_ddf)
    warped = warp(image, ddf)
    assert warped.dtype == expected
    of_image_gradient, of_ddf_gradient = warp_adjoint(image, ddf, warped)
    assert of_image_gradient.dtype == (of_image if of_image.startswith("float") else expected)
    assert of_ddf_gradient.dtype == of_ddf


# --- gradients --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 3),
    batch=st.integers(1, 3),
    channels=st.sampled_from([None, 1, 2]),
    reach=st.floats(1.0, 12.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_adjoint_is_the_transpose(sizes, batch, channels, reach, seed):
    rng = np.random.default_rng(seed)
    shape = (batch, *sizes, *([] if channels is None else [channels]))
    image, cotangent = rng.normal(size=shape), rng.normal(size=shape)
    ddf = rng.uniform(-reach, reach, size=(batch, *sizes, 3))
    (gradient,) = warp_adjoint(image, ddf, cotangent, wrt=(0,))
    assert gradient.shape == shape
    there, back = np.sum(warp(image, ddf) * cotangent), np.sum(image * gradient)
    assert abs(there - back) <= 1e-12 * (1 + np.sum(np.abs(image)) * np.max(np.abs(cotangent)))


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 2)])
def test_the_field_s_gradient_is_that_of_finite_differences(shape):
    image, ddf, cotangent = images(shape=shape), fields(), images(2, shape)
    (gradient,) = warp_adjoint(image, ddf, cotangent, wrt=(1,))
    step = 1e-4
    expected = np.zeros_like(ddf)
    for component in range(3):
        moved = step * np.eye(3)[component]
        difference = cotangent * (warp(image, ddf + moved) - warp(image, ddf - moved)) / (2 * step)
        expected[..., component] = np.sum(np.reshape(difference, (*SHAPE, -1)), axis=-1)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)


def test_on_a_grid_line_the_field_s_gradient_is_the_forward_difference():
    image = np.asarray([1.0, 4.0, 2.0]).reshape(1, 3, 1, 1)
    (gradient,) = warp_adjoint(image, np.zeros((1, 3, 1, 1, 3)), np.ones_like(image), wrt=(1,))
    np.testing.assert_array_equal(gradient[0, :, 0, 0, 0], [3.0, -2.0, -2.0])


def test_wrt_chooses_the_gradients_and_their_order():
    image, ddf, cotangent = images(), fields(), images(2)
    of_image, of_ddf = warp_adjoint(image, ddf, cotangent)
    swapped = warp_adjoint(image, ddf, cotangent, wrt=(1, 0))
    np.testing.assert_array_equal(swapped[0], of_ddf)
    np.testing.assert_array_equal(swapped[1], of_image)
    with pytest.raises(ValueError, match=r"wrt takes 0 \(the image\) and 1 \(the displacement field\), got 2"):
        warp_adjoint(image, ddf, cotangent, wrt=(2,))


# --- frameworks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "tensorflow", "array_api_strict"])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 2)])
def test_every_framework_gives_the_same_numbers(name, shape):
    backend = adapter(name)
    image, ddf, cotangent = images(shape=shape), fields(), images(2, shape)
    ours = [backend.from_numpy(array) for array in (image, ddf, cotangent)]
    warped = warp(*ours[:2])
    assert backend.owns(warped)
    np.testing.assert_allclose(backend.to_numpy(warped), warp(image, ddf), rtol=0, atol=1e-13)
    wrt = (1,) if name == "array_api_strict" else (0, 1)
    for gradient, expected in zip(warp_adjoint(*ours, wrt=wrt), warp_adjoint(image, ddf, cotangent, wrt), strict=True):
        assert backend.owns(gradient)
        np.testing.assert_allclose(backend.to_numpy(gradient), expected, rtol=0, atol=1e-13)


def test_without_scatter_add_the_image_s_gradient_is_refused():
    backend = adapter("array_api_strict")
    ours = [backend.from_numpy(array) for array in (images(), fields(), images(2))]
    with pytest.raises(NotImplementedError, match="array_api_strict has no scatter_add"):
        warp_adjoint(*ours, wrt=(0,))


def test_torch_s_autodiff_through_the_warp_gives_the_adjoint():
    adapter("torch")
    import torch

    image, ddf, cotangent = (torch.from_numpy(array) for array in (images(), fields(), images(2)))
    expected = warp_adjoint(image, ddf, cotangent)
    image.requires_grad_()
    ddf.requires_grad_()
    assert not any(gradient.requires_grad for gradient in warp_adjoint(image, ddf, cotangent))
    gradients = torch.autograd.grad(torch.sum(cotangent * warp(image, ddf)), (image, ddf))
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-13)


def test_tensorflow_s_tape_through_the_warp_gives_the_adjoint():
    adapter("tensorflow")
    import tensorflow as tf

    image, ddf, cotangent = (tf.constant(array) for array in (images(), fields(), images(2)))
    expected = warp_adjoint(image, ddf, cotangent)
    with tf.GradientTape() as tape:
        tape.watch([image, ddf])
        value = tf.reduce_sum(cotangent * warp(image, ddf))
    for gradient, other in zip(tape.gradient(value, [image, ddf]), expected, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(gradient).numpy(), other.numpy(), rtol=0, atol=1e-13)


def test_a_tf_function_gives_the_same_numbers():
    adapter("tensorflow")
    import tensorflow as tf

    image, ddf = images(), fields()
    traced = tf.function(warp)(tf.constant(image), tf.constant(ddf))
    np.testing.assert_allclose(traced.numpy(), warp(image, ddf), rtol=0, atol=1e-13)


@pytest.mark.parametrize("sizes", [(5, 6, 7), (6, 7), (7,)])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_the_batch_may_be_unknown_while_a_function_is_traced(sizes, channels):
    adapter("tensorflow")
    import tensorflow as tf

    dims = len(sizes)
    shapes = [tf.TensorSpec((None, *sizes, *more), tf.float64) for more in (channels, (dims,))]

    def gradients(image, ddf):
        with tf.GradientTape() as tape:
            tape.watch((image, ddf))
            total = tf.reduce_sum(warp(image, ddf) ** 2)
        return tape.gradient(total, (image, ddf))

    traced, differentiated = (tf.function(f, input_signature=shapes) for f in (warp, gradients))
    for batch in (1, 3):
        rng = np.random.default_rng(batch)
        image, ddf = rng.random((batch, *sizes, *channels)), rng.uniform(-2, 2, (batch, *sizes, dims))
        expected = warp(image, ddf)
        np.testing.assert_allclose(traced(image, ddf), expected, rtol=0, atol=1e-13)
        for found, slope in zip(differentiated(image, ddf), warp_adjoint(image, ddf, 2 * expected), strict=True):
            np.testing.assert_allclose(found, slope, rtol=0, atol=1e-12)


def test_a_batch_that_is_unknown_may_be_cut_into_slabs(monkeypatch):
    backend = adapter("tensorflow")
    import tensorflow as tf

    image, ddf = images(), fields()
    monkeypatch.setattr(type(backend.execution), "slab_elements", lambda *_: 2 * math.prod(image.shape[2:]))
    shapes = [tf.TensorSpec((None, *x.shape[1:]), tf.float64) for x in (image, ddf)]
    found = tf.function(warp, input_signature=shapes)(image, ddf)
    np.testing.assert_allclose(found, warp(image, ddf), rtol=0, atol=1e-13)


def test_the_adjoint_refuses_a_batch_that_is_unknown_while_traced():
    adapter("tensorflow")
    import tensorflow as tf

    shapes = [tf.TensorSpec((None, 4, 4, 4), tf.float32), tf.TensorSpec((None, 4, 4, 4, 3), tf.float32)]
    with pytest.raises(ValueError, match=r"known while the function is traced, got \(None, 4, 4, 4\)"):
        tf.function(lambda x, u: warp_adjoint(x, u, x), input_signature=shapes).get_concrete_function()


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("component", [0, 1, 2])
def test_a_displacement_that_is_not_finite_gives_nan_there_and_nowhere_else(bad, component):
    image, ddf = images(), fields()
    clean = warp(image, ddf)
    ddf[1, 6, 0, 4, component] = bad
    warped = warp(image, ddf)
    (gradient,) = warp_adjoint(image, ddf, np.ones_like(image), wrt=(1,))
    assert np.isnan(warped[1, 6, 0, 4])
    assert np.isnan(gradient[1, 6, 0, 4]).all()
    assert np.isnan(gradient).sum() == 3
    warped[1, 6, 0, 4] = clean[1, 6, 0, 4]
    np.testing.assert_array_equal(warped, clean)
    (gradient,) = warp_adjoint(image, ddf, np.ones_like(image), wrt=(0,))
    assert np.isnan(gradient).any()


def test_nan_beside_a_point_outside_is_still_nan():
    ddf = np.full((*SHAPE, 3), 100.0)
    ddf[..., 0] = np.nan
    assert np.isnan(warp(images(), ddf)).all()


def test_a_nan_voxel_gives_nan_where_it_is_one_of_the_eight():
    image = images(shape=(1, 4, 4, 4))
    image[0, 2, 2, 2] = np.nan
    warped = warp(image, np.full((1, 4, 4, 4, 3), 0.5))
    lower = np.zeros((4, 4, 4), bool)
    lower[1:3, 1:3, 1:3] = True
    np.testing.assert_array_equal(np.isnan(warped[0]), lower)


@pytest.mark.parametrize(
    ("of_image", "of_ddf", "message"),
    [
        ((7, 6, 5), (1, 7, 6, 5, 3), r"image must have shape .*got \(7, 6, 5\)"),
        ((1, 7, 6, 5, 1, 1), (1, 7, 6, 5, 3), r"image must have shape .*got \(1, 7, 6, 5, 1, 1\)"),
        ((1, 7, 6, 5), (7, 6, 5, 3), r"field must have 2 components .*got shape \(7, 6, 5, 3\)"),
        ((1, 7, 6, 5), (1, 7, 6, 5, 2), r"field must have 3 components .*\(1, 7, 6, 5, 2\)"),
        ((1, 7, 6, 5), (1, 7, 6, 4, 3), r"\(1, 7, 6, 5\) and .*\(1, 7, 6, 4, 3\)"),
        ((2, 7, 6, 5), (1, 7, 6, 5, 3), r"\(2, 7, 6, 5\) and .*\(1, 7, 6, 5, 3\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(of_image, of_ddf, message):
    with pytest.raises(ValueError, match=message):
        warp(np.zeros(of_image), np.zeros(of_ddf))
    with pytest.raises(ValueError, match=message):
        warp_adjoint(np.zeros(of_image), np.zeros(of_ddf), np.zeros(of_image))


def test_a_cotangent_that_does_not_fit_is_named_with_the_image():
    with pytest.raises(ValueError, match=r"cotangent of shape \(2, 7, 6, 4\) .* \(2, 7, 6, 5\)"):
        warp_adjoint(images(), fields(), np.zeros((2, 7, 6, 4)))


def test_something_that_is_no_array_is_refused():
    with pytest.raises(TypeError, match="Expected an array"):
        warp([[[[1.0]]]], np.zeros((1, 1, 1, 1, 3)))


def test_arrays_of_two_frameworks_are_refused():
    backend = adapter("torch")
    with pytest.raises(TypeError, match="two frameworks"):
        warp(images(), backend.from_numpy(fields()))
