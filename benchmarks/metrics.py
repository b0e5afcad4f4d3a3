"""Metrics against the tools that have them: CPU time of one process, side by side.

    python -m benchmarks.metrics

Maps of 160 x 192 x 224 voxels with 35 labels of the sizes of brain structures, and one mask of half the volume. All
surface measures (HD, HD95, MASD, ASSD, NSD) of all labels; exacta computes four of them in one call. MedPy, whose time
does not depend on the label, is timed on one label and counted for all. A displacement field of the same size, whose
measures are given in reads: the time in which its three components are copied apart. CPU time, because other processes
share the machine; of several runs the least.
"""

import importlib.util
import time
import tracemalloc
import warnings
from collections.abc import Callable
from itertools import product

import numpy as np

from agnoreg.metrics import (
    folding,
    jacobian_determinant,
    nondiffeomorphic_volume,
    overlap,
    sdlogj,
    surface_distances,
)

SHAPE, LABELS, SPACING = (160, 192, 224), 35, (1.0, 1.0, 1.0)


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Return two label maps of ellipsoids, the second one moved and of another size."""
    rng = np.random.default_rng(0)
    true, pred = (np.zeros(SHAPE, dtype=np.int16) for _ in range(2))
    grid = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in SHAPE), indexing="ij", sparse=True)
    for label in range(1, LABELS + 1):
        radii = rng.uniform(5, 18, size=3)
        centre = [rng.uniform(r + 3, size - r - 3) for r, size in zip(radii, SHAPE, strict=True)]
        for x, moved, grown in ((true, 0.0, 1.0), (pred, 1.5, 1.05)):
            away = sum(((g - c - moved) / (r * grown)) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
            x[away <= 1] = label
    return true, pred


def half_masks() -> tuple[np.ndarray, np.ndarray]:
    """Return two masks of half the volume with a wavy border."""
    x, y, z = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in SHAPE), indexing="ij", sparse=True)
    border = 80 + 6 * np.sin(y / 11) * np.cos(z / 13)
    return x < border, x < border + 2 * np.sin(y / 7 + z / 5)


def least(function: Callable[[], object], runs: int = 3) -> float:
    """Return the least CPU time of several runs, in seconds."""
    times = []
    for _ in range(runs):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def ours(true: np.ndarray, pred: np.ndarray) -> None:
    found = surface_distances(true[None], pred[None], spacing=SPACING)
    found.hausdorff(), found.hausdorff(95), found.masd(), found.assd(), found.nsd(1.0)


def medpy(true: np.ndarray, pred: np.ndarray) -> None:
    from medpy.metric import binary

    for measure in (binary.hd, binary.hd95, binary.asd, binary.assd):
        measure(pred, true, SPACING)


def monai(true: np.ndarray, pred: np.ndarray, labels: int) -> None:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    hot = [torch.stack([torch.as_tensor(x == label) for label in range(1, labels + 1)])[None] for x in (pred, true)]
    options = {"include_background": True, "spacing": list(SPACING)}
    compute_hausdorff_distance(*hot, **options)
    compute_hausdorff_distance(*hot, percentile=95, **options)
    compute_average_surface_distance(*hot, symmetric=True, **options)
    compute_average_surface_distance(*hot, **options)
    compute_surface_dice(*hot, class_thresholds=[1.0] * labels, **options)


def exacta(true: np.ndarray, pred: np.ndarray, labels: int) -> None:
    import torch
    from exacta import functional

    pair = [torch.as_tensor(x.astype(np.int64))[None] for x in (pred, true)]
    each = {"surface": "surfels"}
    functional.evaluate(
        *pair,
        metrics={"hausdorff_distance": each, "hd95": each, "assd": each, "nsd": each | {"tolerance": 1.0}},
        spacing=SPACING,
        num_classes=labels + 1,
        include_background=False,
    )


def surface_table() -> None:
    """Print the times of all surface measures."""
    cases = {
        f"{LABELS} labels": (*label_maps(), LABELS),
        "half the volume": (*(x.astype(np.int16) for x in half_masks()), 1),
    }
    print(f"{'all surface measures':<20}{'agnoreg':>12}{'MedPy':>20}{'MONAI':>20}{'exacta':>20}")
    for name, (true, pred, labels) in cases.items():
        own = least(lambda true=true, pred=pred: ours(true, pred))
        times = {
            "medpy": (lambda true=true, pred=pred: medpy(true == 1, pred == 1), labels, 1),
            "monai": (lambda true=true, pred=pred, labels=labels: monai(true, pred, labels), 1, 1),
            "exacta": (lambda true=true, pred=pred, labels=labels: exacta(true, pred, labels), 1, 2),
        }
        row = f"{name:<20}{own:>10.2f} s"
        for tool, (function, factor, runs) in times.items():
            if importlib.util.find_spec(tool) is None:
                row += f"{'not installed':>20}"
                continue
            their = factor * least(function, runs)
            row += f"{their:>10.2f} s {their / own:>6.1f}x"
        print(row, flush=True)


def overlap_table() -> None:
    """Print the times of the overlap of a hundred labels, and of one bincount."""
    # Runs of 64 equal voxels, as structures have; and of noise, which no map of labels is.
    maps = {
        name: np.repeat(np.random.default_rng(0).integers(0, 101, size=np.prod(SHAPE) // run), run).reshape(1, *SHAPE)
        for name, run in (("", 64), (", noise", 1))
    }
    print(f"\n{'overlap of 100 labels':<24}{'overlap':>12}{'one bincount over the pair':>30}{'of a made index':>20}")
    for (name, true), dtype in product(maps.items(), (np.uint8, np.int16, np.int32, np.float32)):
        a = true.astype(dtype)
        b = np.roll(a, 20)
        own = least(lambda a=a, b=b: overlap(a, b))
        pair = least(lambda a=a, b=b: np.bincount((a.astype(np.intp) * 101 + b.astype(np.intp)).ravel()))
        index = (a.astype(np.intp) * 101 + b.astype(np.intp)).ravel()
        bare = least(lambda index=index: np.bincount(index))
        print(
            f"{np.dtype(dtype).name + name:<24}{own * 1e3:>9.1f} ms{pair * 1e3:>18.1f} ms {own / pair:>6.2f}x"
            f"{bare * 1e3:>10.1f} ms {own / bare:>5.2f}x"
        )


def field() -> np.ndarray:
    """Return a displacement field that folds in places, in float32."""
    grid = np.meshgrid(*(np.arange(size, dtype=np.float32) / 17 for size in SHAPE), indexing="ij", sparse=True)
    waves = [3 * np.sin(grid[0] + i) * np.cos(grid[1]) * np.sin(grid[2] + 0.3 * i) for i in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.1, (*SHAPE, 3))
    return (np.stack(waves, axis=-1) + noise).astype(np.float32)[None]


def plain_determinant(u: np.ndarray) -> np.ndarray:
    """Return the determinant as VoxelMorph and TransMorph write it: numpy.gradient of the coordinates."""
    dx, dy, dz = np.gradient(u + np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))[:3]
    found = dx[..., 0] * (dy[..., 1] * dz[..., 2] - dy[..., 2] * dz[..., 1])
    found -= dx[..., 1] * (dy[..., 0] * dz[..., 2] - dy[..., 2] * dz[..., 0])
    return found + dx[..., 2] * (dy[..., 0] * dz[..., 1] - dy[..., 1] * dz[..., 0])


def field_table() -> None:
    """Print the times of the measures of a field, in reads of it, and how much memory they take in fields."""
    u = field()

    def read() -> None:
        for component in range(3):
            np.ascontiguousarray(u[..., component])

    one = least(read, 5)
    print(f"\n{'measures of a field':<26}{'time':>10}{'reads':>10}{'memory':>12}")
    print(f"{'reading its components':<26}{one * 1e3:>7.1f} ms{1:>10.1f}")
    measures: tuple[Callable[[np.ndarray], object], ...] = (
        jacobian_determinant,
        folding,
        nondiffeomorphic_volume,
        sdlogj,
        lambda u: plain_determinant(u[0]),
    )
    for measure in measures:
        name = "numpy.gradient" if measure is measures[-1] else getattr(measure, "__name__", "")
        took = least(lambda measure=measure: measure(u))
        tracemalloc.start()
        measure(u)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"{name:<26}{took * 1e3:>7.1f} ms{took / one:>10.1f}{peak / u.nbytes:>7.2f} fields", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    surface_table()
    overlap_table()
    field_table()
