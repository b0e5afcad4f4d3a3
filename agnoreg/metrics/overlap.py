"""How two label maps overlap: Dice and what else follows from counts, from one joint histogram."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.axes import check_spacing
from agnoreg.metrics.inputs import Maps, read
from agnoreg.metrics.labels import Dense, Lookup, dense, occurring, slabs
from agnoreg.metrics.states import BOTH, FALSE_ALARM, MISSED, NEITHER

Array = Any

#: Up to so many entries the joint histogram of all labels is made; of more labels, three histograms.
LARGEST_HISTOGRAM = 1 << 22

#: What has a gradient.
INSTEAD = "agnoreg.loss.DiceLoss or agnoreg.functional.dice"

MEASURES = (
    "dice",
    "jaccard",
    "sensitivity",
    "precision",
    "volume_similarity",
    "absolute_volume_difference",
)


@dataclass(frozen=True)
class Overlap:
    """What `overlap` returns: an array ``(B, labels)`` for each measure, in the order of ``labels``, in float64.

    Of two bool masks, or a single label, ``(B,)``.

    Attributes
    ----------
    labels
        The labels, one for each column.
    dice
        ``2 |A & B| / (|A| + |B|)``, from 0 to 1, the best.
    jaccard
        ``|A & B| / |A | B|``, from 0 to 1.
    sensitivity
        ``|A & B| / |A|``, the share of y_true's voxels that y_pred has too, from 0 to 1.
    precision
        ``|A & B| / |B|``, the share of y_pred's voxels that are right, from 0 to 1.
    volume_similarity
        ``1 - ||A| - |B|| / (|A| + |B|)``, from 0 to 1; it does not see where the voxels are.
    absolute_volume_difference
        ``||A| - |B||`` in mm³ (mm², mm with fewer axes), or in voxels without ``spacing``; 0 is best.
    volume_true, volume_pred
        The volumes ``|A|`` and ``|B|`` in the same unit.
    """

    labels: tuple[int, ...]
    dice: Array
    jaccard: Array
    sensitivity: Array
    precision: Array
    volume_similarity: Array
    absolute_volume_difference: Array
    volume_true: Array
    volume_pred: Array

    @property
    def background(self) -> bool:
        """Whether label 0 is among the labels; it is if it was asked for."""
        return 0 in self.labels

    def mean(self, measure: str = "dice") -> tuple[Array, Array]:
        """Return the mean of a measure over the labels, ``(B,)``, and how many labels it is of.

        A label that neither map has is left out. One that a single map has counts, with 0.
        """
        if measure not in MEASURES:
            raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}.")
        values = getattr(self, measure)
        backend = backend_of(values)
        xp = backend.xp
        rows = xp.reshape(values, (values.shape[0], -1))
        there = ~xp.isnan(rows)
        count = xp.sum(xp.astype(there, rows.dtype), axis=1)
        return xp.sum(xp.where(there, rows, xp.zeros_like(rows)), axis=1) / count, count

    def records(self, cases: Sequence[Any] | None = None, **measures: Array) -> list[dict[str, Any]]:
        """Return a record for each label of each sample, for `summarise`.

        Parameters
        ----------
        cases
            What the samples are called, by default their numbers.
        measures
            Further measures of the same labels, each ``(B, labels)``, such as ``hd95=hausdorff(...)``.
        """
        own = {name: getattr(self, name) for name in (*MEASURES, "volume_true", "volume_pred")}
        tables = {name: _rows(values) for name, values in (own | measures).items()}
        shape = tables["dice"].shape
        for name, table in tables.items():
            if table.shape != shape:
                raise ValueError(f"{name} must have one value for each label of each sample, got {table.shape}.")
        names = list(range(shape[0])) if cases is None else list(cases)
        if len(names) != shape[0]:
            raise ValueError(f"cases must name each of {shape[0]} samples, got {len(names)} names.")
        found = []
        for b, case in enumerate(names):
            for k, label in enumerate(self.labels):
                values = {name: float(table[b, k]) for name, table in tables.items()}
                true, pred = values.pop("volume_true") > 0, values.pop("volume_pred") > 0
                state = BOTH if true and pred else MISSED if true else FALSE_ALARM if pred else NEITHER
                found.append({"case": case, "label": label, "state": state, **values})
        return found

    def __str__(self) -> str:
        left_out = "with" if self.background else "without"
        return f"Overlap of {len(self.labels)} label(s), {left_out} background (label 0)"


def _rows(values: Array) -> Any:
    """Return an array ``(B, labels)``, or ``(B,)``, as a table of NumPy's."""
    table = backend_of(values).to_numpy(values)
    return table.reshape(len(table), -1)


def overlap(
    y_true: Array,
    y_pred: Array,
    *,
    labels: Any = None,
    mask: Array | None = None,
    spacing: Any = None,
    spatial_dims: int = 3,
) -> Overlap:
    """Return how two masks, or label maps, overlap: label by label, from one joint histogram of both.

    Parameters
    ----------
    y_true, y_pred
        Masks of bools, or label maps of integers, ``(B, d1, d2, d3)``; a last axis of size 1 may follow. Floats must be
        integers, too. One-hot channels are not taken: ``argmax`` makes a map of them.
    labels
        An integer, or a sequence of them, in any order and as far apart as they may be. By default every label that
        occurs in one of the maps but 0, the background, which counts only where it is asked for; of two bool masks,
        True.
    mask
        Where it is 0, or False, a voxel does not count; of the maps' shape, with size 1 along any axis, with or without
        the axis of the batch.
    spacing
        The distance of neighbouring voxels in mm: one number, or one for each axis, number i for axis i of the array.
        Without it volumes are in voxels.
    spatial_dims
        How many spatial axes there are, 1 to 3.

    Returns
    -------
    Overlap
        Each measure as ``(B, labels)``, or ``(B,)`` for a single label, in float64, on the arrays' device. A label that
        neither map has (within the mask) is NaN. One that a single map has is 0 in every measure but the volumes. Of
        Dask arrays the results are lazy; without ``labels`` the maps are read once for those.

    Raises
    ------
    ValueError
        If the shapes differ or do not fit; if a map holds floats that are no integers, which are listed; if labels are
        no integers; if spacing is not positive, or has not one number for each axis.
    TypeError
        If a gradient is asked for: a count has none; `agnoreg.functional.dice` has.
    """
    maps = read(y_true, y_pred, labels, mask, spatial_dims, "overlap", INSTEAD)
    steps = (1.0,) * spatial_dims if spacing is None else check_spacing(spacing, spatial_dims)
    with maps.at():
        return _overlap(maps, math.prod(steps))


def _overlap(maps: Maps, voxel: float) -> Overlap:
    """Return the measures of two maps, whose voxels are so large."""
    backend = maps.backend
    labels, counts = _labels_and_counts(maps)
    count = len(labels)
    xp = backend.xp
    counts = xp.astype(counts, xp.float64)
    true, pred, both = (counts[:, part * count : (part + 1) * count] for part in range(3))
    nowhere = true + pred == 0

    def ratio(part: Array, whole: Array) -> Array:
        """Return a share, 0 where a single map has the label, NaN where none has it."""
        share = part / xp.where(whole > 0, whole, xp.ones_like(whole))
        return xp.where(nowhere, xp.asarray(math.nan, dtype=xp.float64, device=backend.device(share)), share)

    volume_true, volume_pred = true * voxel, pred * voxel
    difference = xp.abs(true - pred)
    results = (
        ratio(2 * both, true + pred),
        ratio(both, true + pred - both),
        ratio(both, true),
        ratio(both, pred),
        ratio(true + pred - difference, true + pred),
        ratio(difference * voxel, xp.ones_like(true)),
        volume_true,
        volume_pred,
    )
    return Overlap(labels, *(maps.result(values) for values in results))


def _labels_and_counts(maps: Maps) -> tuple[tuple[int, ...], Array]:
    """Return the labels, and ``(B, 3 labels)``: the voxels of each in y_true, in y_pred, and in both at once."""
    backend, labels = maps.backend, maps.labels
    xp = backend.xp
    most = dense(backend, maps.true, maps.pred)
    if most is None:
        labels = occurring(backend, maps.true, maps.pred) if labels is None else labels
        if not labels:
            return (), xp.zeros((maps.true.shape[0], 0), dtype=xp.float64)
        counting = partial(_counts, Lookup, labels, len(labels) + 1, False)
        return labels, backend.counting.over_blocks(counting, maps.arrays, 3 * len(labels))
    counts = _counts(Dense, most, most + 1, True, backend, *maps.arrays)
    if labels is None:
        there = backend.to_numpy(xp.any(counts > 0, axis=0))
        labels = tuple(label for label in range(1, most + 1) if there[label] or there[most + 1 + label])
    # A label that is too large for the maps, or below 0, is of no voxels: the column of such is the last.
    counts = xp.concat([counts, xp.zeros_like(counts[:, :1])], axis=1)
    columns = [
        part * (most + 1) + label if 0 <= label <= most else 3 * (most + 1) for part in range(3) for label in labels
    ]
    return labels, xp.take(counts, xp.asarray(columns, dtype=xp.int64, device=backend.device(counts)), axis=1)


def _counts(
    kind: Any,
    given: Any,
    size: int,
    background: bool,
    backend: Backend,
    true: Array,
    pred: Array,
    mask: Array | None = None,
) -> Array:
    """Return the counts of the places from 1, or with the background 0, to ``size - 1`` in three blocks of columns."""
    xp, lookup = backend.xp, kind(backend, given)
    rows = [
        _of_sample(lookup, size, backend, true[b, ...], pred[b, ...], None if mask is None else mask[b, ...])
        for b in range(true.shape[0])
    ]
    table = xp.stack(rows) if rows else xp.zeros((0, 3, size), dtype=xp.int64)
    return xp.reshape(table if background else table[:, :, 1:], (len(rows), -1))


def _of_sample(lookup: Any, size: int, backend: Backend, true: Array, pred: Array, mask: Array | None) -> Array:
    """Return ``(3, size)``: the voxels of each place in y_true, in y_pred, and in both at once."""
    xp = backend.xp
    joint = size * size <= LARGEST_HISTOGRAM
    total = None
    for given in slabs(backend, true, pred, *(() if mask is None else (mask,))):
        pieces, often = backend.counting.runs(given)
        t, p = (lookup.places(x) for x in pieces[:2])
        if mask is not None:
            t, p = t[pieces[2]], p[pieces[2]]
            often = None if often is None else often[pieces[2]]
        if joint:
            t *= size
            t += p
            counts = backend.counting.bincount(t, size * size, often)
        else:
            same = xp.where(t == p, t, xp.zeros_like(t))
            counts = xp.concat([backend.counting.bincount(x, size, often) for x in (t, p, same)])
        total = counts if total is None else total + counts
    if not joint:
        return xp.reshape(total, (3, size))
    table = xp.reshape(total, (size, size))
    places = xp.arange(size, device=backend.device(table))
    both = xp.take(xp.reshape(table, (-1,)), places * (size + 1))
    return xp.stack([xp.sum(table, axis=1), xp.sum(table, axis=0), both])
