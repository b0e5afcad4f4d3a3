"""Other libraries' names, arguments and defaults, for code that was written for them: a module each."""

from agnoreg.compat import monai

__all__ = ["monai"]
