"""Private names of a framework: each is looked up once, and may no longer exist."""

import pkgutil
from typing import Any


class PrivateNames:
    """The private names that one adapter uses.

    An adapter keeps all uses of them in one file, ``_private.py``, with a fallback for each. A test fails with the
    names in `missing`, so that a new version of a framework cannot remove one unnoticed.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []

    def find(self, path: str, default: Any = None) -> Any:
        """Return the object at a dotted path, such as ``"json.decoder.scanstring"``, else ``default``."""
        try:
            return pkgutil.resolve_name(path)
        except Exception:  # A library may raise anything for a name that it no longer has.
            self.missing.append(path)
            return default
