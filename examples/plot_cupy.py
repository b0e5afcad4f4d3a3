"""
CuPy: gradients on a card without a framework
=============================================

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
# A pair: a textured ball, and the same one moved by a smooth field.

SIZE = 32
x, y, z = xp.meshgrid(*(xp.linspace(-1, 1, SIZE, dtype=np.float32),) * 3, indexing="ij")
ball = 1 / (1 + xp.exp(25 * (xp.sqrt(x**2 + y**2 + z**2) - 0.8)))
moving = (ball * (0.5 + 0.4 * xp.sin(9 * x + 2 * y) * xp.cos(8 * y) * xp.cos(5 * z)))[None]
truth = 1.5 * xp.stack((xp.cos(2 * y), xp.sin(2 * z), xp.cos(2 * x)), axis=-1)[None]
fixed = warp(moving, truth)

# %%
# Gradient descent with momentum. Nothing here says which of the two libraries computes.

similarity, smoothness = agnoreg.LNCC(kernel_size=7), agnoreg.BendingEnergy()
ddf = xp.zeros((1, SIZE, SIZE, SIZE, 3), dtype=np.float32)
direction = xp.zeros_like(ddf)
curve = []
for _ in range(40):
    value, by_warped = agnoreg.value_and_grad(similarity, fixed, warp(moving, ddf))
    (gradient,) = warp_adjoint(moving, ddf, by_warped, wrt=(1,))
    energy, by_field = agnoreg.value_and_grad(smoothness, ddf)
    gradient = agnoreg.functional.separable_filter(gradient + 2 * by_field, [1 / 9] * 9)
    longest = float(xp.sqrt(xp.max(xp.sum(gradient**2, axis=-1))))
    direction = 0.8 * direction + 0.2 * gradient / longest
    ddf = ddf - 0.5 * direction
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
