"""Displacement fields that the tests of metrics use, and what their formulas say, voxel by voxel."""

import itertools

import numpy as np


def random_field(seed=0, shape=(2, 7, 6, 8), scale=0.4, dtype=np.float64):
    """Return a field of noise, which folds here and there."""
    return np.random.default_rng(seed).normal(0, scale, (*shape, len(shape) - 1)).astype(dtype)


def affine_field(matrix, shape=(6, 7, 5), shift=0.0):
    """Return the displacements of ``p -> M p + shift`` in voxels, ``(1, ..., dims)``."""
    p = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)
    return (p @ np.asarray(matrix).T + shift - p)[None]


def positions(u):
    """Return ``p + u(p)`` of a field without a batch."""
    return u + np.stack(np.meshgrid(*map(np.arange, u.shape[:-1]), indexing="ij"), axis=-1)


def inner(shape):
    """Yield the indices of the voxels that have neighbours on all sides."""
    return itertools.product(*(range(1, size - 1) for size in shape))


def central_by_hand(u):
    """Return the determinant by central differences at every inner voxel, by LAPACK."""
    phi, dims = positions(u), u.ndim - 1
    found = np.empty([size - 2 for size in u.shape[:-1]])
    for p in inner(u.shape[:-1]):
        rows = []
        for axis in range(dims):
            ahead, behind = list(p), list(p)
            ahead[axis] += 1
            behind[axis] -= 1
            rows.append((phi[tuple(ahead)] - phi[tuple(behind)]) / 2)
        found[tuple(i - 1 for i in p)] = np.linalg.det(rows)
    return found


def digital_by_hand(u):
    """Return all determinants at every inner voxel as the paper writes them, along a last axis."""
    phi, dims = positions(u), u.ndim - 1

    def at(p, *offset):
        return phi[tuple(i + o for i, o in zip(p, offset, strict=True))]

    found = np.empty([size - 2 for size in u.shape[:-1]] + [{3: 10, 2: 4, 1: 2}[dims]])
    units = np.eye(dims, dtype=int)
    for p in inner(u.shape[:-1]):
        here, values = at(p, *(0,) * dims), []
        for signs in itertools.product((-1, 1), repeat=dims):
            rows = [sign * (at(p, *(sign * unit)) - here) for sign, unit in zip(signs, units, strict=True)]
            values.append(np.linalg.det(rows))
        if dims == 3:
            first = [at(p, -1, -1, 0) - here, at(p, -1, 0, -1) - here, at(p, 0, -1, -1) - here]
            second = [at(p, 1, 1, 0) - here, at(p, 0, 1, 1) - here, at(p, 1, 0, 1) - here]
            values += [np.linalg.det(first), np.linalg.det(second)]
        found[tuple(i - 1 for i in p)] = values
    return found
