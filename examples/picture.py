"""One picture of a registration: both images, the warped one, what differs before and after, and the deformed grid."""

from pathlib import Path

import numpy as np


def most_different(fixed: np.ndarray, moving: np.ndarray) -> int:
    """Return the place along the last axis where two volumes ``(d1, d2, d3)`` differ most."""
    return int(np.argmax(np.sum(np.abs(fixed - moving), axis=(0, 1))))


def draw(path: Path, fixed: np.ndarray, moving: np.ndarray, warped: np.ndarray, ddf: np.ndarray) -> None:
    """Write a PNG of the axial slice that differs most before the registration.

    Parameters
    ----------
    path
        The PNG to write.
    fixed, moving, warped
        Images ``(1, d1, d2, d3)`` in [0, 1], axis 1 from left to right and axis 2 from back to front.
    ddf
        The field that warped the moving image, ``(1, d1, d2, d3, 3)``, in voxels.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    place = most_different(fixed[0], moving[0])
    slices = {name: x[0, :, :, place].T for name, x in (("fixed", fixed), ("moving", moving), ("warped", warped))}
    figure, axes = plt.subplots(2, 3, figsize=(9, 7.2), layout="constrained")
    for axis, (name, image) in zip(axes[0], slices.items(), strict=True):
        axis.imshow(image, cmap="gray", origin="lower", vmin=0, vmax=1)
        axis.set_title(name)
    largest = float(np.abs(slices["fixed"] - slices["moving"]).max())
    for axis, name, title in zip(axes[1], ("moving", "warped"), ("before", "after"), strict=False):
        shown = axis.imshow(slices[name] - slices["fixed"], cmap="RdBu_r", origin="lower", vmin=-largest, vmax=largest)
        axis.set_title(f"{name} - fixed ({title})")
    figure.colorbar(shown, ax=list(axes[1, :2]), shrink=0.7, location="bottom", label="difference of intensities")
    grid(axes[1, 2], ddf[0, :, :, place, :2])
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def grid(axis, displacement: np.ndarray, step: int = 4) -> None:
    """Draw every ``step``-th line of a grid whose points ``(d1, d2)`` went by a displacement in the slice."""
    d1, d2 = displacement.shape[:2]
    x, y = np.meshgrid(np.arange(d1), np.arange(d2), indexing="ij")
    x, y = x + displacement[..., 0], y + displacement[..., 1]
    for lines in ((x[::step], y[::step]), (x[:, ::step].T, y[:, ::step].T)):
        axis.plot(lines[0].T, lines[1].T, color="black", linewidth=0.5)
    axis.set_aspect("equal")
    axis.set_title("deformed grid (recovered)")
