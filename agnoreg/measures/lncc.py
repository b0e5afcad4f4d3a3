"""Local normalised cross-correlation of two images (LNCC), in windows: squared, or signed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import ClassVar

from agnoreg.engine import doubts, kernels
from agnoreg.engine.axes import is_sequence
from agnoreg.engine.masks import MASKS
from agnoreg.engine.validate import as_number
from agnoreg.measures import correlation
from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_convention, check_fixed, take
from agnoreg.measures.families.local_moments import LocalMoments
from agnoreg.measures.families.thin_moments import ThinMoments
from agnoreg.measures.gncc import correlation_range
from agnoreg.messages import named, shown
from agnoreg.objects.loss import measured_options

EPS = 1e-5

#: Largest product of second moments for which ITK treats a window as flat.
FLAT = 2.220446049250313e-16
KERNELS: dict[str, Callable[[int], Array]] = {
    "rectangular": kernels.rectangular,
    "triangular": kernels.triangular,
    "gaussian": kernels.gaussian_kernel1d_size,
}


#: For each convention: smooth_nr, smooth_dr, padding and flat_value.
LOCAL_CONVENTIONS: dict[str, tuple[float, float, str, float | None]] = {
    "deepreg": (EPS, EPS, "zero", None),
    "monai": (0.0, EPS, "zero", None),
    "voxelmorph": (0.0, EPS, "zero", None),
    "ants": (0.0, 0.0, "truncate", 1.0),
    "exact": (0.0, 0.0, "truncate", None),
}


class LocalCorrelationOptions(ImageOptions):
    """Squared local normalised cross-correlation of two images (LNCC).

    With ``S[.]`` the window sum (zero padded, the kernel not normalised) and ``V`` the full window's volume: ``cross =
    S[tp] - S[t] S[p] / V``, ``vt = S[tt] - S[t]^2 / V``, ``vp`` likewise; the value is the mean over voxels of
    ``(cross^2 + smooth_nr) / (vt vp + smooth_dr)``. Moments are computed from centred intensities, so float32 results
    are accurate for any intensity offset, such as that of CT. Zeros beyond the border count as voxels: an offset
    changes the value there. With several channels, the value is their mean.

    Parameters
    ----------
    kernel_size
        Size of the window in voxels, one number for all axes or one for each.
    kernel_type
        ``"rectangular"``, ``"triangular"`` (odd sizes from 3) or ``"gaussian"`` (standard deviation a third of the
        size).
    smooth_nr, smooth_dr
        Added to numerator and denominator; a flat window scores ``smooth_nr / smooth_dr``. None: the
        convention's value, by default 1e-5 each.
    padding
        What lies beyond the border: ``"zero"``, voxels of value 0; or ``"truncate"``, nothing, so that windows are cut
        off at the border, as in ITK. None: the convention's choice, by default ``"zero"``.
    squared
        False: the signed correlation, ``(cross + smooth_nr) / sqrt(vt vp + smooth_dr)``, in [-1, 1], for which inverted
        contrast is worst.
    flat_value
        The value of windows in which one of the images is flat, ``vt vp = 0``; they have no gradient then. None: the
        formula's value; by the exact convention, these windows do not count.
    convention
        Which library's definition to follow: ``"deepreg"``, the one above. ``"monai"``: ``(cross^2 + nr) / (max(vt, dr)
        max(vp, dr))``, ``nr = 0``; its triangular windows are narrower, with a sum of 1. ``"voxelmorph"``: ``nr = 0``.
        ``"ants"``, ITK's: ``nr = dr = 0``, ``padding="truncate"``, and 1 where ``vt vp`` is below 2.3e-16. ``"exact"``:
        no constants, ``padding="truncate"``, valid in any unit of intensity. Windows in which one of the images is
        flat, or that have fewer than two voxels, are left out of the mean; if all are, the value and the gradient are
        0. A window is flat if its standard deviation is no more than the rounding error of its intensities.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better, 1 for equal images (squared: also
        for inverted contrast).

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((1, 8, 8, 8))
    >>> lncc(image, image, kernel_size=5).round(4)
    array([1.])
    """

    short = "LNCC"
    title, higher_is_better = "LNCC", True
    evaluated = {"images": {"convention": "exact"}}

    kernel_size: int | Sequence[int] = 9
    kernel_type: str = "rectangular"
    smooth_nr: float | None = number(default=None)
    smooth_dr: float | None = number(default=None)
    padding: str | None = choice("zero", "truncate", default=None, kw_only=True)
    squared: bool = flag(default=True, kw_only=True)
    flat_value: float | None = field(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    def validate(self) -> None:
        """Check the parameters, and take those that are None from the convention."""
        super().validate()
        check_convention("LNCC", self.convention, tuple(LOCAL_CONVENTIONS))
        nr, dr, padding, flat_value = LOCAL_CONVENTIONS[self.convention]
        take(self, smooth_nr=nr, smooth_dr=dr, padding=padding, flat_value=flat_value)
        if not isinstance(self.kernel_type, str) or self.kernel_type not in tuple(KERNELS):
            raise ValueError(
                f"Wrong kernel_type {named(self.kernel_type)} for LNCC loss type. Feasible values are "
                f"{', '.join(KERNELS)}."
            )
        several = is_sequence(self.kernel_size)
        if several:
            self._store(kernel_size=tuple(self.kernel_size))  # type: ignore[arg-type]
        if several and len(self.kernel_size) != self.spatial_dims:  # type: ignore[arg-type]
            raise ValueError(
                f"kernel_size must be an integer, or one for each of {self.spatial_dims} axes, got "
                f"{shown(self.kernel_size)}."
            )
        sizes = tuple(len(taps) for taps in self.own_taps)
        self._store(kernel_size=sizes if several else sizes[0])
        kernels.warn_of_even(sizes)
        if self.flat_value is not None and not math.isfinite(as_number(self.flat_value)):
            raise ValueError(f"flat_value must be a finite number or None, got {shown(self.flat_value)}.")
        if self.exact:
            check_fixed(self.convention, "smooth_nr", self.smooth_nr, (0.0,))
            check_fixed(self.convention, "smooth_dr", self.smooth_dr, (0.0,))
        elif self.convention != "deepreg":
            if not all(size % 2 for size in sizes):
                raise ValueError(f"The convention {self.convention!r} supports only odd kernel sizes, got {sizes}.")
            check_fixed(self.convention, "squared", self.squared, (True,))
            if self.convention != "monai":
                check_fixed(self.convention, "kernel_type", self.kernel_type, ("rectangular",))

    @property
    def exact(self) -> bool:
        """Whether there are no smoothing constants, and images are divided by their largest intensities."""
        return self.convention == "exact"

    @property
    def own_taps(self) -> tuple[tuple[float, ...], ...]:
        """The window's weights along each spatial axis."""
        sizes = self.kernel_size
        return tuple(map(self._taps, sizes if isinstance(sizes, tuple) else (sizes,) * self.spatial_dims))

    def _taps(self, size: int) -> tuple[float, ...]:
        if self.convention == "monai" and self.kernel_type == "triangular":
            return kernels.narrow_triangle(kernels.check_kernel_size(size))
        return kernels.window_taps(self.kernel_type, size)

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to 1, or from -1 to 1 if signed; beyond 1 only by ``smooth_nr``."""
        assert self.smooth_nr is not None
        assert self.smooth_dr is not None
        if self.convention == "monai":
            low, high = 0.0, 1.0 + (self.smooth_nr / self.smooth_dr**2 if self.smooth_nr else 0.0)
        else:
            low, high = correlation_range(self.smooth_nr, self.smooth_dr, self.squared)
        flat = self.flat_value
        return (low, high) if flat is None else (min(low, flat), max(high, flat))

    @property
    def identity_value(self) -> float | None:
        """1 if the two constants are equal, the correlation is squared and flat windows score 1.

        By the exact convention 1, but 0 if all windows are flat.
        """
        if self.convention == "exact":
            return 1.0 if self.flat_value in (None, 1.0) else None
        alike = self.smooth_nr == self.smooth_dr and self.squared and self.convention != "monai"
        return 1.0 if alike and self.flat_value in (None, 1.0) else None


class LocalCorrelation(LocalCorrelationOptions, LocalMoments):
    """LNCC as a measure; `of_moments` chooses the formula by the convention."""

    @property
    def counts(self) -> bool:
        """Whether flat windows are left out of the mean."""
        return self.exact and self.flat_value is None

    @property
    def truncated(self) -> bool:
        """Whether windows are cut off at the border."""
        return self.padding == "truncate"

    @property
    def scaled(self) -> bool:
        """Whether images are divided by their largest intensities."""
        return self.exact

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return a warning about thin volumes with zero padding, or an empty string."""
        first, dims = (2 if self.data_format == "channels_first" else 1), self.spatial_dims

        def widths() -> list[int]:
            return [len(taps) for taps in self.own_taps]

        if self.padding != "zero" or not doubts.thin(shapes[0], range(first, first + dims), widths):
            return ""
        return doubts.THIN.format(
            "LNCC's windows hold", "for a volume this thin padding='truncate', or a kernel_size of 1 along that axis"
        )

    def of_moments(
        self,
        xp: Any,
        m: Any,
        centres: tuple[Array, ...],
        here: Array,
        weights: Array | None,
        wrt: tuple[int, ...] | None,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Return each window's value, and the images whose window sums make the gradients."""
        options: dict[str, Any] = {"squared": self.squared, "flat_value": self.flat_value}
        if self.exact:
            return correlation.exact(xp, m, centres, here, weights, wrt, volume=self.volume, **options)
        options |= {"smooth_nr": self.smooth_nr, "smooth_dr": self.smooth_dr, "bounded": self.convention == "monai"}
        flat_up_to = FLAT if self.convention == "ants" else 0.0
        return correlation.smoothed(xp, m, here, weights, wrt, flat_up_to=flat_up_to, **options)

    def thin(self, single: tuple[bool, ...]) -> LocalMoments:
        """Return the measure for images with one voxel along the axes that are ``single``."""
        return ThinCorrelation(
            **{name: getattr(self, name) for name in LocalCorrelation.parameter_names}, single=single
        )


class ThinCorrelation(ThinMoments, LocalCorrelation):
    """`LocalCorrelation` of images with a single voxel along some axes."""


class _Call(LocalCorrelationOptions, Masks): ...


lncc = pair_function("lncc", _Call, LocalCorrelation)


class _MapCall(LocalCorrelationOptions, Masks):
    """Squared local normalised cross-correlation at every voxel; `lncc` is its mean.

    Nonzero mask weights all count the same. The gradient is that of the framework's autodiff.

    Returns
    -------
    array
        Shape ``(B, d1, d2, d3, 1)``, or the images' shape if they have channels; in [0, 1] where ``smooth_nr <=
        smooth_dr``, higher is better. NaN at masked voxels and, by the exact convention without a `flat_value`,
        where the window is flat.
    """


lncc_map = pair_function("lncc_map", _MapCall, LocalCorrelation, LocalCorrelation.map)


class LocalNormalizedCrossCorrelation(LocalCorrelationOptions, ImageLoss):
    formula = LocalCorrelation
    #: The kernel functions, keyed by name.
    kernel_fn_dict: ClassVar[Mapping[str, Callable[[int], Array]]] = MappingProxyType(KERNELS)

    def _local(self) -> LocalCorrelation:
        return LocalCorrelation(**measured_options(self))

    @property
    def kernel(self) -> Array:
        """The window's weights along one axis, a NumPy array ``(kernel_size,)``; the first axis if sizes differ."""
        size = self.kernel_size[0] if isinstance(self.kernel_size, tuple) else self.kernel_size
        return KERNELS[self.kernel_type](size)  # type: ignore[arg-type]

    @property
    def kernel_vol(self) -> float:
        """The sum of the window's weights, ``V``."""
        return math.prod([sum(taps) for taps in self.own_taps])

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
            Shape ``(B, d1, d2, d3, 1)``, with the metric's own sign; NaN at masked voxels and, by the exact
            convention without a `flat_value`, where the window is flat.
        """
        for name in masks:
            if name not in MASKS:
                raise TypeError(f"calc_ncc takes the masks {', '.join(MASKS)}, got {name}.")
        return self._local().map(y_true, y_pred, masks)


@register_loss("lncc")
class LocalNormalizedCrossCorrelationLoss(NegativeLossMixin, LocalNormalizedCrossCorrelation): ...
