"""Measures of a displacement field: its Jacobian determinant, where it folds, how much volume, and how it spreads."""

import math
from functools import partial
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.axes import check_choice
from agnoreg.metrics.determinants import corners, of_scheme
from agnoreg.metrics.field_conventions import SCHEMES, FieldConvention, field_convention
from agnoreg.metrics.field_figures import Folds, Gathered, LogSpread, NegativeVolume, Pass, slabs
from agnoreg.metrics.field_inputs import Field, check_size, read_field, with_border
from agnoreg.metrics.field_results import Folding, NonDiffeomorphicVolume, SDLogJ

Array = Any

#: What has a gradient.
INSTEAD = "a regulariser, agnoreg.loss.BendingEnergy or agnoreg.loss.GradientNorm"


def jacobian_determinant(
    ddf: Array,
    *,
    spacing: Any = None,
    units: str = "voxel",
    scheme: str | None = None,
    convention: str | None = None,
    data_format: str | None = None,
) -> Array:
    """Return the Jacobian determinant of ``p + u(p)`` at every voxel that has neighbours for it.

    It says how many times larger a voxel becomes: 1 where nothing is deformed, below 1 where the map shrinks, at most 0
    where it folds. It has no unit, and is the same of displacements in voxels and in mm.

    Parameters
    ----------
    ddf
        The displacements ``u``, not the coordinates ``p + u``: ``(B, d1, d2, d3, 3)``, or ``(B, d1, d2, 2)``, or
        ``(B, d1, 1)``; component i is along axis i of the array, from the fixed image's voxel to the point of the
        moving image that is read there.
    spacing
        The distance of neighbouring voxels in mm: one number, or one for each axis, number i for axis i of the array.
        Needed with ``units="mm"``; of displacements in voxels it changes nothing.
    units
        The unit of the displacements: ``"voxel"``, as `agnoreg.functional.warp` takes them, or ``"mm"``.
    scheme
        ``"central"`` (the default): of the voxels before and after along each axis. ``"forward"``, ``"backward"``: of
        the voxel itself and the one after, or before. ``"corners"``: all the ``2^dims`` choices of before or after,
        along a last axis; the central one is their mean.
    convention
        The determinant of another tool: ``"learn2reg"`` and ``"lumir"`` leave out two voxels at each end,
        ``"voxelmorph"`` and ``"transmorph"`` take one-sided differences at the border, ``"icon"`` takes backward ones
        (of slices and lines, forward).
    data_format
        ``"channels_first"`` where the components follow the batch, ``(B, 3, d1, d2, d3)``.

    Returns
    -------
    Array
        ``(B, d1 - 2, d2 - 2, d3 - 2)``: without the voxels at the border; by forward differences without the last of
        each axis, by backward ones without the first. float64 if the field is, else float32. Lazy for Dask.

    Raises
    ------
    ValueError
        If the shape is none of a field; if an axis is too short; if spacing is missing, not positive, or has not one
        number for each axis.
    TypeError
        If a gradient is asked for.
    """
    field, _, scheme, arrays = _started(
        "jacobian_determinant", ddf, None, spacing, units, scheme, convention, data_format
    )
    function = partial(_map_of_block, scheme, field.scales)
    with field.at():
        dtype = field.backend.dtypes.compute(arrays[0])
        added = (2**field.dims,) if scheme == "corners" else ()
        values = field.backend.counting.by_neighbourhood(function, arrays[0], SCHEMES[scheme], added, dtype)
        return field.result(values)


def folding(
    ddf: Array,
    *,
    mask: Array | None = None,
    spacing: Any = None,
    units: str = "voxel",
    convention: str | None = None,
    data_format: str | None = None,
) -> Folding:
    """Return where a field folds: how many voxels, by two definitions, and how small and large its determinants are.

    Central differences do not see folds between neighbours: a field that alternates from voxel to voxel has a
    determinant of 1 everywhere. A voxel is digitally diffeomorphic if the ten determinants around it are above 0.

    Parameters
    ----------
    ddf, spacing, units, data_format
        As `jacobian_determinant` takes them.
    mask
        Where it is 0, or False, a voxel does not count (its neighbours still see it): of the fixed image. Of the
        field's shape without the components, with size 1 along any axis, with or without the axis of the batch.
        Voxels at the border, which have no determinant, never count.
    convention
        What another tool counts: ``"learn2reg"`` and ``"lumir"`` (3 is added first: always 0), ``"voxelmorph"`` and
        ``"transmorph"`` (the border counts), ``"icon"`` (determinants below 0 of backward differences).

    Returns
    -------
    Folding
        All NaN but ``voxels`` for a sample of which nothing counts, or of which a determinant is not finite.

    Raises
    ------
    ValueError, TypeError
        As `jacobian_determinant`; also if the mask does not fit.

    References
    ----------
    Liu et al., IJCV 2024, arXiv 2212.06060 (digital diffeomorphisms).
    """
    field, values = _gathered("folding", Folds, ddf, mask, spacing, units, convention, data_format)
    voxels, count, digital_count, least, percentile, greatest = values
    return Folding(
        *(field.result(x) for x in (count, count / voxels, digital_count, digital_count / voxels)),
        *(field.result(x) for x in (least, percentile, greatest, voxels)),
    )


def nondiffeomorphic_volume(
    ddf: Array,
    *,
    mask: Array | None = None,
    spacing: Any = None,
    units: str = "voxel",
    convention: str | None = None,
    data_format: str | None = None,
) -> NonDiffeomorphicVolume:
    """Return the non-diffeomorphic volume (NDV): of the tetrahedra that a map turns inside out; of a slice, the area.

    Each voxel's ten tetrahedra, five of each of the two ways to cut a cube, count with their volume where it is
    negative, and are halved because the two ways are averaged::

        NDV = 1/2 sum over voxels and tetrahedra of max(0, -J) / 6

    Of a slice, the four triangles count with ``max(0, -J) / 2``.

    Parameters
    ----------
    ddf, mask, spacing, units, data_format
        As `folding` takes them; with a spacing the volume is in mm³.
    convention
        ``"lumir"``, whose percentage ours is.

    Returns
    -------
    NonDiffeomorphicVolume
        All NaN but ``voxels`` for a sample of which nothing counts, or of which a determinant is not finite.

    Raises
    ------
    ValueError
        As `folding`; also for a field of one axis.
    TypeError
        As `folding`.

    References
    ----------
    Liu et al., IJCV 2024, arXiv 2212.06060.
    """
    field, values = _gathered(
        "nondiffeomorphic_volume", NegativeVolume, ddf, mask, spacing, units, convention, data_format, least_dims=2
    )
    voxels, volume, tetrahedra = values
    results = volume * math.prod(field.steps), volume * 100.0 / voxels, tetrahedra, voxels
    return NonDiffeomorphicVolume(*(field.result(x) for x in results))


def sdlogj(
    ddf: Array,
    *,
    mask: Array | None = None,
    spacing: Any = None,
    units: str = "voxel",
    convention: str | None = None,
    data_format: str | None = None,
) -> SDLogJ:
    """Return the standard deviation of the logarithm of the Jacobian determinant, by central differences.

    The deviation is that of a population (``N``), over voxels whose determinant is above 0. How many have a determinant
    of at most 0 is returned beside it: nothing is clipped.

    Parameters
    ----------
    ddf, mask, spacing, units, data_format
        As `folding` takes them.
    convention
        ``"learn2reg"`` and ``"lumir"``: 3 is added to the determinant, which is then clipped to 1e-9 ... 1e9, and two
        voxels are left out at each end. The identity is in their determinant already, so this is about a quarter of the
        deviation for determinants near 1, and no voxel is left out.

    Returns
    -------
    SDLogJ
        All NaN but ``voxels`` for a sample of which nothing counts, or of which a determinant is not finite; the value
        is NaN, too, where every voxel is left out.

    Raises
    ------
    ValueError, TypeError
        As `folding`.
    """
    field, values = _gathered("sdlogj", LogSpread, ddf, mask, spacing, units, convention, data_format)
    voxels, value, left_out = values
    return SDLogJ(field.result(value), field.result(left_out), field.result(voxels))


def _started(
    measure: str,
    ddf: Array,
    mask: Array | None,
    spacing: Any,
    units: str,
    scheme: str | None,
    convention: str | None,
    data_format: str | None,
) -> tuple[Field, FieldConvention, str, tuple[Array, ...]]:
    """Return the field, what the convention says, the scheme, and the arrays with the border that it wants."""
    preset = field_convention(measure, convention)
    (field,) = read_field(
        ddf,
        mask=mask,
        spacing=spacing,
        units=units,
        data_format=data_format,
        metric=measure,
        instead=INSTEAD,
    )
    scheme = preset.scheme_for(field.dims) if scheme is None else scheme
    check_choice("scheme", scheme, tuple(SCHEMES))
    check_size(field, scheme, preset.border)
    with field.at():
        return field, preset, scheme, with_border(field, preset.border)


def _gathered(
    measure: str,
    kind: type[Gathered],
    ddf: Array,
    mask: Array | None,
    spacing: Any,
    units: str,
    convention: str | None,
    data_format: str | None,
    least_dims: int = 1,
) -> tuple[Field, list[Array]]:
    """Return the field, how many voxels count, and the figures of each sample, each ``(B,)``."""
    field, preset, scheme, arrays = _started(measure, ddf, mask, spacing, units, None, convention, data_format)
    if field.dims < least_dims:
        raise ValueError("A field of one axis has no tetrahedra or triangles: the volume is of two or three axes.")
    before, after = SCHEMES[scheme]
    voxels = math.prod(size - before - after for size in arrays[0].shape[1:-1])
    one_pass = Pass(kind, scheme, field.scales, preset, voxels)
    with field.at():
        rows = field.backend.counting.over_neighbourhoods(one_pass, arrays, SCHEMES[scheme])
        return field, [rows[:, column] for column in range(1 + kind.size)]


def _map_of_block(scheme: str, scales: tuple[float, ...], backend: Backend, ddf: Array) -> Array:
    """Return the determinants of a block where their neighbours are."""
    xp = backend.xp
    before, after = SCHEMES[scheme]
    sizes = tuple(size - before - after for size in ddf.shape[1:-1])
    added = (2 ** len(sizes),) if scheme == "corners" else ()
    found = xp.empty((ddf.shape[0], *sizes, *added), dtype=backend.dtypes.compute(ddf), device=backend.device(ddf))
    for b in range(ddf.shape[0]):
        start = 0
        for parts, _ in slabs(backend, ddf[b, ...], None, scheme, scales):
            stop = start + parts[0].shape[0] - before - after
            if scheme == "corners":
                for corner, values in enumerate(corners(parts)):
                    found[b, start:stop, ..., corner] = values
            else:
                found[b, start:stop, ...] = of_scheme(parts, scheme)
            start = stop
    return found
