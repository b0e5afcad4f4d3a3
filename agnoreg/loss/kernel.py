"""The one-dimensional kernels."""

from agnoreg.engine.kernels import (
    cauchy_kernel1d,
    gaussian_kernel1d_sigma,
    gaussian_kernel1d_size,
    rectangular,
    triangular,
)

__all__ = [
    "cauchy_kernel1d",
    "gaussian_kernel1d_sigma",
    "gaussian_kernel1d_size",
    "rectangular",
    "rectangular_kernel1d",
    "triangular",
    "triangular_kernel1d",
]

#: The same by DeepReg's names.
rectangular_kernel1d = rectangular
triangular_kernel1d = triangular
