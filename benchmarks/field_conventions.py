"""What tools return for the same five displacement fields: the second half of `benchmarks.conventions`.

VoxelMorph, ICON and SimpleITK are asked where they are installed. Learn2Reg's evaluation, which no registry has, and
TransMorph's, which is a script, are written down here.
"""

import math
from collections.abc import Callable

import numpy as np

from agnoreg.metrics import folding, nondiffeomorphic_volume, sdlogj

Array = np.ndarray
SIZE = 24


def fields() -> dict[str, Array]:
    """Return the five fields, in voxels, ``(24, 24, 24, 3)``."""
    grid = np.indices((SIZE,) * 3).astype(np.float64)
    smooth = np.stack([2.0 * np.sin(grid[(axis + 1) % 3] / 4 + axis) for axis in range(3)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 0.6, smooth.shape)
    checkerboard, mirrored = np.zeros_like(smooth), np.zeros_like(smooth)
    checkerboard[..., 0] = 0.8 * (-1.0) ** grid.sum(axis=0)
    mirrored[..., 0] = -1.5 * grid[0]
    return {
        "none": np.zeros_like(smooth),
        "smooth": smooth,
        "the same with noise": smooth + noise,
        "a checkerboard": checkerboard,
        "-1.5 x, folded everywhere": mirrored,
    }


def learn2reg_determinant(u: Array) -> Array:
    """Return the evaluation's determinant, raised by 3 and clipped."""
    rows = []
    for axis in range(3):
        padded = np.pad(u, [(1, 1) if other == axis else (0, 0) for other in range(4)])
        ahead, behind = (np.take(padded, range(first, first + SIZE), axis=axis) for first in (2, 0))
        rows.append((ahead - behind) / 2 + np.eye(3)[axis])
    return (np.linalg.det(np.stack(rows, axis=-2))[2:-2, 2:-2, 2:-2] + 3).clip(1e-9, 1e9)


def positions(u: Array) -> Array:
    return u + np.moveaxis(np.indices(u.shape[:-1]), 0, -1)


def voxelmorph(u: Array) -> float:
    from voxelmorph.py.utils import jacobian_determinant

    return float((jacobian_determinant(u) <= 0).mean())


def transmorph(u: Array) -> float:
    rows = np.gradient(positions(u), axis=(0, 1, 2))
    return float((np.linalg.det(np.stack(rows, axis=-2)) <= 0).sum() / np.prod(u.shape[:-1]))


def icon(u: Array) -> float:
    import torch
    from icon_registration.losses import flips

    return float(flips(torch.as_tensor(np.moveaxis(positions(u), -1, 0)[None])))


def simpleitk(u: Array) -> float:
    import SimpleITK

    # Arrays of SimpleITK's have their axes in reverse; vectors are along x, y and z.
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(u.transpose(2, 1, 0, 3)), isVector=True)
    determinant = SimpleITK.GetArrayFromImage(SimpleITK.DisplacementFieldJacobianDeterminant(image))
    return float((determinant[1:-1, 1:-1, 1:-1] <= 0).mean())


def spread(u: Array) -> str:
    """Return our SDlogJ, and how many voxels it leaves out."""
    found = sdlogj(u[None])
    return f"{_number(float(found.value[0]))}, {int(found.left_out[0])} left out"


#: By row: what the tool itself has, None for a measure of ours alone, and ours by its convention.
ROWS: dict[str, tuple[Callable[[Array], float] | None, Callable[[Array], float | str]]] = {
    "Learn2Reg, its formula: num_foldings": (
        lambda u: float((learn2reg_determinant(u) <= 0).sum()),
        lambda u: float(folding(u[None], convention="learn2reg").count[0]),
    ),
    "Learn2Reg and LUMIR, their formula: SDlogJ": (
        lambda u: float(np.log(learn2reg_determinant(u)).std()),
        lambda u: float(sdlogj(u[None], convention="learn2reg").value[0]),
    ),
    "VoxelMorph: share of det <= 0": (
        voxelmorph,
        lambda u: float(folding(u[None], convention="voxelmorph").share[0]),
    ),
    "TransMorph, its formula: share of det <= 0": (
        transmorph,
        lambda u: float(folding(u[None], convention="transmorph").share[0]),
    ),
    "ICON: flips": (icon, lambda u: float(folding(u[None], convention="icon").count[0])),
    "SimpleITK: share of det <= 0 inside": (simpleitk, lambda u: float(folding(u[None]).share[0])),
    "ours: share of det <= 0": (None, lambda u: float(folding(u[None]).share[0])),
    "ours: share not digitally diffeomorphic": (None, lambda u: float(folding(u[None]).digital_share[0])),
    "ours, LUMIR: non-diffeomorphic volume in %": (None, lambda u: float(nondiffeomorphic_volume(u[None]).percent[0])),
    "ours: SDlogJ": (None, spread),
}


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "NaN"
    # A rounding of 0 is 0.
    return f"{value:.0f}" if value == round(value) or abs(value) < 1e-12 else f"{value:.4g}"


def table() -> None:
    """Print the table: of each tool its own number, and in brackets ours by its convention."""
    columns = fields()
    print("| measure: tool (ours) | " + " | ".join(columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    for name, (tool, ours) in ROWS.items():
        cells = []
        for u in columns.values():
            own = _number(ours(u))
            try:
                cells.append(own if tool is None else f"{_number(tool(u))} ({own})")
            except ImportError:
                cells.append(f"- ({own})")
        print(f"| {name} | " + " | ".join(cells) + " |")
