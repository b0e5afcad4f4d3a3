"""The report of one pair: what `evaluate_pair` measured, and pictures of where."""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agnoreg.evaluate.records import Evaluation, to_csv, to_json
from agnoreg.evaluate.report import charts, fields, points
from agnoreg.evaluate.report.case import Case, read_case
from agnoreg.evaluate.report.drawing import DARK, Picture
from agnoreg.evaluate.report.methods import hashes, methods_text
from agnoreg.evaluate.report.orientation import OBLIQUE
from agnoreg.evaluate.report.page import check_packages, data_uri, gradient, render
from agnoreg.evaluate.report.pictures import Slices
from agnoreg.evaluate.report.places import agreement, worst_place, worst_slices
from agnoreg.evaluate.report.structures import Structures, structures, worst_label
from agnoreg.evaluate.report.verdicts import LOOK, PASS, verdict_rows

Array = Any

#: Files of a pair that are text, by `evaluate_pair`'s arguments.
TEXTS = ("fixed_landmarks", "moving_landmarks", "label_names")
#: Structures that are listed at once; the others unfold.
LISTED = 12


def report_html(evaluation: Evaluation, pair: Mapping[str, Any], title: str = "", index: str = "") -> str:
    """Return the report of a pair as one HTML page, which needs no network, no script and no other file.

    Parameters
    ----------
    evaluation
        What `evaluate_pair` returned.
    pair
        The arguments that it was called with, by name: the files are read once more to draw them.
    title
        What the page is called; by default by the names of the files.
    index
        A link to the page of all pairs; empty where there is none.

    Returns
    -------
    str
        The page.

    Raises
    ------
    InputError
        If a file cannot be read any more, or jinja2 or matplotlib is not installed.

    Examples
    --------
    >>> pair = dict(fixed="fixed.nii.gz", moved="moved.nii.gz")  # doctest: +SKIP
    >>> Path("report.html").write_text(report_html(evaluate_pair(**pair), pair))  # doctest: +SKIP
    """
    check_packages()
    case = read_case(pair)
    rows = verdict_rows(evaluation)
    fixed, moved = evaluation.inputs[:2]
    digests = hashes({entry.role: entry.path for entry in evaluation.inputs})
    given = {name.replace("_", " "): pair.get(name) for name in TEXTS}
    named = {role: os.fspath(path) for role, path in given.items() if isinstance(path, str | os.PathLike)}
    texts = {role: (named[role], digest) for role, digest in hashes(named).items()}
    read = [(entry.role, entry.path, entry.stored_as, digests.get(entry.role, "")) for entry in evaluation.inputs]
    view: dict[str, Any] = {
        "title": title or f"{Path(moved.path).name} on {Path(fixed.path).name}",
        "index": index,
        "rows": rows,
        "compared": any(row.before for row in rows),
        "looks": sum(row.verdict == LOOK for row in rows),
        "judged": any(row.verdict for row in rows),
        "passes": sum(row.verdict == PASS for row in rows),
        "thresholds": any(row.threshold for row in rows),
        "inputs": read + [(role, path, "text", digest) for role, (path, digest) in texts.items()],
        "evaluation": evaluation,
        "methods": methods_text(evaluation, digests | {role: digest for role, (_, digest) in texts.items()}),
        "downloads": [
            ("CSV", "evaluation.csv", data_uri(to_csv(evaluation), "text/csv")),
            ("JSON", "evaluation.json", data_uri(to_json(evaluation), "application/json")),
        ],
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "colours": DARK,
        "oblique": round(case.orientation.oblique, 1) if case.orientation.oblique > OBLIQUE else 0,
        "flat": len(case.planes) < 3,
        "planes": [plane.name for plane in case.planes],
        "images": None,
        "labels": None,
        "field": None,
        "points": None,
    }
    if case.planes:
        slices = Slices(case)
        found = structures(evaluation, case)
        view["images"] = _images(slices)
        view["labels"] = None if found is None else _labels(slices, found)
        view["field"] = None if case.ddf is None else _field(slices, evaluation)
        view["points"] = _points(slices, evaluation) if evaluation.landmarks else None
    return render("pair.html", view)


def _images(slices: Slices) -> dict[str, Any]:
    case = slices.case
    found = agreement(case, case.moved)
    places, worst = worst_slices(found.disagreement, found.contrast), worst_place(found.disagreement)
    limit = slices.limit(places)
    names = [name for name in slices.windows if name != "fixed"]
    correlations = [("moved", slices.correlations("moved", found, places))]
    if case.before is not None:
        correlations.insert(0, ("before", slices.correlations("before", agreement(case, case.before), places)))
    return {
        "where": [slices.where(plane, places[plane.normal]) for plane in case.planes],
        "compared": [slices.compared(plane, places[plane.normal]) for plane in case.planes],
        "names": list(slices.windows),
        "differences": [(name, slices.differences(name, places, limit)) for name in reversed(names)],
        "limit": f"{limit:.3g}",
        "difference_bar": gradient("RdBu_r"),
        "checkerboards": [slices.checkerboard(plane, places[plane.normal]) for plane in case.planes],
        "correlations": correlations,
        "correlation_bar": gradient("inferno", 0.25),
        "close_ups": slices.close_ups(worst) if found.disagreement.any() else [],
        "worst": _mm(case, worst),
        "joint": _joint(case),
    }


def _mm(case: Case, place: tuple[int, int, int]) -> str:
    """Return a voxel in words: from which sides of the volume, in mm."""
    sides = ("left", "back", "bottom")
    return ", ".join(
        f"{index * mm:.0f} mm from the {side}"
        for index, mm, side, size in zip(place, case.spacing, sides, case.fixed.shape, strict=True)
        if size > 1
    )


def _joint(case: Case) -> list[Picture]:
    pictures = [charts.joint_histogram(case, case.moved, "moved")]
    if case.before is not None:
        pictures.insert(0, charts.joint_histogram(case, case.before, "moving, before"))
    return pictures


def _labels(slices: Slices, found: Structures) -> dict[str, Any]:
    worst = found.rows[0]
    pictures, places = worst_label(slices, worst.label, worst.title)
    return {
        "found": found,
        "listed": found.rows[:LISTED],
        "others": found.rows[LISTED:],
        "worst": worst,
        "pictures": pictures,
        "where": [slices.where(plane, places[plane.normal]) for plane in slices.case.planes],
        "before": slices.case.before_label is not None,
    }


def _field(slices: Slices, evaluation: Evaluation) -> dict[str, Any]:
    case = slices.case
    grids, places = fields.grids(slices)
    return {
        "grids": grids,
        "where": [slices.where(plane, places[plane.normal]) for plane in case.planes],
        "volumes": _volumes(slices, evaluation),
    }


def _volumes(slices: Slices, evaluation: Evaluation) -> dict[str, Any] | None:
    convention, plain, digitally = fields.counted_by(evaluation.records)
    found = fields.volumes(slices.case, convention)
    if found is None:
        return None
    maps, places, limit = fields.determinants(slices, found)
    return {
        "maps": maps,
        "where": [slices.where(plane, places[plane.normal]) for plane in slices.case.planes],
        "bar": gradient("PuOr_r"),
        "low": f"{2**-limit:.2g}",
        "high": f"{2**limit:.2g}",
        "folds": found.folds,
        "digital_folds": found.digital_folds,
        "only_digital": found.only_digital,
        "definition": found.definition,
        "plain": ", ".join(plain),
        "digitally": ", ".join(digitally),
        "statistics": fields.statistics(found),
        "histogram": charts.determinant_histogram(found.determinant[found.counted], found.folds),
    }


def _points(slices: Slices, evaluation: Evaluation) -> dict[str, Any]:
    listed = points.worst_points(evaluation.landmarks)
    worst = listed[0].number
    pictures, where = points.around(slices, evaluation.landmarks[worst - 1], worst)
    return {
        "count": len(evaluation.landmarks),
        "listed": listed,
        "chart": points.sorted_errors(evaluation.landmarks),
        "pictures": pictures,
        "where": where,
        "worst": worst,
    }
