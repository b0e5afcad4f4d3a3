"""Register two MRI volumes by gradient descent, with NumPy alone: no autodiff, no deep-learning framework.

    python examples/register_numpy.py                    about a minute on one core
    python examples/register_numpy.py --factor 4         a smaller grid, a few seconds
    python examples/register_numpy.py --out results      also saves the images and the fields as NIfTI

The moving image is the MNI152 T1 template that nilearn ships inside its package. The fixed image is the same one,
warped by a smooth displacement field that we choose. So the answer is known, and we can print how far from it we are.

The descent minimises

    loss(u) = -LNCC(fixed, warp(moving, u)) + weight * BendingEnergy(u)

over u, one displacement a voxel. On NumPy nothing records what we compute, so the gradient is put together by hand,
from three pieces that agnoreg has:

    value_and_grad(LNCC loss, fixed, warped)     the loss, and how it changes with each voxel of the warped image
    warp_adjoint(moving, u, that)                how it changes with each displacement
    value_and_grad(BendingEnergy(), u)           the same for the smoothness of the field
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agnoreg import value_and_grad
from agnoreg.functional import separable_filter, warp, warp_adjoint
from agnoreg.loss.deform import BendingEnergy
from agnoreg.loss.image import LocalNormalizedCrossCorrelationLoss
from agnoreg.loss.kernel import triangular
from agnoreg.loss.label import DiceScore

# --- the registration -------------------------------------------------------------------------------------------------


def register(
    fixed: np.ndarray,
    moving: np.ndarray,
    *,
    iterations: int = 60,
    step: float = 1.0,
    momentum: float = 0.8,
    smoothing: int = 15,
    window: int = 9,
    weight: float = 3.0,
    report: Callable[[int, float, float, np.ndarray], None] | None = None,
) -> tuple[np.ndarray, list[float]]:
    """Find the displacement field that warps ``moving`` onto ``fixed``.

    Parameters
    ----------
    fixed, moving
        Images of shape ``(1, d1, d2, d3)``.
    iterations
        How many steps to take.
    step
        The longest displacement of the first step, in voxels; it falls to zero by the last one.
    momentum
        Share of the previous direction in each direction.
    smoothing
        Width in voxels of the triangle that smooths the gradient; odd.
    window
        LNCC's window, in voxels.
    weight
        Of the bending energy.
    report
        Called before each step with its number, the image loss, the bending energy and the field.

    Returns
    -------
    ddf : numpy.ndarray
        Shape ``(1, d1, d2, d3, 3)``, in voxels: ``warp(moving, ddf)`` looks like ``fixed``.
    losses : list of float
        The loss before each step.
    """
    similarity, bending = LocalNormalizedCrossCorrelationLoss(kernel_size=window), BendingEnergy()
    kernel = triangular(smoothing) / triangular(smoothing).sum()
    ddf = np.zeros((*fixed.shape, 3), np.float32)
    direction = np.zeros_like(ddf)
    losses = []
    for iteration in range(iterations):
        # The loss and its gradient: by the chain rule, from the loss back to the warped image and on to the field.
        warped = warp(moving, ddf)
        image_loss, by_warped = value_and_grad(similarity, fixed, warped)
        (by_ddf,) = warp_adjoint(moving, ddf, by_warped, wrt=(1,))
        energy, by_bending = value_and_grad(bending, ddf)
        gradient = by_ddf + weight * by_bending

        losses.append(float(image_loss + weight * energy))
        if report:
            report(iteration, float(image_loss), float(energy), ddf)

        # A voxel's gradient knows only its own neighbourhood, and in flat tissue nothing at all. Smoothed, it moves the
        # voxels together, and the field stays smooth. Two boxes make the triangle, so its width costs little.
        gradient = separable_filter(gradient, kernel)
        # The gradient's size says little about how far to go. We keep its direction, and say how many voxels.
        longest = np.sqrt(np.max(np.sum(gradient**2, axis=-1)))
        if longest > 0:
            gradient /= longest
        direction = momentum * direction + (1 - momentum) * gradient
        ddf -= step * (1 - iteration / iterations) * direction
    return ddf, losses


# --- the data ---------------------------------------------------------------------------------------------------------


def template(kind: str) -> Path:
    """Return the file of nilearn's MNI152 ``"t1"``, ``"gm"`` (grey matter) or ``"wm"`` (white matter) map."""
    package = importlib.util.find_spec("nilearn")  # Finds it without importing it.
    if package is None or package.origin is None:
        raise SystemExit("This example reads images that come with nilearn: pip install agnoreg[demo]")
    return Path(package.origin).parent / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"


def load(path: Path, factor: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume of bytes, averaged over ``factor``^3 voxels, as ``(1, d1, d2, d3)`` in [0, 1]; and its affine."""
    import nibabel

    image = nibabel.load(path)
    volume = np.asarray(image.dataobj, np.float32) / 255
    d1, d2, d3 = (size // factor for size in volume.shape)
    blocks = volume[: d1 * factor, : d2 * factor, : d3 * factor].reshape(d1, factor, d2, factor, d3, factor)
    # The middle of a block lies (factor - 1) / 2 voxels after its first voxel.
    coarser = np.diag([factor, factor, factor, 1.0])
    coarser[:3, 3] = (factor - 1) / 2
    return blocks.mean(axis=(1, 3, 5))[None], image.affine @ coarser


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write one image ``(1, d1, d2, d3)`` or one field ``(1, d1, d2, d3, 3)`` as NIfTI."""
    import nibabel

    image = nibabel.Nifti1Image(array[0], affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def smooth_field(shape: tuple[int, ...], largest: float, seed: int = 0) -> np.ndarray:
    """Return a random field for images of this shape, a sum of waves of at most two periods an image along each axis.

    The field is a function of the place relative to the image's size: on a grid of half the resolution it is the same
    field, if ``largest``, the longest displacement in voxels, is half as large too.
    """
    rng = np.random.default_rng(seed)
    components = []
    for _ in range(3):
        periods = rng.uniform(-2, 2, size=(3, 8))
        amplitudes = rng.normal(size=(8, 1)) * np.exp(2j * np.pi * rng.random((8, 1)))
        x, y, z = (
            np.exp(2j * np.pi * np.outer(p, np.linspace(0, 1, size))) for p, size in zip(periods, shape, strict=True)
        )
        components.append(np.einsum("wi,wj,wk->ijk", amplitudes * x, y, z, optimize=True).real)
    field = np.stack(components, axis=-1).astype(np.float32)
    return field[None] * (largest / np.sqrt(np.max(np.sum(field**2, axis=-1))))


def mean_error(ddf: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean distance of two fields ``(1, d1, d2, d3, 3)`` where a mask is true, in voxels."""
    return float(np.mean(np.sqrt(np.sum((ddf - truth) ** 2, axis=-1))[inside]))


# --- the tutorial -----------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Warp the template by a known field, recover the field, and print how well that went."""
    parser = argparse.ArgumentParser(description="Recover a known warp of an MRI by gradient descent on NumPy.")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--factor", type=int, default=2, help="voxels of 1 mm that are averaged along each axis")
    parser.add_argument("--out", type=Path, help="a folder for the images and the fields, as NIfTI")
    options = parser.parse_args(arguments)

    # A fixed image whose correspondence with the moving one we know, and the grey matter of both.
    moving, affine = load(template("t1"), options.factor)
    grey, _ = load(template("gm"), options.factor)
    truth = smooth_field(moving.shape[1:], largest=8 / options.factor)
    fixed, fixed_grey = warp(moving, truth), warp(grey, truth)
    brain = fixed > 0.1

    def error(ddf: np.ndarray) -> float:
        return mean_error(ddf, truth, brain)

    def dice(ddf: np.ndarray) -> float:
        return float(DiceScore(binary=True)(fixed_grey, warp(grey, ddf)))

    start = time.perf_counter()

    def report(iteration: int, image_loss: float, energy: float, ddf: np.ndarray) -> None:
        if iteration % 5 == 0 or iteration == options.iterations - 1:
            seconds = time.perf_counter() - start
            print(f"{iteration:9d} {image_loss:9.5f} {energy:9.6f} {error(ddf):7.3f} {seconds:8.1f}", flush=True)

    print(f"Registering two volumes of {' x '.join(map(str, moving.shape[1:]))} voxels on NumPy.")
    print("The error is the mean distance from the true field inside the brain, in voxels.\n")
    print(f"{'iteration':>9} {'-LNCC':>9} {'bending':>9} {'error':>7} {'seconds':>8}")
    ddf, _ = register(fixed, moving, iterations=options.iterations, report=report)

    zero = np.zeros_like(ddf)
    before, after = error(zero), error(ddf)
    print(f"\nMean displacement error inside the brain: {before:.3f} voxels before, {after:.3f} after", end="")
    print(f" ({100 * (1 - after / before):.0f} % less).")
    print(f"Dice of the grey matter: {dice(zero):.3f} before, {dice(ddf):.3f} after.")

    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        images = {"fixed": fixed, "moving": moving, "warped": warp(moving, ddf), "ddf": ddf, "ddf_true": truth}
        for name, array in images.items():
            save(options.out / f"{name}.nii.gz", array, affine)
        print(f"Saved {', '.join(images)} (.nii.gz) in {options.out}/.")


if __name__ == "__main__":
    main()
