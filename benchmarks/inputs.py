"""The inputs that every subject gets: made once, from a seed, and kept on disk for the processes that measure."""

from pathlib import Path

import numpy as np

REFERENCE = (160, 192, 224)
FIELDS = ("bending", "gradient")


def images(size):
    """Return two smooth random images in [0, 1], float32 ``(1, *size)``."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    pair = [gaussian_filter(rng.standard_normal(size, dtype=np.float32), 2) for _ in range(2)]
    return [((x - x.min()) / (x.max() - x.min()))[None] for x in pair]


def field(size):
    """Return a standard normal displacement field, float32 ``(1, *size, 3)``."""
    return [np.random.default_rng(0).standard_normal((1, *size, 3), dtype=np.float32)]


def inputs(loss, size, folder):
    """Return the inputs of a loss of that name, y_true first, from ``folder``, where they are put if they are not."""
    make = field if loss in FIELDS else images
    path = Path(folder) / f"{make.__name__}-{'x'.join(map(str, size))}.npy"
    if not path.exists():
        fresh = path.with_suffix(".part.npy")
        np.save(fresh, np.stack(make(size)))
        fresh.rename(path)
    return list(np.load(path))


def ball(size):
    """Return a mask of half of a volume, the ball (or ellipsoid) that touches its faces: bool ``(1, *size)``."""
    axes = (np.linspace(-1, 1, n) for n in size)
    return (sum(x**2 for x in np.meshgrid(*axes, indexing="ij", sparse=True)) <= 1)[None]
