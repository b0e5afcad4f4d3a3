"""MONAI's losses of displacement fields."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import backend_of
from agnoreg.compat.monai.shared import FIRST, _reduced
from agnoreg.engine.validate import check_flag
from agnoreg.functional import bending_energy, gradient_norm
from agnoreg.loss import deform
from agnoreg.objects.loss import Loss

Array = Any


class _FieldLoss:
    """A regulariser of a field; the number of axes and their sizes are taken from the array of each call."""

    normalize: bool
    reduction: str

    #: The class and the function in agnoreg, and the stencil.
    own: ClassVar[type[Loss]]
    function: ClassVar[Callable[..., Array]]
    stencil: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_flag("normalize", self.normalize)
        object.__setattr__(self, "_loss", self.own(reduction=self.reduction))

    def __call__(self, pred: Array) -> Array:
        """Return the loss.

        Parameters
        ----------
        pred
            A displacement field in voxels, shape ``(B, 3, d1, d2, d3)``, ``(B, 2, d1, d2)`` or ``(B, 1, d1)``;
            component i is the displacement along axis i.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        backend = backend_of(pred)
        pred = backend.prepare(pred)
        shape = backend.shape(pred)
        dims = len(shape) - 2
        if dims not in (1, 2, 3):
            raise ValueError(f"A displacement field must be (batch, components, dim1[, dim2[, dim3]]), got {shape}.")
        spacing: tuple[float, ...] = (1.0,) * dims
        if self.normalize and shape[1] == dims:
            sizes = [size for size in shape[2:] if size is not None]
            if len(sizes) < dims:
                raise ValueError(f"normalize=True needs a field of known sizes, got shape {shape}.")
            # Each component in units of the length of its axis; each axis has length 1.
            spacing = tuple(1.0 / size for size in sizes)
            xp, dtype = backend.xp, backend.dtypes.compute(pred)
            with backend.execution.at(pred):
                components = [xp.astype(pred[:, i : i + 1, ...], dtype) * spacing[i] for i in range(dims)]
                pred = xp.concat(components, axis=1)
        function = type(self).function
        values = function(pred, stencil=self.stencil, spacing=spacing, spatial_dims=dims, data_format=FIRST)
        inner = [None if size is None else size - 2 for size in shape[2:]]
        return _reduced(self.__dict__["_loss"], values, (dims, *inner))


@dataclass(frozen=True)
class BendingEnergyLoss(_FieldLoss):
    """The bending energy of a displacement field, by MONAI's formula.

    Takes a field ``(B, 3, d1, d2, d3)``, ``(B, 2, d1, d2)`` or ``(B, 1, d1)``, each axis of at least 3 voxels; in
    [0, inf), lower is smoother. The mean over voxels and components of the squares of second differences, ``u[i+1] - 2
    u[i] + u[i-1]``, with the mixed ones counted twice, over all voxels that are not at the border.

    Parameters
    ----------
    normalize
        Measure component i relative to the size of axis i, and let every axis have length 1.
    reduction
        ``"mean"``, ``"sum"`` (over samples, components and voxels) or ``"none"``, which is ``(B,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shape is not that of a field.

    References
    ----------
    ``monai.losses.BendingEnergyLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> BendingEnergyLoss()(np.arange(6.0).reshape(1, 1, 6) ** 2)
    array(4.)
    """

    normalize: bool = False
    reduction: str = "mean"

    own: ClassVar[type[Loss]] = deform.BendingEnergy
    function: ClassVar[Callable[..., Array]] = staticmethod(bending_energy)
    stencil: ClassVar[str] = "compact"


@dataclass(frozen=True)
class DiffusionLoss(_FieldLoss):
    """The mean squared gradient of a displacement field, by MONAI's formula.

    Takes a field ``(B, 3, d1, d2, d3)``, ``(B, 2, d1, d2)`` or ``(B, 1, d1)``, each axis of at least 3 voxels; in
    [0, inf), lower is smoother. The mean over voxels and components of the sum over the axes of the squares of central
    differences, ``(u[i+1] - u[i-1]) / 2``, over all voxels that are not at the border.

    Parameters
    ----------
    normalize
        Measure component i relative to the size of axis i, and let every axis have length 1.
    reduction
        ``"mean"``, ``"sum"`` (over samples, components and voxels) or ``"none"``, which is ``(B,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shape is not that of a field.

    References
    ----------
    ``monai.losses.DiffusionLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> DiffusionLoss()(2.0 * np.arange(6.0).reshape(1, 1, 6))
    array(4.)
    """

    normalize: bool = False
    reduction: str = "mean"

    own: ClassVar[type[Loss]] = deform.GradientNorm
    function: ClassVar[Callable[..., Array]] = staticmethod(gradient_norm)
    stencil: ClassVar[str] = "central"
