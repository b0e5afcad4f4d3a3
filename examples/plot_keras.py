"""
Keras: compile, fit, save, load
===============================

``agnoreg_keras`` has every loss as a Keras loss, on TensorFlow, PyTorch and JAX. A model with two outputs, the warped
image and the field, takes one loss for each. The saved file keeps them.
"""

import tempfile
from pathlib import Path

import agnoreg_keras
import keras
import matplotlib.pyplot as plt
import numpy as np

from agnoreg.functional import warp

keras.utils.set_random_seed(0)
SIZE = 24
rng = np.random.default_rng(0)


# %%
# The data: discs, and discs of another size at another place.


def discs(count: int) -> np.ndarray:
    """Return soft discs, ``(count, SIZE, SIZE, 1)``."""
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    centres = SIZE / 2 + rng.uniform(-3, 3, size=(2, count, 1, 1))
    radii = rng.uniform(4, 7, size=(count, 1, 1))
    distance = np.hypot(x - centres[0], y - centres[1])
    return (1 / (1 + np.exp(distance - radii)))[..., None].astype(np.float32)


fixed, moving = discs(64), discs(64)


# %%
# The spatial transform as a layer. ``warp`` takes the arrays of whatever backend Keras runs on.


@keras.saving.register_keras_serializable(package="example")
class Warp(keras.layers.Layer):
    """Warps an image by a displacement field."""

    def compute_output_shape(self, shapes):
        """Return the image's shape."""
        return shapes[0]

    def call(self, inputs):
        """Return the warped image."""
        return warp(*inputs)


pair = keras.Input((SIZE, SIZE, 1), name="fixed"), keras.Input((SIZE, SIZE, 1), name="moving")
hidden = keras.layers.Concatenate()(pair)
for dilation in (1, 2, 4):
    hidden = keras.layers.Conv2D(12, 5, padding="same", dilation_rate=dilation, activation="leaky_relu")(hidden)
ddf = keras.layers.Conv2D(2, 3, padding="same", name="ddf")(hidden)
warped = Warp(name="warped")([pair[1], ddf])
model = keras.Model(pair, {"warped": warped, "ddf": ddf})

# %%
# One loss an output. A regulariser does not read its target, so zeros will do.

model.compile(
    optimizer=keras.optimizers.Adam(3e-3),
    loss={"warped": agnoreg_keras.SSD(spatial_dims=2), "ddf": agnoreg_keras.Gradient(spatial_dims=2)},
    loss_weights={"warped": 1.0, "ddf": 0.01},
)
targets = {"warped": fixed, "ddf": np.zeros((len(fixed), SIZE, SIZE, 2), np.float32)}
history = model.fit([fixed, moving], targets, batch_size=16, epochs=15, verbose=0).history

# %%
# Saved and loaded again, without ``custom_objects``:

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "registration.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
found = loaded.predict([fixed[:4], moving[:4]], verbose=0)
print("the loaded model has the losses", [type(loss).__name__ for loss in loaded.loss.values()])

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for axis, title, image in zip(axes, ("fixed", "moving", "warped"), (fixed, moving, found["warped"]), strict=False):
    axis.imshow(image[0, ..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()
axes[3].semilogy(history["loss"])
axes[3].set_xlabel("epoch")
axes[3].set_title("loss")
plt.show()
