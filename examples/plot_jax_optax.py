"""
JAX and Optax: one pair, with a mask
====================================

Instance optimisation: the field of one pair is found by Optax, and the whole step is compiled. The fixed image has a
lesion that the moving one lacks. Without a mask, tissue is pulled into it. A mask leaves it out of the loss.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import agnoreg
from agnoreg.functional import warp

SIZE = 48

# %%
# A pair: textured tissue, moved by a known field, and a lesion in the fixed image alone.

x, y = jnp.meshgrid(*(jnp.linspace(-1, 1, SIZE),) * 2, indexing="ij")
tissue = 0.5 + 0.25 * jnp.sin(9 * x + 2 * jnp.cos(5 * y)) * jnp.cos(7 * y) + 0.1 * x
moving = (tissue * jax.nn.sigmoid(25 * (0.85 - jnp.hypot(x, y))))[None]
truth = 2.0 * jnp.stack((jnp.cos(2 * y), jnp.sin(2 * x)), axis=-1)[None]
lesion = jax.nn.sigmoid(40 * (0.2 - jnp.hypot(x - 0.2, y + 0.25)))[None]
fixed = warp(moving, truth) * (1 - lesion) + lesion
healthy = lesion < 0.02

# %%
# The objective and a compiled step. ``fixed_mask`` says which voxels of the fixed image count.

similarity = agnoreg.LNCC(kernel_size=7, spatial_dims=2)
smoothness = agnoreg.BendingEnergy(spatial_dims=2)
optimizer = optax.adam(0.1)


def objective(ddf: jax.Array, mask: jax.Array) -> jax.Array:
    """Return the loss of a field."""
    return similarity(fixed, warp(moving, ddf), fixed_mask=mask) + 20 * smoothness(ddf)


@jax.jit
def step(ddf: jax.Array, state: optax.OptState, mask: jax.Array):
    """Return the field and the optimizer's state after a step, and the loss before it."""
    value, gradient = jax.value_and_grad(objective)(ddf, mask)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(ddf, updates), state, value


def register(mask: jax.Array) -> jax.Array:
    """Return the field after 100 steps."""
    ddf = jnp.zeros((1, SIZE, SIZE, 2))
    state = optimizer.init(ddf)
    for _ in range(100):
        ddf, state, _ = step(ddf, state, mask)
    return ddf


everything = jnp.ones_like(healthy)
fields = {"without a mask": register(everything), "with the mask": register(healthy)}

# %%
# How far is each field from the true one?

inside = fixed[0] > 0.1
errors = {name: jnp.linalg.norm(ddf - truth, axis=-1)[0] * inside for name, ddf in fields.items()}
for name, error in errors.items():
    print(f"{name}: mean error {error.sum() / inside.sum():.2f} voxels")

figure, axes = plt.subplots(1, 4, figsize=(10.5, 2.8), layout="constrained")
for axis, title, image in ((axes[0], "fixed, with a lesion", fixed), (axes[1], "moving", moving)):
    axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
for axis, (name, error) in zip(axes[2:], errors.items(), strict=True):
    shown = axis.imshow(error, cmap="viridis", vmin=0, vmax=2)
    axis.set_title(f"error {name}")
figure.colorbar(shown, ax=axes[3], label="voxels")
for axis in axes:
    axis.set_axis_off()
plt.show()
