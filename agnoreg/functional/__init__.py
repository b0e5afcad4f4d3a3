"""The losses and metrics as pure functions, ``(y_true, y_pred, *, options) -> (B,)``, and what they are made of."""

from agnoreg.functional.centroid import compute_centroid, compute_centroid_distance, foreground_proportion
from agnoreg.functional.deformation import (
    bending_energy,
    gradient_dx,
    gradient_dxyz,
    gradient_dy,
    gradient_dz,
    gradient_norm,
)
from agnoreg.functional.distance import cross_entropy, ssd
from agnoreg.functional.filters import separable_filter
from agnoreg.functional.gncc import gncc
from agnoreg.functional.kernels import (
    cauchy_kernel1d,
    gaussian_kernel1d_sigma,
    gaussian_kernel1d_size,
    rectangular,
    triangular,
)
from agnoreg.functional.mutual_information import mutual_information
from agnoreg.functional.ncc import lncc, lncc_map
from agnoreg.functional.overlap import dice, jaccard
from agnoreg.functional.warp import warp, warp_adjoint

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
    "lncc",
    "lncc_map",
    "mutual_information",
    "rectangular",
    "separable_filter",
    "ssd",
    "triangular",
    "warp",
    "warp_adjoint",
]
