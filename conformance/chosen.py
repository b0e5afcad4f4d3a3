"""The backends of a run: which are asked for, which can be used here, and why the others cannot."""

import importlib.util
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from agnoreg.backend import GROUP, BackendNotAvailableError, get_backend

#: Checked by default beside the registered backends: it belongs to no adapter and allows nothing beyond the standard.
STRICT = "array_api_strict"


@dataclass(frozen=True)
class Chosen:
    """A backend that was asked for, or the reason why it is skipped."""

    name: str
    backend: Any = None
    reason: str = ""

    @property
    def stand_in(self) -> str:
        """What stands in for the framework, where its module says so by ``__stand_in__``; else nothing."""
        return str(getattr(sys.modules.get(self.name), "__stand_in__", ""))

    @property
    def title(self) -> str:
        """The backend's name in a table."""
        return f"{self.name}, on a stand-in" if self.stand_in else self.name


def registered() -> list[str]:
    """Return the names of all registered backends, and of the strict namespace."""
    return [*sorted(point.name for point in entry_points(group=GROUP)), STRICT]


def choose(names: list[str], device: str | None) -> list[Chosen]:
    """Look for each backend; a name that no adapter has raises ValueError."""
    return [_look(name, device) for name in dict.fromkeys(names)]


def _look(name: str, device: str | None) -> Chosen:
    if name == STRICT and importlib.util.find_spec(name) is None:
        return Chosen(name, reason=f"{name} is not installed: pip install array-api-strict.")
    try:
        # A framework may warn while it is imported or looks for its devices: that is not what is checked here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backend = get_backend(name)
            backend.to_numpy(backend.from_numpy(np.zeros(1), device))
    except BackendNotAvailableError as error:
        return Chosen(name, reason=str(error))
    except ValueError as error:
        if "Unknown backend" in str(error):
            raise
        return Chosen(name, reason=_no_device(name, device, error))
    except Exception as error:
        return Chosen(name, reason=_no_device(name, device, error))
    return Chosen(name, backend)


def _no_device(name: str, device: str | None, error: Exception) -> str:
    where = f"on device {device}" if device else "on its default device"
    return f"{name} makes no array {where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
