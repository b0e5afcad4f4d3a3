"""Metrics: the numbers by which a registration is judged, as pure functions of arrays, without a gradient."""

from agnoreg.metrics.overlap import Overlap, overlap

__all__ = ["Overlap", "overlap"]
