"""The formulas, a file a measure: its options, its mathematics, its function, its metric and its loss.

Importing a file registers its loss; this is their order in tables.
"""

from agnoreg.measures import mutual_information  # noqa: I001
from agnoreg.measures import lncc, gncc, ssd, dice, jaccard, cross_entropy, gradient_norm, bending
from agnoreg.measures import l1, tversky, ngf

__all__ = [
    "bending",
    "cross_entropy",
    "dice",
    "gncc",
    "gradient_norm",
    "jaccard",
    "l1",
    "lncc",
    "mutual_information",
    "ngf",
    "ssd",
    "tversky",
]
