"""A picture of what each loss sees, computed by the loss itself on a small plane, while the site is built."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import agnoreg
from agnoreg.functional import warp

matplotlib.use("Agg")

from matplotlib import pyplot as plt

SIZE = 64
#: How far the moving image is shifted along the first axis, in voxels.
SHIFTS = np.arange(-16, 17)
#: Colours of Okabe and Ito, which colour-blind people tell apart, and the lines that go with them.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
LINES = ("-", "--", "-.", ":")

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "agnoreg"}


def phantom() -> np.ndarray:
    """Return a plane that looks somewhat like a slice of a head, ``(64, 64)`` in [0, 1]."""
    y, x = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE))
    image = np.zeros((SIZE, SIZE))
    for value, (cx, cy), (rx, ry) in (
        (0.9, (0, 0), (0.62, 0.78)),
        (-0.5, (0, 0), (0.55, 0.70)),
        (-0.25, (-0.18, 0.05), (0.12, 0.30)),
        (-0.25, (0.18, 0.05), (0.12, 0.30)),
        (0.35, (0.1, -0.42), (0.16, 0.12)),
        (0.2, (-0.25, 0.45), (0.1, 0.1)),
    ):
        distance = np.hypot((x - cx) / rx, (y - cy) / ry)
        image += value / (1 + np.exp((distance - 1) * 24))
    noise = np.random.default_rng(0).normal(size=image.shape)
    return np.clip(image + 0.015 * noise, 0, 1)


def disc(radius: float = 0.4) -> np.ndarray:
    """Return a soft-edged label of a plane."""
    y, x = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE))
    return 1 / (1 + np.exp((np.hypot(x, 0.8 * y) - radius) * 30))


def shifted(image: np.ndarray, by: float) -> np.ndarray:
    """Return a plane moved along its first axis."""
    field = np.zeros((1, *image.shape, 2))
    field[..., 0] = -by
    return np.asarray(warp(image[None], field))[0]


def shading(image: np.ndarray) -> np.ndarray:
    """Return the plane under a bias field."""
    return np.clip(image * np.linspace(0.35, 1.0, SIZE)[None, :], 0, 1)


def remapped(image: np.ndarray) -> np.ndarray:
    """Return the plane in another contrast, which is no monotonic function of the first."""
    return np.clip(0.15 + 0.8 * np.sin(math.pi * image) ** 2 - 0.15 * (image < 0.05), 0, 1)


CONTRASTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "same contrast": lambda image: image,
    "shading": shading,
    "inverted": lambda image: 1 - image,
    "other modality": remapped,
}
LABELS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "same size": lambda label: label,
    "smaller": lambda label: disc(0.28),
    "larger": lambda label: disc(0.52),
}


def draw(name: str, loss: Any, path: Path) -> str:
    """Draw the picture of a registered loss and return its description for who cannot see it."""
    with plt.rc_context(STYLE):
        if loss.inputs == 1:
            return _of_field(loss, path)
        if "images" in loss.measured_on:
            return _of_pair(loss, phantom(), CONTRASTS, path)
        return _of_pair(loss, disc(), LABELS, path)


def _of_pair(loss: Any, fixed: np.ndarray, versions: Mapping[str, Any], path: Path) -> str:
    """Draw the pair, the loss's gradient, and the loss against a shift for each version of the moving image."""
    figure, axes = plt.subplots(1, 4, figsize=(10.5, 2.7), width_ratios=(1, 1, 1, 1.7), layout="constrained")
    moving = shifted(fixed, 4)
    _, gradient = agnoreg.value_and_grad(loss, fixed[None], moving[None])
    for axis, title, image in ((axes[0], "fixed", fixed), (axes[1], "moving, 4 voxels off", moving)):
        axis.imshow(image.T, cmap="gray", vmin=0, vmax=1, origin="lower")
        axis.set_title(title)
        axis.set_axis_off()
    most = float(np.quantile(np.abs(gradient), 0.998)) or 1.0
    axes[2].imshow(gradient[0].T, cmap="RdBu_r", vmin=-most, vmax=most, origin="lower")
    axes[2].set_title("gradient by the moving image")
    axes[2].set_axis_off()
    for (title, change), colour, line in zip(versions.items(), COLOURS, LINES, strict=False):
        values = [float(loss(fixed[None], shifted(change(fixed), by)[None])) for by in SHIFTS]
        axes[3].plot(SHIFTS, values, color=colour, linestyle=line, label=title)
    axes[3].axvline(0, color="0.8", zorder=0)
    axes[3].set_xlabel("shift of the moving image, voxels")
    axes[3].set_title(f"{loss.own_title} loss")
    axes[3].legend(frameon=False, fontsize=8)
    _save(figure, path)
    return (
        "From left to right: the fixed plane; the same plane moved by 4 voxels; the gradient of the loss by the moving "
        f"image; and the loss against the shift, one curve for each of: {', '.join(versions)}."
    )


def fields() -> dict[str, np.ndarray]:
    """Return fields of a plane by name, ``(1, n, n, 2)`` in voxels, each with a mean displacement of 2 voxels."""
    n = 33
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    made = {
        "translation": (np.ones_like(x), 0.5 * np.ones_like(x)),
        "rotation": (-y, x),
        "scaling": (x, y),
        "bend": (np.zeros_like(x), x**2 - 0.33),
        "wave": (np.sin(3 * math.pi * y), np.sin(3 * math.pi * x)),
        "alternating": ((-1.0) ** np.arange(n)[:, None] * np.ones_like(x), np.zeros_like(x)),
    }
    stacked = {name: np.stack(parts, axis=-1)[None] for name, parts in made.items()}
    return {name: 2 * field / np.mean(np.linalg.norm(field, axis=-1)) for name, field in stacked.items()}


def _of_field(loss: Any, path: Path) -> str:
    """Draw deformed grids, and the loss of each by both stencils."""
    given = fields()
    figure, axes = plt.subplots(1, len(given), figsize=(10.5, 2.6), layout="constrained")
    kind = type(loss)
    for axis, (name, field) in zip(axes, given.items(), strict=True):
        n = field.shape[1]
        x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
        x, y = x + field[0, ..., 0], y + field[0, ..., 1]
        for lines in ((x[::2], y[::2]), (x[:, ::2].T, y[:, ::2].T)):
            axis.plot(lines[0].T, lines[1].T, color=COLOURS[0], linewidth=0.7)
        central, compact = (float(kind(spatial_dims=2, stencil=stencil)(field)) for stencil in ("central", "compact"))
        axis.set_title(f"{name}\ncentral {_short(central)}\ncompact {_short(compact)}")
        axis.set_xlim(-5, n + 4)
        axis.set_ylim(-5, n + 4)
        axis.set_aspect("equal")
        axis.set_axis_off()
    _save(figure, path)
    return (
        f"Deformed grids, and above each its {loss.own_title} by both stencils. All fields move a point by 2 voxels on "
        f"average: {', '.join(given)}."
    )


def _short(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
