"""Losses and metrics of medical image registration, on the arrays of any framework, with gradients on all of them."""

from agnoreg import functional, loss
from agnoreg.backend import Backend, BackendNotAvailableError, available_backends, backend_of, get_backend
from agnoreg.config_files import load_loss, save_loss
from agnoreg.engine.masks import EmptyMaskWarning
from agnoreg.engine.native import native_autodiff
from agnoreg.functional.kernels import EvenWindowWarning
from agnoreg.gradients import value_and_grad
from agnoreg.loss.base import Loss
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import GlobalMutualInformationLoss as GMI
from agnoreg.loss.image import GlobalNormalizedCrossCorrelationLoss as GNCC
from agnoreg.loss.image import LocalNormalizedCrossCorrelationLoss as LNCC
from agnoreg.loss.label import CrossEntropyLoss as CrossEntropy
from agnoreg.loss.label import DiceLoss as Dice
from agnoreg.loss.label import JaccardLoss as Jaccard
from agnoreg.loss.label import SumSquaredDifferenceLoss as SSD
from agnoreg.loss.names import register_loss, registered_losses
from agnoreg.messages import InputWarning
from agnoreg.registry import build_loss

__version__ = "0.1.0"

#: The registered losses under the names that `agnoreg_keras` has for them, too.
Bending, Gradient = BendingEnergy, GradientNorm

__all__ = [
    "GMI",
    "GNCC",
    "LNCC",
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
    "available_backends",
    "backend_of",
    "build_loss",
    "functional",
    "get_backend",
    "load_loss",
    "loss",
    "native_autodiff",
    "register_loss",
    "registered_losses",
    "save_loss",
    "value_and_grad",
]
