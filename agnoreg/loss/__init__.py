"""The losses and metrics as objects: `image`, `label` and `deform`, and what they are made of."""

from agnoreg.loss import composite, deform, image, kernel, label, names, util
from agnoreg.loss.base import Loss

__all__ = ["Loss", "composite", "deform", "image", "kernel", "label", "names", "util"]
