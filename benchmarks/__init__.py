"""Time and memory of agnoreg's losses beside those of other libraries: ``python -m benchmarks --help``."""
