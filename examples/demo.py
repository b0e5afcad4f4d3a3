"""What ``make demo`` runs: a known warp of an MRI is recovered on NumPy, and evaluated before and after.

    python examples/demo.py                  writes into ./demo
    python examples/demo.py --factor 4       smaller volumes, a few seconds

The images are the MNI152 T1 template and its grey and white matter maps, which nilearn ships inside its package;
nothing is downloaded. The fixed image is the template, warped by a known smooth field.
"""

import argparse
import shlex
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

import numpy as np
from picture import draw
from register_numpy import load, mean_error, register, save, smooth_field, template

from agnoreg.functional import warp

NAMES = "label,name\n1,grey matter\n2,white matter\n"


def tissues(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Return 1 where grey matter is the likelier of the two, 2 where white matter is, 0 where neither is above 0.3."""
    return np.where(np.maximum(grey, white) > 0.3, np.where(grey > white, 1, 2), 0).astype(np.uint8)


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Return an image in [0, 1] as bytes, which the template's intensities are."""
    return np.rint(image * 255).astype(np.uint8)


def agnoreg(*arguments: str | Path) -> None:
    """Run the command line that a shell would run, and show it."""
    command = shutil.which("agnoreg", path=sysconfig.get_path("scripts"))
    if command is None:
        raise SystemExit("The agnoreg command is not installed beside this Python: pip install agnoreg[demo]")
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(['agnoreg', *words])}\n", flush=True)
    subprocess.run([command, *words], check=True)


def main(arguments: list[str] | None = None) -> None:
    """Recover a known warp, evaluate it before and after in one table, and draw it."""
    parser = argparse.ArgumentParser(description="Register and evaluate a pair of MRI volumes.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="the folder to write into")
    parser.add_argument("--factor", type=int, default=2, help="voxels of 1 mm that are averaged along each axis")
    parser.add_argument("--iterations", type=int, default=50, help="of the registration")
    options = parser.parse_args(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)

    moving, affine = load(template("t1"), options.factor)
    maps = [load(template(kind), options.factor)[0] for kind in ("gm", "wm")]
    truth = smooth_field(moving.shape[1:], largest=8 / options.factor)
    fixed = warp(moving, truth)
    print(f"The MNI152 T1, {' x '.join(map(str, moving.shape[1:]))} voxels, and the same warped by a smooth field.")
    print(f"Recovering the field by gradient descent on LNCC, NumPy only: {options.iterations} iterations ", end="")

    def report(iteration: int, *_: object) -> None:
        print("." if iteration % 5 == 4 else "", end="", flush=True)

    start = time.perf_counter()
    ddf, _ = register(fixed, moving, iterations=options.iterations, report=report)
    print(f" {time.perf_counter() - start:.0f} s")
    brain = fixed > 0.1
    before, after = (mean_error(field, truth, brain) for field in (np.zeros_like(truth), ddf))
    print(f"Mean distance from the true field inside the brain: {before:.2f} voxels before, {after:.2f} after.")

    warped = warp(moving, ddf)
    images = {
        "fixed": as_bytes(fixed),
        "moving": as_bytes(moving),
        "moved": as_bytes(warped),
        "fixed_label": tissues(*(warp(tissue, truth) for tissue in maps)),
        "moving_label": tissues(*maps),
        "moved_label": tissues(*(warp(tissue, ddf) for tissue in maps)),
        "ddf": ddf,
    }
    files = {name: out / f"{name}.nii.gz" for name in images}
    for name, array in images.items():
        save(files[name], array, affine)
    names = out / "labels.csv"
    names.write_text(NAMES)
    agnoreg(
        *("evaluate", files["fixed"], files["moved"], "--moved-before", files["moving"]),
        *("--fixed-label", files["fixed_label"], "--moved-label", files["moved_label"]),
        *("--moved-label-before", files["moving_label"], "--label-names", names, "--ddf", files["ddf"]),
        *("--json", out / "evaluation.json", "--report", out / "report.html"),
    )
    picture = out / "registration.png"
    draw(picture, fixed, moving, warped, ddf)
    print(f"\nYour own pair: agnoreg evaluate FIXED MOVED (agnoreg evaluate --help). The picture is {picture},")
    print(f"and the report is {out / 'report.html'}")


if __name__ == "__main__":
    main()
