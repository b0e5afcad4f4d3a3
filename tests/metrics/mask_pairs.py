"""Pairs of masks that all tests of metrics use."""

import numpy as np

SPACINGS = {1: (2.0,), 2: (1.0, 2.5), 3: (1.0, 2.0, 3.0)}


def blobs(seed: int, dims: int = 3, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return two random masks of blobs that overlap, without a batch."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(3, *(size,) * dims))
    for axis in range(1, dims + 1):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
    scale = noise.std()
    return noise[0] + 0.3 * noise[1] > 0.7 * scale, noise[0] + 0.3 * noise[2] > 0.7 * scale


def pairs(dims: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return pairs of masks, none of which is empty."""
    shape = (9,) * dims
    inside = tuple(slice(2, 6) for _ in shape)
    shifted = tuple(slice(3, 8) for _ in shape)
    box, other, border, voxel, far = (np.zeros(shape, dtype=bool) for _ in range(5))
    box[inside] = other[shifted] = True
    border[tuple(slice(0, 5) for _ in shape)] = True
    voxel[(4,) * dims] = far[(8,) * dims] = True
    found = {f"random {seed}": blobs(seed, dims) for seed in range(3)}
    found["salt"] = tuple(np.random.default_rng(7).random((2, *shape)) < 0.2)
    return found | {
        "boxes": (box, other),
        "at the border": (border, box),
        "the whole image": (np.ones(shape, dtype=bool), box),
        "one voxel each": (voxel, far),
        "a voxel in a box": (box, voxel),
        "identical": (box, box.copy()),
    }
