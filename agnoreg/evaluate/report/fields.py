"""Pictures of a displacement field: the deformed grid, and how it changes volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.report.case import Case
from agnoreg.evaluate.report.drawing import MARK, MOVED, Picture
from agnoreg.evaluate.report.pictures import Slices
from agnoreg.evaluate.report.places import worst_slices
from agnoreg.metrics import jacobian_determinant

Array = Any

#: Lines of a deformed grid along the longest side.
LINES = 28
FOLD = MARK


@dataclass(frozen=True)
class Volumes:
    """How a field changes volumes.

    Attributes
    ----------
    determinant
        det J of ``x + u(x)`` at each voxel, by central differences; 1 where it does not count.
    counted
        Which voxels count: those that a mask leaves, but for the border, where there is no central difference.
    """

    determinant: Array
    counted: Array

    @property
    def folds(self) -> int:
        """At how many voxels the determinant is not above 0."""
        return int(np.count_nonzero(self.determinant <= 0))


def volumes(case: Case) -> Volumes | None:
    """Return how the field changes volumes, of a slice areas; None where an axis is too short for a difference."""
    assert case.ddf is not None
    shape = case.ddf.shape[:3]
    axes = [axis for axis in range(3) if shape[axis] > 1]
    if min(shape[axis] for axis in axes) < 3:
        return None
    flat = np.ascontiguousarray(case.ddf[..., axes]).reshape(1, *(shape[axis] for axis in axes), len(axes))
    with np.errstate(all="ignore"):
        values = np.asarray(jacobian_determinant(flat))
    inside = tuple(slice(1, -1) if size > 1 else slice(None) for size in shape)
    determinant, counted = np.ones(shape, values.dtype), np.zeros(shape, np.bool_)
    determinant[inside] = values.reshape(determinant[inside].shape)
    counted[inside] = True
    counted &= np.isfinite(determinant)
    if "field" in case.counts:
        counted &= case.counts["field"]
    return Volumes(np.where(counted, determinant, 1.0), counted) if counted.any() else None


def grids(slices: Slices) -> tuple[list[Picture], tuple[int, int, int]]:
    """Return the deformed grid in each plane, where displacements are largest, and where that is."""
    case = slices.case
    assert case.ddf is not None
    ddf = np.nan_to_num(case.ddf, posinf=0.0, neginf=0.0)
    places = worst_slices(np.sum(np.abs(ddf) * np.asarray(case.spacing, np.float32), axis=-1))
    return [_grid(slices, ddf, plane, places[plane.normal]) for plane in case.planes], places


def _grid(slices: Slices, ddf: Array, plane: Any, index: int) -> Picture:
    from matplotlib.collections import LineCollection

    figure = slices.on_image(plane, index, brightness=0.6)
    field = plane.cut(ddf, index)
    across, up = figure.centres()
    x = across[None] + field[..., plane.across] * figure.spacing[0]
    y = up[:, None] + field[..., plane.up] * figure.spacing[1]
    points = np.stack([x, y], axis=-1)
    step_up, step_across = (max(1, round(slices.longest / LINES / mm)) for mm in figure.spacing[::-1])
    lines = [*points[step_up // 2 :: step_up], *points[:, step_across // 2 :: step_across].swapaxes(0, 1)]
    figure.axes.add_collection(LineCollection(lines, colors=MOVED, linewidths=0.9))
    return figure.picture(f"The deformed grid over the fixed image, {slices.where(plane, index)}.")


def determinants(slices: Slices, found: Volumes) -> tuple[list[Picture], tuple[int, int, int], float]:
    """Return log2 of det J in each plane, folds marked; where that is; and the largest that is drawn."""
    folded = found.determinant <= 0
    with np.errstate(all="ignore"):
        logarithm = np.log2(np.where(folded, 1.0, found.determinant))
    places = worst_slices(folded if found.folds else np.abs(logarithm))
    limit = float(np.clip(np.percentile(np.abs(logarithm[::2, ::2, ::2]), 99.5), 0.2, 3.0))
    pictures = []
    for plane in slices.case.planes:
        index = places[plane.normal]
        figure = slices.blank(plane)
        figure.image(plane.cut(logarithm, index), cmap="PuOr_r", vmin=-limit, vmax=limit)
        marked = plane.cut(folded, index)
        if marked.any():
            _mark(figure, marked)
        folds = int(np.count_nonzero(marked))
        alt = f"Map of det J, {slices.where(plane, index)}, with {folds} folded voxels marked."
        pictures.append(figure.picture(alt))
    return pictures, places, limit


def _mark(figure: Any, marked: Array) -> None:
    """Draw voxels in the colour of folds, with a dark rim so that a single one is seen."""
    across, up = figure.centres()
    rows, columns = np.nonzero(marked)
    figure.axes.scatter(across[columns], up[rows], s=14, marker="s", color="black", linewidths=0)
    figure.axes.scatter(across[columns], up[rows], s=6, marker="s", color=FOLD, linewidths=0)


def statistics(found: Volumes) -> Sequence[tuple[str, str]]:
    """Return figures of det J with their names."""
    values = found.determinant[found.counted]
    low, middle, high = np.percentile(values[:: max(1, values.size // 1_000_000)], (1, 50, 99))
    return (
        ("smallest", f"{float(values.min()):.3g}"),
        ("1 % lie below", f"{low:.3g}"),
        ("median", f"{middle:.3g}"),
        ("99 % lie below", f"{high:.3g}"),
        ("largest", f"{float(values.max()):.3g}"),
        ("folded voxels, det J ≤ 0", f"{found.folds} of {values.size} ({100 * found.folds / values.size:.2g} %)"),
    )
