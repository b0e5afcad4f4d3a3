"""Gradient norm of a displacement field: the diffusion regulariser."""

from agnoreg.engine.combinators import WeightedSum
from agnoreg.engine.function import Differentiable
from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_fixed
from agnoreg.measures.families.central_differences import GradientEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy
from agnoreg.measures.families.stencils import StencilOptions


class GradientNormOptions(StencilOptions):
    """Mean squared (or absolute) gradient of a displacement field.

    The mean over voxels and components of ``ux^2 + uy^2 + uz^2`` (with ``l1``, of absolute values), by central
    differences ``(u[i+1] - u[i-1]) / (2 spacing)``. They exist at voxels that are at least one voxel away from the
    border, so each axis needs at least 3 voxels, or 2 for compact differences. The weight of a difference is the
    smallest mask weight among the voxels that it reads.

    Parameters
    ----------
    l1
        Sum absolute values instead of squares. The subgradient at 0 is 0.
    stencil
        ``"central"``: differences ``(u[i+1] - u[i-1]) / 2``, one voxel away from the border; they do not see a field
        that alternates from voxel to voxel. ``"compact"``: differences ``u[i+1] - u[i]``; each axis has its own grid,
        and the value is the sum of the axes' means. None: the convention's stencil, by default ``"central"``.
    convention
        ``"deepreg"``; ``"monai"``, which has central differences and no ``l1``; or ``"voxelmorph"``, compact
        differences and the mean over the axes instead of their sum.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for a translation; dimensionless.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(5.0).reshape(1, 5, 1, 1, 1) * np.ones((1, 5, 5, 5, 3))
    >>> gradient_norm(x)
    array([1.])
    """

    short = "Gradient"
    title, called = "gradient norm", "The gradient norm"
    stencils = {"deepreg": "central", "monai": "central", "voxelmorph": "compact"}

    l1: bool = flag(default=False)

    def validate(self) -> None:
        """Check what a convention has."""
        super().validate()
        if self.convention == "monai":
            check_fixed(self.convention, "l1", self.l1, (False,))


def gradient_measure(**options: Any) -> Differentiable:
    """Return what `gradient_norm` measures."""
    given = GradientNormOptions(**options)
    kind = GradientEnergy if given.stencil == "central" else CompactGradientEnergy
    measure = kind(given.l1, **given.field_options())
    # It is the mean over the axes there.
    mean = given.convention == "voxelmorph"
    return WeightedSum((measure,), (1.0 / given.spatial_dims,)) if mean else measure


class _Call(GradientNormOptions, FieldMask): ...


gradient_norm = field_function("gradient_norm", _Call, gradient_measure)


@register_loss("gradient")
class GradientNorm(GradientNormOptions, FieldLoss):
    formula = gradient_measure
