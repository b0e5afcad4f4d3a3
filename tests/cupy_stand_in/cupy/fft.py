"""Fourier transforms: agnoreg has no use for any."""
