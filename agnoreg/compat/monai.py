"""MONAI's losses of registration, with its class names, arguments, defaults and numbers, on arrays of any framework.

They are called as MONAI's are: first the prediction, then the target, channels first, ``(B, C, d1, d2, d3)`` or fewer
axes. They differ from MONAI's in three ways:

- They are no modules of a framework and have no state.
- ``reduction="none"`` gives one value a sample, ``(B,)``, as everywhere in agnoreg: the mean over what MONAI would
  return for the sample. ``"mean"`` and ``"sum"`` are MONAI's own.
- An argument that has no counterpart here raises an error that names it, unless it has MONAI's default.

Gradients are those of the framework's autodiff. Where it has none, `agnoreg.value_and_grad` takes agnoreg's own classes
with ``convention="monai"``, which these wrap. MONAI's ``MaskedLoss`` is left out: it multiplies the images by the mask,
so that a mask's border becomes an edge of the images.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from agnoreg.backend import backend_of
from agnoreg.engine.axes import check_choice
from agnoreg.engine.validate import check_flag, check_integer, check_same_shape
from agnoreg.functional import bending_energy, dice, gradient_norm, jaccard
from agnoreg.loss import deform, image, label
from agnoreg.objects.loss import Loss

Array = Any

__all__ = [
    "BendingEnergyLoss",
    "DiceLoss",
    "DiffusionLoss",
    "GlobalMutualInformationLoss",
    "LocalNormalizedCrossCorrelationLoss",
]

FIRST = "channels_first"


def _reduced(loss: Loss, values: Array, entries: Sequence[int | None]) -> Array:
    """Return the values ``(B,)`` reduced as the loss says; each is a mean over so many entries of a sample."""
    if loss.reduction == "sum":
        known = [size for size in entries if size is not None]
        if len(known) < len(entries):
            raise ValueError('reduction="sum" adds up a sample\'s entries, and needs sizes that are known.')
        with backend_of(values).execution.at(values):
            values = values * float(math.prod(known))
    return loss.reduce(values)


def _planes(array: Array, rank: int) -> Array:
    """Return the array with axes of one entry behind its own, to have at least so many."""
    backend = backend_of(array)
    array = backend.prepare(array)
    for _ in range(rank - len(backend.shape(array))):
        array = backend.xp.expand_dims(array, axis=-1)
    return array


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalNormalizedCrossCorrelationLoss:
    """The negative squared local normalised cross-correlation, by MONAI's formula.

    Takes two images ``(B, C, d1, d2, d3)``, ``(B, C, d1, d2)`` or ``(B, C, d1)``; in [-1, 0] for the default constants,
    lower is better. With ``S[.]`` the zero-padded window sum and ``V`` the sum of the window's weights, ``cross =
    S[tp] - S[t] S[p] / V`` and ``vt``, ``vp`` likewise: the mean over voxels and channels of ``(cross^2 + smooth_nr) /
    (max(vt, smooth_dr) max(vp, smooth_dr))``, negated. A flat window counts as ``smooth_nr / smooth_dr^2`` at most, 0
    by default.

    Parameters
    ----------
    spatial_dims
        Axes of the image, 1, 2 or 3.
    kernel_size
        Voxels of the window along every axis, odd.
    kernel_type
        ``"rectangular"``, ``"triangular"`` or ``"gaussian"``, with MONAI's weights.
    reduction
        ``"mean"``, ``"sum"`` (over samples, channels and voxels) or ``"none"``, which is ``(B,)``.
    smooth_nr
        Added to the numerator.
    smooth_dr
        The least that a variance counts as.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shapes do not fit.

    References
    ----------
    ``monai.losses.LocalNormalizedCrossCorrelationLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((1, 2, 8, 8, 8))
    >>> LocalNormalizedCrossCorrelationLoss()(image, image).round(4)
    np.float64(-1.0)
    """

    spatial_dims: int = 3
    kernel_size: int = 3
    kernel_type: str = "rectangular"
    reduction: str = "mean"
    smooth_nr: float = 0.0
    smooth_dr: float = 1e-5

    def __post_init__(self) -> None:
        """Check the arguments."""
        if check_integer("kernel_size", self.kernel_size, 1) % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}.")
        loss = image.LocalNormalizedCrossCorrelationLoss(
            kernel_size=self.kernel_size,
            kernel_type=self.kernel_type,
            smooth_nr=self.smooth_nr,
            smooth_dr=self.smooth_dr,
            spatial_dims=self.spatial_dims,
            data_format=FIRST,
            convention="monai",
            reduction=self.reduction,
        )
        object.__setattr__(self, "_loss", loss)

    def __call__(self, pred: Array, target: Array) -> Array:
        """Return the loss.

        Parameters
        ----------
        pred, target
            Shape ``(B, C, d1, d2, d3)``, or fewer axes as ``spatial_dims`` says; the same.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        loss: Loss = self.__dict__["_loss"]
        return _reduced(loss, loss.call(target, pred), backend_of(pred).shape(pred)[1:])


@dataclass(frozen=True)
class GlobalMutualInformationLoss:
    """The negative mutual information of two images by Gaussian Parzen windows, by MONAI's formula.

    Takes two images ``(B, C, d1, d2, d3)`` or of fewer axes, with intensities in [0, 1] (they are clipped to it);
    channels are more samples. From -log(num_bins), up to the small constants, to about 0, lower is better, in nats:
    ``-sum Pab log((Pab + smooth_nr) / (Pa Pb + smooth_dr) + smooth_dr)``.

    Parameters
    ----------
    kernel_type
        ``"gaussian"``. MONAI's ``"b-spline"`` is not supported.
    num_bins
        Bins over [0, 1], at least 2.
    sigma_ratio
        Standard deviation of the Gaussian window, in bins.
    reduction
        ``"mean"``, ``"sum"`` or ``"none"``, which is ``(B,)``.
    smooth_nr, smooth_dr
        The small constants of the formula.

    Raises
    ------
    ValueError
        If a parameter is out of range or not supported, or, when called, if the shapes differ.

    References
    ----------
    ``monai.losses.GlobalMutualInformationLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.linspace(0, 1, 64).reshape(1, 1, 4, 4, 4)
    >>> GlobalMutualInformationLoss()(image, image).round(3)
    np.float64(-2.085)
    """

    kernel_type: str = "gaussian"
    num_bins: int = 23
    sigma_ratio: float = 0.5
    reduction: str = "mean"
    smooth_nr: float = 1e-7
    smooth_dr: float = 1e-7

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("kernel_type", self.kernel_type, ("gaussian",))
        loss = image.GlobalMutualInformationLoss(
            num_bins=self.num_bins,
            sigma_ratio=self.sigma_ratio,
            smooth_nr=self.smooth_nr,
            smooth_dr=self.smooth_dr,
            convention="monai",
            reduction=self.reduction,
        )
        object.__setattr__(self, "_loss", loss)

    def __call__(self, pred: Array, target: Array) -> Array:
        """Return the loss.

        Parameters
        ----------
        pred, target
            Shape ``(B, C, d1, d2, d3)``, or fewer axes; the same.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        return self.__dict__["_loss"](_planes(target, 4), _planes(pred, 4))


# --- labels -----------------------------------------------------------------------------------------------------------

#: Arguments of MONAI's DiceLoss that are not supported, with its defaults.
UNSUPPORTED: dict[str, Any] = {
    "to_onehot_y": False,
    "sigmoid": False,
    "softmax": False,
    "other_act": None,
    "batch": False,
    "weight": None,
    "soft_label": False,
    "ignore_index": None,
}


@dataclass(frozen=True)
class DiceLoss:
    """One minus the Dice score of each channel, by MONAI's formula.

    Takes two labels ``(B, C, d1, d2, d3)`` or of fewer axes, a mask in [0, 1] in each channel; in [0, 1], lower is
    better, 0 for equal binary masks. With the sums over a channel's voxels, ``1 - (2 sum tp + smooth_nr) / (sum t + sum
    p + smooth_dr)``, of which the mean over the channels is taken. Two empty masks have ``1 - smooth_nr / smooth_dr``,
    which is 0.

    Parameters
    ----------
    include_background
        Whether channel 0 counts. Where there is no other, it does.
    squared_pred
        Have ``sum t^2 + sum p^2`` in the denominator.
    jaccard
        One minus the Jaccard index instead, ``(2 sum tp + smooth_nr) / (2 (sum t + sum p - sum tp) + smooth_dr)``; not
        together with ``squared_pred``.
    reduction
        ``"mean"``, ``"sum"`` (over samples and channels) or ``"none"``, which is ``(B,)``, the mean over channels.
    smooth_nr, smooth_dr
        Added to numerator and denominator.
    to_onehot_y, sigmoid, softmax, other_act, batch, weight, soft_label, ignore_index
        Not supported beyond their defaults: make the masks before.

    Raises
    ------
    ValueError
        If a parameter is out of range or not supported, or, when called, if the shapes do not fit.

    References
    ----------
    ``monai.losses.DiceLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.asarray([[[0.0, 1.0, 1.0, 0.0]]])
    >>> DiceLoss()(np.asarray([[[0.0, 1.0, 0.0, 0.0]]]), label).round(4)
    np.float64(0.3333)
    """

    include_background: bool = True
    to_onehot_y: bool = False
    sigmoid: bool = False
    softmax: bool = False
    other_act: Callable[..., Any] | None = None
    squared_pred: bool = False
    jaccard: bool = False
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    weight: Any = None
    soft_label: bool = False
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, default in UNSUPPORTED.items():
            if getattr(self, name) is not default:
                raise ValueError(
                    f"DiceLoss does not support {name}, got {getattr(self, name)!r}: make the masks before."
                )
        for name in ("include_background", "squared_pred", "jaccard"):
            check_flag(name, getattr(self, name))
        if self.jaccard and self.squared_pred:
            raise ValueError("DiceLoss does not support jaccard=True together with squared_pred=True.")
        # It reduces, and checks the constants.
        score = label.DiceScore(smooth_nr=self.smooth_nr, smooth_dr=self.smooth_dr, reduction=self.reduction)
        object.__setattr__(self, "_score", score)

    def _scores(self, true: Array, pred: Array, channels: int, spatial_dims: int) -> Array:
        """Return the mean over the channels, ``(B,)``."""
        nr, dr = self.smooth_nr, self.smooth_dr
        if self.jaccard:
            # Its numerator and denominator are half of MONAI's.
            pairs = [(true[:, i, ...], pred[:, i, ...]) for i in range(channels)]
            return sum(jaccard(*pair, smooth_nr=0.5 * nr, smooth_dr=0.5 * dr) for pair in pairs) / channels
        return dice(
            true,
            pred,
            smooth_nr=nr,
            smooth_dr=dr,
            squared=self.squared_pred,
            convention="monai",
            spatial_dims=spatial_dims,
            data_format=FIRST,
        )

    def __call__(self, input: Array, target: Array) -> Array:
        """Return the loss.

        Parameters
        ----------
        input, target
            The predicted and the true masks, shape ``(B, C, d1, d2, d3)``, or fewer axes; the same.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        backend = backend_of(input, target)
        pred, true = backend.prepare(input), backend.prepare(target)
        check_same_shape(backend.shape(true), backend.shape(pred))
        shape = backend.shape(pred)
        channels, dims = shape[1] if len(shape) > 1 else None, len(shape) - 2
        if channels is None or dims not in (1, 2, 3):
            raise ValueError(f"Labels must be (batch, channels, dim1[, dim2[, dim3]]), got shape {shape}.")
        if not self.include_background:
            if channels == 1:
                warnings.warn("include_background=False is ignored: there is one channel only.", stacklevel=2)
            else:
                pred, true, channels = pred[:, 1:, ...], true[:, 1:, ...], channels - 1
        with backend.execution.at(pred):
            return _reduced(self.__dict__["_score"], 1.0 - self._scores(true, pred, channels, dims), (channels,))


# --- fields -----------------------------------------------------------------------------------------------------------


class _FieldLoss:
    """A regulariser of a field whose axes, and their sizes, are known when it is called."""

    normalize: bool
    reduction: str

    #: What agnoreg has of it, as a class and as a function, and its differences.
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
                raise ValueError(f"normalize=True needs sizes that are known, got {shape}.")
            # Each component in shares of its own axis, differentiated along axes that are 1 long.
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
    u[i] + u[i-1]`` and, counted twice, the mixed ones, on the grid that lacks a voxel at each end of every axis.

    Parameters
    ----------
    normalize
        Measure component i in shares of axis i's size, along axes of length 1.
    reduction
        ``"mean"``, ``"sum"`` (over samples, components and voxels) or ``"none"``, which is ``(B,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if this is not such a field.

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
    differences, ``(u[i+1] - u[i-1]) / 2``, on the grid that lacks a voxel at each end of every axis.

    Parameters
    ----------
    normalize
        Measure component i in shares of axis i's size, along axes of length 1.
    reduction
        ``"mean"``, ``"sum"`` (over samples, components and voxels) or ``"none"``, which is ``(B,)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if this is not such a field.

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
