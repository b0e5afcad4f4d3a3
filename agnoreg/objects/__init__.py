"""Losses as objects: their base classes, combination, registry and configuration files. No formula is defined here."""
