"""The CUDA kernels of a field's regularisers, emulated on the CPU, agree with the core in float64."""

import numpy as np
import pytest
from agnoreg_cuda.fields import CudaBending
from agnoreg_cuda.measures import KINDS as SERVED
from cuda_on_cpu import COMPILER, ORDERS, EmulatedCard
from field_measures import KINDS, made, shape_of

import agnoreg

pytestmark = [
    pytest.mark.needs_compiler,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, g++ or clang++, to emulate the kernels with"),
]
NUMPY = agnoreg.get_backend("numpy")
#: Of one axis and of two, the differences of one kind are compiled, of each order; of three all.
CASES = [(name, 3) for name in KINDS] + [
    ("compact gradient", 2),
    ("bending", 2),
    ("gradient", 1),
    ("compact bending", 1),
]


def check(measure, arrays, **card):
    """Compare value and gradient with the core's of the same arrays in float64."""
    backend = EmulatedCard(**card)
    value, (gradient,) = measure.value_and_gradients(backend, arrays, (0,), 0.7)
    assert set(backend.launched.names) == {"field_energy", "total_of_partial"}
    doubles = tuple(x if x.dtype == bool else x.astype(np.float64) for x in arrays)
    expected, (wanted,) = measure.value_and_gradients(NUMPY, doubles, (0,), 0.7)
    assert (value.dtype, gradient.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    return value, gradient


def field_of(measure, sizes, rng):
    return rng.standard_normal(shape_of(measure, sizes)).astype(np.float32)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_kernels_and_core_agree(name, dims, data_format, rng):
    measure = made(name, dims, data_format)
    # The smallest field, one of a tile and a little more, and one of several tiles.
    for sizes in ((5, 5, 5), (9, 9, 12), (6, 17, 33)):
        check(measure, (field_of(measure, sizes[-dims:], rng),))


@pytest.mark.parametrize("kind", ["bool", "weights", "of all samples"])
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_masked_fields_agree(name, dims, kind, rng):
    measure, sizes = made(name, dims, "channels_first" if kind == "weights" else "channels_last"), (9, 10, 12)[-dims:]
    field = field_of(measure, sizes, rng)
    mask = np.ones(shape_of(measure, sizes, 1), bool)
    mask[(rng.random(mask.shape) < 0.01) & (dims == 3)] = False
    mask.reshape(2, -1)[0, 0] = mask.reshape(2, -1)[1, -1] = False
    if kind == "weights":
        mask = (mask * rng.uniform(0.1, 1, mask.shape)).astype(np.float32)
    elif kind == "of all samples":
        mask = mask[:1]
    left_out = np.broadcast_to(mask == 0, field.shape)
    field[left_out] = np.nan
    _, gradient = check(measure, (field, mask))
    np.testing.assert_array_equal(gradient[left_out], 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_of_which_nothing_counts_has_no_value_and_no_gradient(name, rng):
    measure = made(name)
    field, mask = field_of(measure, (6, 7, 8), rng), np.ones((2, 6, 7, 8, 1), bool)
    mask[1] = False
    value, (gradient,) = measure.value_and_gradients(EmulatedCard(), (field, mask), (0,))
    np.testing.assert_array_equal(np.isnan(value), [False, True])
    np.testing.assert_array_equal(gradient[1], 0)
    assert np.any(gradient[0])


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_along_the_field_is_the_values_degree_times_the_value(name, rng):
    # Euler's theorem: squares are of degree 2, absolute values of degree 1.
    measure = made(name)
    field = field_of(measure, (7, 9, 8), rng)
    value, (gradient,) = measure.value_and_gradients(EmulatedCard(), (field,), (0,))
    along = np.sum(field.astype(np.float64) * gradient, axis=(1, 2, 3, 4))
    np.testing.assert_allclose(along, value * (1 if "absolute" in name else 2), rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_a_translation_costs_no_digits(name, rng):
    measure = made(name)
    check(measure, ((rng.standard_normal((1, 9, 10, 11, 3)) / 16 + 3000).astype(np.float32),))


@pytest.mark.parametrize("multiprocessors", [1, 2, 200])
def test_any_number_of_blocks_agrees(multiprocessors, rng):
    measure = made("bending")
    check(measure, (field_of(measure, (20, 17, 13), rng),), multiprocessors=multiprocessors)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["bending", "compact gradient, absolute"])
def test_the_order_in_which_threads_run_changes_nothing(name, masked, rng):
    measure = made(name)
    arrays = (field_of(measure, (6, 9, 12), rng), *((rng.random((2, 6, 9, 12, 1)) > 0.02,) if masked else ()))
    results = [measure.value_and_gradients(EmulatedCard(order=order), arrays, (0,)) for order in ORDERS]
    for value, (gradient,) in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1][0])


def test_a_value_alone_and_a_gradient_asked_for_later_are_the_same(rng):
    measure, card = made("bending"), EmulatedCard()
    field, mask = field_of(measure, (6, 9, 12), rng), rng.random((2, 6, 9, 12, 1)) > 0.01
    for arrays in ((field,), (field, mask)):
        value, (gradient,) = measure.value_and_gradients(card, arrays, (0,))
        np.testing.assert_array_equal(measure.value(card, arrays), value)
        found, saved = measure.forward(card, arrays, (0,))
        np.testing.assert_array_equal(found, value)
        cotangent = np.asarray([2.0, -0.5], np.float32)
        (later,) = measure.backward(card, arrays, (0,), (0,), saved, cotangent)
        np.testing.assert_array_equal(later, gradient * cotangent[:, None, None, None, None])


def test_what_is_no_number_spoils_what_reads_it(rng):
    measure = made("bending")
    field = field_of(measure, (15, 15, 15), rng)
    _, (good,) = measure.value_and_gradients(EmulatedCard(), (field,), (0,))
    field[0, 7, 7, 7, 1] = np.nan
    value, (gradient,) = measure.value_and_gradients(EmulatedCard(), (field,), (0,))
    np.testing.assert_array_equal(np.isnan(value), [True, False])
    bad = np.isnan(gradient)
    assert bad[0, 7, 7, 7, 1]
    assert not bad[..., [0, 2]].any()
    np.testing.assert_array_equal(gradient[~bad], good[~bad])
    bad[0, 3:12, 3:12, 3:12] = False
    assert not bad.any()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["bending", "compact gradient, absolute"])
def test_boxes_of_a_field_make_the_whole(name, masked, rng):
    measure, card, sizes = made(name).for_global_shape((2, 9, 10, 36)), EmulatedCard(), (9, 10, 12)
    field = field_of(measure, sizes, rng)
    arrays = (field, rng.random((2, *sizes, 1)) > 0.02) if masked else (field,)
    expected, (wanted,) = measure.value_and_gradients(card, arrays, (0,))
    whole = card.emulated(measure, arrays)
    whole.compute(card, arrays)
    found, total = np.full_like(field, np.nan), 0.0
    for corner in np.ndindex(2, 2, 2):
        # Twice as far as a difference reads, up to the border.
        inner = [slice(0, 5) if low else slice(5, n) for low, n in zip(corner, sizes, strict=True)]
        outer = [slice(max(0, s.start - 4), min(n, s.stop + 4)) for s, n in zip(inner, sizes, strict=True)]
        own = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
        call = card.emulated(measure, tuple(array[:, *outer] for array in arrays))
        assert call.of_block(whole.constants, whole.count, own)
        (sums,), (found[:, *inner],) = call.sums_and_gradients((0,), 1.0)
        np.testing.assert_array_equal(call.sums()[0], sums)
        total = total + sums
    value, _ = measure.finish(np, (total,), whole.count)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_a_grid_covers_the_field_and_fills_the_card():
    measure = CudaBending()
    for shape in ((1, 160, 192, 672), (70, 1000, 8, 24), (1, 1, 1, 5), (60_000, 2, 3, 9)):
        (across, down, deep), chunk = measure._grid(shape, 132)
        assert across * 32 >= shape[3]
        assert down * 8 >= shape[2]
        assert deep == shape[0] * -(-shape[1] // chunk) <= 65535
    assert np.prod(measure._grid((1, 160, 192, 672), 132)[0]) >= 8 * 132


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_the_cores_path_is_taken_for_other_numbers(dtype):
    measure, field = made("bending"), np.zeros((1, 6, 6, 6, 3), dtype)
    assert type(measure) in SERVED
    assert EmulatedCard().emulated(measure, (field,)) is measure
