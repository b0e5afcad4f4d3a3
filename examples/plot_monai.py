"""
MONAI's losses by another import
================================

A script that trains with MONAI's registration losses keeps its calls. One import changes: ``agnoreg.compat.monai`` has
MONAI's class names, arguments, order and layout. The curve is the same.
"""

import matplotlib.pyplot as plt
import monai.losses
import torch

import agnoreg.compat.monai
from agnoreg.functional import warp

SIZE = 20

# %%
# A pair: an ellipsoid, and the same one moved and turned.

x, y, z = torch.meshgrid(*(torch.linspace(-1, 1, SIZE),) * 3, indexing="ij")


def ellipsoid(dx: float, angle: float) -> torch.Tensor:
    """Return a soft-edged ellipsoid, ``(1, 1, SIZE, SIZE, SIZE)``."""
    a = x * torch.cos(torch.tensor(angle)) + y * torch.sin(torch.tensor(angle)) - dx
    b = y * torch.cos(torch.tensor(angle)) - x * torch.sin(torch.tensor(angle))
    return torch.sigmoid(20 * (0.55 - torch.sqrt(a**2 + (1.6 * b) ** 2 + z**2)))[None, None]


fixed, moving = ellipsoid(0.0, 0.0), ellipsoid(0.15, 0.4)


# %%
# The registration: a displacement at every voxel, by Adam. ``losses`` is MONAI's module, or the one that replaces it.


def register(losses) -> tuple[list[float], torch.Tensor]:
    """Return the loss at every step, and the warped image."""
    similarity = losses.LocalNormalizedCrossCorrelationLoss(kernel_size=7)
    smoothness = losses.BendingEnergyLoss()
    ddf = torch.zeros(1, 3, SIZE, SIZE, SIZE, requires_grad=True)
    optimizer = torch.optim.Adam([ddf], lr=0.1)
    curve = []
    for _ in range(25):
        warped = warp(moving[:, 0], ddf.movedim(1, -1))[:, None]
        loss = similarity(warped, fixed) + 0.5 * smoothness(ddf)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve, warped.detach()


theirs, _ = register(monai.losses)
ours, warped = register(agnoreg.compat.monai)
print(f"largest difference of the two curves: {max(abs(a - b) for a, b in zip(theirs, ours, strict=True)):.1e}")

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, title, image in zip(axes, ("fixed", "moving", "warped"), (fixed, moving, warped), strict=False):
    axis.imshow(image[0, 0, :, :, SIZE // 2].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()
axes[3].plot(theirs, linewidth=5, color="#E69F00", label="monai.losses")
axes[3].plot(ours, "--", color="black", label="agnoreg.compat.monai")
axes[3].set_xlabel("step")
axes[3].set_title("loss")
axes[3].legend(frameon=False)
plt.show()
