"""
CuPy: gradients on a card without autodiff
==========================================

CuPy has no autodiff. agnoreg's gradients are closed forms, so a registration runs on a card with CuPy alone. Where
there is no card, this script says so and does the same on NumPy: the calls do not differ.
"""

import matplotlib.pyplot as plt
import numpy as np

import agnoreg
from agnoreg.functional import warp, warp_adjoint

try:
    reason = agnoreg.get_backend("cupy").execution.unusable()
except agnoreg.BackendNotAvailableError as error:
    reason = str(error)
if reason:
    xp = np
    print(f"NumPy computes, as CuPy cannot: {reason}")
else:
    import cupy as xp

    print("CuPy computes.")

# %%
# A pair: a ball with some texture, and the same one moved by a smooth field.

SIZE = 32
x, y, z = xp.meshgrid(*(xp.linspace(-1, 1, SIZE, dtype=np.float32),) * 3, indexing="ij")
ball = 1 / (1 + xp.exp(25 * (xp.sqrt(x**2 + y**2 + z**2) - 0.8)))
moving = (ball * (0.6 + 0.3 * xp.sin(6 * x + 2 * y) * xp.cos(5 * y - z)))[None]
truth = 2 * xp.stack((xp.cos(2 * y), xp.sin(2 * z), xp.cos(2 * x)), axis=-1)[None]
fixed = warp(moving, truth)

# %%
# Gradient descent, by ever shorter steps. Each voxel's gradient knows only its neighbourhood; smoothed by a triangle it
# moves voxels together. Nothing here says which of the two libraries computes.

similarity, smoothness = agnoreg.LNCC(kernel_size=7), agnoreg.BendingEnergy()
ddf = xp.zeros((1, SIZE, SIZE, SIZE, 3), dtype=np.float32)
triangle = agnoreg.functional.triangular(9) / 25
curve = []
for iteration in range(40):
    value, by_warped = agnoreg.value_and_grad(similarity, fixed, warp(moving, ddf))
    (gradient,) = warp_adjoint(moving, ddf, by_warped, wrt=(1,))
    energy, by_field = agnoreg.value_and_grad(smoothness, ddf)
    gradient = agnoreg.functional.separable_filter(gradient + by_field, triangle)
    longest = float(xp.sqrt(xp.max(xp.sum(gradient**2, axis=-1))))
    ddf = ddf - 0.6 * (1 - iteration / 40) * gradient / longest
    curve.append(float(value))
print(f"LNCC loss: {curve[0]:.3f} before, {curve[-1]:.3f} after")

# %%
to_numpy = agnoreg.backend_of(fixed).to_numpy
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, title, image in zip(axes, ("fixed", "moving", "warped"), (fixed, moving, warp(moving, ddf)), strict=False):
    axis.imshow(to_numpy(image)[0, :, :, SIZE // 2], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()
axes[3].plot(curve)
axes[3].set_xlabel("step")
axes[3].set_title("LNCC loss")
plt.show()
