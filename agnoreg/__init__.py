"""Losses and metrics of medical image registration, on the arrays of any framework, with gradients on all of them."""

from agnoreg import functional, loss
from agnoreg.backend import Backend, BackendNotAvailableError, available_backends, backend_of, get_backend
from agnoreg.config_files import load_loss, save_loss
from agnoreg.differentiable import native_autodiff
from agnoreg.gradients import value_and_grad
from agnoreg.loss.base import Loss
from agnoreg.loss.names import register_loss, registered_losses
from agnoreg.masks import EmptyMaskWarning
from agnoreg.registry import build_loss

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendNotAvailableError",
    "EmptyMaskWarning",
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
