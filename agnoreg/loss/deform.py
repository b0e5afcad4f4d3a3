"""Losses of displacement fields: how smooth they are."""

import math
from typing import Any, ClassVar

from agnoreg.differentiable import Differentiable
from agnoreg.functional.deformation import (
    GradientEnergy,
    SecondDerivativeEnergy,
    gradient_dx,
    gradient_dxyz,
    gradient_dy,
    gradient_dz,
)
from agnoreg.loss.base import Loss

Array = Any

__all__ = ["BendingEnergy", "GradientNorm", "gradient_dx", "gradient_dxyz", "gradient_dy", "gradient_dz"]


class _FieldLoss(Loss):
    inputs: ClassVar[int] = 1

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0, without bound."""
        return 0.0, math.inf

    @property
    def identity_value(self) -> float | None:
        """0, for the field of zero displacement."""
        return 0.0


class GradientNorm(_FieldLoss):
    """The mean squared, or absolute, gradient of a field; see `agnoreg.functional.gradient_norm`.

    Takes a displacement field ``(B, d1, d2, d3, 3)``, component i along axis i, in voxels; in [0, inf), lower is
    smoother.

    Parameters
    ----------
    l1
        Sum absolute values instead of squares.

    Raises
    ------
    ValueError
        If ``l1`` is no bool, or, when called, if this is not such a field or has fewer than 3 voxels along an axis.
    """

    l1: bool = False

    def measure(self) -> Differentiable:
        """Return the gradient's norm."""
        return GradientEnergy(self.l1)


class BendingEnergy(_FieldLoss):
    """The bending energy of a field; see `agnoreg.functional.bending_energy`.

    Takes a displacement field ``(B, d1, d2, d3, 3)``, component i along axis i, in voxels; in [0, inf), lower is
    smoother.

    Raises
    ------
    ValueError
        When called, if this is not such a field or has fewer than 5 voxels along an axis.

    References
    ----------
    Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, 1999.
    """

    def measure(self) -> Differentiable:
        """Return the bending energy."""
        return SecondDerivativeEnergy()
