"""One pair, in whichever process it is computed."""

import inspect
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from agnoreg.backend import get_backend
from agnoreg.evaluate.evaluation import INPUTS, PLANNING, InputError, check_backend, check_pair, evaluate_pair
from agnoreg.evaluate.records import Evaluation
from agnoreg.evaluate.report import check_packages, report_html
from agnoreg.files import one_line

__all__ = [
    "FILES",
    "OPTIONS",
    "PAGE",
    "PLANNING",
    "REQUIRED",
    "TOGETHER",
    "check_row",
    "evaluate_on_worker",
    "evaluate_row",
    "failed",
    "ready",
    "with_page",
]

_PARAMETERS = inspect.signature(evaluate_pair).parameters

#: The columns of the CSV that name files, one for each argument of `evaluate_pair` that is a file of one pair.
FILES = INPUTS
#: Those that every CSV has, and those that come together.
REQUIRED = ("fixed", "moved")
TOGETHER = (("fixed_label", "moved_label"), ("fixed_landmarks", "moving_landmarks"))
#: Arguments of `evaluate_pair` that are no part of a row: names of labels are put in the names of columns.
_ASIDE = ("label_names", "progress")
#: The other arguments of `evaluate_pair`, which are the same for all pairs, and their defaults.
OPTIONS: Mapping[str, Any] = {name: one.default for name, one in _PARAMETERS.items() if name not in (*FILES, *_ASIDE)}

#: Among the settings of a pair: the title of its page, the page of all pairs, and the names of labels. Among what is
#: returned of it: the page. Neither is part of its row.
PAGE = "page"

_OPTION = re.compile("--(" + "|".join(name.replace("_", "-") for name in FILES) + r")\b(?!-)(?: FILE\b)?")


def in_columns(message: str) -> str:
    """Return a message of `evaluate_pair` with columns in place of the command's options that name files."""
    return _OPTION.sub(lambda found: f"the column {found[1].replace('-', '_')}", message)


def with_page(settings: Mapping[str, Any], title: str) -> Mapping[str, Any]:
    """Return the settings of one pair: where pages are wanted, with the title of its own."""
    return {**settings, PAGE: {**settings[PAGE], "title": title}} if PAGE in settings else settings


def evaluate_row(paths: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate one pair: plain numbers and text, and its page where that is wanted; what goes wrong is text, too."""
    start = time.perf_counter()
    content = failed("")
    result = None
    arguments: dict[str, Any] = {**paths, **{name: value for name, value in settings.items() if name != PAGE}}
    try:
        _check_cells(paths)
        result = evaluate_pair(**arguments)
        content["values"] = [
            {
                "metric": record.metric,
                "arguments": dict(record.arguments),
                "measured": record.measured,
                "unit": record.unit,
                "label": record.label,
                "value": record.value,
                "before": record.before,
            }
            for record in result.records
        ]
        warnings = [in_columns(warning) for warning in result.warnings]
        content |= {"notes": result.notes, "warnings": warnings, "versions": result.versions}
    except InputError as error:
        content["error"] = in_columns(one_line(error))
    except Exception as error:  # However a row fails, the others go on.
        content["error"] = f"{type(error).__name__}: {one_line(error)}"
    content["seconds"] = time.perf_counter() - start
    if PAGE in settings and result is not None and not content["error"]:
        content[PAGE] = _page(result, arguments, **settings[PAGE])
    return content


def _page(
    result: Evaluation, arguments: Mapping[str, Any], title: str, index: str, label_names: Mapping[int, str]
) -> dict[str, str]:
    """Return a pair's page, or why there is none: a picture that cannot be drawn costs no row."""
    named = (
        replace(record, label_name=label_names.get(record.label, "")) if isinstance(record.label, int) else record
        for record in result.records
    )
    try:
        return {"html": report_html(replace(result, records=tuple(named)), arguments, title=title, index=index)}
    except InputError as error:
        return {"error": in_columns(one_line(error))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {one_line(error)}"}


def check_row(paths: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return why a pair could not be evaluated, as far as its files' headers tell; empty where it could."""
    try:
        _check_cells(paths)
        arguments: dict[str, Any] = {**paths, **settings}
        check_pair(**arguments)
    except InputError as error:
        return in_columns(one_line(error))
    return ""


def _check_cells(paths: Mapping[str, str]) -> None:
    for name in REQUIRED:
        if name not in paths:
            raise InputError(f"The cell of the column {name} is empty.")
    for names in TOGETHER:
        there = [name for name in names if name in paths]
        if len(there) == 1:
            (lacking,) = set(names) - set(there)
            raise InputError(
                f"The cell of the column {lacking} is empty, and that of {there[0]} is not: both or neither."
            )


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
    """Let a backend that works in several threads use one."""
    backend = get_backend(name)
    if hasattr(backend, "threads"):
        backend.threads = 1


def ready(backend: str, device: str | None, pages: bool = False) -> str:
    """Return which agnoreg a worker has, once the backend is known to work there, and pages can be drawn if wanted."""
    check_backend(backend, device)
    if pages:
        check_packages()
    return version("agnoreg")
