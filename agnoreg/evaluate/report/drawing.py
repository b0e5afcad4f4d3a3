"""Pictures of slices: PNG as data URIs, voxels true to their aspect, the patient's sides marked."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agnoreg.evaluate.report.orientation import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = Any

#: Colours that colour-blind readers tell apart, by Okabe and Ito.
FIXED, MOVED, BEFORE, MARK = "#E69F00", "#56B4E9", "#CC79A7", "#F0E442"
DARK = {"fixed": "#8a5a00", "moved": "#0072B2", "before": "#a04a80"}
#: Pixels along the longest side of a volume.
LONGEST = 460
DPI = 100


@dataclass(frozen=True)
class Picture:
    """A picture on a page.

    Attributes
    ----------
    uri
        The PNG as a data URI.
    alt
        What it shows, for those who do not see it.
    width, height
        In pixels.
    caption
        What stands below it; may be empty.
    kind
        A class of CSS; may be empty.
    """

    uri: str
    alt: str
    width: int
    height: int
    caption: str = ""
    kind: str = ""


def figure_of(width: int, height: int) -> "Figure":
    """Return an empty matplotlib figure of so many pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def picture_of(figure: "Figure", alt: str, caption: str = "", kind: str = "") -> Picture:
    """Return a figure as a picture of at most 256 colours."""
    from PIL import Image

    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(256, dither=Image.Dither.NONE)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return Picture(f"data:image/png;base64,{encoded}", alt, width, height, caption, kind)


class SliceFigure:
    """A picture of one slice.

    Parameters
    ----------
    plane
        Which plane it lies in.
    spacing
        Voxel sizes in mm, in RAS order.
    scale
        Pixels a mm.
    shape
        Of the slice, ``(up, across)``.
    """

    def __init__(self, plane: Plane, spacing: Sequence[float], scale: float, shape: tuple[int, int]) -> None:
        self.plane, self.spacing, self.shape = plane, plane.along(spacing), shape
        #: Of a voxel's shorter side.
        self.pixels = min(self.spacing) * scale
        #: Whether what is drawn is light, so that letters must be dark.
        self.light = False
        self.size = (shape[1] * self.spacing[0], shape[0] * self.spacing[1])
        width, height = (max(24, round(side * scale)) for side in self.size)
        self.figure = figure_of(width, height)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.axes.set_xlim(0, self.size[0])
        self.axes.set_ylim(0, self.size[1])
        self.axes.set_facecolor("black")
        self.figure.set_facecolor("black")

    def image(self, values: Array, **options: Any) -> None:
        """Draw a slice ``(up, across)``, or one of RGBA, with `imshow`'s options."""
        extent = (0.0, self.size[0], 0.0, self.size[1])
        self.axes.imshow(values, extent=extent, origin="lower", aspect="auto", **options)
        self.axes.set_xlim(0, self.size[0])
        self.axes.set_ylim(0, self.size[1])

    def centres(self) -> tuple[Array, Array]:
        """Return where the voxels' centres lie in the picture, in mm: across, up."""
        across, up = (
            (np.arange(n) + 0.5) * size for n, size in zip((self.shape[1], self.shape[0]), self.spacing, strict=True)
        )
        return across, up

    def outline(self, values: Array, level: float, colour: str, width: float = 1.2, style: str = "solid") -> None:
        """Draw where values of a slice cross a level."""
        if min(values.shape) < 2 or not np.min(values) < level < np.max(values):
            return
        across, up = self.centres()
        self.axes.contour(across, up, values, levels=[level], colors=[colour], linewidths=width, linestyles=style)

    def letters(self) -> None:
        """Mark the patient's sides at the edges."""
        from matplotlib.patheffects import withStroke

        left, right, bottom, top = self.plane.letters
        ink, rim = ("black", "white") if self.light else ("white", "black")
        inches = self.figure.get_size_inches()
        x, y = 0.05 / inches[0], 0.05 / inches[1]
        for letter, place, across, up in (
            (left, (x, 0.5), "left", "center"),
            (right, (1 - x, 0.5), "right", "center"),
            (bottom, (0.5, y), "center", "bottom"),
            (top, (0.5, 1 - y), "center", "top"),
        ):
            self.axes.text(
                place[0],
                place[1],
                letter,
                transform=self.axes.transAxes,
                ha=across,
                va=up,
                color=ink,
                fontsize=11,
                fontweight="bold",
                path_effects=[withStroke(linewidth=2.5, foreground=rim)],
            )

    def picture(self, alt: str, caption: str = "", kind: str = "") -> Picture:
        """Return the picture, with the patient's sides marked."""
        self.letters()
        return picture_of(self.figure, alt, caption, kind)
