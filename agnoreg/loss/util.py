"""Mixins that change a loss, and the separable filter; DeepReg's path to them."""

from agnoreg.functional.filters import separable_filter
from agnoreg.objects.mixins import MultiScaleMixin, NegativeLossMixin

__all__ = ["MultiScaleMixin", "NegativeLossMixin", "separable_filter"]
