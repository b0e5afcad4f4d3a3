"""Volumes that are single voxels along some axes: memory and work follow the volume, not the windows around it."""

import tracemalloc

import numpy as np
import pytest

import agnoreg
from agnoreg.loss.image import LocalNormalizedCrossCorrelation
from agnoreg.measures.lncc import LocalCorrelation, ThinCorrelation

LONG = 200_000
SHAPES = [(1, LONG, 1, 1), (1, 1, LONG, 1), (1, 1, 1, LONG), (1, 400, 500, 1), (1, 1, 400, 500), (LONG, 1, 1, 1)]
#: The memory of a call, in images of 200 000 voxels: two gradients and a slab, which is as large for any volume.
MULTIPLE = 80
OPTIONS = [{}, {"kernel_type": "gaussian"}, {"padding": "truncate"}, {"convention": "exact"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lncc_of_a_thin_volume_takes_a_small_multiple_of_its_memory(rng, shape, options):
    arrays = rng.random((2, *shape), dtype=np.float32)
    loss = LocalNormalizedCrossCorrelation(**options)
    # What is compiled or imported at the first call is no part of it.
    agnoreg.value_and_grad(loss, *(x[:1, :1, :2, :1] for x in arrays))
    tracemalloc.start()
    try:
        agnoreg.value_and_grad(loss, *arrays, argnums=(0, 1))
        assert tracemalloc.get_traced_memory()[1] <= MULTIPLE * arrays[0].nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_window_is_made_along_an_axis_of_one_voxel(shape):
    measure = LocalCorrelation().fitted(shape)
    arranged = (*(1,) * (4 - len(shape)), *(shape[1 + axis] for axis in measure.order))
    layout = measure.layout((shape[0], *arranged))
    entries = layout.size * (arranged[0] + measure.value_delay + measure.gradient_delay) * shape[0]
    assert entries <= 2 * np.prod(shape)


def test_only_volumes_of_single_voxels_along_a_window_are_thin():
    for measure, shape in (
        (LocalCorrelation(), (1, 8, 8, 8)),
        (LocalCorrelation(), (1, 2, 8, 8)),
        (LocalCorrelation(), (1, 8, 8, 8, 1)),
        (LocalCorrelation(kernel_size=(3, 3, 1)), (1, 8, 8, 1)),
        (LocalCorrelation(spatial_dims=2), (1, 8, 8)),
        (LocalCorrelation(data_format="channels_first"), (1, 1, 8, 8, 8)),
        (LocalCorrelation(), (1, None, 8, 8)),
    ):
        assert measure.fitted(shape) is measure
    measure = LocalCorrelation(data_format="channels_first").fitted((2, 3, 8, 1, 9))
    assert isinstance(measure, ThinCorrelation)
    assert measure.single == (False, True, False)
    assert measure.fitted((2, 3, 8, 1, 9)) is measure


def test_a_slice_in_three_dimensions_that_ends_at_its_border_is_an_image_in_two(rng):
    t, p = rng.random((2, 2, 11, 12))
    flat = LocalNormalizedCrossCorrelation(kernel_size=5, spatial_dims=2, padding="truncate", reduction="none")
    deep = LocalNormalizedCrossCorrelation(kernel_size=5, padding="truncate", reduction="none")
    value, gradient = agnoreg.value_and_grad(flat, t, p)
    for place in (1, 2, 3):
        found, slope = agnoreg.value_and_grad(deep, np.expand_dims(t, place), np.expand_dims(p, place))
        np.testing.assert_allclose(found, value, rtol=1e-12)
        np.testing.assert_allclose(np.squeeze(slope, place), gradient, atol=1e-15)
        image = deep.calc_ncc(np.expand_dims(t, place), np.expand_dims(p, place))
        assert image.shape == (*np.expand_dims(t, place).shape, 1)
        np.testing.assert_allclose(np.mean(image, axis=(1, 2, 3, 4)), value, rtol=1e-12)


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax", "dask"])
def test_thin_volumes_are_the_same_in_every_framework(rng, name):
    backend = agnoreg.get_backend(name)
    t, p = rng.random((2, 2, 9, 1, 8))
    mask = rng.random(t.shape) > 0.3
    loss = LocalNormalizedCrossCorrelation(kernel_size=7, convention="exact", reduction="none")
    given = [backend.from_numpy(x.astype(np.float32)) for x in (t, p)]
    expected, slope = agnoreg.value_and_grad(loss, t, p, mask=mask)
    value, gradient = agnoreg.value_and_grad(loss, *given, mask=backend.from_numpy(mask))
    np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(gradient), slope, atol=1e-4 * np.abs(slope).max())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::agnoreg.InputWarning")
@pytest.mark.parametrize("convention", ["deepreg", "exact"])
def test_torchs_compiler_takes_a_thin_volume_as_one_graph(rng, convention):
    torch = pytest.importorskip("torch")
    t, p = (torch.asarray(x) for x in rng.random((2, 1, 7, 1, 9)))
    loss = LocalNormalizedCrossCorrelation(kernel_size=5, convention=convention)
    moving = p.clone().requires_grad_()
    value = torch.compile(lambda x: loss(t, x), fullgraph=True, backend="aot_eager")(moving)
    value.backward()
    expected, gradient = agnoreg.value_and_grad(loss, t, p)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(moving.grad, gradient)
