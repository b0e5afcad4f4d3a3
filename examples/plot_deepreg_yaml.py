"""
A DeepReg configuration
=======================

``load_loss`` reads what DeepReg's configuration files have under ``loss``. The result is one loss for the images, the
labels and the field, on the arrays of any framework.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import agnoreg
from agnoreg.functional import warp

# %%
# A file as DeepReg has it. Only what stands under ``loss`` is read.

CONFIG = """
dataset: {type: unpaired}
train:
  method: ddf
  loss:
    image: {name: lncc, kernel_size: 7, weight: 1.0}
    label: {name: dice, scales: [0, 1, 2], weight: 0.5}
    regularization:
      - {name: bending, weight: 5.0}
      - {name: gradient, weight: 0.1}
"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "config.yaml"
    path.write_text(CONFIG)
    loss = agnoreg.load_loss(path)

# %%
# A pair with labels: an ellipsoid, and the same one moved by a smooth field.

SIZE = 24
x, y, z = np.meshgrid(*(np.linspace(-1, 1, SIZE),) * 3, indexing="ij")
label = (np.sqrt(x**2 + (1.3 * y) ** 2 + z**2) < 0.6).astype(np.float64)[None]
rng = np.random.default_rng(0)
moving = label * 0.6 + 0.1 * np.sin(8 * x) * np.cos(7 * y) + 0.02 * rng.normal(size=label.shape)
truth = np.stack((2 * np.cos(y), 1.5 * np.sin(2 * x), np.zeros_like(z)), axis=-1)[None]
fixed, fixed_label = warp(moving, truth), warp(label, truth)

# %%
# The terms of the loss, on the way from no displacement to the true one:

shares = np.linspace(0, 1, 9)
terms: dict[str, list[float]] = {}
for share in shares:
    ddf = share * truth
    total, parts = loss(
        image=(fixed, warp(moving, ddf)),
        label=(fixed_label, warp(label, ddf)),
        regularization=ddf,
        return_terms=True,
    )
    for name, value in {**parts, "total": total}.items():
        terms.setdefault(name, []).append(float(value))
for name, values in terms.items():
    print(f"{name}: {values[0]:.3f} without a displacement, {values[-1]:.3f} with the true one")

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(1, 1, 2), layout="constrained")
for axis, title, image in ((axes[0], "fixed", fixed), (axes[1], "moving", moving)):
    axis.imshow(image[0, :, :, SIZE // 2], cmap="gray")
    axis.set_title(title)
    axis.set_axis_off()
for (name, values), line in zip(terms.items(), ("-", "--", "-.", ":", "-"), strict=False):
    axes[2].plot(shares, values, line, color="black" if name == "total" else None, label=name)
axes[2].set_xlabel("share of the true displacement")
axes[2].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
