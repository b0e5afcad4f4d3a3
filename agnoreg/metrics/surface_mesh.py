"""Distances between the triangle meshes of two masks, by pymeshmetrics, which a user installs beside agnoreg."""

import importlib
from typing import Any

import numpy as np

from agnoreg.backend import Backend

Array = Any


def mesh_distances(
    backend: Backend, true: Array, pred: Array, counts: Array | None, steps: tuple[float, ...], empty: list[bool]
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the distances of triangles' centroids to the other mesh, and the triangles' areas, of both meshes.

    Raises
    ------
    ImportError
        If pymeshmetrics is not installed.
    ValueError
        If there is a mask, or a single axis.
    """
    if counts is not None:
        raise ValueError("surface='mesh' takes no mask: its triangles are not in any voxel; draw surfels instead.")
    if len(steps) == 1:
        raise ValueError("surface='mesh' takes two or three spatial axes.")
    nothing, far = (np.zeros(0), np.zeros(0)), (np.full(1, np.inf), np.ones(1))
    if any(empty):
        return (nothing if empty[0] else far), (nothing if empty[1] else far)
    try:
        metrics = importlib.import_module("meshmetrics").DistanceMetrics(verbose=False)
    except ImportError as error:
        raise ImportError("surface='mesh' needs pymeshmetrics: pip install agnoreg[mesh].") from error
    metrics.set_input(backend.to_numpy(true), backend.to_numpy(pred), steps)
    to_pred, areas_true, to_true, areas_pred = metrics.distances
    return (np.abs(to_pred), areas_true), (np.abs(to_true), areas_pred)
