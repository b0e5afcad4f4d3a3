"""From two masks, or two label maps, to the distances between the surfaces of every label, each in its own box."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from agnoreg.backend import Backend
from agnoreg.engine.axes import check_choice, check_spacing
from agnoreg.metrics.conventions import convention_of
from agnoreg.metrics.inputs import Maps, read
from agnoreg.metrics.labels import Lookup, dense, integral, occurring, slabs
from agnoreg.metrics.states import BOTH, FALSE_ALARM, MISSED, NEITHER
from agnoreg.metrics.surface import SurfaceDistances, Surfaces
from agnoreg.metrics.surface_elements import SURFACES, counted_places, elements, surfel_areas
from agnoreg.metrics.surface_mesh import mesh_distances

Array = Any

#: What has a gradient.
INSTEAD = "agnoreg.loss.DiceLoss, which sees distance by scales="
#: The most voxels of a label's box in a Dask array.
LARGEST_BOX = 1 << 27


def surface_distances(
    y_true: Array,
    y_pred: Array,
    *,
    spacing: Any = None,
    labels: Any = None,
    surface: str | None = None,
    mask: Array | None = None,
    convention: str | None = None,
    spatial_dims: int = 3,
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks, or of each label of two maps, computed once.

    `hausdorff`, `masd`, `assd` and `nsd` are of these: call them as methods of what this returns, where several are
    wanted.

    Parameters
    ----------
    y_true, y_pred
        Masks of bools, or label maps of integers, ``(B, d1, d2, d3)``; a last axis of size 1 may follow.
    spacing
        The distance of neighbouring voxels in mm: one number, or one for each axis, number i for axis i of the array.
        It must be given, but where the convention is one in voxels, which takes no notice of it.
    labels
        An integer, or a sequence of them. By default every label that occurs in one of the maps but 0; of two bool
        masks, True.
    surface
        ``"surfels"`` (the default): corners that voxels of both kinds share, weighted by the area of the surface there.
        ``"voxels"``: voxels of the mask that touch the background by a face, unweighted. ``"mesh"``: triangles of a
        mesh, by pymeshmetrics (``pip install agnoreg[mesh]``). ``"volume"``: all voxels of the mask. Beyond the image
        is background, so that a mask that the border cuts is closed there.
    mask
        Where it is 0, or False, elements of surfaces do not count; the surface that distances lead to is the whole one.
    convention
        The definitions of another tool, which arguments that are given override: ``"deepmind"``, ``"monai"``,
        ``"medpy"``, ``"medpy-0.4"``, ``"metricsreloaded"``, ``"learn2reg"``, ``"meshmetrics"``, ``"panoptica"``,
        ``"itk"``, ``"scikit-image"``.
    spatial_dims
        How many spatial axes there are, 1 to 3.

    Returns
    -------
    SurfaceDistances
        With a method for each measure.

    Raises
    ------
    ValueError
        If the shapes differ or do not fit; if spacing is missing, not positive, or has not one number for each axis; if
        a map holds floats that are no integers, which are listed; if the box of a label in a Dask array is too large.
    TypeError
        If a gradient is asked for, which these have not.
    """
    preset = convention_of(convention)
    surface = preset.surface if surface is None else surface
    check_choice("surface", surface, SURFACES)
    maps = read(y_true, y_pred, labels, mask, spatial_dims, "A surface distance", INSTEAD)
    if preset.in_voxels:
        spacing = 1.0
    elif spacing is None:
        raise ValueError(
            "spacing must be given: how many mm neighbouring voxels are apart along each axis (spacing=1 for distances "
            "in voxels)."
        )
    steps = check_spacing(spacing, spatial_dims)
    with maps.at():
        labels, pairs = _pairs(maps, surface, steps)
    diagonal = math.hypot(*(size * step for size, step in zip(maps.true.shape[1:], steps, strict=True)))
    return SurfaceDistances(labels, pairs, preset, maps, diagonal)


def _pairs(
    maps: Maps, surface: str, steps: tuple[float, ...]
) -> tuple[tuple[int, ...], tuple[tuple[Surfaces, ...], ...]]:
    """Return the labels, and the distances of each in each sample."""
    labels, ids, places = _places(maps)
    boxes = _boxes(maps.backend, places, max(ids, default=0))
    if maps.labels is None:
        there = (boxes[..., 0, 1] > 0).any(axis=(0, 1))
        kept = [k for k, place in enumerate(ids) if there[place - 1]]
        labels, ids = [labels[k] for k in kept], [ids[k] for k in kept]
    pairs = tuple(
        tuple(_surfaces(*_crop(maps, places, b, place, boxes[b]), surface, steps) for place in ids)
        for b in range(len(boxes))
    )
    return tuple(labels), pairs


def _places(maps: Maps) -> tuple[Sequence[int], Sequence[int], tuple[Array, Array]]:
    """Return the labels, a place for each, and both maps with places instead of labels: small integers."""
    backend, xp = maps.backend, maps.backend.xp
    most = dense(backend, maps.true, maps.pred)
    if most is not None:
        labels = range(1, most + 1) if maps.labels is None else maps.labels
        ids = [label if 0 <= label <= most else most + 1 for label in labels]
        return labels, ids, (_placed(backend, maps.true, xp.uint8), _placed(backend, maps.pred, xp.uint8))
    labels = occurring(backend, maps.true, maps.pred) if maps.labels is None else maps.labels
    look_up = partial(_looked_up, tuple(labels))
    if not labels:
        return (), (), (maps.true, maps.pred)
    places = tuple(backend.counting.by_voxel(look_up, x, xp.int32) for x in (maps.true, maps.pred))
    return labels, range(1, len(labels) + 1), (places[0], places[1])


def _placed(backend: Backend, values: Array, dtype: Any) -> Array:
    """Return a map of few values, none below 0, as small integers."""
    if backend.xp.isdtype(values.dtype, "real floating"):
        integral(backend, values)
    return backend.xp.astype(values, dtype)


def _looked_up(labels: tuple[int, ...], backend: Backend, values: Array) -> Array:
    xp, lookup = backend.xp, Lookup(backend, labels)
    parts = [xp.astype(lookup.places(x), xp.int32) for (x,) in slabs(backend, values)]
    return xp.reshape(xp.concat(parts), values.shape)


def _boxes(backend: Backend, places: tuple[Array, Array], count: int) -> Any:
    """Return the boxes of all places in each sample and map: ``(B, 2, count, axes, 2)``, first index and one beyond."""
    samples, dims = places[0].shape[0], len(places[0].shape) - 1
    found = np.zeros((samples, 2, count, dims, 2), dtype=np.int64)
    for b in range(samples if count else 0):
        for k, x in enumerate(places):
            found[b, k] = backend.counting.boxes(x[b, ...], count)
    return found


def _crop(
    maps: Maps, places: tuple[Array, Array], sample: int, place: int, boxes: Any
) -> tuple[Backend, Array, Array, Array | None]:
    """Return the masks of a place in the box around both, and which voxels of it count."""
    true, pred = (x[sample, ...] for x in places)
    low, high = np.zeros(len(true.shape), dtype=int), np.asarray(true.shape)
    if place:  # what is none of the others may be anywhere
        around = boxes[:, place - 1][boxes[:, place - 1, 0, 1] > 0]
        high = around[:, :, 1].max(axis=0) if len(around) else low
        low = around[:, :, 0].min(axis=0) if len(around) else low
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    backend, a = maps.backend.counting.loaded(true[box], LARGEST_BOX)
    _, b = maps.backend.counting.loaded(pred[box], LARGEST_BOX)
    counts = None if maps.mask is None else maps.backend.counting.loaded(maps.mask[sample, ...][box], LARGEST_BOX)[1]
    return backend, a == place, b == place, counts


def _surfaces(
    backend: Backend, true: Array, pred: Array, counts: Array | None, surface: str, steps: tuple[float, ...]
) -> Surfaces:
    """Return the distances between the surfaces of two masks that fill a box."""
    xp = backend.xp
    nothing = np.zeros(0)
    empty = [x.size == 0 or not bool(xp.any(x)) for x in (true, pred)]
    if all(empty):
        return Surfaces(nothing, nothing, nothing, nothing, NEITHER)
    if surface == "mesh":
        sides = mesh_distances(backend, true, pred, counts, steps, empty)
    else:
        sides = _on_grid(backend, true, pred, counts, surface, steps)
    (to_pred, areas_true), (to_true, areas_pred) = sides
    if not len(to_pred) and not len(to_true):
        state = NEITHER
    elif any(empty):
        state = FALSE_ALARM if empty[0] else MISSED
    else:
        state = BOTH
    return Surfaces(to_pred, areas_true, to_true, areas_pred, state)


def _on_grid(
    backend: Backend, true: Array, pred: Array, counts: Array | None, surface: str, steps: tuple[float, ...]
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the distances and areas of both surfaces' elements, those that count."""
    drawn = [elements(backend, x, surface) for x in (true, pred)]
    (on_true, _), (on_pred, _) = drawn
    counted = None if counts is None else backend.to_numpy(counted_places(backend, counts, surface))
    sides = []
    for (here, codes), there in zip(drawn, (on_pred, on_true), strict=True):
        # An element of both surfaces is no distance away.
        apart = here & ~there
        host = backend.to_numpy(here)
        distances = np.zeros(np.count_nonzero(host))
        distances[backend.to_numpy(apart)[host]] = backend.to_numpy(backend.counting.distances(apart, there, steps))
        areas = surfel_areas(steps)[backend.to_numpy(codes)[host]] if codes is not None else np.ones(len(distances))
        if counted is not None:
            distances, areas = distances[counted[host]], areas[counted[host]]
        sides.append((distances, areas))
    return sides[0], sides[1]
