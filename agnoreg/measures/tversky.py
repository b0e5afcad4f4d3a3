"""Tversky index of two labels."""

from agnoreg.measures.author import *
from agnoreg.measures.families.ratio import RatioOfSums, Sums


class TverskyOptions(LabelOptions):
    """Tversky index ``(TP + s) / (TP + alpha FP + beta FN + s)``: ``TP = sum t p``, ``FP = sum (1 - t) p``.

    Parameters
    ----------
    alpha, beta
        Weights of false positives and of false negatives; 0.5 each is Dice, 1 each is Jaccard.
    smooth
        ``s``, added to numerator and denominator.
    """

    short, title, bounds, higher_is_better = "Tversky", "Tversky index", (0.0, 1.0), True
    alpha: float = number(default=0.5)
    beta: float = number(default=0.5)
    smooth: float = number(default=1e-5)


class TverskyMeasure(TverskyOptions, RatioOfSums):
    terms = ("tp", "t", "p")

    def ratio(self, xp: Any, sums: Sums, count: Any) -> tuple[Array, Sums]:
        (a, b, s), (tp, t, p) = (self.alpha, self.beta, self.smooth), sums.values()
        below = (1.0 - a - b) * tp + b * t + a * p + s
        value = (tp + s) / below
        return value, {"tp": (1.0 - value * (1.0 - a - b)) / below, "t": -value * b / below, "p": -value * a / below}


class _Call(TverskyOptions, Masks): ...


tversky = pair_function("tversky", _Call, TverskyMeasure)


class TverskyIndex(TverskyOptions, ImageLoss):
    formula = TverskyMeasure


@register_loss("tversky")
class TverskyLoss(NegativeLossMixin, MultiScaleMixin, TverskyIndex): ...
