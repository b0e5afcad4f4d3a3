"""MONAI's registration losses, with its class names, arguments, defaults and numbers, on arrays of any framework.

They are called as in MONAI: the prediction first, then the target, with channels first, ``(B, C, d1, d2, d3)`` or
fewer axes. They differ from MONAI's classes in three ways:

- They are plain objects without state, not modules of a framework.
- ``reduction="none"`` returns one value per sample, ``(B,)``, as everywhere in agnoreg: the mean of what MONAI returns
  for that sample. ``"mean"`` and ``"sum"`` are the same as in MONAI.
- An argument that is not supported raises an error that names it, unless it has MONAI's default.

The framework's autodiff differentiates them. For arrays without autodiff, use `agnoreg.value_and_grad` with agnoreg's
own classes and ``convention="monai"``, which these classes wrap. MONAI's ``MaskedLoss`` is left out: it multiplies the
images by the mask, so the border of the mask becomes an edge in both images.
"""

from agnoreg.compat.monai.fields import BendingEnergyLoss, DiffusionLoss
from agnoreg.compat.monai.images import GlobalMutualInformationLoss, LocalNormalizedCrossCorrelationLoss
from agnoreg.compat.monai.labels import DiceLoss

__all__ = [
    "BendingEnergyLoss",
    "DiceLoss",
    "DiffusionLoss",
    "GlobalMutualInformationLoss",
    "LocalNormalizedCrossCorrelationLoss",
]
