"""Cutting into slabs changes no result, and covers every plane once."""

import numpy as np
import pytest
from every import LOSSES
from hypothesis import example, given
from hypothesis import strategies as st

import agnoreg
from agnoreg.engine.slabs import PlaneRange, plan

VARIANTS = [
    *({"name": name} for name in LOSSES),
    {"name": "lncc", "kernel_size": 4},
    {"name": "lncc", "kernel_size": 1},
    {"name": "lncc", "kernel_size": 15},
    {"name": "lncc", "kernel_type": "triangular", "kernel_size": 7},
    {"name": "lncc", "kernel_type": "gaussian", "kernel_size": 5},
    {"name": "gmi", "num_bins": 7, "sigma_ratio": 0.05},
    {"name": "dice", "background_weight": 0.3, "scales": [0, 1.5]},
    {"name": "gradient", "l1": True},
]


@given(
    samples=st.integers(1, 5),
    planes=st.integers(1, 40),
    row=st.integers(1, 50),
    halo=st.integers(0, 9),
    elements=st.integers(1, 3000),
)
def test_a_plan_covers_every_plane_of_every_sample_once(samples, planes, row, halo, elements):
    covered = np.zeros((samples, planes), dtype=int)
    for block in plan((samples, planes, row), halo, elements):
        for tile in block.tiles:
            covered[block.first : block.last, tile.start : tile.start + tile.count] += 1
            assert tile.before == min(halo, tile.start) or len(block.tiles) == 1
            assert tile.after == min(halo, planes - tile.start - tile.count) or len(block.tiles) == 1
    assert np.all(covered == 1)


@example(planes=17, row=1, halo=2, elements=1)
@given(planes=st.integers(1, 60), row=st.integers(1, 50), halo=st.integers(0, 9), elements=st.integers(1, 3000))
def test_inner_tiles_are_alike_so_that_a_traced_loop_can_run_them(planes, row, halo, elements):
    for block in plan((None, planes, row), halo, elements):
        if len(block.tiles) > 4:
            assert len({(tile.count, tile.before, tile.after) for tile in block.tiles[1:-1]}) == 1


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize("shape", [(1, 17, 9, 8), (3, 11, 5, 7)])
def test_slabs_change_no_value_and_no_gradient(rng, config, shape, request):
    loss = agnoreg.build_loss(config)
    arrays = rng.random((2, *shape)) if loss.inputs == 2 else (rng.standard_normal((*shape, 3)),)
    whole, whole_gradients = agnoreg.value_and_grad(loss, *arrays, argnums=range(loss.inputs))
    request.getfixturevalue("small_slabs")
    for name in ("numpy", "torch", "tensorflow"):
        backend = agnoreg.get_backend(name)
        tensors = [backend.from_numpy(x) for x in arrays]
        np.testing.assert_allclose(backend.to_numpy(loss(*tensors)), whole, rtol=1e-10)
        value, gradients = agnoreg.value_and_grad(loss, *tensors, argnums=range(loss.inputs))
        np.testing.assert_allclose(backend.to_numpy(value), whole, rtol=1e-10)
        for found, expected in zip(gradients, whole_gradients, strict=True):
            np.testing.assert_allclose(backend.to_numpy(found), expected, atol=1e-9 * abs(expected).max())


@pytest.mark.usefixtures("small_slabs")
def test_the_map_of_lncc_is_the_same_in_slabs(rng):
    metric = agnoreg.loss.image.LocalNormalizedCrossCorrelation(kernel_size=5)
    t, p = rng.random((2, 2, 13, 9, 8))
    values = metric.calc_ncc(t, p)
    assert values.shape == (2, 13, 9, 8, 1)
    np.testing.assert_allclose(values.mean(axis=(1, 2, 3, 4)), metric.call(t, p), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_a_sample_that_is_no_number_leaves_the_others_alone(rng, config, bad):
    loss = agnoreg.build_loss({**config, "reduction": "none"})
    arrays = rng.random((2, 3, 11, 9, 8)) if loss.inputs == 2 else (rng.standard_normal((3, 11, 9, 8, 3)),)
    expected, (gradient,) = agnoreg.value_and_grad(loss, *arrays, argnums=[loss.inputs - 1])
    for array in arrays:
        array[1] = bad
    value, (found,) = agnoreg.value_and_grad(loss, *arrays, argnums=[loss.inputs - 1])
    np.testing.assert_allclose(value[[0, 2]], expected[[0, 2]], rtol=1e-12)
    np.testing.assert_allclose(found[[0, 2]], gradient[[0, 2]], atol=1e-12 * abs(gradient).max())


@pytest.mark.parametrize("name", ["gmi", "dice"])
@pytest.mark.usefixtures("small_slabs")
def test_threads_change_no_bit(rng, name):
    numpy_backend = agnoreg.get_backend("numpy")
    loss = agnoreg.build_loss({"name": name, "reduction": "none"})
    arrays = rng.random((2, 2, 17, 9, 8))
    results = []
    try:
        for threads in (1, 4):
            numpy_backend.threads = threads
            results.append(agnoreg.value_and_grad(loss, *arrays, argnums=(0, 1)))
    finally:
        numpy_backend.threads = None
    (value, gradients), (other, others) = results
    assert np.array_equal(value, other)
    assert all(np.array_equal(a, b) for a, b in zip(gradients, others, strict=True))


def test_what_happens_in_a_thread_comes_out_and_numpys_error_state_goes_in():
    numpy_backend = agnoreg.get_backend("numpy")
    tiles = [PlaneRange(start, 1, 0, 0) for start in range(9)]

    def divide(tile):
        return (np.ones(1) / np.asarray([8.0 - tile.start]),), ()

    numpy_backend.threads = 4
    try:
        with np.errstate(divide="ignore"):
            (total,), _ = numpy_backend.execution.loop(tiles, divide, parallel=True)
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            numpy_backend.execution.loop(tiles, divide, parallel=True)
    finally:
        numpy_backend.threads = None
    assert np.isinf(total)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "all"])
def test_a_number_of_threads_that_is_none_is_refused(threads):
    with pytest.raises(ValueError, match="threads must be an integer of at least 1"):
        agnoreg.get_backend("numpy").threads = threads


@pytest.mark.parametrize("size", [4099, 100_003])
def test_sums_keep_their_digits_where_no_number_divides_the_image(size):
    # Of a constant, every rounding of a long float32 sum would err in one direction.
    for name in ("numpy", "torch", "tensorflow"):
        backend = agnoreg.get_backend(name)
        t = backend.from_numpy(np.full((2, size), 0.1, np.float32))
        p = backend.from_numpy(np.full((2, size), 0.7, np.float32))
        found = backend.to_numpy(agnoreg.functional.ssd(t, p))
        np.testing.assert_allclose(found, (np.float64(np.float32(0.1)) - np.float32(0.7)) ** 2, rtol=3e-7)
