"""Tversky index of two labels."""

from agnoreg.loss.base import ImageLoss
from agnoreg.loss.util import MultiScaleMixin, NegativeLossMixin
from agnoreg.measures.families.ratio import RatioOfSums
from agnoreg.measures.function import pair_function
from agnoreg.measures.options import LabelOptions, Masks, number


class TverskyOptions(LabelOptions):
    """Tversky index ``(TP + s) / (TP + alpha FP + beta FN + s)`` of soft labels: ``TP = sum t p``, ``FP = sum (1 - t) p``.

    Parameters
    ----------
    alpha, beta
        Weights of false positives and of false negatives; 0.5 each is Dice, 1 each is Jaccard.
    smooth
        ``s``, added to numerator and denominator.
    """

    bounds, higher_is_better = (0.0, 1.0), True
    alpha: float = number(default=0.5)
    beta: float = number(default=0.5)
    smooth: float = number(default=1e-5)


class TverskyMeasure(TverskyOptions, RatioOfSums):
    terms = {"tp": (1, 1), "t": (1, 0), "p": (0, 1)}

    def ratio(self, xp, sums, count):
        both = 1.0 - self.alpha - self.beta
        bottom = both * sums["tp"] + self.beta * sums["t"] + self.alpha * sums["p"] + self.smooth
        value = (sums["tp"] + self.smooth) / bottom
        return value, {"tp": (1 - value * both) / bottom, "t": -value * self.beta / bottom, "p": -value * self.alpha / bottom}


class _Call(TverskyOptions, Masks): ...


tversky = pair_function("tversky", _Call, TverskyMeasure)


class TverskyIndex(TverskyOptions, ImageLoss):
    formula = TverskyMeasure


class TverskyLoss(NegativeLossMixin, MultiScaleMixin, TverskyIndex): ...
