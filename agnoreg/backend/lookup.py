"""Lookup of an array's adapter, by entry points and without importing a framework."""

import importlib
import sys
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agnoreg.backend.accelerators import missing
from agnoreg.backend.base import Backend

GROUP = "agnoreg.backends"


class BackendNotAvailableError(ImportError):
    """A backend requested by name cannot be used; the message says what to install or what is broken."""


_loaded: dict[str, Backend] = {}


_by_type: dict[type, Backend] = {}


_generic: dict[str, Backend] = {}


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def get_backend(name: str) -> Backend:
    """Return the adapter called ``name``, importing its framework.

    Parameters
    ----------
    name
        The framework's import name, as listed by `available_backends`, for example ``"numpy"``; or the name of any
        importable module that is itself an Array API namespace.

    Raises
    ------
    BackendNotAvailableError
        If the framework is not installed (the message names the extra to install) or cannot be imported (the message
        says why).
    ValueError
        If no adapter has that name.
    """
    if name in _loaded:
        return _loaded[name]
    points = _entry_points()
    if name not in points:
        return _generic_by_name(name, known=sorted(points))
    point = points[name]
    try:
        _loaded[name] = point.load()
        _by_type.update(dict.fromkeys(_loaded[name].types, _loaded[name]))
    except ImportError as error:
        raise BackendNotAvailableError(_why_not(name, error)) from error
    except Exception as error:
        raise BackendNotAvailableError(f"The backend {name} is installed but broken: {_one_line(error)}") from error
    return _loaded[name]


def _why_not(name: str, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == name:
        choices = " or ".join(f"agnoreg[{extra}]" for extra in _entry_points()[name].extras or [name])
        return f"The backend {name} is not installed: pip install {choices}."
    return f"The backend {name} is installed but broken: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _generic_by_name(name: str, known: list[str]) -> Backend:
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError, TypeError, AttributeError):
        module = None
    if module is None or not hasattr(module, "__array_api_version__"):
        raise ValueError(f"Unknown backend {name!r}: the installed adapters are {', '.join(known)}.")
    return _generic.setdefault(name, Backend(name, module))


def available_backends() -> dict[str, str]:
    """Return every known backend's state: ``"ok"``, ``"absent: ..."`` or ``"broken: ..."`` with the reason.

    If compiled kernels would make a backend faster and are not installed, its state is ``"ok (...)"``, with what they
    would bring.

    This imports every framework; otherwise a framework is never imported before the first of its arrays is used.
    """
    states = {}
    for name in sorted(_entry_points()):
        try:
            execution = get_backend(name).execution
            reason, lack = execution.unusable(), missing(execution.memories)
            states[name] = f"broken: {reason}" if reason else f"ok ({lack})" if lack else "ok"
        except BackendNotAvailableError as error:
            reason = str(error)
            states[name] = ("absent: " if "is not installed" in reason else "broken: ") + reason
    return states


def load_imported() -> None:
    """Load the adapters of frameworks that are already imported: a traced function could not do it."""
    for name in _entry_points():
        if name in sys.modules and name not in _loaded:
            with suppress(BackendNotAvailableError):
                get_backend(name)


def _adapter(array: Any) -> Backend | None:
    kind = type(array)
    if kind in _by_type:
        return _by_type[kind]
    found = next((backend for backend in _loaded.values() if backend.owns(array)), None)
    if found is None:
        load_imported()
        found = next((backend for backend in _loaded.values() if backend.owns(array)), None)
    if found is None and hasattr(array, "__array_namespace__"):
        xp = array.__array_namespace__()
        found = _generic.setdefault(xp.__name__, Backend(xp.__name__, xp))
    if found is not None:
        _by_type[kind] = found
    return found


def backend_of(*arrays: Any) -> Backend:
    """Return the adapter of the framework that all of ``arrays`` belong to.

    Raises
    ------
    TypeError
        If one of them is not an array, if they belong to two frameworks (the message names both and how to convert), or
        if they are on two devices.
    """
    if not arrays:
        raise TypeError("backend_of needs at least one array.")
    first = _adapter_or_raise(arrays[0])
    device = first.device(arrays[0])
    for array in arrays[1:]:
        backend = _adapter_or_raise(array)
        if backend is not first:
            raise TypeError(
                f"The arrays belong to two frameworks: {_kind(arrays[0])} and {_kind(array)}. Convert one of them, "
                f"for example agnoreg.get_backend({first.name!r}).from_numpy(agnoreg.get_backend({backend.name!r})"
                ".to_numpy(array)); agnoreg never copies between frameworks unasked."
            )
        other = backend.device(array)
        device = other if device is None else device
        if other is not None and other != device:
            raise TypeError(
                f"The arrays live on two devices: {device} and {other}. Move one of them to the "
                "other's device first; agnoreg never copies between devices unasked."
            )
    return first


def _adapter_or_raise(array: Any) -> Backend:
    backend = _adapter(array)
    if backend is None:
        raise TypeError(
            f"Expected an array, got {_kind(array)}: pass an array of one of {', '.join(sorted(_entry_points()))}, "
            "or any array with __array_namespace__ (a list becomes one by numpy.asarray)."
        )
    return backend


def _kind(array: Any) -> str:
    kind = type(array)
    return f"{kind.__module__}.{kind.__qualname__}"
