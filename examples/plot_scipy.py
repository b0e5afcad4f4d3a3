"""
SciPy's L-BFGS-B on NumPy
=========================

SciPy's optimisers take the value and the gradient from one call, ``jac=True``. agnoreg gives both on plain NumPy
arrays, without autodiff: ``value_and_grad`` for the losses, ``warp_adjoint`` for the spatial transform.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

import agnoreg
from agnoreg.functional import warp, warp_adjoint

SIZE = 40

# %%
# A pair: some blobs, and the same ones moved by a smooth field that we know.

rng = np.random.default_rng(2)
x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
centres, widths = rng.uniform(8, SIZE - 8, size=(12, 2)), rng.uniform(2, 4, size=12)
moving = sum(np.exp(-(np.hypot(x - cx, y - cy) ** 2) / w**2) for (cx, cy), w in zip(centres, widths, strict=True))
moving = (moving / moving.max())[None]
truth = 2.5 * np.stack((np.sin(y / 9), np.cos(x / 11)), axis=-1)[None]
fixed = warp(moving, truth)

# %%
# The objective, by the chain rule: from the loss to the warped image, and from there to the field.

similarity, smoothness = agnoreg.SSD(spatial_dims=2), agnoreg.BendingEnergy(spatial_dims=2)
curve = []


def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss of a field and its gradient, as SciPy wants them."""
    ddf = flat.reshape(1, SIZE, SIZE, 2)
    image_loss, by_warped = agnoreg.value_and_grad(similarity, fixed, warp(moving, ddf))
    (by_ddf,) = warp_adjoint(moving, ddf, by_warped, wrt=(1,))
    energy, by_field = agnoreg.value_and_grad(smoothness, ddf)
    curve.append(float(image_loss + 0.05 * energy))
    return curve[-1], np.ravel(by_ddf + 0.05 * by_field)


found = minimize(objective, np.zeros(truth.size), jac=True, method="L-BFGS-B", options={"maxiter": 120, "ftol": 1e-12})
ddf = found.x.reshape(truth.shape)
inside = fixed[0] > 0.1
before, after = (np.linalg.norm(field - truth, axis=-1)[0][inside].mean() for field in (0 * truth, ddf))
print(f"{found.nit} iterations; mean error of the field: {before:.2f} voxels before, {after:.2f} after")

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, title, image in zip(axes, ("fixed", "moving", "warped"), (fixed, moving, warp(moving, ddf)), strict=False):
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()
axes[3].semilogy(curve)
axes[3].set_xlabel("evaluation")
axes[3].set_title("loss")
plt.show()
