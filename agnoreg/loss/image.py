"""Losses and metrics of images."""

from agnoreg.measures.gncc import GlobalNormalizedCrossCorrelation, GlobalNormalizedCrossCorrelationLoss
from agnoreg.measures.l1 import MeanAbsoluteDifference, MeanAbsoluteDifferenceLoss
from agnoreg.measures.lncc import LocalNormalizedCrossCorrelation, LocalNormalizedCrossCorrelationLoss
from agnoreg.measures.mutual_information import GlobalMutualInformation, GlobalMutualInformationLoss
from agnoreg.measures.ngf import NormalizedGradientField, NormalizedGradientFieldLoss

__all__ = [
    "GlobalMutualInformation",
    "GlobalMutualInformationLoss",
    "GlobalNormalizedCrossCorrelation",
    "GlobalNormalizedCrossCorrelationLoss",
    "LocalNormalizedCrossCorrelation",
    "LocalNormalizedCrossCorrelationLoss",
    "MeanAbsoluteDifference",
    "MeanAbsoluteDifferenceLoss",
    "NormalizedGradientField",
    "NormalizedGradientFieldLoss",
]
