"""The losses and metrics as objects, of `image`, `label` and `deform`, and what they are made of."""

from agnoreg.loss import deform, image, kernel, label, util
from agnoreg.loss.deform import *
from agnoreg.loss.image import *
from agnoreg.loss.label import *
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin
from agnoreg.objects.loss import Loss
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.weighted import WeightedLoss

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
    "MeanAbsoluteDifference",
    "MeanAbsoluteDifferenceLoss",
    "MultiScaleMixin",
    "NegativeLossMixin",
    "NormalizedGradientField",
    "NormalizedGradientFieldLoss",
    "RegistrationLoss",
    "SumSquaredDifference",
    "SumSquaredDifferenceLoss",
    "TverskyIndex",
    "TverskyLoss",
    "WeightedLoss",
    "deform",
    "image",
    "kernel",
    "label",
    "util",
]
