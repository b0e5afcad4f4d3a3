"""
Many pairs, one table, one report
=================================

``agnoreg evaluate --pairs`` measures every pair that a CSV names and writes a table with a row each. ``--report-dir``
adds a page with pictures for each pair, and ``index.html``, which compares them. A pair that fails is a row with its
error, and stops no other.
"""

import csv
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np

SHAPE = (28, 28, 24)
rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())
grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"), axis=-1)


# %%
# Five pairs of small volumes with labels. The moved image is a little off, in the fourth pair far off. The fifth pair's
# moved image is missing.


def save(name: str, centre: np.ndarray, radius: float) -> None:
    """Write an image of a ball in a ball, and its labels."""
    distance = np.linalg.norm(grid - centre, axis=-1)
    label = (distance < radius).astype(np.uint8) + (distance < radius / 2)
    for suffix, array in (("", (0.4 * label + 0.05 * rng.random(SHAPE)).astype(np.float32)), ("_label", label)):
        nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1.5, 1.0])), folder / f"{name}{suffix}.nii.gz")


for number in range(1, 6):
    centre, radius = rng.uniform(-0.1, 0.1, 3), rng.uniform(0.5, 0.7)
    save(f"fixed{number}", centre, radius)
    if number < 5:
        save(f"moved{number}", centre + (0.45 if number == 4 else 0.05) * rng.normal(size=3), radius)
with (folder / "pairs.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("id", "fixed", "moved", "fixed_label", "moved_label"))
    for n in range(1, 6):
        names = (f"fixed{n}", f"moved{n}", f"fixed{n}_label", f"moved{n}_label")
        writer.writerow((f"case {n}", *(f"{name}.nii.gz" for name in names)))

# %%
# The command, as a shell would run it:

command = ["agnoreg", "evaluate", "--pairs", "pairs.csv", "--out", "results.csv", "--report-dir", "report"]
print("$", *command, end="\n\n")
script = shutil.which("agnoreg", path=sysconfig.get_path("scripts"))
done = subprocess.run([script, *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
with (folder / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
for row in rows:
    dice = row["DiceScore[1]"]
    print(row["id"], f"Dice of label 1: {float(dice):.3f}" if dice else "failed")

print("\nwritten:", *sorted(path.name.split("-")[0].removesuffix(".html") for path in (folder / "report").iterdir()))

# %%
# Open ``report/index.html`` in a browser: it shows these plots, links each pair to its page, and needs no network. Here
# they are by hand. One dot a pair: the outlier is seen at once, and the pair that failed is counted.

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
shown = ("DiceScore[mean]", "compute_centroid_distance[mean] (mm)", "LocalNormalizedCrossCorrelation(convention=exact)")
for axis, column, title in zip(axes, shown, ("Dice, mean", "distance of centroids, mm", "LNCC"), strict=True):
    values = [(row["id"], float(row[column])) for row in rows if row[column] not in ("", "nan")]
    axis.plot(np.linspace(-0.2, 0.2, len(values)), [value for _, value in values], "o", color="#0072B2")
    name, worst = (max if "distance" in title else min)(values, key=lambda pair: pair[1])
    axis.annotate(name, (0.2, worst), (6, -3), textcoords="offset points", color="#D55E00")
    axis.set_title(f"{title} (N = {len(values)}, failed {len(rows) - len(values)})", fontsize=9)
    axis.set_xlim(-0.5, 0.6)
    axis.set_xticks([])
plt.show()
