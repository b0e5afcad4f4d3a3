"""Displacement fields that the tests of metrics use."""

import numpy as np


def random_field(seed=0, shape=(2, 7, 6, 8), scale=0.4, dtype=np.float64):
    """Return a field of noise, which folds here and there."""
    return np.random.default_rng(seed).normal(0, scale, (*shape, len(shape) - 1)).astype(dtype)


def affine_field(matrix, shape=(6, 7, 5), shift=0.0):
    """Return the displacements of ``p -> M p + shift`` in voxels, ``(1, ..., dims)``."""
    p = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)
    return (p @ np.asarray(matrix).T + shift - p)[None]
