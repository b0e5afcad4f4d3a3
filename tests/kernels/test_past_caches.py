"""Large gradients are written past the caches: the same numbers as small ones, wherever samples begin."""

import numpy as np
import pytest

import agnoreg

pytest.importorskip("numba")
from agnoreg_cpu import voxelwise
from agnoreg_cpu.past_caches import BLOCK
from agnoreg_cpu.pointwise import line

NAMES = ("dice", "gncc", "ssd")
#: Whole blocks and some voxels more; the second sample begins in the middle of a cache line.
SHAPE = (2, 13, 17, 29)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_a_large_gradient_is_that_of_a_small_one(name, dtype, rng, monkeypatch):
    t, p = rng.random((2, *SHAPE)).astype(dtype)
    loss = agnoreg.build_loss(name)
    small = agnoreg.value_and_grad(loss, t, p)
    monkeypatch.setattr(voxelwise, "LARGE", 0)
    large = agnoreg.value_and_grad(loss, t, p)
    np.testing.assert_allclose(large[0], small[0], rtol=4 * np.finfo(dtype).eps)
    # Whether a product and a sum are one operation is the compiler's choice.
    np.testing.assert_allclose(large[1], small[1], rtol=0, atol=np.finfo(dtype).eps * np.abs(small[1]).max())


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_nothing_of_a_large_one(name, rng, monkeypatch):
    monkeypatch.setattr(voxelwise, "LARGE", 0)
    t, p = rng.random((2, 1, 64, 64, 65), dtype=np.float32)
    backend, results = agnoreg.get_backend("numpy"), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(backend, "_threads", threads)
        results.append(agnoreg.value_and_grad(agnoreg.build_loss(name), t, p))
    for value, gradient in results[1:]:
        assert value == results[0][0]
        np.testing.assert_array_equal(gradient, results[0][1])


@pytest.mark.parametrize("offset", [0, 4, 64])
@pytest.mark.parametrize("count", [0, 5, int(BLOCK) - 1, int(BLOCK), 3 * int(BLOCK) + 7])
def test_nothing_is_written_beyond_a_gradient(count, offset, rng):
    memory = np.full(4 * (count + 64), -1.0, np.float32)
    start = (-memory.ctypes.data % 64 + offset) // 4
    x = rng.random(count, dtype=np.float32)
    line(x, np.float32(2), np.float32(1), memory[start : start + count], True)
    np.testing.assert_allclose(memory[start : start + count], 2 * x + 1, rtol=1e-6)
    assert (memory[:start] == -1).all()
    assert (memory[start + count :] == -1).all()
