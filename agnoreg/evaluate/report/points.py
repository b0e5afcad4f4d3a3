"""Landmarks: how far each is off, and where the worst one lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agnoreg.evaluate.landmarks import Landmark
from agnoreg.evaluate.report.drawing import DARK, FIXED, Picture, figure_of, picture_of
from agnoreg.evaluate.report.pictures import Slices

#: Landmarks that are listed, the worst ones.
LISTED = 12
#: What the AAPM's task group 132 asks for: of the mean, and of the largest error, in mm.
MEAN, LARGEST = 2.0, 5.0


@dataclass(frozen=True)
class Point:
    """A landmark: its number, its errors in mm before and after, as they are printed, whether it lies outside."""

    number: int
    before: str
    after: str
    outside: bool


def worst_points(landmarks: Sequence[Landmark]) -> list[Point]:
    """Return the landmarks that are farthest off, the worst first; numbers count from 1."""
    order = sorted(range(len(landmarks)), key=lambda index: _error(landmarks[index]), reverse=True)
    return [
        Point(index + 1, f"{landmarks[index].before:.3g}", f"{landmarks[index].distance:.3g}", landmarks[index].outside)
        for index in order[:LISTED]
    ]


def _error(landmark: Landmark) -> float:
    return math.inf if math.isnan(landmark.distance) else landmark.distance


def sorted_errors(landmarks: Sequence[Landmark]) -> Picture:
    """Return a chart of all errors, the smallest first, before and after."""
    figure = figure_of(460, 340)
    axes = figure.add_axes((0.14, 0.16, 0.82, 0.76))
    share = 100 * (np.arange(len(landmarks)) + 1) / len(landmarks)
    series = (("before", [one.before for one in landmarks]), ("after", [one.distance for one in landmarks]))
    for name, distances in series:
        colour, style = (DARK["before"], "dashed") if name == "before" else (DARK["moved"], "solid")
        axes.step(np.sort(distances), share, where="post", color=colour, linestyle=style, linewidth=2, label=name)
    for limit, text in ((MEAN, "2 mm"), (LARGEST, "5 mm")):
        axes.axvline(limit, color="#767d8c", linewidth=1, linestyle="dotted")
        # Above the frame, where no curve and no legend is.
        axes.text(limit, 102, text, fontsize=10, color="#555d6e", ha="center", va="bottom")
    axes.set_xlim(0, None)
    axes.set_ylim(0, 101)
    axes.set_xlabel("error, mm", fontsize=11)
    axes.set_ylabel("landmarks within, %", fontsize=11)
    axes.tick_params(labelsize=10)
    axes.legend(fontsize=10, loc="lower right")
    largest = max(one.distance for one in landmarks)
    alt = (
        f"Share of {len(landmarks)} landmarks within an error, before and after; the largest after is {largest:.3g} mm."
    )
    return picture_of(figure, alt)


def around(slices: Slices, landmark: Landmark, number: int) -> tuple[list[Picture], list[str]]:
    """Return the slices of the fixed image through a landmark, which is marked, and which they are."""
    case = slices.case
    voxel = list(landmark.fixed)
    if len(voxel) < 3:  # Of a slice, along its own axes.
        shape = case.orientation.file_shape(case.fixed.shape)
        voxel = [voxel.pop(0) if size > 1 and voxel else 0.0 for size in shape]
    place = case.orientation.place(voxel, case.fixed.shape)
    pictures, where = [], []
    for plane in case.planes:
        index = int(np.clip(round(place[plane.normal]), 0, case.fixed.shape[plane.normal] - 1))
        figure = slices.on_image(plane, index)
        across, up = ((place[axis] + 0.5) * case.spacing[axis] for axis in (plane.across, plane.up))
        figure.axes.plot(across, up, "o", ms=14, mfc="none", mec="black", mew=3.5)
        figure.axes.plot(across, up, "o", ms=14, mfc="none", mec=FIXED, mew=2)
        where.append(slices.where(plane, index))
        pictures.append(figure.picture(f"The fixed image with a ring around landmark {number}, {where[-1]}."))
    return pictures, where
