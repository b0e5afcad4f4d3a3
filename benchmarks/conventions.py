"""What each installed tool returns for the same five pairs of masks and five fields: two tables for docs/metrics.md.

    python -m benchmarks.conventions

Distances in mm, at a spacing of (1, 1, 3) mm. A tool that is not installed has a dash.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np

from agnoreg.metrics import surface_distances
from benchmarks import field_conventions

SPACING = (1.0, 1.0, 3.0)
Pair = tuple[np.ndarray, np.ndarray]


def sphere(radius: float, shift: float = 0.0, size: int = 40) -> np.ndarray:
    """Return a sphere at the centre of a cube, or beside it along the first axis."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    grid[0] -= shift
    return np.sqrt((grid**2).sum(axis=0)) < radius


def pairs() -> dict[str, Pair]:
    """Return the five pairs: y_true, y_pred."""
    speckle = np.random.default_rng(0).random((40,) * 3) < 0.002
    box = np.zeros((40,) * 3, dtype=bool)
    box[:12, 8:30, 8:30] = True
    return {
        "spheres of 10 and 11 voxels, 3 apart": (sphere(10), sphere(11, 3)),
        "the same, and 0.2 % of speckle": (sphere(10), sphere(11, 3) | speckle),
        "a box at the border, moved by 2": (box, np.roll(box, 2, axis=1)),
        "one voxel, in a sphere of 10": (sphere(10), sphere(0.9, 0.5)),
        "y_pred empty": (sphere(10), np.zeros((40,) * 3, dtype=bool)),
    }


def deepmind(true: np.ndarray, pred: np.ndarray) -> float:
    import surface_distance

    np.Inf = np.inf  # type: ignore[attr-defined] # which NumPy 2 no longer has
    found = surface_distance.compute_surface_distances(true, pred, SPACING)
    return float(surface_distance.compute_robust_hausdorff(found, 95))


def learn2reg(true: np.ndarray, pred: np.ndarray) -> float:
    import surface_distance

    found = surface_distance.compute_surface_distances(true, pred, (1, 1, 1))
    return float(surface_distance.compute_robust_hausdorff(found, 95))


def monai(true: np.ndarray, pred: np.ndarray) -> float:
    import torch
    from monai.metrics import compute_hausdorff_distance

    pair = [torch.as_tensor(x)[None, None] for x in (pred, true)]
    return float(compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(SPACING))[0, 0])


def medpy(true: np.ndarray, pred: np.ndarray) -> float:
    from medpy.metric import binary

    return float(binary.hd95(pred, true, SPACING))


def meshmetrics(true: np.ndarray, pred: np.ndarray) -> float:
    from meshmetrics import DistanceMetrics

    metrics = DistanceMetrics(verbose=False)
    metrics.set_input(true, pred, SPACING)
    return float(metrics.hd(95))


def panoptica(true: np.ndarray, pred: np.ndarray) -> float:
    from panoptica.metrics import hausdorff_distance

    return float(hausdorff_distance._compute_hausdorff_distance95(true, pred, voxelspacing=SPACING))


def itk(true: np.ndarray, pred: np.ndarray) -> float:
    import SimpleITK

    images = []
    for mask in (true, pred):
        images.append(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
        images[-1].SetSpacing(SPACING[::-1])
    metric = SimpleITK.HausdorffDistanceImageFilter()
    metric.Execute(*images)
    return float(metric.GetHausdorffDistance())


def scikit_image(true: np.ndarray, pred: np.ndarray) -> float:
    from skimage.metrics import hausdorff_distance

    return float(hausdorff_distance(true, pred))


#: By the name of the convention: the tool's own number; of ITK and scikit-image, which have no percentile, the maximum.
TOOLS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], float]] = {
    "deepmind": (deepmind, 95),
    "monai": (monai, 95),
    "medpy": (medpy, 95),
    "learn2reg": (learn2reg, 95),
    "meshmetrics": (meshmetrics, 95),
    "panoptica": (panoptica, 95),
    "itk": (itk, 100),
    "scikit-image": (scikit_image, 100),
}


def written(function: Callable[[], float]) -> str:
    """Return a number as the table has it."""
    try:
        value = function()
    except ImportError:
        return "-"
    except (RuntimeError, ValueError):
        return "error"
    return "NaN" if math.isnan(value) else f"{value:.3f}" if math.isfinite(value) else "inf"


def main() -> None:
    """Print the table: of each tool its own number, and in brackets ours by its convention."""
    warnings.simplefilter("ignore")
    columns = pairs()
    print("| HD95 in mm: tool (ours) | " + " | ".join(columns) + " |")
    print("| --- " * (len(columns) + 1) + "|")
    for name, (tool, percentile) in TOOLS.items():
        cells = []
        for true, pred in columns.values():

            def ours(
                true: np.ndarray = true, pred: np.ndarray = pred, name: str = name, share: float = percentile
            ) -> float:
                found = surface_distances(true[None], pred[None], spacing=SPACING, convention=name)
                return float(found.hausdorff(share)[0])

            cells.append(f"{written(lambda true=true, pred=pred, tool=tool: tool(true, pred))} ({written(ours)})")
        print(f"| {name}{' (maximum)' if percentile == 100 else ''} | " + " | ".join(cells) + " |")
    print()
    field_conventions.table()


if __name__ == "__main__":
    main()
