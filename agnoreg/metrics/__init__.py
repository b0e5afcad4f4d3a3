"""Metrics: the numbers by which a registration is judged, as pure functions of arrays, without a gradient."""

from agnoreg.metrics.overlap import Overlap, overlap
from agnoreg.metrics.summary import Summary, summarise
from agnoreg.metrics.surface import SurfaceDistances
from agnoreg.metrics.surface_maps import surface_distances
from agnoreg.metrics.surface_measures import assd, hausdorff, masd, nsd

__all__ = [
    "Overlap",
    "Summary",
    "SurfaceDistances",
    "assd",
    "hausdorff",
    "masd",
    "nsd",
    "overlap",
    "summarise",
    "surface_distances",
]
