"""``python -m agnoreg_conformance [--backend NAME]... [--device NAME] [--report FILE] [any option of pytest]``."""

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    # The suite lies among installed packages: no cache is written there, and warnings are errors as in the checkout.
    here = str(Path(__file__).parent)
    sys.exit(pytest.main([here, "-ra", "-W", "error", "-p", "no:cacheprovider", *sys.argv[1:]]))
