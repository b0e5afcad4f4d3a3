"""Names that a framework does not make public: each is looked up once, and may have vanished."""

import pkgutil
from typing import Any


class PrivateNames:
    """The private names that one adapter uses.

    An adapter keeps all its uses of them in one file, ``_private.py``, with what it does without each. A test fails
    with the names in `missing`, so that a new version of a framework cannot take one away unnoticed.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []

    def find(self, path: str, default: Any = None) -> Any:
        """Return what is at a dotted path, such as ``"torch._C._functorch.get_unwrapped"``, else ``default``."""
        try:
            return pkgutil.resolve_name(path)
        except Exception:  # What a library raises for a name that it no longer has is its own choice.
            self.missing.append(path)
            return default
