"""Metrics: the numbers by which a registration is judged, as pure functions of arrays, without a gradient."""

from agnoreg.metrics.overlap import Overlap, overlap
from agnoreg.metrics.surface import SurfaceDistances
from agnoreg.metrics.surface_maps import surface_distances
from agnoreg.metrics.surface_measures import assd, hausdorff, masd, nsd

__all__ = ["Overlap", "SurfaceDistances", "assd", "hausdorff", "masd", "nsd", "overlap", "surface_distances"]
