"""MONAI's losses of images."""

from dataclasses import dataclass
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.compat.monai.shared import FIRST, _planes, _reduced
from agnoreg.engine.axes import check_choice
from agnoreg.engine.validate import check_integer
from agnoreg.loss import image
from agnoreg.objects.loss import Loss

Array = Any


@dataclass(frozen=True)
class LocalNormalizedCrossCorrelationLoss:
    """The negative squared local normalised cross-correlation, by MONAI's formula.

    Takes two images ``(B, C, d1, d2, d3)``, ``(B, C, d1, d2)`` or ``(B, C, d1)``; in [-1, 0] for the default constants,
    lower is better. With ``S[.]`` the zero-padded window sum and ``V`` the sum of the window's weights, ``cross =
    S[tp] - S[t] S[p] / V`` and ``vt``, ``vp`` likewise: the mean over voxels and channels of ``(cross^2 + smooth_nr) /
    (max(vt, smooth_dr) max(vp, smooth_dr))``, negated. The value of a flat window is at most
    ``smooth_nr / smooth_dr^2``, 0 by default.

    Parameters
    ----------
    spatial_dims
        Number of spatial axes: 1, 2 or 3.
    kernel_size
        Size of the window along every axis in voxels; odd.
    kernel_type
        ``"rectangular"``, ``"triangular"`` or ``"gaussian"``, with MONAI's weights.
    reduction
        ``"mean"``, ``"sum"`` (over samples, channels and voxels) or ``"none"``, which is ``(B,)``.
    smooth_nr
        Added to the numerator.
    smooth_dr
        Lower bound of both variances.

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
            Shape ``(B, C, d1, d2, d3)``, or fewer axes as ``spatial_dims`` says; both of one shape.

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
    channels are treated as samples. Between -log(num_bins) and 0 nats, up to the small constants; lower is better:
    ``-sum Pab log((Pab + smooth_nr) / (Pa Pb + smooth_dr) + smooth_dr)``.

    Parameters
    ----------
    kernel_type
        ``"gaussian"``. MONAI's ``"b-spline"`` is not supported.
    num_bins
        Bins over [0, 1], at least 2.
    sigma_ratio
        Standard deviation of the Gaussian window, in bin widths.
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
            Shape ``(B, C, d1, d2, d3)``, or fewer axes; both of one shape.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        return self.__dict__["_loss"](_planes(target, 4), _planes(pred, 4))
