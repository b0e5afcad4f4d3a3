"""Which metrics an evaluation computes: those that are asked for by name, with arguments, or all that fit.

By default these are measures that mean something for any image: no constants beside the data, no assumption about their
range. DeepReg's, and other libraries', are had by name and by convention.
"""

import difflib
import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agnoreg.evaluate.metric import (
    CENTROID_DISTANCE,
    HEADER,
    Metric,
    arguments_of,
    measured_on,
    metric_of,
)
from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.quantities import CONVENTIONS_OF, GROUPS, QUANTITIES, default_quantities, parse_quantity
from agnoreg.evaluate.quantity import Quantity
from agnoreg.files import one_line
from agnoreg.measures.conventions import CONVENTIONS
from agnoreg.objects.build import build_loss
from agnoreg.objects.loss import Loss
from agnoreg.objects.options import FieldOptions
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.registry import loss_class, registered_losses
from agnoreg.objects.weighted import WeightedLoss

__all__ = ["Series", "asked_metrics", "default_metrics", "parse_loss", "planned"]

#: What the distance of centroids can be asked for by.
CENTROID_NAMES = ("centroid_distance", "centroid-distance", CENTROID_DISTANCE)
#: The convention of the metrics that are computed unless others are asked for.
EXACT = "exact"


# --- asked for --------------------------------------------------------------------------------------------------------


def parse_loss(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME[:key=value,...]``; a value is JSON where it parses as JSON, else a string.

    Raises
    ------
    InputError
        If an argument has no ``=`` or occurs twice, or no colon comes before the first.

    Examples
    --------
    >>> parse_loss("lncc:kernel_size=[9,9,3],kernel_type=gaussian")
    ('lncc', {'kernel_size': [9, 9, 3], 'kernel_type': 'gaussian'})
    >>> parse_loss("DiceLoss:scales=[0,1,2]")
    ('DiceLoss', {'scales': [0, 1, 2]})
    """
    name, _, rest = text.partition(":")
    if "=" in name:
        raise InputError(f"--loss {text}: arguments follow a colon, NAME:key=value,key=value.")
    arguments: dict[str, Any] = {}
    # A comma ends a value only where another key follows, so that a list needs no quotes.
    for part in re.split(r",(?=\s*\w+\s*=)", rest) if rest.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise InputError(f"--loss {text}: expected NAME:key=value,key=value, got {part.strip()!r}.")
        if key in arguments:
            raise InputError(f"--loss {text}: the argument {key!r} occurs twice.")
        arguments[key] = _json_or_text(value)
    return name.strip(), arguments


def _json_or_text(value: str) -> Any:
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(value, value))
    except (ValueError, RecursionError):
        return value


def _built(
    asked: str | Loss, convention: str | None, units: str | None, nsd_tolerance: float | None
) -> list[Metric | Quantity]:
    if isinstance(asked, Loss):
        defaults = arguments_of(type(asked))
        given = {key: value for key, value in asked.get_config().items() if key in defaults and value != defaults[key]}
        return [Metric(asked, given, measured_on(type(asked)), settled=True)]
    name, given = parse_loss(asked)
    try:
        if name in CENTROID_NAMES:
            if given:
                raise ValueError(f"it takes no arguments, got {', '.join(given)}; it is measured in mm.")
            return [Metric(None)]
        whose = None if convention == EXACT else convention
        if found := parse_quantity(name, given, convention=whose, nsd_tolerance=nsd_tolerance):
            return list(found)
        for key in ("name", "weight"):
            if key in given:
                raise ValueError(f"the argument {key!r} has no place in an evaluation.")
        kind = _class_of(name)
        if issubclass(kind, WeightedLoss | RegistrationLoss):
            raise ValueError("it combines losses: give each of them as a --loss of its own.")
        natural = name in registered_losses()
        return [_of_class(metric_of(kind) if natural else kind, given, natural, convention, units)]
    except (TypeError, ValueError) as error:
        raise InputError(f"--loss {asked}: {one_line(error)}") from error


def _class_of(name: str) -> type[Loss]:
    """Return the class of a loss; raise ValueError with a metric of such a name if there is one."""
    try:
        return loss_class(name)
    except ValueError as error:
        if "Did you mean" not in str(error) and (close := difflib.get_close_matches(name, (*QUANTITIES, *GROUPS), n=1)):
            raise ValueError(f"{one_line(error).rstrip('.')}. Did you mean the metric {close[0]!r}?") from error
        raise


def _of_class(
    kind: type[Loss], given: dict[str, Any], natural: bool, convention: str | None, units: str | None
) -> Metric:
    """Return the metric of a class with arguments from a shell, and what the command adds to those of the class."""
    known, measures, rescale, in_mm = arguments_of(kind), measured_on(kind), False, False
    if "images" in measures and "rescale" not in known:
        rescale = given.get("rescale", False)
        _check_types({"rescale": rescale}, {"rescale": False})
    # What has no constants to leave out is exact already.
    if convention is not None and "convention" in known and (convention != EXACT or _follows(kind, EXACT)):
        given.setdefault("convention", convention)
    if issubclass(kind, FieldOptions):
        given.setdefault("spacing", _spacing_of(units, given.get("convention")))
        in_mm = given["spacing"] == HEADER
    own = {key: value for key, value in given.items() if key != "rescale" or "rescale" in known}
    if in_mm:
        del own["spacing"]
    _check_types(own, known)
    # A label's masks are binary, and only a thresholded score states its value for equal labels.
    binary = {"binary": True} if natural and "binary" in known else {}
    loss = build_loss({"name": kind.__name__, **binary, **own})
    return Metric(loss, given, measures, rescale=rescale, in_mm=in_mm, settled="spatial_dims" in given)


def _spacing_of(units: str | None, convention: str | None) -> Any:
    """Return the spacing where none was given: the header's, and voxels for libraries that know no other."""
    in_mm = convention in (None, EXACT) if units is None else units == "mm"
    return HEADER if in_mm else 1


def _check_types(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    # A shell has only words: "l1=maybe" must not pass for true. What a number or a list may be the loss checks itself.
    for key, value in given.items():
        if isinstance(defaults.get(key), bool):
            fits, wanted = isinstance(value, bool), "true or false"
        elif isinstance(defaults.get(key), int | float):
            fits, wanted = value is None or _numeric(value), "a number, or where it takes one for each axis [a,b,c]"
        else:
            continue
        if not fits:
            raise ValueError(f"{key} must be {wanted}, got {value!r}.")


def _numeric(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_numeric(item) and not isinstance(item, list) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _follows(kind: type[Loss], convention: str) -> bool:
    """Return whether a class has that convention."""
    if "convention" not in inspect.signature(kind).parameters:
        return False
    try:
        kind.from_config({"convention": convention})
    except ValueError:
        return False
    return True


# --- by default -------------------------------------------------------------------------------------------------------


def evaluated_by_default(group: str) -> dict[type[Loss], Mapping[str, Any]]:
    """Return the metrics that say what they are evaluated with on a group, and those arguments."""
    metrics = dict.fromkeys(metric_of(cls) for cls in registered_losses().values())
    return {kind: kind.evaluated[group] for kind in metrics if group in kind.evaluated}


def default_metrics(
    measured: Iterable[str],
    convention: str | None = None,
    regulariser_units: str | None = None,
    nsd_tolerance: float | None = None,
) -> list[Metric | Quantity]:
    """Return every metric that fits what is given, each by the convention where it has it.

    Parameters
    ----------
    measured
        What is given: ``"images"``, ``"labels"``, ``"field"``, ``"landmarks"``.
    convention
        Whose formulas; ``"exact"`` where None. A metric that a library does not have is computed as without it.
    regulariser_units
        ``"mm"`` or ``"voxel"``; None: mm, and voxels by a library's convention.
    nsd_tolerance
        In mm; the normalised surface Dice is computed where it is given.
    """
    chosen: list[Metric | Quantity] = []
    for group in measured:
        for kind, exact in evaluated_by_default(group).items():
            named = convention is not None and convention != EXACT and _follows(kind, convention)
            given = {"convention": convention} if named else dict(exact)
            metric = _of_class(kind, given, True, None, regulariser_units)
            chosen.append(replace(metric, measures=(group,), required=False))
        if group == "labels":
            chosen.append(Metric(None, required=False))
        further = default_quantities(group, convention, nsd_tolerance)
        # One row is called Dice: where a convention has its own, that.
        taken = {one.title for one in further}
        chosen = [one for one in chosen if one.title not in taken] + list(further)
    return chosen


def asked_metrics(
    losses: Sequence[str | Loss],
    given: Sequence[str],
    *,
    ddf_units: str = "voxel",
    affine_tol: float = 1e-3,
    convention: str | None = None,
    regulariser_units: str | None = None,
    nsd_tolerance: float | None = None,
) -> list[Metric | Quantity]:
    """Return what `evaluate_pair` computes: the losses that are asked for, or else all that fit what is given.

    Raises
    ------
    InputError
        If an option is wrong, or a loss does not fit what is given.
    """
    if ddf_units not in ("voxel", "mm"):
        raise InputError(f"The units of a ddf are 'voxel' or 'mm', got {ddf_units!r}.")
    if not affine_tol >= 0:
        raise InputError(f"The tolerance of affines must be 0 or more voxels, got {affine_tol}.")
    if convention is not None and convention not in {name for names in conventions().values() for name in names}:
        listed = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in conventions().items())
        raise InputError(f"--convention must be one of {listed}; got {convention!r}.")
    if regulariser_units not in (None, "voxel", "mm"):
        raise InputError(f"--regulariser-units must be 'voxel' or 'mm', got {regulariser_units!r}.")
    if nsd_tolerance is not None and "labels" not in given:
        raise InputError("--nsd-tolerance is of labels: it needs --fixed-label and --moved-label.")
    if not losses:
        return default_metrics(given, convention, regulariser_units, nsd_tolerance)
    metrics = [metric for asked in losses for metric in _built(asked, convention, regulariser_units, nsd_tolerance)]
    needs = {
        "labels": "--fixed-label and --moved-label",
        "field": "--ddf",
        "landmarks": "--fixed-landmarks and --moving-landmarks",
    }
    for metric in metrics:
        if not set(metric.measures) & set(given):
            raise InputError(f"{metric.name} needs {' or '.join(needs[kind] for kind in metric.measures)}.")
    return metrics


def known_names() -> list[str]:
    """Return the names by which metrics can be asked for."""
    return [*registered_losses(), CENTROID_NAMES[0], *QUANTITIES, *(name for name in GROUPS if name not in QUANTITIES)]


def conventions() -> dict[str, Sequence[str]]:
    """Return the names that a convention may have, by what they are conventions of."""
    return {"losses": tuple(dict.fromkeys((EXACT, *CONVENTIONS))), **CONVENTIONS_OF}


# --- what will be computed --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series:
    """What `evaluate_pair` computes by one metric: a value, or one for each label and their mean.

    Attributes
    ----------
    metric, arguments, measured, unit, title
        As in `Record`.
    """

    metric: str
    arguments: Mapping[str, Any]
    measured: str
    unit: str
    title: str = ""


def planned(losses: Sequence[str | Loss], given: Sequence[str], **options: Any) -> tuple[Series, ...]:
    """Return what `evaluate_pair` would compute, in its order, without reading a file.

    Parameters
    ----------
    losses
        As `evaluate_pair` takes them.
    given
        What there is: ``"images"``, then ``"labels"``, ``"field"`` and ``"landmarks"`` or any of them.
    **options
        ``ddf_units``, ``affine_tol``, ``convention``, ``regulariser_units`` and ``nsd_tolerance``, as `evaluate_pair`
        takes them.

    Raises
    ------
    InputError
        If an option is wrong, or a loss does not fit what is given.
    """
    return series_of(asked_metrics(losses, given, **options), given)


def series_of(chosen: Sequence[Metric | Quantity], given: Sequence[str]) -> tuple[Series, ...]:
    """Return what metrics are computed on, in the order of an evaluation."""
    return tuple(
        Series(one.name, one.arguments, measured, one.unit, one.title)
        for measured in given
        for one in chosen
        if measured in one.measures
    )
