"""The engine: how a measure is evaluated, slab by slab or plane by plane. It does not depend on any measure."""
