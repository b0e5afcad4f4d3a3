"""Families: base classes of measures of one kind, so that a measure consists of its local formula only.

A family takes care of slabs or streaming, masks, channels and the adjoint. Its class docstring names the few methods
that the author of a measure writes.
"""
