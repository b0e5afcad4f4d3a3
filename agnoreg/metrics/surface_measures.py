"""The surface measures as functions of two masks, or of two label maps."""

from typing import Any

from agnoreg.metrics.surface_maps import surface_distances

Array = Any


def hausdorff(
    y_true: Array,
    y_pred: Array,
    *,
    spacing: Any = None,
    percentile: float = 100,
    labels: Any = None,
    surface: str | None = None,
    combine: str | None = None,
    directed: str | None = None,
    empty: str | None = None,
    mask: Array | None = None,
    convention: str | None = None,
    spatial_dims: int = 3,
) -> Array:
    """Return the Hausdorff distance of two surfaces, or a percentile of it, in mm; 0 is best.

    It is the larger of two directed distances: the maximum, or percentile, of how far the elements of one surface are
    from the other. A percentile of surfels, or triangles, is the smallest distance within which so much of the area
    lies, and of voxels that within which so many of them lie. Conventions of tools that count voxels interpolate it.

    Parameters
    ----------
    y_true, y_pred, spacing, labels, surface, mask, convention, spatial_dims
        See `surface_distances`.
    percentile
        From 0 to 100; 95 for the usual HD95.
    combine
        ``"max"`` (the default) of both directions, their ``"mean"``, or ``"pooled"``: of all distances of both.
    directed
        ``"true_to_pred"`` or ``"pred_to_true"``: distances of the elements of one surface alone.
    empty
        What the measure is where a surface is missing. ``"default"``: NaN where both are, inf where one is.
        ``"worst"``: 0 where both are, inf where one is. ``"diagonal"``: NaN, and the length of the image's diagonal.
        ``"nan"``: NaN. ``"raise"``: a ValueError.

    Returns
    -------
    Array
        ``(B, labels)``, or ``(B,)`` for a single label or two bool masks, in float64, on the arrays' device.

    Raises
    ------
    ValueError
        As `surface_distances`, or if percentile is no number from 0 to 100.
    TypeError
        If a gradient is asked for, which it has not.

    References
    ----------
    Nikolov et al., arXiv 1809.04430, for surfels; G. Podobnik and T. Vrtovec, arXiv 2410.02630, for how tools
    differ.
    """
    found = surface_distances(
        y_true,
        y_pred,
        spacing=spacing,
        labels=labels,
        surface=surface,
        mask=mask,
        convention=convention,
        spatial_dims=spatial_dims,
    )
    return found.hausdorff(percentile, combine=combine, directed=directed, empty=empty)


def masd(
    y_true: Array,
    y_pred: Array,
    *,
    spacing: Any = None,
    labels: Any = None,
    surface: str | None = None,
    combine: str | None = None,
    directed: str | None = None,
    empty: str | None = None,
    mask: Array | None = None,
    convention: str | None = None,
    spatial_dims: int = 3,
) -> Array:
    """Return the mean average surface distance in mm: the mean of the two directed mean distances; 0 is best.

    Both surfaces count alike, however large they are.

    Parameters
    ----------
    y_true, y_pred, spacing, labels, surface, mask, convention, spatial_dims
        See `surface_distances`.
    combine
        ``"mean"`` (the default) of both directions, their ``"max"``, or ``"pooled"``, which is the ASSD.
    directed, empty
        See `hausdorff`.

    Returns
    -------
    Array
        ``(B, labels)``, or ``(B,)`` for a single label or two bool masks, in float64, on the arrays' device.

    Raises
    ------
    ValueError
        As `surface_distances`.
    TypeError
        If a gradient is asked for, which it has not.
    """
    found = surface_distances(
        y_true,
        y_pred,
        spacing=spacing,
        labels=labels,
        surface=surface,
        mask=mask,
        convention=convention,
        spatial_dims=spatial_dims,
    )
    return found.masd(combine=combine, directed=directed, empty=empty)


def assd(
    y_true: Array,
    y_pred: Array,
    *,
    spacing: Any = None,
    labels: Any = None,
    surface: str | None = None,
    combine: str | None = None,
    directed: str | None = None,
    empty: str | None = None,
    mask: Array | None = None,
    convention: str | None = None,
    spatial_dims: int = 3,
) -> Array:
    """Return the average symmetric surface distance in mm: the mean of all distances of both surfaces; 0 is best.

    The larger surface counts for more.

    Parameters
    ----------
    y_true, y_pred, spacing, labels, surface, mask, convention, spatial_dims
        See `surface_distances`.
    combine
        ``"pooled"`` (the default), or the ``"mean"`` of both directions, which is the MASD, or their ``"max"``.
    directed, empty
        See `hausdorff`.

    Returns
    -------
    Array
        ``(B, labels)``, or ``(B,)`` for a single label or two bool masks, in float64, on the arrays' device.

    Raises
    ------
    ValueError
        As `surface_distances`.
    TypeError
        If a gradient is asked for, which it has not.
    """
    found = surface_distances(
        y_true,
        y_pred,
        spacing=spacing,
        labels=labels,
        surface=surface,
        mask=mask,
        convention=convention,
        spatial_dims=spatial_dims,
    )
    return found.assd(combine=combine, directed=directed, empty=empty)


def nsd(
    y_true: Array,
    y_pred: Array,
    *,
    tolerance: Any,
    spacing: Any = None,
    labels: Any = None,
    surface: str | None = None,
    combine: str | None = None,
    directed: str | None = None,
    empty: str | None = None,
    mask: Array | None = None,
    convention: str | None = None,
    spatial_dims: int = 3,
) -> Array:
    """Return the normalised surface Dice: the share of both surfaces within a tolerance of the other one, 0 to 1.

    Higher is better. A distance of just the tolerance is within it, compared in float64.

    Parameters
    ----------
    y_true, y_pred, spacing, labels, surface, mask, convention, spatial_dims
        See `surface_distances`.
    tolerance
        In mm, a number or one for each of the labels: what two observers differ by, say. There is no default.
    combine
        ``"pooled"`` (the default): the share of both areas together; or the ``"mean"``, or ``"max"``, of both shares.
    directed
        See `hausdorff`.
    empty
        What the measure is where a surface is missing. ``"default"`` and ``"diagonal"``: NaN where both are, 0 where
        one is. ``"worst"``: 1 where both are, 0 where one is. ``"nan"``: NaN. ``"raise"``: a ValueError.

    Returns
    -------
    Array
        ``(B, labels)``, or ``(B,)`` for a single label or two bool masks, in float64, on the arrays' device.

    Raises
    ------
    ValueError
        As `surface_distances`, or if tolerance is no number of at least 0, nor one for each label.
    TypeError
        If a gradient is asked for, which it has not.

    References
    ----------
    Nikolov et al., arXiv 1809.04430.
    """
    found = surface_distances(
        y_true,
        y_pred,
        spacing=spacing,
        labels=labels,
        surface=surface,
        mask=mask,
        convention=convention,
        spatial_dims=spatial_dims,
    )
    return found.nsd(tolerance, combine=combine, directed=directed, empty=empty)
