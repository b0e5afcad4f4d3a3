"""Metrics: the numbers by which a registration is judged, as pure functions of arrays, without a gradient."""

import sys
from typing import Never

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

#: Names by which a metric is looked for, and what computes it.
_MEANT = {
    "dice": "overlap(...).dice",
    "jaccard": "overlap(...).jaccard",
    "hd": "hausdorff",
    "hd95": "hausdorff(..., percentile=95)",
    "tre": "target_registration_error",
    "ndv": "nondiffeomorphic_volume",
}


def __getattr__(name: str) -> Never:
    """Say what computes a metric that is looked for by another name."""
    hint = f": use agnoreg.metrics.{_MEANT[name]}" if name in _MEANT else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name, obj=sys.modules[__name__])
