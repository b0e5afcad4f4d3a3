"""What the author of a measure imports, beside a family: options, the function, the classes and their registration."""

from typing import Any

from agnoreg.objects.function import field_function, pair_function
from agnoreg.objects.loss import FieldLoss, ImageLoss
from agnoreg.objects.mixins import MultiScaleMixin, NegativeLossMixin
from agnoreg.objects.options import (
    FieldMask,
    FieldOptions,
    ImageOptions,
    LabelOptions,
    Masks,
    choice,
    flag,
    integer,
    number,
    share,
)
from agnoreg.objects.registry import register_loss

Array = Any

__all__ = [
    "Any",
    "Array",
    "FieldLoss",
    "FieldMask",
    "FieldOptions",
    "ImageLoss",
    "ImageOptions",
    "LabelOptions",
    "Masks",
    "MultiScaleMixin",
    "NegativeLossMixin",
    "choice",
    "field_function",
    "flag",
    "integer",
    "number",
    "pair_function",
    "register_loss",
    "share",
]
