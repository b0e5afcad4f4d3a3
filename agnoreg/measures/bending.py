"""Bending energy of a displacement field."""

from agnoreg.engine.function import Differentiable
from agnoreg.measures.author import *
from agnoreg.measures.families.central_differences import SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactSecondDerivativeEnergy
from agnoreg.measures.families.stencils import StencilOptions


class BendingEnergyOptions(StencilOptions):
    """Bending energy of a displacement field.

    The mean over voxels and components of ``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``; second differences
    are central differences of central differences, ``(u[i+1] - u[i-1]) / (2 spacing)``. They exist at voxels that are
    at least two voxels away from the border, so each axis needs at least 5 voxels, or 3 for compact differences. The
    weight of a difference is the smallest mask weight among the voxels that it reads.

    Parameters
    ----------
    stencil
        ``"central"``: central differences of central differences; or ``"compact"``: ``u[i+1] - 2 u[i] + u[i-1]``, with
        central differences for the mixed derivatives, one voxel away from the border. None: the convention's stencil,
        by default ``"central"``.
    convention
        ``"deepreg"``: central differences, unless `stencil` says otherwise. ``"monai"``: compact differences.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, inf), lower is smoother, 0 for an affine field. The unit is 1/voxel^2, or 1/mm^2 if
        displacements and spacing are in mm.

    References
    ----------
    Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(6.0).reshape(1, 6, 1, 1, 1) * np.ones((1, 6, 6, 6, 3))
    >>> bending_energy(x**2 / 2)
    array([1.])
    """

    short = "Bending"
    title, called, per_length = "bending energy", "The bending energy", 2
    stencils = {"deepreg": "central", "monai": "compact"}


def bending_measure(**options: Any) -> Differentiable:
    """Return what `bending_energy` measures."""
    given = BendingEnergyOptions(**options)
    kind = SecondDerivativeEnergy if given.stencil == "central" else CompactSecondDerivativeEnergy
    return kind(**given.field_options())


class _Call(BendingEnergyOptions, FieldMask): ...


bending_energy = field_function("bending_energy", _Call, bending_measure)


@register_loss("bending")
class BendingEnergy(BendingEnergyOptions, FieldLoss):
    formula = bending_measure
