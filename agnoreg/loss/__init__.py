"""The losses and metrics as objects, of `image`, `label` and `deform`, and what they are made of."""

from agnoreg.loss import composite, deform, image, kernel, label, names, util
from agnoreg.loss.base import Loss
from agnoreg.loss.composite import RegistrationLoss, WeightedLoss
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalMutualInformationLoss,
    GlobalNormalizedCrossCorrelation,
    GlobalNormalizedCrossCorrelationLoss,
    LocalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelationLoss,
)
from agnoreg.loss.label import (
    CrossEntropy,
    CrossEntropyLoss,
    DiceLoss,
    DiceScore,
    JaccardIndex,
    JaccardLoss,
    SumSquaredDifference,
    SumSquaredDifferenceLoss,
)
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin

__all__ = [
    "BendingEnergy",
    "CrossEntropy",
    "CrossEntropyLoss",
    "DiceLoss",
    "DiceScore",
    "GlobalMutualInformation",
    "GlobalMutualInformationLoss",
    "GlobalNormalizedCrossCorrelation",
    "GlobalNormalizedCrossCorrelationLoss",
    "GradientNorm",
    "JaccardIndex",
    "JaccardLoss",
    "LocalNormalizedCrossCorrelation",
    "LocalNormalizedCrossCorrelationLoss",
    "Loss",
    "MultiScaleMixin",
    "NegativeLossMixin",
    "RegistrationLoss",
    "SumSquaredDifference",
    "SumSquaredDifferenceLoss",
    "WeightedLoss",
    "composite",
    "deform",
    "image",
    "kernel",
    "label",
    "names",
    "util",
]
