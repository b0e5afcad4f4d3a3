"""Losses of displacement fields: how smooth they are."""

from agnoreg.functional.differences import gradient_dx, gradient_dxyz, gradient_dy, gradient_dz
from agnoreg.measures.bending import BendingEnergy
from agnoreg.measures.gradient_norm import GradientNorm

__all__ = ["BendingEnergy", "GradientNorm", "gradient_dx", "gradient_dxyz", "gradient_dy", "gradient_dz"]
