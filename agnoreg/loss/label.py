"""Losses and metrics of labels."""

from agnoreg.functional.centroid import compute_centroid, compute_centroid_distance, foreground_proportion
from agnoreg.measures.cross_entropy import CrossEntropy, CrossEntropyLoss
from agnoreg.measures.dice import DiceLoss, DiceScore
from agnoreg.measures.jaccard import JaccardIndex, JaccardLoss
from agnoreg.measures.ssd import SumSquaredDifference, SumSquaredDifferenceLoss
from agnoreg.measures.tversky import TverskyIndex, TverskyLoss

__all__ = [
    "CrossEntropy",
    "CrossEntropyLoss",
    "DiceLoss",
    "DiceScore",
    "JaccardIndex",
    "JaccardLoss",
    "SumSquaredDifference",
    "SumSquaredDifferenceLoss",
    "TverskyIndex",
    "TverskyLoss",
    "compute_centroid",
    "compute_centroid_distance",
    "foreground_proportion",
]
