"""Every metric in float64 NumPy, written from its definition, one voxel or one pair of voxels after another.

Nothing here is shared with the core: surfaces are voxels that are looked at one by one, distances are those of all
elements to all others, determinants are LAPACK's. All functions take arrays without a batch.
"""

import itertools
import math

import numpy as np

# --- labels -----------------------------------------------------------------------------------------------------------


def overlap(true, pred, voxel=1.0):
    """Return every measure of the overlap of two masks, by its name."""
    a, b, both, either = (int(x.sum()) for x in (true, pred, true & pred, true | pred))
    if not either:
        found = dict.fromkeys(("dice", "jaccard", "sensitivity", "precision", "volume_similarity"), math.nan)
        return found | {"absolute_volume_difference": math.nan, "volume_true": 0.0, "volume_pred": 0.0}
    return {
        "dice": 2 * both / (a + b),
        "jaccard": both / either,
        "sensitivity": both / a if a else 0.0,
        "precision": both / b if b else 0.0,
        "volume_similarity": 1 - abs(a - b) / (a + b),
        "absolute_volume_difference": abs(a - b) * voxel,
        "volume_true": a * voxel,
        "volume_pred": b * voxel,
    }


def surface_voxels(mask):
    """Return the indices of the voxels of a mask with a face to the background, which is beyond the image, too."""
    padded, found = np.pad(mask, 1), []
    for place in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = place + 1
            neighbour[axis] += step
            if not padded[tuple(neighbour)]:
                found.append(place)
                break
    return np.asarray(found, dtype=np.float64).reshape(-1, mask.ndim)


def surface_measures(true, pred, spacing, tolerance):
    """Return the measures of the voxels of two surfaces, all alike: both empty NaN, one empty inf, and NSD 0."""
    a, b = (surface_voxels(x) * spacing for x in (true, pred))
    names = ("hausdorff", "hausdorff 95", "masd", "assd", "nsd")
    if not len(a) or not len(b):
        return dict.fromkeys(names, math.inf) | {"nsd": 0.0} if len(a) or len(b) else dict.fromkeys(names, math.nan)
    apart = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=-1))
    directed = apart.min(axis=1), apart.min(axis=0)
    both = np.concatenate(directed)
    return {
        "hausdorff": max(x.max() for x in directed),
        # The first distance within which 95 % of the elements lie.
        "hausdorff 95": max(np.sort(x)[math.ceil(0.95 * len(x) - 1e-9) - 1] for x in directed),
        "masd": sum(x.mean() for x in directed) / 2,
        "assd": both.mean(),
        "nsd": (both <= tolerance).mean(),
    }


# --- displacement fields ----------------------------------------------------------------------------------------------


def positions(u):
    """Return ``p + u(p)``."""
    return u + np.stack(np.meshgrid(*map(np.arange, u.shape[:-1]), indexing="ij"), axis=-1)


def inner(shape):
    """Yield the indices of the voxels that have neighbours on all sides."""
    return itertools.product(*(range(1, size - 1) for size in shape))


def determinants(u):
    """Return the determinant by central differences at every inner voxel."""
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


def digital_determinants(u):
    """Return all determinants of Liu et al. at every inner voxel, along a last axis: ten, four or two by the axes."""
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


def field_measures(u, mask, voxel=1.0):
    """Return the figures of folding, of the non-diffeomorphic volume and of SDlogJ within a mask, by their names."""
    there = mask[(slice(1, -1),) * (u.ndim - 1)]
    central, digital = determinants(u)[there], digital_determinants(u)[there]
    turned = np.maximum(0, -digital).sum() / (2 * math.factorial(u.ndim - 1))
    return {
        "folding": {
            "count": (central <= 0).sum(),
            "share": (central <= 0).mean(),
            "digital_count": (digital <= 0).any(axis=-1).sum(),
            "digital_share": (digital <= 0).any(axis=-1).mean(),
            "minimum": central.min(),
            "first_percentile": np.percentile(central, 1),
            "maximum": central.max(),
            "voxels": len(central),
        },
        "nondiffeomorphic_volume": {
            "volume": turned * voxel,
            "percent": 100 * turned / len(central),
            "tetrahedra": (digital <= 0).mean(),
            "voxels": len(central),
        },
        "sdlogj": {
            "value": np.log(central[central > 0]).std(),
            "left_out": (central <= 0).sum(),
            "voxels": len(central),
        },
    }


def read_linearly(u, point):
    """Return a field at a point between its voxels."""
    low, found = np.floor(point).astype(int), np.zeros(u.shape[-1])
    for corner in itertools.product((0, 1), repeat=len(point)):
        place = low + corner
        weight = np.prod(1 - np.abs(place - point))
        if weight:
            found += weight * u[tuple(place)]
    return found


def inverse_consistency(u, v, spacing):
    """Return the mean, the 95th percentile and the greatest error, and how many voxels leave the image."""
    errors, left, last = [], 0, np.asarray(u.shape[:-1]) - 1
    for p in np.ndindex(*u.shape[:-1]):
        point = p + u[p]
        if (point < 0).any() or (point > last).any():
            left += 1
            continue
        errors.append(np.linalg.norm((u[p] + read_linearly(v, point)) * spacing))
    return {"mean": np.mean(errors), "p95": np.percentile(errors, 95), "maximum": max(errors), "left_out": left}


def landmark_errors(fixed, moving, u, spacing):
    """Return the distances in mm of moving landmarks from where a field takes the fixed ones."""
    moved = [point + read_linearly(u, point) for point in fixed]
    return np.asarray([np.linalg.norm((a - b) * spacing) for a, b in zip(moved, moving, strict=True)])
