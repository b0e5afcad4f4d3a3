"""Losses and metrics of images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, ClassVar

from agnoreg.engine.masks import MASKS
from agnoreg.functional.gncc import GlobalCorrelation
from agnoreg.functional.mutual_information import ParzenInformation
from agnoreg.functional.ncc import KERNELS, LocalCorrelation
from agnoreg.loss.base import ImageLoss, greatest_ratio
from agnoreg.loss.util import NegativeLossMixin

Array = Any

__all__ = [
    "GlobalMutualInformation",
    "GlobalMutualInformationLoss",
    "GlobalNormalizedCrossCorrelation",
    "GlobalNormalizedCrossCorrelationLoss",
    "LocalNormalizedCrossCorrelation",
    "LocalNormalizedCrossCorrelationLoss",
]


class GlobalMutualInformation(ImageLoss):
    """Mutual information by Parzen windows; see `agnoreg.functional.mutual_information` for the formula.

    Takes two images ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, ch)`` with intensities in [0, 1] (they are clipped to
    it); higher is better, in nats.

    Parameters
    ----------
    num_bins
        Bins over [0, 1], from 2 to 4096.
    sigma_ratio
        Standard deviation of the Gaussian window, in bins.
    smooth_nr, smooth_dr
        The formula's small constants; None: the convention's.
    convention
        ``"deepreg"``, or ``"monai"``, whose small constants are 1e-7 instead of 1e-5.
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shapes differ or have fewer than 4 axes.

    References
    ----------
    https://dspace.mit.edu/handle/1721.1/123142, section 3.1, equation 3.13.5, algorithm 1.
    """

    num_bins: int = 23
    sigma_ratio: float = 0.5
    smooth_nr: float | None = field(default=None, kw_only=True)
    smooth_dr: float | None = field(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    formula = ParzenInformation

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to log(num_bins), up to the formula's small constants."""
        return 0.0, math.log(self.num_bins)

    @property
    def direction(self) -> str:
        """Higher is better."""
        return "higher"


class GlobalMutualInformationLoss(NegativeLossMixin, GlobalMutualInformation):
    """The negative of `GlobalMutualInformation`, to be minimised."""


class LocalNormalizedCrossCorrelation(ImageLoss):
    """Squared local normalised cross-correlation (LNCC); see `agnoreg.functional.lncc` for the formula.

    Takes two images ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher
    is better.

    Parameters
    ----------
    kernel_size
        Voxels of the window along each axis, one number for all or one for each.
    kernel_type
        ``"rectangular"``, ``"triangular"`` (odd sizes from 3) or ``"gaussian"`` (standard deviation a third of the
        size).
    smooth_nr, smooth_dr
        Added to numerator and denominator; a flat window scores ``smooth_nr / smooth_dr``.
    spatial_dims
        Axes of the image, 1, 2 or 3.
    data_format
        ``"channels_last"`` or ``"channels_first"`` for images with channels, of which the mean is taken; None for
        images of one channel, on a last axis or on none.
    padding
        ``"zero"`` or ``"truncate"``: whether there are zeros beyond the border, or nothing.
    squared
        False: the signed correlation, in [-1, 1].
    flat_value
        The value of windows in which one of the images is flat; None: what the formula gives, and of the exact
        convention nothing: they do not count.
    convention
        ``"deepreg"``, ``"monai"``, ``"voxelmorph"`` or ``"ants"``: whose formula, and whose constants where these are
        None; or ``"exact"``, without constants, and without windows in which one of the images is flat.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shapes do not fit.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008.
    """

    kernel_size: int | tuple[int, ...] = 9
    kernel_type: str = "rectangular"
    smooth_nr: float | None = None
    smooth_dr: float | None = None
    padding: str | None = field(default=None, kw_only=True)
    squared: bool = field(default=True, kw_only=True)
    flat_value: float | None = field(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    formula = LocalCorrelation
    #: The kernel functions by name.
    kernel_fn_dict: ClassVar[Mapping[str, Callable[[int], Array]]] = MappingProxyType(KERNELS)

    def _local(self) -> LocalCorrelation:
        measure = self._measure()
        assert isinstance(measure, LocalCorrelation)
        return measure

    @property
    def kernel(self) -> Array:
        """The window's weights along one axis, a NumPy array ``(kernel_size,)``; the first axis, where they differ."""
        size = self.kernel_size[0] if isinstance(self.kernel_size, tuple) else self.kernel_size
        return KERNELS[self.kernel_type](size)

    @property
    def kernel_vol(self) -> float:
        """The sum of the window's weights, ``V``."""
        return math.prod(sum(taps) for taps in self._local().taps)

    def calc_ncc(self, y_true: Array, y_pred: Array, **masks: Array | None) -> Array:
        """Return the value at every voxel.

        Parameters
        ----------
        y_true, y_pred
            Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``.
        **masks
            ``mask=``, ``fixed_mask=`` and ``moving_mask=``, as in `agnoreg.functional.lncc_map`.

        Returns
        -------
        array
            Shape ``(B, d1, d2, d3, 1)``, with the metric's own sign; NaN where a mask leaves a voxel out, and by the
            exact convention without a `flat_value` where its window is flat.
        """
        for name in masks:
            if name not in MASKS:
                raise TypeError(f"calc_ncc takes the masks {', '.join(MASKS)}, got {name}.")
        return self._local().map(y_true, y_pred, masks)

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1, or from -1 to 1 if signed; beyond 1 only by ``smooth_nr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        if self.convention == "monai":
            low, high = 0.0, 1.0 + (self.smooth_nr / self.smooth_dr**2 if self.smooth_nr else 0.0)
        else:
            low, high = _correlation_range(self.smooth_nr, self.smooth_dr, self.squared)
        flat = self.flat_value
        return (low, high) if flat is None else (min(low, flat), max(high, flat))

    @property
    def direction(self) -> str:
        """Higher is better."""
        return "higher"

    @property
    def identity_value(self) -> float | None:
        """1 where the two small constants are equal, in a squared correlation in which flat windows score 1.

        By the exact convention 1, but 0 if all windows are flat.
        """
        if self.convention == "exact":
            return 1.0 if self.flat_value in (None, 1.0) else None
        alike = self.smooth_nr == self.smooth_dr and self.squared and self.convention != "monai"
        return 1.0 if alike and self.flat_value in (None, 1.0) else None


class LocalNormalizedCrossCorrelationLoss(NegativeLossMixin, LocalNormalizedCrossCorrelation):
    """The negative of `LocalNormalizedCrossCorrelation`, to be minimised."""


class GlobalNormalizedCrossCorrelation(ImageLoss):
    """Squared global normalised cross-correlation; see `agnoreg.functional.gncc` for the formula.

    Takes two images ``(B, ...)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better.

    Parameters
    ----------
    smooth_nr, smooth_dr
        Added to numerator and denominator; a constant image scores ``smooth_nr / smooth_dr``. None: the convention's.
    squared
        False: the signed correlation, in [-1, 1].
    convention
        ``"deepreg"``, whose constants are 1e-5; or ``"exact"``, without constants, Pearson's r or its square, 0 where
        an image is constant.
    spatial_dims, data_format
        Axes of the image, 1, 2 or 3, and where channels are, ``"channels_last"`` or ``"channels_first"``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or, when called, if the shapes differ.
    """

    smooth_nr: float | None = field(default=None, kw_only=True)
    smooth_dr: float | None = field(default=None, kw_only=True)
    squared: bool = field(default=True, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    formula = GlobalCorrelation

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1, or from -1 to 1 if signed; beyond 1 only by ``smooth_nr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        if self.convention == "exact":
            return 0.0 if self.squared else -1.0, 1.0
        return _correlation_range(self.smooth_nr, self.smooth_dr, self.squared)

    @property
    def direction(self) -> str:
        """Higher is better."""
        return "higher"

    @property
    def identity_value(self) -> float | None:
        """1 where the two small constants are equal and the correlation is squared.

        By the exact convention 1, but 0 if the image is constant.
        """
        alike = self.smooth_nr == self.smooth_dr and self.squared
        return 1.0 if alike or self.convention == "exact" else None


class GlobalNormalizedCrossCorrelationLoss(NegativeLossMixin, GlobalNormalizedCrossCorrelation):
    """The negative of `GlobalNormalizedCrossCorrelation`, to be minimised."""


def _correlation_range(smooth_nr: float, smooth_dr: float, squared: bool) -> tuple[float, float]:
    """Return the least and the greatest value of a correlation with these constants."""
    if squared:
        return 0.0, greatest_ratio(smooth_nr, smooth_dr)
    return -1.0, 1.0 + (smooth_nr / smooth_dr**0.5 if smooth_dr > 0 else 0.0)
