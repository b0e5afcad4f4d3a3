"""Losses of displacement fields: how smooth they are."""

import math
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, ClassVar

from agnoreg.engine.axes import check_spatial_dims
from agnoreg.engine.function import Differentiable
from agnoreg.functional.deformation import (
    BENDING_CONVENTIONS,
    GRADIENT_CONVENTIONS,
    bending_measure,
    gradient_dx,
    gradient_dxyz,
    gradient_dy,
    gradient_dz,
    gradient_measure,
)
from agnoreg.loss.base import Loss

Array = Any

__all__ = ["BendingEnergy", "GradientNorm", "gradient_dx", "gradient_dxyz", "gradient_dy", "gradient_dz"]


class _FieldLoss(Loss):
    stencil: str | None = field(default=None, kw_only=True)
    spacing: float | tuple[float, ...] = field(default=1.0, kw_only=True)
    spatial_dims: int = field(default=3, kw_only=True)
    data_format: str = field(default="channels_last", kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    inputs: ClassVar[int] = 1
    #: The stencil of each convention.
    stencils: ClassVar[Mapping[str, str]]

    def __post_init__(self) -> None:
        """Check the configuration, and take a stencil that was left out from the convention."""
        super().__post_init__()
        object.__setattr__(self, "spatial_dims", check_spatial_dims(self.spatial_dims))
        if self.stencil is None:
            object.__setattr__(self, "stencil", self.stencils[self.convention])

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

    Takes a displacement field ``(B, d1, d2, d3, 3)``, component i along axis i, in the unit of ``spacing``; in
    [0, inf), lower is smoother.

    Parameters
    ----------
    l1
        Sum absolute values instead of squares.
    stencil
        ``"central"`` differences, or ``"compact"`` ones, which see a field that alternates from voxel to voxel.
    spacing
        The distance of neighbouring voxels, a number or one for each axis.
    spatial_dims
        Axes of the image, 1, 2 or 3.
    data_format
        ``"channels_last"``, or ``"channels_first"`` for ``(B, 3, d1, d2, d3)``.
    convention
        ``"deepreg"``, ``"monai"`` or ``"voxelmorph"``: whose formula, and whose stencil where that is None.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if this is not such a field or has fewer than 3 voxels along an
        axis.
    """

    l1: bool = False

    stencils = MappingProxyType(GRADIENT_CONVENTIONS)

    def measure(self) -> Differentiable:
        """Return the gradient's norm."""
        return gradient_measure(
            self.l1, self.stencil, self.spacing, self.spatial_dims, self.data_format, self.convention
        )


class BendingEnergy(_FieldLoss):
    """The bending energy of a field; see `agnoreg.functional.bending_energy`.

    Takes a displacement field ``(B, d1, d2, d3, 3)``, component i along axis i, in the unit of ``spacing``; in
    [0, inf), lower is smoother.

    Parameters
    ----------
    stencil
        ``"central"`` differences, or ``"compact"`` ones, which see a field that alternates from voxel to voxel.
    spacing
        The distance of neighbouring voxels, a number or one for each axis.
    spatial_dims
        Axes of the image, 1, 2 or 3.
    data_format
        ``"channels_last"``, or ``"channels_first"`` for ``(B, 3, d1, d2, d3)``.
    convention
        ``"deepreg"`` or ``"monai"``: whose formula, and whose stencil where that is None.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if this is not such a field or has fewer than 5 voxels along an
        axis.

    References
    ----------
    Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, 1999.
    """

    stencils = MappingProxyType(BENDING_CONVENTIONS)

    def measure(self) -> Differentiable:
        """Return the bending energy."""
        return bending_measure(self.stencil, self.spacing, self.spatial_dims, self.data_format, self.convention)
