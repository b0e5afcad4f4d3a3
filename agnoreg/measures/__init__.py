"""The formulas, a file a measure: its options, its mathematics, its function, its metric and its loss.

Importing a file registers its loss; this is their order in tables.
"""

# isort: off
from agnoreg.measures import ssd, gncc, lncc, mutual_information
from agnoreg.measures import dice, jaccard, cross_entropy
from agnoreg.measures import gradient_norm, bending
from agnoreg.measures import l1, tversky, ngf

# isort: on

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
