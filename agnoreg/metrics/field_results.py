"""What measures of displacement fields return."""

from dataclasses import dataclass
from typing import Any

Array = Any


@dataclass(frozen=True)
class Folding:
    """What `folding` returns: an array ``(B,)`` for each figure, in float64.

    Attributes
    ----------
    count, share
        How many voxels have a determinant of at most 0, by central differences, and which share of those that count;
        lower is better, 0 best.
    digital_count, digital_share
        The same for voxels that are not digitally diffeomorphic: one of the ten determinants around them (of a slice
        four, of a line two) is at most 0. NaN with ``convention="icon"``.
    minimum, first_percentile, maximum
        Of the determinant by central differences; the percentile is interpolated. 1 where nothing is deformed.
    voxels
        How many voxels count.
    """

    count: Array
    share: Array
    digital_count: Array
    digital_share: Array
    minimum: Array
    first_percentile: Array
    maximum: Array
    voxels: Array


@dataclass(frozen=True)
class NonDiffeomorphicVolume:
    """What `nondiffeomorphic_volume` returns: an array ``(B,)`` for each figure, in float64; lower is better, 0 best.

    Attributes
    ----------
    volume
        In mm³ (of a slice the area, in mm²), or in voxels without ``spacing``.
    percent
        100 times the volume in voxels by the number of voxels that count.
    tetrahedra
        Which share of the tetrahedra (of a slice, triangles) is turned inside out or flat, from 0 to 1.
    voxels
        How many voxels count.
    """

    volume: Array
    percent: Array
    tetrahedra: Array
    voxels: Array


@dataclass(frozen=True)
class SDLogJ:
    """What `sdlogj` returns: an array ``(B,)`` for each figure, in float64.

    Attributes
    ----------
    value
        The standard deviation of the logarithm of the determinant; 0 where all voxels change their volume alike.
    left_out
        How many voxels have no logarithm, since the map folds there. Give this number with the value.
    voxels
        How many voxels count, those included.
    """

    value: Array
    left_out: Array
    voxels: Array
