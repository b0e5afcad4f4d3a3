"""Losses as objects: what every one is, how they combine, and how they are found by name or read from a file.

Nothing here knows a formula.
"""
