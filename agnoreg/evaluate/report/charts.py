"""Charts of a pair: the joint histogram of two images, and the histogram of det J."""

from typing import Any

import numpy as np

from agnoreg.evaluate.report.case import Case
from agnoreg.evaluate.report.drawing import DARK, Picture, figure_of, picture_of

Array = Any

BINS = 64
INK = "#1f2430"


def joint_histogram(case: Case, moved: Array, title: str) -> Picture:
    """Return the joint histogram of the fixed image and another one, over the voxels that count."""
    counts = case.counts.get("images")
    fixed, moved = (image.ravel() if counts is None else image[counts] for image in (case.fixed, moved))
    (low, high), (bottom, top) = (_range(image) for image in (fixed, moved))
    columns, rows = (
        np.clip((image - first) * (BINS / (last - first)), 0, BINS - 1).astype(np.int32)
        for image, first, last in ((fixed, low, high), (moved, bottom, top))
    )
    joint = np.bincount(rows * BINS + columns, minlength=BINS * BINS).reshape(BINS, BINS)
    figure = figure_of(420, 380)
    axes = figure.add_axes((0.16, 0.14, 0.80, 0.76))
    shown = np.log10(np.where(joint > 0, joint, np.nan))
    axes.imshow(shown, origin="lower", extent=(low, high, bottom, top), aspect="auto", cmap="cividis")
    axes.set_facecolor("white")
    axes.set_xlabel("fixed intensity", fontsize=11)
    axes.set_ylabel(f"{title} intensity", fontsize=11)
    axes.set_title(f"fixed and {title}", fontsize=12)
    axes.tick_params(labelsize=10)
    return picture_of(figure, f"Joint histogram of the fixed and the {title} image, logarithm of the counts.")


def _range(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def determinant_histogram(values: Array, folds: int) -> Picture:
    """Return the histogram of det J, of which the part that is not above 0 is marked."""
    low, high = max(float(values.min()), -3.0), min(float(values.max()), 8.0)
    high = max(high, low + 0.1)
    numbers, edges = np.histogram(np.clip(values, low, high), 60, (low, high))
    figure = figure_of(460, 340)
    axes = figure.add_axes((0.15, 0.17, 0.82, 0.72))
    axes.bar(edges[:-1], numbers, np.diff(edges), align="edge", color=DARK["moved"])
    axes.set_yscale("log")
    axes.axvline(1.0, color=INK, linewidth=1, linestyle="dotted")
    if low < 0:
        axes.axvspan(low, 0.0, color=DARK["fixed"], alpha=0.2)
        axes.text(0.02, 0.95, "folded", transform=axes.transAxes, fontsize=11, va="top", color="#5c3c00")
    axes.set_xlim(low, high)
    axes.set_xlabel("det J (1: volume kept; 0 and below: folded)", fontsize=11)
    axes.set_ylabel("voxels", fontsize=11)
    axes.tick_params(labelsize=10)
    return picture_of(figure, f"Histogram of det J, from {low:.3g} to {high:.3g}; {folds} voxels are folded.")
