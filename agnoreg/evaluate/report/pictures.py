"""Pictures of two images: beside and over one another, what differs, and where they correlate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.evaluate.report.case import Case
from agnoreg.evaluate.report.drawing import FIXED, LONGEST, Picture, SliceFigure
from agnoreg.evaluate.report.orientation import Plane
from agnoreg.evaluate.report.places import Agreement

Array = Any

#: Squares of a checkerboard along the longest side.
SQUARES = 9
#: Shares of the voxels that are drawn black and white at least.
TAILS = (0.5, 99.7)
#: How far a close-up reaches from its middle, in mm, or a tenth of the longest side where that is more.
CLOSE = 22.0


@dataclass(frozen=True)
class Window:
    """The intensities that are drawn black and white."""

    low: float
    high: float

    def grey(self, values: Array) -> Array:
        """Return a slice in [0, 1]."""
        return np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0)


def window_of(image: Array) -> Window:
    """Return the window of an image, by some of its voxels."""
    step = max(1, round((image.size / 200_000) ** (1 / 3)))
    some = image[::step, ::step, ::step]
    some = some[some != 0] if np.count_nonzero(some) else some
    low, high = (float(value) for value in np.percentile(some, TAILS))
    low = min(low, float(np.percentile(image[::step, ::step, ::step], TAILS[0])))
    return Window(low, high if high > low else low + 1.0)


def threshold_of(image: Array) -> float:
    """Return Otsu's threshold between dark and bright voxels."""
    counts, edges = np.histogram(image[::2, ::2, ::2] if min(image.shape) > 3 else image, 128)
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), counts.sum() - np.cumsum(counts)
    sums = np.cumsum(counts * centres)
    with np.errstate(all="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    between = np.nan_to_num(between)
    # Where no voxel lies between the two, all thresholds there are as good: the middle one.
    return float(edges[1:][between >= between.max() * (1 - 1e-9)].mean())


class Slices:
    """Draws slices of a pair, all to one scale.

    Parameters
    ----------
    case
        The pair.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        sides = [size * mm for size, mm in zip(case.fixed.shape, case.spacing, strict=True)]
        self.longest = max(sides)
        self.scale = LONGEST / self.longest
        self.windows = {
            name: window_of(image)
            for name, image in (("fixed", case.fixed), ("moved", case.moved), ("before", case.before))
            if image is not None
        }
        self.threshold = threshold_of(case.fixed)

    def blank(self, plane: Plane) -> SliceFigure:
        """Return an empty picture of a plane."""
        shape = self.case.fixed.shape
        return SliceFigure(plane, self.case.spacing, self.scale, (shape[plane.up], shape[plane.across]))

    def grey(self, plane: Plane, index: int, name: str) -> Array:
        """Return a slice of an image, ``"fixed"``, ``"moved"`` or ``"before"``, in [0, 1]."""
        return self.windows[name].grey(plane.cut(getattr(self.case, name), index))

    def on_image(self, plane: Plane, index: int, name: str = "fixed", brightness: float = 1.0) -> SliceFigure:
        """Return a picture of a slice of an image, on which more can be drawn."""
        figure = self.blank(plane)
        figure.image(self.grey(plane, index, name) * brightness, cmap="gray", vmin=0, vmax=1)
        return figure

    def edges(self, plane: Plane, index: int) -> Array:
        """Return the slice of the fixed image of which outlines are drawn."""
        return smooth(plane.cut(self.case.fixed, index), plane.along(self.case.spacing))

    def compared(self, plane: Plane, index: int) -> list[Picture]:
        """Return the slice of each image, with the outlines of what is bright in the fixed one."""
        pictures = []
        for name in self.windows:
            figure = self.on_image(plane, index, name)
            figure.outline(self.edges(plane, index), self.threshold, FIXED, 1.1)
            alt = f"The {TITLES[name]} image, {self.where(plane, index)}, with the outlines of the fixed image."
            pictures.append(figure.picture(alt, TITLES[name], name))
        return pictures

    def checkerboard(self, plane: Plane, index: int) -> Picture:
        """Return a slice whose squares are of the fixed and of the moved image in turn."""
        figure = self.blank(plane)
        side = self.longest / SQUARES
        across, up = figure.centres()
        odd = (np.floor(up[:, None] / side) + np.floor(across[None] / side)) % 2 == 1
        both = np.where(odd, self.grey(plane, index, "moved"), self.grey(plane, index, "fixed"))
        figure.image(both, cmap="gray", vmin=0, vmax=1)
        return figure.picture(f"Checkerboard of the fixed and the moved image, {self.where(plane, index)}.")

    def differences(self, name: str, places: Sequence[int], limit: float) -> list[Picture]:
        """Return an image minus the fixed one, in each plane, from -limit to limit."""
        pictures = []
        for plane in self.case.planes:
            index = places[plane.normal]
            figure = self.blank(plane)
            figure.light = True
            figure.image(self._difference(plane, index, name), cmap="RdBu_r", vmin=-limit, vmax=limit)
            alt = f"The {TITLES[name]} image minus the fixed one, {self.where(plane, index)}."
            pictures.append(figure.picture(alt))
        return pictures

    def limit(self, places: Sequence[int]) -> float:
        """Return the largest difference that is drawn, the same before and after."""
        names = [name for name in self.windows if name != "fixed"]
        values = [
            np.abs(self._difference(plane, places[plane.normal], name)) for plane in self.case.planes for name in names
        ]
        return max(float(np.percentile(np.concatenate([x.ravel() for x in values]), 99.8)), 1e-6)

    def _difference(self, plane: Plane, index: int, name: str) -> Array:
        difference = plane.cut(getattr(self.case, name), index) - plane.cut(self.case.fixed, index)
        counts = self.case.counts.get("images")
        return difference if counts is None else np.where(plane.cut(counts, index), difference, 0.0)

    def correlations(self, name: str, found: Agreement, places: Sequence[int]) -> list[Picture]:
        """Return where an image does not correlate with the fixed one, over the fixed image, in each plane."""
        from matplotlib import colormaps

        strong = max(float(np.percentile(found.contrast[::3, ::3, ::3], 85)), 1e-9)
        pictures = []
        for plane in self.case.planes:
            index = places[plane.normal]
            figure = self.on_image(plane, index, brightness=0.75)
            lost = 1 - plane.cut(found.correlation, index)
            colours = colormaps["inferno"](0.25 + 0.75 * lost)
            colours[..., 3] = 0.8 * np.clip(1.3 * lost, 0, 1) * np.clip(plane.cut(found.contrast, index) / strong, 0, 1)
            figure.image(colours)
            alt = f"Where the {TITLES[name]} image does not correlate with the fixed one, {self.where(plane, index)}."
            pictures.append(figure.picture(alt))
        return pictures

    def close_ups(self, place: Sequence[int]) -> list[list[Picture]]:
        """Return for each plane what lies around a voxel, in each image."""
        reach = max(CLOSE, self.longest / 10)
        rows = []
        for plane in self.case.planes:
            sizes = plane.along(self.case.spacing)
            # As far inside as there is room, so that a place at the border does not show what is beyond.
            sides = [self.case.fixed.shape[axis] * mm for axis, mm in zip((plane.across, plane.up), sizes, strict=True)]
            middle = [
                side / 2 if side <= 2 * reach else float(np.clip((place[axis] + 0.5) * mm, reach, side - reach))
                for axis, mm, side in zip((plane.across, plane.up), sizes, sides, strict=True)
            ]
            row = []
            for name in self.windows:
                figure = self.on_image(plane, place[plane.normal], name)
                figure.outline(self.edges(plane, place[plane.normal]), self.threshold, FIXED, 1.1)
                figure.figure.set_size_inches(2.2, 2.2)
                figure.axes.set_xlim(middle[0] - reach, middle[0] + reach)
                figure.axes.set_ylim(middle[1] - reach, middle[1] + reach)
                where = self.where(plane, place[plane.normal])
                alt = f"Close-up of the worst place in the {TITLES[name]} image, {where}."
                row.append(figure.picture(alt, f"{TITLES[name]}, {plane.name}", name))
            rows.append(row)
        return rows

    def where(self, plane: Plane, index: int) -> str:
        """Return which slice that is, in words."""
        count = self.case.fixed.shape[plane.normal]
        return f"{plane.name} slice {index + 1} of {count}" if count > 1 else f"{plane.name} plane"


TITLES = {"fixed": "fixed", "moved": "moved", "before": "moving, before"}


def smooth(values: Array, sizes: Sequence[float]) -> Array:
    """Return a slice ``(up, across)`` smoothed a little, so that an outline follows edges and not noise.

    Along an axis whose voxels are longer than the others by half nothing is smoothed: an outline would leave the edge
    by millimetres.

    Parameters
    ----------
    values
        The slice.
    sizes
        Of its voxels, across and up.
    """
    values = values.astype(np.float32)
    for axis, size in enumerate(reversed(sizes)):
        if size <= 1.5 * min(sizes):
            padded = np.pad(values, [(1, 1) if other == axis else (0, 0) for other in range(2)], mode="edge")
            low, middle, high = (np.take(padded, np.arange(values.shape[axis]) + step, axis) for step in range(3))
            values = (low + 2 * middle + high) / 4
    return values
