"""
Two modalities, and CT with a mask
==================================

A loss is useful if it is lowest where the images are aligned. We shift one image against the other and watch it.
First two modalities, where mutual information finds the place. Then CT, where the couch does not move with the patient:
without a mask it holds the image back.
"""

import matplotlib.pyplot as plt
import numpy as np

import agnoreg

SIZE = 72
SHIFTS = np.arange(-10, 11)
rng = np.random.default_rng(0)
x, y = np.meshgrid(np.linspace(-1, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")


def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """Return a soft-edged ellipse."""
    return 1 / (1 + np.exp(25 * (np.hypot((x - cx) / rx, (y - cy) / ry) - 1)))


# %%
# The same anatomy in two contrasts. What is bright in one is dark, middling or bright in the other. LNCC finds the
# place, too: within each window these two contrasts are related by one line. Of real modalities that need not hold.

head, brain, fluid = ellipse(0, 0, 0.7, 0.8), ellipse(0, 0, 0.6, 0.7), ellipse(-0.15, 0, 0.25, 0.4)
t1 = np.clip(0.9 * head - 0.3 * brain - 0.5 * fluid + 0.02 * rng.normal(size=x.shape), 0, 1)
t2 = np.clip(0.1 * head + 0.2 * brain + 0.65 * fluid + 0.02 * rng.normal(size=x.shape), 0, 1)

losses = {
    "SSD": agnoreg.SSD(spatial_dims=2),
    "LNCC": agnoreg.LNCC(spatial_dims=2),
    "mutual information": agnoreg.GMI(spatial_dims=2),
}


def against_shift(loss: agnoreg.Loss, fixed: np.ndarray, moving: np.ndarray, **masks: np.ndarray) -> np.ndarray:
    """Return the loss for each shift, scaled to [0, 1] so that the curves fit one plot."""
    values = np.array([loss(fixed[None], np.roll(moving, by, axis=0)[None], **masks) for by in SHIFTS])
    return (values - values.min()) / np.ptp(values)


curves = {name: against_shift(loss, t1, t2) for name, loss in losses.items()}
for name, curve in curves.items():
    print(f"{name} is lowest at a shift of {SHIFTS[curve.argmin()]} voxels")

# %%
# CT: a body that moved by 5 voxels, and a couch that did not. The mask is the body of the fixed image.

couch = 0.9 * (np.abs(x - 0.82) < 0.05) * (np.abs(y) < 0.9)
body = 0.45 * ellipse(0, 0, 0.45, 0.7) + 0.25 * ellipse(-0.1, 0.2, 0.12, 0.12)
fixed, moving = body + couch, np.roll(body, 5, axis=0) + couch
mask = (ellipse(0, 0, 0.55, 0.8) > 0.5)[None]
ssd = agnoreg.SSD(spatial_dims=2)
ct = {
    "without a mask": against_shift(ssd, fixed, moving),
    "with the body as mask": against_shift(ssd, fixed, moving, mask=mask),
}
for name, curve in ct.items():
    print(f"CT {name}: lowest at a shift of {SHIFTS[curve.argmin()]} voxels; the body is at -5")

# %%
figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), width_ratios=(1, 1, 1.7), layout="constrained")
pictures = (("T1", t1), ("T2", t2)), (("CT, fixed", fixed), ("CT, moving", moving))
for row, given, plotted in zip(axes, pictures, (curves, ct), strict=True):
    for axis, (title, image) in zip(row, given, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title)
        axis.set_axis_off()
    for (name, curve), line in zip(plotted.items(), ("-", "--", "-."), strict=False):
        row[2].plot(SHIFTS, curve, line, label=name)
    row[2].set_xlabel("shift, voxels")
    row[2].set_title("loss, scaled to [0, 1]")
    row[2].legend(frameon=False, fontsize=8)
axes[1, 0].contour(mask[0], levels=[0.5], colors="#E69F00")
plt.show()
