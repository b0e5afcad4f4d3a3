"""The losses and metrics as pure functions, ``(y_true, y_pred, *, options) -> (B,)``, and what they are made of."""

from agnoreg.engine.kernels import (
    cauchy_kernel1d,
    gaussian_kernel1d_sigma,
    gaussian_kernel1d_size,
    rectangular,
    triangular,
)
from agnoreg.functional.centroid import compute_centroid, compute_centroid_distance, foreground_proportion
from agnoreg.functional.differences import gradient_dx, gradient_dxyz, gradient_dy, gradient_dz
from agnoreg.functional.filters import separable_filter
from agnoreg.functional.warp import warp, warp_adjoint
from agnoreg.measures.bending import bending_energy
from agnoreg.measures.cross_entropy import cross_entropy
from agnoreg.measures.dice import dice
from agnoreg.measures.gncc import gncc
from agnoreg.measures.gradient_norm import gradient_norm
from agnoreg.measures.jaccard import jaccard
from agnoreg.measures.l1 import l1
from agnoreg.measures.lncc import lncc, lncc_map
from agnoreg.measures.mutual_information import mutual_information
from agnoreg.measures.ngf import ngf
from agnoreg.measures.ssd import ssd
from agnoreg.measures.tversky import tversky

__all__ = [
    "bending_energy",
    "cauchy_kernel1d",
    "compute_centroid",
    "compute_centroid_distance",
    "cross_entropy",
    "dice",
    "foreground_proportion",
    "gaussian_kernel1d_sigma",
    "gaussian_kernel1d_size",
    "gncc",
    "gradient_dx",
    "gradient_dxyz",
    "gradient_dy",
    "gradient_dz",
    "gradient_norm",
    "jaccard",
    "l1",
    "lncc",
    "lncc_map",
    "mutual_information",
    "ngf",
    "rectangular",
    "separable_filter",
    "ssd",
    "triangular",
    "tversky",
    "warp",
    "warp_adjoint",
]
