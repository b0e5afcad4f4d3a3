"""MONAI's losses of registration, with its class names, arguments, defaults and numbers, on arrays of any framework.

They are called as MONAI's are: first the prediction, then the target, channels first, ``(B, C, d1, d2, d3)`` or fewer
axes. They differ from MONAI's in three ways:

- They are no modules of a framework and have no state.
- ``reduction="none"`` gives one value a sample, ``(B,)``, as everywhere in agnoreg: the mean over what MONAI would
  return for the sample. ``"mean"`` and ``"sum"`` are MONAI's own.
- An argument that has no counterpart here raises an error that names it, unless it has MONAI's default.

Gradients are those of the framework's autodiff. Where it has none, `agnoreg.value_and_grad` takes agnoreg's own classes
with ``convention="monai"``, which these wrap. MONAI's ``MaskedLoss`` is left out: it multiplies the images by the mask,
so that a mask's border becomes an edge of the images.
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
