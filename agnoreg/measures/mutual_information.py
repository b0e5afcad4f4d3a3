"""Global mutual information by Parzen windows (GMI)."""

import math
from dataclasses import field

from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_convention, take
from agnoreg.measures.families.histogram import HistogramOptions, JointHistogram

#: smooth_nr and smooth_dr of each convention.
CONVENTIONS = {"deepreg": (1e-5, 1e-5), "monai": (1e-7, 1e-7)}


class MutualInformationOptions(HistogramOptions):
    """Global mutual information of two images by Parzen windows, in nats.

    Images are clipped to [0, 1]. Every voxel has a Gaussian weight in each of ``num_bins`` bins, normalised over the
    bins; ``Pab`` is the mean of the products of weights, ``Pa`` and ``Pb`` the means of the weights, and the value is
    ``sum Pab log((Pab + smooth_nr) / (Pa Pb + smooth_dr) + smooth_dr)``. Channels are more samples.

    Parameters
    ----------
    smooth_nr, smooth_dr
        The small constants of the formula. None: the convention's values, by default 1e-5 each.
    convention
        ``"deepreg"``, or ``"monai"``, whose constants are 1e-7.

    Returns
    -------
    array
        Shape ``(B,)``; from 0 to at most log(num_bins) nats, up to the small constants; higher is better. The value
        of two equal images depends on their histogram; it is below the entropy, since windows overlap.

    References
    ----------
    https://dspace.mit.edu/handle/1721.1/123142, section 3.1, equation 3.13.5, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.linspace(0, 1, 64).reshape(1, 4, 4, 4)
    >>> mutual_information(image, image).round(3)
    array([2.081])
    """

    short = "GMI"
    title, higher_is_better = "mutual information", True
    evaluated = {"images": {"rescale": True}}

    smooth_nr: float | None = number(default=None, kw_only=True)
    smooth_dr: float | None = number(default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    def validate(self) -> None:
        """Check the convention, and take the constants that were left out from it."""
        super().validate()
        check_convention("Mutual information", self.convention, tuple(CONVENTIONS))
        nr, dr = CONVENTIONS[self.convention]
        take(self, smooth_nr=nr, smooth_dr=dr)

    @property
    def value_range(self) -> tuple[float, float]:
        """From 0 to log(num_bins), up to the formula's small constants."""
        return 0.0, math.log(self.num_bins)


class ParzenInformation(MutualInformationOptions, JointHistogram):
    def of_histogram(self, xp: Any, joint: Array) -> tuple[Array, Array]:
        pa, pb = xp.sum(joint, axis=2, keepdims=True), xp.sum(joint, axis=1, keepdims=True)
        independent = pa * pb
        # Without constants, an empty bin adds 0, the limit of x log x: its ratio is taken for 1.
        product = independent + self.smooth_dr
        quotient = (joint + self.smooth_nr) / xp.where(product == 0.0, xp.ones_like(product), product)
        ratio = quotient + self.smooth_dr
        empty = (product == 0.0) | (ratio == 0.0)
        product, ratio = (xp.where(empty, xp.ones_like(x), x) for x in (product, ratio))
        logarithm = xp.log(ratio)
        # The subtracted term has a sum of 0. Near independence it cancels the rounding errors of Pa and Pb.
        value = xp.sum(joint * logarithm - (joint - independent), axis=(1, 2))
        share = joint / product
        by_joint = logarithm + share / ratio
        by_product = -share * (quotient / ratio)
        by_pa = xp.sum(by_product * pb, axis=2, keepdims=True)
        by_pb = xp.sum(by_product * pa, axis=1, keepdims=True)
        return value, by_joint + by_pa + by_pb


class _Call(MutualInformationOptions, Masks): ...


mutual_information = pair_function("mutual_information", _Call, ParzenInformation)


class GlobalMutualInformation(MutualInformationOptions, ImageLoss):
    formula = ParzenInformation


@register_loss("gmi")
class GlobalMutualInformationLoss(NegativeLossMixin, GlobalMutualInformation): ...
