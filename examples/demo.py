"""What ``make demo`` runs: a pair of MRI volumes, what ``agnoreg evaluate`` says of it, and its registration on NumPy.

    python examples/demo.py                  writes into ./demo
    python examples/demo.py --factor 4       smaller volumes, half a minute

The images are the MNI152 T1 template and its grey and white matter maps, which nilearn ships inside its package;
nothing is downloaded. The second image of the pair is the first one, warped by a known smooth field.
"""

import argparse
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import register_numpy
from register_numpy import load, save, smooth_field, template

from agnoreg.functional import warp


def tissues(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return 1 where grey matter is the likelier of the two, 2 where white matter is, 0 where neither is above 0.3."""
    return np.where(np.maximum(grey, white) > 0.3, np.where(grey > white, 1, 2), 0).astype(np.uint8)


def write_pair(folder: Path, factor: int) -> None:
    """Write the T1 and its label map, both of them warped, and the field that warped them."""
    t1, affine = load(template("t1"), factor)
    grey, white = (load(template(kind), factor)[0] for kind in ("gm", "wm"))
    ddf = smooth_field(t1.shape[1:], largest=8 / factor)
    arrays = {
        "t1.nii.gz": t1,
        "t1_warped.nii.gz": warp(t1, ddf),
        "labels.nii.gz": tissues(grey, white),
        "labels_warped.nii.gz": tissues(warp(grey, ddf), warp(white, ddf)),
        "ddf.nii": ddf,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        # The template's intensities are bytes, and so are those of its warped copy.
        save(folder / name, np.rint(array * 255).astype(np.uint8) if name.startswith("t1") else array, affine)
        print(f"  {folder / name}")


def agnoreg(*arguments: str | Path) -> None:
    """Run the command line that a shell would run, and show it."""
    command = shutil.which("agnoreg", path=sysconfig.get_path("scripts"))
    if command is None:
        raise SystemExit("The agnoreg command is not installed beside this Python: pip install agnoreg[demo]")
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(['agnoreg', *words])}\n", flush=True)
    subprocess.run([command, *words], check=True)


def main(arguments: list[str] | None = None) -> None:
    """Write the pair, evaluate it before and after the warp, and recover the warp."""
    parser = argparse.ArgumentParser(description="Evaluate and register a pair of MRI volumes.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="the folder to write into")
    parser.add_argument("--factor", type=int, default=1, help="voxels of 1 mm that are averaged along each axis")
    parser.add_argument("--iterations", type=int, default=60, help="of the registration")
    options = parser.parse_args(arguments)
    out = options.out

    print("The MNI152 T1, its grey (1) and white (2) matter, and the same warped by a smooth field:")
    write_pair(out, options.factor)

    print("\nBefore the warp, the image with itself: every similarity is at its best.")
    t1, labels = out / "t1.nii.gz", out / "labels.nii.gz"
    agnoreg("evaluate", t1, t1, "--fixed-label", labels, "--moved-label", labels, "--json", out / "before.json")

    print("\nAfter the warp: every similarity is worse, and the field has a bending energy.")
    warped, labels_warped = out / "t1_warped.nii.gz", out / "labels_warped.nii.gz"
    pair = (t1, warped, "--fixed-label", labels, "--moved-label", labels_warped, "--ddf", out / "ddf.nii")
    agnoreg("evaluate", *pair, "--json", out / "after.json")

    print("\nThe field, found again from the two images by gradient descent on NumPy (examples/register_numpy.py).\n")
    factor = max(2, options.factor)
    settings = {"--factor": factor, "--iterations": options.iterations, "--out": out / "registration"}
    register_numpy.main([str(word) for setting in settings.items() for word in setting])


if __name__ == "__main__":
    main()
