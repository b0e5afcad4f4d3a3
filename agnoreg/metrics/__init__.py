"""Metrics: the numbers by which a registration is judged, as pure functions of arrays, without a gradient."""

from agnoreg.metrics.field_measures import folding, jacobian_determinant, nondiffeomorphic_volume, sdlogj
from agnoreg.metrics.field_results import Folding, NonDiffeomorphicVolume, SDLogJ
from agnoreg.metrics.inverse_consistency import InverseConsistencyError, inverse_consistency_error
from agnoreg.metrics.landmarks import LandmarkErrors, TargetRegistrationError, target_registration_error
from agnoreg.metrics.overlap import Overlap, overlap
from agnoreg.metrics.summary import Summary, summarise
from agnoreg.metrics.surface import SurfaceDistances
from agnoreg.metrics.surface_maps import surface_distances
from agnoreg.metrics.surface_measures import assd, hausdorff, masd, nsd

__all__ = [
    "Folding",
    "InverseConsistencyError",
    "LandmarkErrors",
    "NonDiffeomorphicVolume",
    "Overlap",
    "SDLogJ",
    "Summary",
    "SurfaceDistances",
    "TargetRegistrationError",
    "assd",
    "folding",
    "hausdorff",
    "inverse_consistency_error",
    "jacobian_determinant",
    "masd",
    "nondiffeomorphic_volume",
    "nsd",
    "overlap",
    "sdlogj",
    "summarise",
    "surface_distances",
    "target_registration_error",
]
