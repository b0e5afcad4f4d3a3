"""Dice score of two labels."""

from agnoreg.measures.author import *
from agnoreg.measures.families.overlap import CONVENTIONS, Overlap, OverlapOptions


class DiceOptions(OverlapOptions):
    """Dice score of two labels, soft or thresholded.

    With ``P = sum t p``, ``Y = sum (t + p)``, ``n`` voxels and ``w = background_weight``: ``(2 (P - wY + wn) +
    smooth_nr) / ((1 - 2w) Y + 2wn + smooth_dr)``, summed over every axis but the first, channels included.

    Parameters
    ----------
    convention
        ``"deepreg"``: the formula above. ``"monai"``: where ``data_format`` says that there are channels, the mean of
        the scores of the channels; the loss is ``1 - Dice``. ``"voxelmorph"``: like MONAI's, with ``squared``.
        ``"ants"``, which is ITK's: labels are thresholded, there are no small constants, and two empty labels score
        0.

    References
    ----------
    Sudre et al., Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.asarray([[0, 1, 1, 0]])
    >>> dice(label, np.asarray([[0, 1, 0, 0]])).round(4)
    array([0.6667])
    """

    short = "Dice"
    title, called, conventions = "Dice", "Dice Score", tuple(CONVENTIONS)
    evaluated = {"labels": {}}


class DiceOverlap(DiceOptions, Overlap):
    def parts_of(
        self, product: Array, both: Array, n: Any
    ) -> tuple[Array, Array, tuple[float, float], tuple[float, float]]:
        w = self.background_weight
        top = 2.0 * (product - w * both + w * n) + self.smooth_nr
        bottom = (1.0 - 2.0 * w) * both + 2.0 * w * n + self.smooth_dr
        return top, bottom, (2.0, -2.0 * w), (0.0, 1.0 - 2.0 * w)


class _Call(DiceOptions, Masks): ...


dice = pair_function("dice", _Call, DiceOverlap)


class DiceScore(DiceOptions, ImageLoss):
    formula = DiceOverlap


@register_loss("dice")
class DiceLoss(NegativeLossMixin, MultiScaleMixin, DiceScore):
    @property
    def offset(self) -> float:
        """What the negative score is added to."""
        return 1.0 if self.convention == "monai" else 0.0

    @property
    def value_range(self) -> tuple[float, float]:
        """That of the negative score; by MONAI's convention below 0 where `scales` make labels larger than 1."""
        low, high = super().value_range
        if self.convention != "monai" or not isinstance(self.scales, tuple):
            return low, high
        gains = [max(1.0, sum(self.scale_taps(scale)) ** self.spatial_dims) if scale else 1.0 for scale in self.scales]
        return 1.0 - (1.0 - low) * sum(gains) / len(gains), high
