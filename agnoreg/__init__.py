"""Losses and metrics of medical image registration, on the arrays of any framework, with gradients on all of them."""

from agnoreg import functional, loss, measures, metrics
from agnoreg.backend import Backend, BackendNotAvailableError, available_backends, backend_of, get_backend
from agnoreg.engine.kernels import EvenWindowWarning
from agnoreg.engine.masks import EmptyMaskWarning
from agnoreg.engine.native import native_autodiff
from agnoreg.gradients import value_and_grad
from agnoreg.loss import BendingEnergy, GradientNorm
from agnoreg.loss import CrossEntropyLoss as CrossEntropy
from agnoreg.loss import DiceLoss as Dice
from agnoreg.loss import GlobalMutualInformationLoss as GMI
from agnoreg.loss import GlobalNormalizedCrossCorrelationLoss as GNCC
from agnoreg.loss import JaccardLoss as Jaccard
from agnoreg.loss import LocalNormalizedCrossCorrelationLoss as LNCC
from agnoreg.loss import MeanAbsoluteDifferenceLoss as L1
from agnoreg.loss import NormalizedGradientFieldLoss as NGF
from agnoreg.loss import SumSquaredDifferenceLoss as SSD
from agnoreg.loss import TverskyLoss as Tversky
from agnoreg.messages import InputWarning
from agnoreg.objects.build import build_loss
from agnoreg.objects.files import load_loss, save_loss
from agnoreg.objects.loss import Loss
from agnoreg.objects.registry import register_loss, registered_losses

__version__ = "0.1.0"

#: By their short names, as the others are.
Bending, Gradient = BendingEnergy, GradientNorm

__all__ = [
    "GMI",
    "GNCC",
    "L1",
    "LNCC",
    "NGF",
    "SSD",
    "Backend",
    "BackendNotAvailableError",
    "Bending",
    "BendingEnergy",
    "CrossEntropy",
    "Dice",
    "EmptyMaskWarning",
    "EvenWindowWarning",
    "Gradient",
    "GradientNorm",
    "InputWarning",
    "Jaccard",
    "Loss",
    "Tversky",
    "available_backends",
    "backend_of",
    "build_loss",
    "functional",
    "get_backend",
    "load_loss",
    "loss",
    "measures",
    "metrics",
    "native_autodiff",
    "register_loss",
    "registered_losses",
    "save_loss",
    "value_and_grad",
]
