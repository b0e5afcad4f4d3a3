"""The numbers of `agnoreg.metrics` that an evaluation reports, each declared once."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from agnoreg.evaluate.nifti import InputError
from agnoreg.evaluate.quantity import LEARN2REG, Quantity
from agnoreg.files import one_line
from agnoreg.metrics import conventions, field_conventions, surface_measures

__all__ = ["CONVENTIONS_OF", "QUANTITIES", "default_quantities", "parse_quantity"]

_DISTANCE: dict[str, Any] = {
    "plain_unit": "mm",
    "value_range": (0.0, math.inf),
    "direction": "lower",
    "identity_value": 0.0,
}
_SHARE: dict[str, Any] = {"plain_unit": "", "value_range": (0.0, 1.0), "direction": "higher", "identity_value": 1.0}


# --- labels -----------------------------------------------------------------------------------------------------------


def _overlap(name: str, title: str, part: str, formula: str, **own: Any) -> Quantity:
    return Quantity(name, title, ("labels",), "overlap", part, formula, **own)


def _surface(name: str, title: str, **own: Any) -> Quantity:
    function = "hausdorff" if name == "hd95" else name
    left_out = ("y_true", "y_pred", "spacing", "labels", "mask", "spatial_dims", "percentile" * (name == "hd95"))
    parameters = inspect.signature(getattr(surface_measures, function)).parameters
    known = {key: one.default for key, one in parameters.items() if key not in left_out}
    known = {key: None if value is inspect.Parameter.empty else value for key, value in known.items()}
    names = tuple(conventions.CONVENTIONS)
    return Quantity(name, title, ("labels",), function, known=known, conventions=names, **(_DISTANCE | own))


_LABELS = (
    _overlap(
        "overlap_dice",
        "Dice",
        "dice",
        "2 |A and B| / (|A| + |B|), voxels counted; A is the fixed label, B the moved one",
        known={"convention": None},
        conventions=(LEARN2REG,),
    ),
    _overlap("overlap_jaccard", "Jaccard", "jaccard", "|A and B| / |A or B|, voxels counted"),
    _overlap("sensitivity", "sensitivity", "sensitivity", "|A and B| / |A|: the share of the fixed label that is met"),
    _overlap("precision", "precision", "precision", "|A and B| / |B|: the share of the moved label that is right"),
    _overlap(
        "volume_similarity",
        "volume similarity",
        "volume_similarity",
        "1 - ||A| - |B|| / (|A| + |B|), whatever the places of A and B",
    ),
    _surface("hausdorff", "HD"),
    _surface("hd95", "HD95"),
    _surface("masd", "MASD"),
    _surface("assd", "ASSD"),
    _surface("nsd", "NSD", **_SHARE),
)


# --- fields and landmarks ---------------------------------------------------------------------------------------------


def _field(function: str, name: str, title: str, part: str, formula: str, unit: str = "", **own: Any) -> Quantity:
    names = tuple(field_conventions.CONVENTIONS[function])
    known = {"convention": None}
    settings = _DISTANCE | {"plain_unit": unit} | own
    return Quantity(name, title, ("field",), function, part, formula, known=known, conventions=names, **settings)


def _landmarks(name: str, title: str, part: str, formula: str, **own: Any) -> Quantity:
    function = "target_registration_error"
    return Quantity(
        name,
        title,
        ("landmarks",),
        function,
        part,
        f"{formula} of the distances; they are between moving landmarks and where the field takes the fixed ones",
        known={"convention": None},
        conventions=tuple(field_conventions.CONVENTIONS[function]),
        **(_DISTANCE | own),
    )


_DETERMINANT: dict[str, Any] = {"value_range": (-math.inf, math.inf), "identity_value": 1.0}
_FIELD = (
    _field(
        "folding",
        "folding_count",
        "folded voxels",
        "count",
        "how many voxels have a Jacobian determinant of at most 0, by central differences",
    ),
    _field(
        "folding",
        "folding_percent",
        "folding",
        "share",
        "the share of voxels whose Jacobian determinant is at most 0, by central differences",
        "%",
        value_range=(0.0, 100.0),
    ),
    _field(
        "folding",
        "digital_folding_percent",
        "digital folding",
        "digital_share",
        "the share of voxels around which one of ten determinants, of corners and central tetrahedra, is at most 0",
        "%",
        value_range=(0.0, 100.0),
    ),
    _field(
        "folding",
        "jacobian_minimum",
        "min det(J)",
        "minimum",
        "the least Jacobian determinant, by central differences",
        **_DETERMINANT | {"direction": "higher"},
    ),
    _field(
        "folding",
        "jacobian_percentile1",
        "1st percentile of det(J)",
        "first_percentile",
        "the first percentile of the Jacobian determinant, by central differences",
        **_DETERMINANT | {"direction": "higher"},
    ),
    _field(
        "folding",
        "jacobian_maximum",
        "max det(J)",
        "maximum",
        "the greatest Jacobian determinant, by central differences",
        **_DETERMINANT,
    ),
    _field(
        "nondiffeomorphic_volume",
        "ndv_percent",
        "NDV, share",
        "percent",
        "the volume of the tetrahedra that the map turns inside out, as a share of that of the voxels that count",
        "%",
    ),
    _field(
        "nondiffeomorphic_volume",
        "ndv",
        "NDV, volume",
        "volume",
        "the volume of the tetrahedra that the map turns inside out",
        "mm^3",
    ),
    _field(
        "sdlogj",
        "sdlogj",
        "SDlogJ",
        "value",
        "the standard deviation of log det(J), by central differences, over voxels where det(J) is above 0",
    ),
)
_LANDMARKS = (
    _landmarks("tre_mean", "TRE, mean", "mean", "the mean"),
    _landmarks("tre_median", "TRE, median", "median", "the median"),
    _landmarks("tre_p75", "TRE, 75th percentile", "p75", "the 75th percentile"),
    _landmarks("tre_max", "TRE, maximum", "maximum", "the greatest"),
    _landmarks("tre_within_2_mm", "TRE within 2 mm", "within_2_mm", "the share within 2 mm", **_SHARE),
    _landmarks("tre_worst_30", "TRE, worst 30 %", "worst_30", "the mean of the greatest 30 %"),
)


# --- what is computed -------------------------------------------------------------------------------------------------

#: What can be asked for, by its name.
QUANTITIES: dict[str, Quantity] = {one.name: one for one in (*_LABELS, *_FIELD, *_LANDMARKS)}
#: Names of several quantities.
GROUPS: Mapping[str, Sequence[str]] = {
    "overlap": [one.name for one in _LABELS if one.function == "overlap"],
    "folding": [one.name for one in _FIELD if one.function == "folding"],
    "nondiffeomorphic_volume": [one.name for one in _FIELD if one.function == "nondiffeomorphic_volume"],
    "tre": [one.name for one in _LANDMARKS],
}
#: Other names, by which the losses go: what is meant where a metric of labels is.
ALIASES: Mapping[str, str] = {"dice": "overlap_dice", "jaccard": "overlap_jaccard", "hd": "hausdorff"}
#: What is reported unless something else is asked for.
DEFAULT: Mapping[str, Sequence[str]] = {
    "labels": ("sensitivity", "precision", "volume_similarity", "hd95", "masd", "assd"),
    "field": (
        "folding_count",
        "folding_percent",
        "digital_folding_percent",
        "jacobian_minimum",
        "ndv_percent",
        "ndv",
        "sdlogj",
    ),
    "landmarks": GROUPS["tre"],
}
#: The names of conventions, by what they are conventions of.
CONVENTIONS_OF: Mapping[str, Sequence[str]] = {
    "surfaces": tuple(conventions.CONVENTIONS),
    "fields": tuple(dict.fromkeys(name for names in field_conventions.CONVENTIONS.values() for name in names)),
}


def parse_quantity(name: str, given: Mapping[str, Any], **options: Any) -> list[Quantity]:
    """Return the quantities of a name, ``[]`` where there are none: one, or all of a group such as ``overlap``.

    Parameters
    ----------
    name
        As in ``--loss NAME``.
    given
        The arguments.
    **options
        ``convention`` and ``nsd_tolerance`` of the evaluation.

    Raises
    ------
    ValueError
        If an argument does not fit.
    """
    found = []
    for which in GROUPS.get(name, (name,) if name in QUANTITIES else ()):
        plain, arguments = QUANTITIES[which], dict(given)
        # A convention of the whole evaluation holds where tools differ, and is refused where they do and it is none.
        convention = options.get("convention")
        if convention in plain.conventions or (
            convention is not None and plain.conventions and plain.function != "overlap"
        ):
            arguments.setdefault("convention", convention)
        if which == "nsd" and arguments.get("tolerance") is None:
            if options.get("nsd_tolerance") is None:
                raise ValueError("a tolerance in mm is needed, which has no default: --nsd-tolerance MM.")
            arguments["tolerance"] = options["nsd_tolerance"]
        found.append(plain.given(**arguments))
    return found


def default_quantities(group: str, convention: str | None = None, nsd_tolerance: float | None = None) -> list[Quantity]:
    """Return what is reported of labels, a field or landmarks by default, by a convention where it has one."""
    names = list(DEFAULT.get(group, ()))
    if group == "labels":
        names = ["overlap_dice"] * (convention == LEARN2REG) + names + ["nsd"] * (nsd_tolerance is not None)
    found = []
    for name in names:
        plain = QUANTITIES[name]
        given: dict[str, Any] = {"tolerance": nsd_tolerance} if name == "nsd" else {}
        if convention in plain.conventions:
            given["convention"] = convention
        try:
            found.append(plain.given(False, **given))
        except ValueError as error:
            raise InputError(f"{name}: {one_line(error)}") from error
    return found
