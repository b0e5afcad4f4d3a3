"""One pair, in whichever process it is computed."""

import inspect
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from agnoreg.backend import get_backend
from agnoreg.evaluate.evaluation import INPUTS, InputError, check_backend, evaluate_pair
from agnoreg.files import one_line

__all__ = [
    "FILES",
    "LABELS",
    "OPTIONS",
    "PLANNING",
    "REQUIRED",
    "evaluate_on_worker",
    "evaluate_row",
    "failed",
    "ready",
]

_PARAMETERS = inspect.signature(evaluate_pair).parameters
_MASKS = ("mask", "fixed_mask", "moving_mask")

#: The columns of the CSV that name files, one for each argument of `evaluate_pair` that is a file of one pair.
FILES = (*INPUTS, *(name for name in _MASKS if name in _PARAMETERS and name not in INPUTS))
#: Those that every CSV has, and those that come together.
REQUIRED = ("fixed", "moved")
LABELS = ("fixed_label", "moved_label")
#: Arguments of `evaluate_pair` that a table of pairs has no place for: it calls labels by their numbers, and has one
#: value of each.
_ONE_PAIR = ("label_names", "moved_before", "moved_label_before")
#: The other arguments of `evaluate_pair`, which are the same for all pairs, and their defaults.
OPTIONS: Mapping[str, Any] = {
    name: one.default for name, one in _PARAMETERS.items() if name not in (*FILES, *_ONE_PAIR)
}
#: Those of them, beside the losses, on which it depends what is computed.
PLANNING = ("ddf_units", "affine_tol", "convention", "regulariser_units", "nsd_tolerance")

_OPTION = re.compile("--(" + "|".join(name.replace("_", "-") for name in FILES) + r")\b(?!-)(?: FILE\b)?")


def in_columns(message: str) -> str:
    """Return a message of `evaluate_pair` with columns in place of the command's options that name files."""
    return _OPTION.sub(lambda found: f"the column {found[1].replace('-', '_')}", message)


def evaluate_row(paths: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate one pair: plain numbers and text; whatever goes wrong is text, too."""
    start = time.perf_counter()
    content = failed("")
    try:
        _check_cells(paths)
        arguments: dict[str, Any] = {**paths, **settings}
        result = evaluate_pair(**arguments)
        content["values"] = [
            {
                "metric": record.metric,
                "arguments": dict(record.arguments),
                "measured": record.measured,
                "unit": record.unit,
                "label": record.label,
                "value": record.value,
            }
            for record in result.records
        ]
        warnings = [in_columns(warning) for warning in result.warnings]
        content |= {"notes": result.notes, "warnings": warnings, "versions": result.versions}
    except InputError as error:
        content["error"] = in_columns(one_line(error))
    except Exception as error:  # A row that fails in whatever way must not stop the others.
        content["error"] = f"{type(error).__name__}: {one_line(error)}"
    return {**content, "seconds": time.perf_counter() - start}


def _check_cells(paths: Mapping[str, str]) -> None:
    for name in REQUIRED:
        if name not in paths:
            raise InputError(f"The cell of the column {name} is empty.")
    there = [name for name in LABELS if name in paths]
    if len(there) == 1:
        (lacking,) = set(LABELS) - set(there)
        raise InputError(f"The cell of the column {lacking} is empty, and that of {there[0]} is not: both or neither.")


def failed(error: str) -> dict[str, Any]:
    """Return the result of a pair of which there is nothing but an error."""
    return {"error": error, "values": [], "notes": [], "warnings": [], "seconds": math.nan}


# --- on a worker of a cluster -----------------------------------------------------------------------------------------


def evaluate_on_worker(paths: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate one pair on one core: every core has a pair of its own."""
    with suppress(Exception):  # The row says why the backend cannot be used.
        _take_one_core(settings["backend"])
    return evaluate_row(paths, settings)


def _take_one_core(name: str) -> None:
    """Keep a backend that shares its work among threads to one."""
    backend = get_backend(name)
    if hasattr(backend, "threads"):
        backend.threads = 1


def ready(backend: str, device: str | None) -> str:
    """Return which agnoreg a worker has, once the backend is known to work there."""
    check_backend(backend, device)
    return version("agnoreg")
