"""The target registration error: how far landmarks are from where they belong, before and after a registration."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from agnoreg.backend import backend_of
from agnoreg.backend.counting import on_host
from agnoreg.engine.axes import check_choice, check_spacing
from agnoreg.messages import shown
from agnoreg.metrics.field_conventions import field_convention
from agnoreg.metrics.field_inputs import UNITS, Field, read_field
from agnoreg.metrics.inputs import refuse_gradient

Array = Any

#: What has a gradient.
INSTEAD = "a loss of images or labels, such as agnoreg.loss.DiceLoss"
#: The most numbers of a field in a Dask array between the landmarks.
LARGEST_BOX = 1 << 27
#: A mean TRE of at most 2 mm is what the AAPM's task group 132 asks for.
NEAR = 2.0
#: How many in a hundred landmarks are the worst.
WORST = 30


@dataclass(frozen=True)
class LandmarkErrors:
    """Distances of landmarks from where they belong, and their figures ``(B,)``, in mm and float64; lower is better.

    Attributes
    ----------
    distances
        ``(B, N)``, one for each landmark.
    mean, median, p75, maximum
        Of all landmarks; the 75th percentile and the median are interpolated.
    within_2_mm
        The share of the landmarks that are at most 2 mm away, from 0 to 1, the best.
    worst_30
        The mean of the 30 % of landmarks with the largest distances, rounded up to whole landmarks.
    """

    distances: Array
    mean: Array
    median: Array
    p75: Array
    maximum: Array
    within_2_mm: Array
    worst_30: Array


@dataclass(frozen=True)
class TargetRegistrationError(LandmarkErrors):
    """What `target_registration_error` returns: the errors after registration, and before it.

    Attributes
    ----------
    before
        The same without the field.
    outside
        ``(B, N)``, bools: which fixed landmarks lie outside the image. They count: the field is read for them at the
        nearest voxel.
    """

    before: LandmarkErrors
    outside: Array


def target_registration_error(
    fixed_points: Array,
    moving_points: Array,
    ddf: Array | None = None,
    *,
    spacing: Any = None,
    affine: Any = None,
    moving_affine: Any = None,
    units: str = "voxel",
    point_units: str = "voxel",
    convention: str | None = None,
    data_format: str | None = None,
) -> TargetRegistrationError:
    """Return the distances between moving landmarks and where a field takes the fixed ones, in mm.

    The field goes from the fixed image to the moving one, ``x + u(x)``, on the fixed image's grid: the direction in
    which it warps the moving image, so that fixed landmarks move by it, and moving ones stay. It is read linearly
    between voxels.

    Parameters
    ----------
    fixed_points, moving_points
        Landmarks in the same order, ``(N, dims)``, or ``(B, N, dims)``: coordinate i is along axis i of the array.
        Lists and NumPy arrays are taken beside a field of any framework.
    ddf
        The displacements ``u``: ``(B, d1, d2, d3, 3)``, or with fewer axes, where a single set of landmarks is of one
        sample. Without it the errors are those before registration.
    spacing
        The distance of neighbouring voxels in mm: one number, or one for each axis. Both images have it; voxel 0 is at
        0 mm. Either this or ``affine`` is needed.
    affine
        The fixed image's matrix from voxels to mm, ``(dims + 1, dims + 1)``, as NIfTI has it.
    moving_affine
        The moving image's matrix, where it has another grid; ``affine`` where None.
    units
        The unit of the displacements: ``"voxel"`` of the fixed grid, or ``"mm"`` along the axes of the array.
    point_units
        The unit of the landmarks: ``"voxel"``, each set of its own image, or ``"mm"``, as the affine or spacing has it.
    convention
        ``"learn2reg"``: the field is read by cubic splines, and is 0 outside the image (``pip install
        agnoreg[metrics]``).
    data_format
        ``"channels_first"`` where the field's components follow the batch.

    Returns
    -------
    TargetRegistrationError
        On the field's device, or where the landmarks are.

    Raises
    ------
    ValueError
        If the sets differ in their number of landmarks or have none; if a coordinate is not finite; if neither spacing
        nor affine is given, or both; if shapes do not fit.
    TypeError
        If a gradient is asked for.

    References
    ----------
    Brock et al., AAPM task group 132, Medical Physics 44(7), 2017.
    """
    field_convention("target_registration_error", convention)
    check_choice("point_units", point_units, UNITS)
    fixed, moving = _points("fixed_points", fixed_points), _points("moving_points", moving_points)
    if fixed.shape != moving.shape:
        raise ValueError(
            f"fixed_points and moving_points must be the same landmarks in the same order, got {fixed.shape[1]} and "
            f"{moving.shape[1]} of them (shapes {fixed.shape} and {moving.shape})."
        )
    dims = fixed.shape[2]
    to_mm, moving_to_mm, steps = _grids(spacing, affine, moving_affine, dims)
    if point_units == "mm":
        fixed, moving = _applied(np.linalg.inv(to_mm), fixed), _applied(np.linalg.inv(moving_to_mm), moving)
    targets = _applied(moving_to_mm, moving)
    before = np.linalg.norm(_applied(to_mm, fixed) - targets, axis=-1)
    if ddf is None:
        owner, device = _owner(fixed_points, moving_points)
        result: Callable[[Any], Array] = partial(owner.from_numpy, device=device)
        after, outside = before, np.zeros(before.shape, dtype=bool)
    else:
        shape = tuple(backend_of(ddf).shape(ddf))
        if len(shape) - 2 != dims or shape[0] != len(fixed):
            raise ValueError(
                "The field must have one sample for each set of landmarks and an axis for each coordinate, got a field "
                f"of shape {shape} and landmarks of {fixed.shape}."
            )
        (field,) = read_field(
            ddf,
            mask=None,
            spacing=steps,
            units=units,
            data_format=data_format,
            metric="target_registration_error",
            instead=INSTEAD,
        )
        result = field.result
        read = _read_cubic if convention == "learn2reg" else _read_linear
        with field.at():
            moves = np.stack([read(field, b, fixed[b]) for b in range(len(fixed))])
        after = np.linalg.norm(_applied(to_mm, fixed + moves / np.asarray(field.scales)) - targets, axis=-1)
        sizes = np.asarray(field.ddf.shape[1:-1])
        outside = ((fixed < -0.5) | (fixed > sizes - 0.5)).any(axis=-1)
    return TargetRegistrationError(
        **_figures(after, result), before=LandmarkErrors(**_figures(before, result)), outside=result(outside)
    )


def _points(name: str, points: Any) -> Any:
    """Return landmarks as NumPy's ``(B, N, dims)`` in float64."""
    if isinstance(points, list | tuple):
        array = np.asarray(points)
    else:
        backend = backend_of(points)
        points = backend.prepare(points)
        refuse_gradient(backend, (points,), "target_registration_error", INSTEAD)
        array = backend.to_numpy(points)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3) or not array.shape[1]:
        raise ValueError(
            f"{name} must be one or more landmarks, (N, dims) or (B, N, dims) with a coordinate for each axis, got "
            f"shape {np.shape(points)}."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite, got {int((~np.isfinite(array).all(axis=-1)).sum())} landmark(s) that are not."
        )
    return array


def _owner(*points: Array) -> tuple[Any, Any]:
    """Return the adapter and the device of the first landmarks that are an array, else NumPy's."""
    for one in points:
        if not isinstance(one, list | tuple):
            backend = backend_of(one)
            return backend, backend.device(backend.prepare(one))
    return on_host(), None


def _grids(spacing: Any, affine: Any, moving_affine: Any, dims: int) -> tuple[Any, Any, tuple[float, ...]]:
    """Return the matrices from voxels to mm of both images, and the fixed one's spacing."""
    if (spacing is None) == (affine is None):
        raise ValueError("Either spacing or affine must be given: they say how many mm a voxel is.")
    if spacing is not None:
        if moving_affine is not None:
            raise ValueError("moving_affine is beside affine: with spacing both images have one grid.")
        steps = check_spacing(spacing, dims)
        matrix = np.diag([*steps, 1.0])
        return matrix, matrix, steps
    matrices = [
        _matrix(name, x, dims) for name, x in (("affine", affine), ("moving_affine", moving_affine)) if x is not None
    ]
    return matrices[0], matrices[-1], tuple(np.linalg.norm(matrices[0][:dims, :dims], axis=0).tolist())


def _matrix(name: str, affine: Any, dims: int) -> Any:
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (dims + 1, dims + 1) or not np.isfinite(matrix).all() or not np.linalg.det(matrix):
        raise ValueError(
            f"{name} must be an invertible matrix of {dims + 1} x {dims + 1} for landmarks of {dims} coordinates, got "
            f"{shown(affine)}."
        )
    return matrix


def _applied(matrix: Any, points: Any) -> Any:
    dims = points.shape[-1]
    return points @ matrix[:dims, :dims].T + matrix[:dims, dims]


def _read_linear(field: Field, sample: int, points: Any) -> Any:
    """Return the field between voxels, at points outside the image at the nearest one."""
    sizes = np.asarray(field.ddf.shape[1:-1])
    places = np.clip(points, 0, sizes - 1)
    lowest = np.minimum(np.floor(places), np.maximum(sizes - 2, 0)).astype(np.int64)
    shares = places - lowest
    start, stop = lowest.min(axis=0), np.minimum(lowest.max(axis=0) + 2, sizes)
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    backend, values = field.backend.counting.loaded(field.ddf[(sample, *box, slice(None))], LARGEST_BOX)
    xp, found = backend.xp, np.zeros(points.shape)
    for corner in np.ndindex(*(2,) * field.dims):
        weights = np.prod(np.where(corner, shares, 1 - shares), axis=1)
        index = np.minimum(lowest - start + corner, stop - start - 1)
        place = tuple(xp.asarray(column, device=backend.device(values)) for column in index.T)
        read = backend.to_numpy(values[(*place, slice(None))]).astype(np.float64)
        # What has no weight may be anything, even NaN.
        found += np.where(weights[:, None] > 0, read * weights[:, None], 0.0)
    return found


def _read_cubic(field: Field, sample: int, points: Any) -> Any:
    """Return the field by cubic splines, 0 outside the image."""
    backend, values = field.backend.counting.loaded(field.ddf[sample, ...], LARGEST_BOX)
    values, host = backend.to_numpy(values), on_host()
    return np.stack([host.counting.cubic(values[..., i], points) for i in range(field.dims)], axis=-1)


def _figures(distances: Any, result: Callable[[Any], Array]) -> dict[str, Array]:
    count = distances.shape[1]
    ordered = np.sort(distances, axis=1)
    figures = {
        "distances": distances,
        "mean": distances.mean(axis=1),
        "median": np.median(distances, axis=1),
        "p75": np.percentile(distances, 75, axis=1),
        "maximum": ordered[:, -1],
        "within_2_mm": (distances <= NEAR).mean(axis=1),
        "worst_30": ordered[:, -math.ceil(count * WORST / 100) :].mean(axis=1),
    }
    return {name: result(values) for name, values in figures.items()}
