"""The adapter's own members, those whose faults a loss would not show, called as losses do: where their arrays are."""

import numpy as np
import pytest

from . import reference
from .tolerances import FLOAT64, value_error

SHAPE = (2, 5, 6, 7)


def test_can_be_used(chosen):
    if chosen.backend is None:
        pytest.skip(chosen.reason)
    assert chosen.backend.name == chosen.name


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_arrays_come_back_from_numpy_as_they_went(dtype, backend, maker):
    given = np.arange(12).reshape(3, 4).astype(dtype)
    back = np.asarray(backend.to_numpy(maker(given, dtype)))
    assert back.dtype == given.dtype
    assert np.array_equal(back, given)


def test_owns_its_own_arrays_alone(backend, maker):
    assert backend.owns(maker(np.zeros(3)))
    assert not backend.owns([0.0])


KERNELS = {
    "ones": (1.0, 1.0, 1.0),
    "ones, even": (1.0, 1.0, 1.0, 1.0),
    "triangle": (1.0, 2.0, 3.0, 2.0, 1.0),
    "asymmetric": (0.5, -1.0, 2.0),
    "asymmetric, even": (0.5, -1.0, 2.0, 3.0),
    "longer than the image": tuple(0.1 * i for i in range(1, 17)),
    "single": (2.5,),
}


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_conv3d(name, transpose, backend, maker, record):
    x = np.random.default_rng(3).normal(size=SHAPE)
    expected = reference.separable_filter(x, KERNELS[name], transpose=transpose)
    array = maker(x)
    with backend.execution.at(array):
        found = maker.numpy(backend.operations.conv3d(array, (KERNELS[name],) * 3, transpose=transpose))
    error = value_error(found, expected)
    record("functions", "float64", error)
    assert error <= FLOAT64.value


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_conv3d_leaves_an_axis_without_a_kernel_alone(axis, backend, maker):
    x = np.random.default_rng(4).normal(size=SHAPE)
    taps = KERNELS["asymmetric, even"]
    kernels = [taps if k == axis else None for k in (1, 2, 3)]
    # The filter along one axis alone is that of an image with the other two axes cut into images of their own.
    lines = np.moveaxis(x, axis, 1)
    flat = lines.reshape(SHAPE[0], lines.shape[1], -1)
    expected = np.zeros_like(flat)
    for i in range(flat.shape[1]):
        for step, tap in enumerate(taps):
            j = i + step - (len(taps) - 1) // 2
            if 0 <= j < flat.shape[1]:
                expected[:, i] += tap * flat[:, j]
    expected = np.moveaxis(expected.reshape(lines.shape), 1, axis)
    array = maker(x)
    with backend.execution.at(array):
        found = maker.numpy(backend.operations.conv3d(array, kernels))
    assert value_error(found, expected) <= FLOAT64.value


def test_planes(backend, maker):
    x = np.random.default_rng(5).normal(size=SHAPE)
    assert np.array_equal(maker.numpy(backend.execution.planes(maker(x), 1, 3)), x[:, 1:4])


def test_scatter_add(backend, maker):
    index, weights = np.array([3, 0, 3, 1, 3]), np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    index, weights = maker(index, "int64"), maker(weights)
    try:
        with backend.execution.at(weights):
            found = backend.operations.scatter_add(index, weights, 5)
    except NotImplementedError:
        pytest.skip(f"{backend.name} has no scatter_add")
    assert np.array_equal(maker.numpy(found), [2.0, 8.0, 0.0, 21.0, 0.0])


def test_kinds_of_work_have_a_slab_size(backend, maker):
    for kind in ("windows", "bins", "voxels"):
        assert backend.execution.slab_elements(maker(np.zeros(SHAPE)), kind) >= 1
