"""Kernels of a field's regularisers agree with the core's path, which is their oracle."""

import numpy as np
import pytest
from agnoreg_cpu.measures import HostEvaluation
from core_path import NUMPY, core
from field_measures import KINDS, made, shape_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg.engine.chosen import evaluator_of


def check(measure, arrays, digits=1.0):
    """Compare value and gradient with the core's, in one go and one after the other."""
    assert isinstance(evaluator_of(measure, NUMPY, arrays), HostEvaluation)
    tolerance = digits * (1e-6 if arrays[0].dtype == np.float32 else 1e-14)
    expected, (wanted,) = core(measure.value_and_gradients, arrays, (0,), 0.7)
    value, (gradient,) = measure.value_and_gradients(NUMPY, arrays, (0,), 0.7)
    assert (value.dtype, gradient.dtype) == (expected.dtype, wanted.dtype)
    least = 1e-30  # of a field that costs nothing
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    np.testing.assert_allclose(measure.value(NUMPY, arrays), expected, rtol=tolerance)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(), least))
    _, saved = measure.forward(NUMPY, arrays, (0,))
    cotangent = np.asarray([2.0, -3.0], value.dtype)
    (later,) = measure.backward(NUMPY, arrays, (0,), (0,), saved, cotangent)
    for sample, factor in enumerate(cotangent):
        np.testing.assert_allclose(
            0.7 * later[sample],
            factor * gradient[sample],
            rtol=0,
            atol=3 * tolerance * max(np.abs(gradient).max(), least),
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_kernels_and_core_agree(name, dims, data_format, dtype, rng):
    measure = made(name, dims, data_format)
    # The smallest field, one of a few lines, and one that takes several calls of the kernel.
    for sizes in ((5, 5, 5), (9, 17, 8), (7, 40, 2100)):
        sizes = sizes[:dims] if dims < 3 else (*sizes[:2], min(sizes[2], 300))
        check(measure, (rng.standard_normal(shape_of(measure, sizes)).astype(dtype),))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["bool", "weights", "of all samples"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_masked_fields_agree(name, dims, data_format, kind, dtype, rng):
    measure, sizes = made(name, dims, data_format), (9, 17, 8)[:dims]
    field = rng.standard_normal(shape_of(measure, sizes)).astype(dtype)
    mask = rng.random(shape_of(measure, sizes, 1)) > 0.02
    if dims > 1:
        mask[:, 2:7] = True
        mask.swapaxes(1, -2 if measure.components_last else -1)[:, :6] = True
    else:
        mask[...] = True
        mask[0, 0] = mask[1, -1] = False
    if kind == "weights":
        mask = (mask * rng.uniform(0.1, 1, mask.shape)).astype(dtype)
    elif kind == "of all samples":
        mask = mask[:1]
    left_out = np.broadcast_to(mask == 0, field.shape)
    field[left_out] = np.nan
    check(measure, (field, mask))
    _, (gradient,) = measure.value_and_gradients(NUMPY, (field, mask), (0,))
    np.testing.assert_array_equal(gradient[left_out], 0)


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_of_which_nothing_counts_has_no_value_and_no_gradient(name, rng):
    measure = made(name)
    field, mask = rng.standard_normal((2, 6, 7, 8, 3)), np.ones((2, 6, 7, 8, 1), bool)
    mask[1] = False
    value, (gradient,) = measure.value_and_gradients(NUMPY, (field, mask), (0,))
    np.testing.assert_array_equal(np.isnan(value), [False, True])
    np.testing.assert_array_equal(gradient[1], 0)
    alone, (wanted,) = measure.value_and_gradients(NUMPY, (field[:1],), (0,))
    np.testing.assert_allclose(value[0], alone[0], rtol=1e-14)
    np.testing.assert_allclose(gradient[:1], wanted, rtol=1e-12, atol=1e-18)


@given(
    name=st.sampled_from(tuple(KINDS)),
    sizes=st.tuples(*(st.integers(5, 12),) * 3),
    dims=st.integers(1, 3),
    spacing=st.tuples(*(st.floats(0.1, 10.0),) * 3),
    first=st.booleans(),
    seed=st.integers(0, 99),
)
@example(name="bending", sizes=(5, 5, 5), dims=3, spacing=(1.0, 1.0, 1.0), first=False, seed=0)
@settings(deadline=None, max_examples=60)
def test_fields_of_any_size_and_spacing_agree(name, sizes, dims, spacing, first, seed):
    measure = made(name, dims, "channels_first" if first else "channels_last", spacing)
    check(measure, (np.random.default_rng(seed).standard_normal(shape_of(measure, sizes[:dims])),), 10.0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_boxes_of_a_field_make_the_whole(name, masked, rng):
    measure, sizes = made(name), (12, 14, 16)
    measure = measure.for_global_shape((2, 12, 14, 48))
    field = rng.standard_normal((2, *sizes, 3))
    arrays = (field, rng.random((2, *sizes, 1)) > 0.02) if masked else (field,)
    expected, (wanted,) = measure.value_and_gradients(NUMPY, arrays, (0,))
    whole = evaluator_of(measure, NUMPY, arrays)
    whole.compute(NUMPY, arrays)
    found, total = np.full_like(field, np.nan), 0.0
    cuts = [(0, 4), (4, 5), (5, None)]
    for starts in np.ndindex(3, 3, 3):
        inner = [slice(a, n if b is None else b) for (a, b), n in zip([cuts[i] for i in starts], sizes, strict=True)]
        # Twice as far as a difference reads, up to the border.
        outer = [slice(max(0, s.start - 4), min(n, s.stop + 4)) for s, n in zip(inner, sizes, strict=True)]
        own = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
        block = tuple(array[:, *outer] for array in arrays)
        call = evaluator_of(measure, NUMPY, block)
        assert call.of_block(whole.constants, whole.count, own)
        (sums,), (gradient,) = call.sums_and_gradients((0,), 1.0)
        (alone,) = call.sums()
        np.testing.assert_allclose(alone, sums, rtol=1e-14)
        found[:, *inner] = gradient
        total = total + sums
    value, _ = measure.finish(np, (total,), whole.count)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14 * np.abs(wanted).max())


@pytest.mark.parametrize("name", KINDS)
def test_a_translation_costs_no_digits(name, rng):
    measure = made(name)
    field = (rng.standard_normal((1, 9, 10, 11, 3)) / 16 + 3000).astype(np.float32)
    exact, (wanted,) = core(measure.value_and_gradients, (field.astype(np.float64),), (0,))
    value, (gradient,) = measure.value_and_gradients(NUMPY, (field,), (0,))
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_number_spoils_what_reads_it(name, rng):
    measure = made(name)
    field = rng.standard_normal((2, 15, 15, 15, 3))
    _, (good,) = measure.value_and_gradients(NUMPY, (field,), (0,))
    field[0, 7, 7, 7, 1] = np.nan
    value, (gradient,) = measure.value_and_gradients(NUMPY, (field,), (0,))
    np.testing.assert_array_equal(np.isnan(value), [True, False])
    bad = np.isnan(gradient)
    assert bad.any()
    # Differences and their adjoint read twice as far as differences do, and nothing of another component.
    assert not bad[..., [0, 2]].any()
    reach = 2 * max(measure.window_radius)
    bad[0, 7 - reach : 8 + reach, 7 - reach : 8 + reach, 7 - reach : 8 + reach] = False
    assert not bad.any()
    there = ~np.isnan(gradient)
    np.testing.assert_array_equal(gradient[there], good[there])


@pytest.mark.parametrize("framework", ["numpy", "torch", "tensorflow"])
@pytest.mark.parametrize("name", KINDS)
def test_frameworks_on_the_host_take_kernels(name, framework, rng):
    measure, backend = made(name), agnoreg.get_backend(framework)
    field = rng.standard_normal((1, 6, 7, 8, 3)).astype(np.float32)
    given = (backend.from_numpy(field),)
    assert isinstance(evaluator_of(measure, backend, given), HostEvaluation)
    value, (gradient,) = measure.value_and_gradients(backend, given, (0,))
    assert type(gradient) is type(given[0])
    expected, (wanted,) = core(measure.value_and_gradients, (field,), (0,))
    np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=1e-6)
    np.testing.assert_allclose(backend.to_numpy(gradient), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_field_is_read_where_it_lies(data_format, rng):
    measure = made("bending", data_format=data_format)
    field = rng.standard_normal(shape_of(measure, (6, 7, 8)))
    assert np.shares_memory(evaluator_of(measure, NUMPY, (field,)).images[0], field)
    # One that lies otherwise is copied.
    check(measure, (np.asfortranarray(field),))


@pytest.mark.parametrize("name", ["bending", "compact gradient, absolute"])
def test_the_number_of_threads_changes_nothing(name, rng, monkeypatch):
    measure = made(name)
    field = rng.standard_normal((2, 40, 44, 50, 3)).astype(np.float32)
    results = []
    for threads in (1, 2, 5, 16):
        monkeypatch.setattr(NUMPY, "_threads", threads)
        results.append(measure.value_and_gradients(NUMPY, (field,), (0,)))
    for value, (gradient,) in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1][0])
