"""Pictures of a displacement field: the deformed grid, and how it changes volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.backend import get_backend
from agnoreg.evaluate.records import Record
from agnoreg.evaluate.report.case import Case
from agnoreg.evaluate.report.drawing import DPI, MARK, MOVED, Picture, SliceFigure
from agnoreg.evaluate.report.pictures import Slices
from agnoreg.evaluate.report.places import worst_slices
from agnoreg.metrics import jacobian_determinant
from agnoreg.metrics.determinants import digital
from agnoreg.metrics.field_conventions import SCHEMES, field_convention
from agnoreg.metrics.field_figures import slabs

Array = Any

#: Lines of a deformed grid along the longest side.
LINES = 28
#: The colours of voxels that fold by the determinant, and of those that fold digitally alone.
FOLD, DIGITAL = MARK, MOVED
#: Of the mark of a fold, in pixels.
SMALLEST = 5.0
#: The colour of the fixed image's outlines on a map.
OUTLINE = "#4d5361"
#: Conventions that add 3 to the determinant, so that they count no fold.
RAISED = ("learn2reg", "lumir")


@dataclass(frozen=True)
class Volumes:
    """How a field changes volumes, and where it folds.

    Attributes
    ----------
    determinant
        det J of ``x + u(x)`` at each voxel; 1 where it does not count.
    counted
        Which voxels count: those that a mask leaves, but for the border where it has no determinant.
    folded
        Where the determinant says that the field folds.
    digital
        Where it folds digitally: one of the determinants of corners and tetrahedra around a voxel is at most 0.
    definition
        Of the determinant and of its folds, in words.
    """

    determinant: Array
    counted: Array
    folded: Array
    digital: Array
    definition: str

    @property
    def folds(self) -> int:
        """How many voxels are folded by the determinant."""
        return int(np.count_nonzero(self.folded))

    @property
    def digital_folds(self) -> int:
        """How many voxels are folded digitally."""
        return int(np.count_nonzero(self.digital))

    @property
    def only_digital(self) -> int:
        """How many voxels are folded digitally, and not by the determinant."""
        return int(np.count_nonzero(self.digital & ~self.folded))


def volumes(case: Case, convention: str | None = None) -> Volumes | None:
    """Return how the field changes volumes, of a slice areas; None where an axis is too short for a difference.

    Parameters
    ----------
    case
        The pair.
    convention
        Whose determinant `agnoreg.metrics.folding` was asked for; its number 3 is not added here.
    """
    assert case.ddf is not None
    # Of the file's axes, as the metrics are: which tetrahedra a voxel has depends on their directions.
    field = case.orientation.file_field(case.ddf)
    shape = field.shape[:3]
    axes = [axis for axis in range(3) if shape[axis] > 1]
    if min(shape[axis] for axis in axes) < 3:
        return None
    flat = np.ascontiguousarray(field[..., axes]).reshape(1, *(shape[axis] for axis in axes), len(axes))
    preset = field_convention("jacobian_determinant", convention)
    scheme = preset.scheme_for(len(axes))
    before, after = (reach + preset.border for reach in SCHEMES[scheme])
    if min(shape[axis] for axis in axes) <= before + after:
        return None
    with np.errstate(all="ignore"):
        values = np.asarray(jacobian_determinant(flat, convention=convention))
        digital = _digital(flat[0])
    determinant, there = _placed(values, shape, before, after, 1.0)
    folds_digitally, _ = _placed(digital, shape, 1, 1, False)
    turn = case.orientation.volume
    determinant, counted, folds_digitally = turn(determinant), turn(there), turn(folds_digitally)
    counted = counted & np.isfinite(determinant)
    if "field" in case.counts:
        counted &= case.counts["field"]
    determinant = np.where(counted, determinant, 1.0)
    folded = determinant <= 0 if preset.zero_folds else determinant < 0
    if not counted.any():
        return None
    return Volumes(determinant, counted, folded, folds_digitally & counted, _definition(convention, scheme))


def _placed(values: Array, shape: Sequence[int], before: int, after: int, elsewhere: Any) -> tuple[Array, Array]:
    """Return values where their voxels are in a volume, and which voxels those are."""
    inside = tuple(slice(before, size - after) if size > 1 else slice(None) for size in shape)
    placed, there = np.full(shape, elsewhere, values.dtype), np.zeros(shape, np.bool_)
    placed[inside] = values.reshape(placed[inside].shape)
    there[inside] = True
    return placed, there


def _digital(field: Array) -> Array:
    """Return where a field folds digitally, at the voxels that have all neighbours."""
    found: list[Array] = []
    for parts, _ in slabs(get_backend("numpy"), field, None, "corners", (1.0,) * field.shape[-1]):
        found.append(np.logical_or.reduce([values <= 0 for values in digital(parts)]))
    return np.concatenate(found)


def _definition(convention: str | None, scheme: str) -> str:
    """Return what a determinant and a fold are, in words."""
    folds = "det J < 0" if convention == "icon" else "det J ≤ 0"
    border = {"voxelmorph": ", one-sided at the border", "transmorph": ", one-sided at the border"}
    whose = "" if convention is None or convention in RAISED else f", as {convention} has it"
    return f"{folds} by {scheme} differences{border.get(convention or '', '')}{whose}"


def grids(slices: Slices) -> tuple[list[Picture], tuple[int, int, int]]:
    """Return the deformed grid in each plane, where bright parts are displaced most, and where that is."""
    case = slices.case
    assert case.ddf is not None
    ddf = np.nan_to_num(case.ddf, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(ddf * np.asarray(case.spacing, np.float32), axis=-1)
    places = worst_slices(_of_the_bright(slices, lengths))
    return [_grid(slices, ddf, plane, places[plane.normal]) for plane in case.planes], places


def _of_the_bright(slices: Slices, values: Array) -> Array:
    """Return values where the fixed image is bright, and 0 elsewhere; all where that leaves nothing."""
    inside = np.where(slices.case.fixed > slices.threshold, values, 0)
    return inside if inside.any() else values


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
    with np.errstate(all="ignore"):
        logarithm = np.log2(np.where(found.determinant > 0, found.determinant, 1.0))
    folds = found.folded | found.digital
    places = worst_slices(folds if folds.any() else _of_the_bright(slices, np.abs(logarithm)))
    limit = float(np.clip(np.percentile(np.abs(logarithm[::2, ::2, ::2]), 99.5), 0.2, 3.0))
    pictures = []
    for plane in slices.case.planes:
        index = places[plane.normal]
        figure = slices.blank(plane)
        figure.light = True
        figure.image(plane.cut(logarithm, index), cmap="PuOr_r", vmin=-limit, vmax=limit)
        figure.outline(slices.edges(plane, index), slices.threshold, OUTLINE, 0.8)
        folded, digital_alone = plane.cut(found.folded, index), plane.cut(found.digital & ~found.folded, index)
        _mark(figure, digital_alone, DIGITAL, "D")
        _mark(figure, folded, FOLD, "s")
        marked = f"{int(np.count_nonzero(folded))} folded voxels marked"
        if digital_alone.any():
            marked += f", and {int(np.count_nonzero(digital_alone))} that fold digitally"
        pictures.append(figure.picture(f"Map of det J, {slices.where(plane, index)}, with {marked}."))
    return pictures, places, limit


def _mark(figure: SliceFigure, marked: Array, colour: str, marker: str) -> None:
    """Draw voxels in the colour of folds, as large as they are, with a dark rim; a single small one is seen, too."""
    across, up = figure.centres()
    rows, columns = np.nonzero(marked)
    side = max(SMALLEST, figure.pixels) * (1 if marker == "s" else 0.7)
    options: dict[str, Any] = {"s": (side * 72 / DPI) ** 2, "marker": marker, "linewidths": 0.6}
    figure.axes.scatter(across[columns], up[rows], color=colour, edgecolors="black", **options)


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
        (found.definition, _share(found.folds, values.size)),
        ("digital folding", _share(found.digital_folds, values.size)),
    )


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({100 * count / of:.2g} %)"


def counted_by(records: Sequence[Record]) -> tuple[str | None, list[str], list[str]]:
    """Return the convention of an evaluation's folds, and which of its metrics count by the determinant and digitally.

    A convention that adds a number to the determinant counts no folds: its metric is in neither list.
    """
    convention, plain, digitally = None, [], []
    for record in records:
        own = record.arguments.get("convention")
        if record.metric in ("folding_count", "folding_percent"):
            convention = own
            if own not in RAISED:
                plain.append(record.title)
        elif record.metric in ("digital_folding_percent", "ndv", "ndv_percent"):
            digitally.append(record.title)
    return convention, plain, digitally
