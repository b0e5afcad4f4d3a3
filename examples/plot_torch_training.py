"""
Training a network with PyTorch
===============================

A small network learns to register pairs of planes, in VoxelMorph's way: it sees both images, predicts a displacement
field, and is trained by LNCC and by the smoothness of the field. No true field is shown to it.
"""

import matplotlib.pyplot as plt
import torch

import agnoreg
from agnoreg.functional import warp

torch.manual_seed(0)
SIZE = 32


# %%
# The data: blobs, and the same blobs moved by a smooth random field.


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fixed and moving images, ``(count, SIZE, SIZE)`` in [0, 1]."""
    axis = torch.arange(SIZE, dtype=torch.float32)
    centres = 5 + (SIZE - 10) * torch.rand(2, count, 8, 1)
    widths = 2 + 2 * torch.rand(count, 8, 1)
    x, y = (torch.exp(-(((axis - centre) / widths) ** 2)) for centre in centres)
    moving = torch.einsum("bnx,bny->bxy", x, y).clamp(max=1)
    coarse = 4 * torch.randn(count, 2, 4, 4)
    ddf = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").movedim(1, -1)
    return warp(moving, ddf), moving


# %%
# The network and the losses. Images have two spatial axes here, so every loss is told ``spatial_dims=2``.

network = torch.nn.Sequential(
    torch.nn.Conv2d(2, 16, 5, padding=2),
    torch.nn.LeakyReLU(0.2),
    torch.nn.Conv2d(16, 16, 5, padding=4, dilation=2),
    torch.nn.LeakyReLU(0.2),
    torch.nn.Conv2d(16, 16, 5, padding=8, dilation=4),
    torch.nn.LeakyReLU(0.2),
    torch.nn.Conv2d(16, 2, 3, padding=1),
)
similarity = agnoreg.LNCC(kernel_size=9, spatial_dims=2)
smoothness = agnoreg.GradientNorm(spatial_dims=2)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)


def register(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """Return the field that the network predicts, ``(B, SIZE, SIZE, 2)`` in voxels."""
    return network(torch.stack((fixed, moving), dim=1)).movedim(1, -1)


# %%
# The training loop. ``loss.backward()`` uses agnoreg's closed-form gradients.

losses = []
for _ in range(80):
    fixed, moving = batch(8)
    ddf = register(fixed, moving)
    loss = similarity(fixed, warp(moving, ddf)) + 0.1 * smoothness(ddf)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %%
# Pairs that the network has never seen:

with torch.no_grad():
    fixed, moving = batch(16)
    warped = warp(moving, register(fixed, moving))
    before, after = (agnoreg.SSD(spatial_dims=2)(fixed, image).item() for image in (moving, warped))
print(f"mean squared difference of new pairs: {before:.4f} before, {after:.4f} after")

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, title, image in zip(axes, ("fixed", "moving", "warped"), (fixed, moving, warped), strict=False):
    axis.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()
axes[3].plot(losses)
axes[3].set_xlabel("step")
axes[3].set_title("loss")
plt.show()
