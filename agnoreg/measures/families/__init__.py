"""Families: what measures of one kind share, so that a measure is only its local formula.

Each owns slabs or streaming, masks, channels and the adjoint; the author of a measure writes the few methods that it
names.
"""
