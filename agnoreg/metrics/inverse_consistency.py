"""How far a point ends from where it began, when it goes by one field and comes back by the other."""

import math
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import Backend
from agnoreg.functional.warp import warp
from agnoreg.metrics.field_inputs import Field, read_field
from agnoreg.metrics.field_measures import INSTEAD

Array = Any

#: The most numbers of a field in a Dask array.
LARGEST_FIELD = 1 << 28


@dataclass(frozen=True)
class InverseConsistencyError:
    """What `inverse_consistency_error` returns: an array ``(B,)`` for each figure, in float64; lower is better, 0 best.

    Attributes
    ----------
    mean, p95, maximum
        Of the distances, in mm, or in voxels without ``spacing``; the 95th percentile is interpolated.
    left_out
        How many voxels the first field takes out of the image, where the second one is not known.
    voxels
        How many voxels count, those included.
    """

    mean: Array
    p95: Array
    maximum: Array
    left_out: Array
    voxels: Array


def inverse_consistency_error(
    u: Array,
    v: Array,
    *,
    mask: Array | None = None,
    spacing: Any = None,
    units: str = "voxel",
    data_format: str | None = None,
) -> InverseConsistencyError:
    """Return how far ``p + u(p) + v(p + u(p))`` is from ``p``: 0 where each field is the inverse of the other.

    The second field is read linearly between its voxels.

    Parameters
    ----------
    u, v
        The displacements from image A to image B, and from B to A, on one grid: ``(B, d1, d2, d3, 3)``, or with fewer
        axes; component i is along axis i of the array.
    mask
        Where it is 0, or False, a voxel of ``u`` does not count; as `folding` takes it.
    spacing
        The distance of neighbouring voxels in mm: one number, or one for each axis, number i for axis i of the array.
        Without it errors are in voxels; needed with ``units="mm"``.
    units
        The unit of both fields, ``"voxel"`` or ``"mm"``.
    data_format
        ``"channels_first"`` where the components follow the batch.

    Returns
    -------
    InverseConsistencyError
        The errors are NaN for a sample of which nothing counts, all is left out, or a displacement is not finite. Of
        Dask arrays they are computed at once, of up to 2²⁸ numbers a field.

    Raises
    ------
    ValueError
        If the shapes differ or do not fit; if spacing is missing, not positive, or has not one number for each axis.
    TypeError
        If a gradient is asked for.

    References
    ----------
    Christensen and Johnson, IEEE TMI 20(7), 2001.
    """
    there, back = read_field(
        u,
        v,
        mask=mask,
        spacing=spacing,
        units=units,
        data_format=data_format,
        metric="inverse_consistency_error",
        instead=INSTEAD,
    )
    with there.at():
        rows = [_errors(there, back, b) for b in range(there.ddf.shape[0])]
    columns = zip(*rows, strict=True) if rows else [()] * 5
    return InverseConsistencyError(*(there.column(column) for column in columns))


def _errors(there: Field, back: Field, sample: int) -> tuple[float, ...]:
    """Return the figures of one sample."""
    loaded = [
        field.backend.counting.loaded(field.ddf[sample : sample + 1, ...], LARGEST_FIELD) for field in (there, back)
    ]
    backend, (u, v) = loaded[0][0], (x for _, x in loaded)
    xp, dtype = backend.xp, backend.dtypes.compute(u, v)
    u, v = (_in_voxels(backend, xp.astype(x, dtype, copy=False), there.scales) for x in (u, v))
    numbers = xp.isfinite(v)
    if not bool(xp.all(numbers)):
        # Infinity times a weight of 0 would warn.
        v = xp.where(numbers, v, xp.asarray(math.nan, dtype=dtype, device=backend.device(v)))
    inside: Any = None
    squares: Any = 0.0
    apart = u + warp(v, u)
    for axis, step in enumerate(there.steps):
        size = u.shape[axis + 1]
        line = xp.reshape(
            xp.arange(size, dtype=dtype, device=backend.device(u)), (-1,) + (1,) * (there.dims - 1 - axis)
        )
        point = line + u[0, ..., axis]
        within = (point >= 0) & (point <= size - 1)
        inside = within if inside is None else inside & within
        squares = squares + xp.astype(apart[0, ..., axis], xp.float64) ** 2 * step**2
    voxels, known = math.prod(u.shape[1:-1]), inside
    counts = None
    if there.mask is not None:
        _, counts = there.backend.counting.loaded(there.mask[sample, ...], LARGEST_FIELD)
        voxels, known = int(xp.count_nonzero(counts)), inside & counts
    there_is = xp.all(xp.isfinite(u), axis=-1)[0, ...]
    finite = bool(xp.all(there_is if counts is None else there_is | ~counts))
    distances = xp.sort(xp.sqrt(squares[known]), stable=False)
    count = distances.shape[0]
    if not count or not finite or not math.isfinite(float(xp.sum(distances))):
        return math.nan, math.nan, math.nan, voxels - count if finite else math.nan, voxels
    place = 0.95 * (count - 1)
    low, high = float(distances[math.floor(place)]), float(distances[math.ceil(place)])
    p95 = low + (high - low) * (place - math.floor(place))
    return float(xp.mean(distances)), p95, float(distances[-1]), voxels - count, voxels


def _in_voxels(backend: Backend, ddf: Array, scales: tuple[float, ...]) -> Array:
    if all(scale == 1.0 for scale in scales):
        return ddf
    return ddf / backend.xp.asarray(scales, dtype=ddf.dtype, device=backend.device(ddf))
