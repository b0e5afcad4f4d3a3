"""The numbers of `agnoreg.metrics` that an evaluation reports: what each is called, its unit, its definition."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agnoreg.engine.axes import check_choice
from agnoreg.engine.validate import as_number
from agnoreg.evaluate.nifti import InputError, Volume
from agnoreg.files import one_line
from agnoreg.metrics import surface_measures
from agnoreg.metrics.conventions import COMBINATIONS, CONVENTIONS, DIRECTIONS, EMPTY, convention_of
from agnoreg.metrics.surface_elements import SURFACES

__all__ = ["LABEL_QUANTITIES", "QUANTITIES", "Quantity", "default_quantities", "parse_quantity"]

LEARN2REG = "learn2reg"

#: What an element of a surface is, by the argument ``surface``.
ELEMENTS = {
    "surfels": "corners of voxels on the surface, weighted by its area there",
    "voxels": "voxels with a face to the background, all alike",
    "mesh": "triangles of a surface mesh, weighted by area",
    "volume": "all voxels of the label",
}
#: What arguments of surfaces may be.
CHOICES = {"surface": SURFACES, "combine": COMBINATIONS, "directed": DIRECTIONS, "empty": tuple(EMPTY)}
#: What a distance is, and a share, where a map lacks a label.
MISSING = {
    "nan": "NaN",
    "raise": "NaN (an error in that tool)",
    "worst": "inf",
    "best": "0",
    "diagonal": "the diagonal",
}
MISSING_SHARE = {**MISSING, "worst": "0", "best": "1", "diagonal": "0"}


@dataclass(frozen=True)
class Quantity:
    """A number of `agnoreg.metrics` to report, with its arguments.

    Attributes
    ----------
    name
        What it is asked for by.
    title
        What the field calls it.
    measures
        On what it is measured: ``("labels",)``, ``("field",)`` or ``("landmarks",)``.
    formula
        Its definition, without what the arguments change.
    plain_unit
        Its unit; of distances between surfaces mm, unless a convention has them in voxels.
    value_range, direction, identity_value
        As in `Record`.
    known
        The arguments that it takes, with their defaults.
    conventions
        The conventions that it has.
    arguments
        What was asked for of its arguments, or what the defaults ask for.
    required
        Whether somebody asked for it, so that an input that it does not fit is an error.
    """

    name: str
    title: str
    measures: tuple[str, ...]
    formula: str
    plain_unit: str = ""
    value_range: tuple[float, float] = (0.0, 1.0)
    direction: str = "higher"
    identity_value: float | None = 1.0
    known: Mapping[str, Any] = field(default_factory=dict)
    conventions: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True

    @property
    def convention(self) -> str | None:
        """The tool whose definition it has; None for agnoreg's own."""
        return self.arguments.get("convention")

    @property
    def function(self) -> str:
        """The name of the function, or of the method, that computes it."""
        return {"hd95": "hausdorff", "overlap_dice": "dice", "overlap_jaccard": "jaccard"}.get(self.name, self.name)

    @property
    def percentile(self) -> float:
        """The percentile of a Hausdorff distance."""
        return 95 if self.name == "hd95" else float(as_number(self.arguments.get("percentile", 100)))

    @property
    def of_surfaces(self) -> bool:
        """Whether it is of distances between surfaces."""
        return self.name in SURFACE_QUANTITIES

    @property
    def unit(self) -> str:
        """Its unit; empty where it has none."""
        in_voxels = self.plain_unit == "mm" and self.of_surfaces and convention_of(self.convention).in_voxels
        return "voxel" if in_voxels else self.plain_unit

    @property
    def definition(self) -> str:
        """What the number is, with its convention."""
        text = _surface_text(self) if self.of_surfaces else self.formula
        whose = f"; the definition of {self.convention}" if self.convention else ""
        if self.convention == LEARN2REG and "labels" in self.measures:
            whose += ": NaN for a label that the fixed or the unwarped moving map lacks"
        return f"{text}{whose}."

    def of(self, volume: Volume) -> "Quantity":
        """Return it as it fits a volume: just as it is."""
        return self

    def given(self, required: bool = True, **arguments: Any) -> "Quantity":
        """Return it with arguments; raise ValueError where it does not take one, or not such a value."""
        for key, value in arguments.items():
            if key not in self.known:
                takes = f"it takes {', '.join(self.known)}" if self.known else "it takes no arguments"
                raise ValueError(f"{self.name} has no argument {key!r}: {takes}.")
            choices = self.conventions if key == "convention" else CHOICES.get(key)
            if choices is not None and value is not None:
                check_choice(key, value, choices)
            elif key == "percentile" and not 0 <= as_number(value) <= 100:
                raise ValueError(f"percentile must be a number from 0 to 100, got {value!r}.")
            elif key == "tolerance" and not 0 <= as_number(value) < math.inf:
                raise ValueError(f"tolerance must be a number of mm of at least 0, got {value!r}.")
        found = replace(self, arguments={**self.arguments, **arguments}, required=required)
        return replace(found, title=f"HD{found.percentile:g}") if found.percentile < 100 else found


def _surface_text(quantity: Quantity) -> str:
    """Return the definition of a measure of surfaces, as its arguments have it."""
    given, preset = quantity.arguments, convention_of(quantity.convention)
    share, measure = quantity.percentile, quantity.function
    if measure == "hausdorff" and share != 100:
        measure = "hausdorff_percentile"
    combine = given.get("combine") or preset.combine[measure]
    rules = EMPTY[given["empty"]] if given.get("empty") else preset.empty[measure]
    unit = "voxels" if preset.in_voxels else "mm"
    if quantity.name == "nsd":
        within = f"within {given.get('tolerance', 't')} {unit} of the other one"
        text = {"pooled": "the share of both surfaces", "mean": "the mean of both surfaces' shares"}
        what = f"{text.get(combine, 'the larger share of both surfaces')} {within}"
    else:
        one, several = {"hausdorff": ("maximum", "maxima")}.get(measure, ("mean", "means"))
        if measure == "hausdorff_percentile":
            way = "" if preset.weighted else "interpolated "
            one, several = f"{way}{share:g}th percentile", f"{way}{share:g}th percentiles"
        what = {
            "max": f"the larger of the two {several} of the distances in both directions",
            "mean": f"the mean of the two {several} of the distances in both directions",
            "pooled": f"the {one} of all distances of both directions together",
        }[combine]
        if given.get("directed"):
            ends = {"true_to_pred": "fixed surface to the moved", "pred_to_true": "moved surface to the fixed"}
            what = f"the {one} of the distances from the {ends[given['directed']]} one"
        what += f", in {unit}"
    surface = ELEMENTS[given.get("surface") or preset.surface]
    missing = MISSING_SHARE if quantity.name == "nsd" else MISSING
    return f"{what}; surfaces are {surface}; a label that the moved map lacks: {missing[rules[1]]}"


# --- what there is ----------------------------------------------------------------------------------------------------


def _surface(name: str, title: str, function: str = "", **own: Any) -> Quantity:
    parameters = inspect.signature(getattr(surface_measures, function or name)).parameters
    left_out = ("y_true", "y_pred", "spacing", "labels", "mask", "spatial_dims", *(("percentile",) if function else ()))
    known = {key: one.default for key, one in parameters.items() if key not in left_out}
    known = {key: None if value is inspect.Parameter.empty else value for key, value in known.items()}
    distance: dict[str, Any] = {
        "plain_unit": "mm",
        "value_range": (0.0, math.inf),
        "direction": "lower",
        "identity_value": 0.0,
    }
    return Quantity(name, title, ("labels",), "", known=known, conventions=tuple(CONVENTIONS), **(distance | own))


_SHARE: dict[str, Any] = {"plain_unit": "", "value_range": (0.0, 1.0), "direction": "higher", "identity_value": 1.0}

_ALL = (
    Quantity(
        "overlap_dice",
        "Dice",
        ("labels",),
        "2 |A and B| / (|A| + |B|), voxels counted; A is the fixed label, B the moved one",
        known={"convention": None},
        conventions=(LEARN2REG,),
    ),
    Quantity("overlap_jaccard", "Jaccard", ("labels",), "|A and B| / |A or B|, voxels counted"),
    Quantity("sensitivity", "sensitivity", ("labels",), "|A and B| / |A|: the share of the fixed label that is met"),
    Quantity("precision", "precision", ("labels",), "|A and B| / |B|: the share of the moved label that is right"),
    Quantity(
        "volume_similarity",
        "volume similarity",
        ("labels",),
        "1 - ||A| - |B|| / (|A| + |B|), whatever the places of A and B",
    ),
    _surface("hausdorff", "HD"),
    _surface("hd95", "HD95", "hausdorff"),
    _surface("masd", "MASD"),
    _surface("assd", "ASSD"),
    _surface("nsd", "NSD", **_SHARE),
)

#: What can be asked for, by its name.
QUANTITIES: dict[str, Quantity] = {one.name: one for one in _ALL}
#: Those of labels: from counts of voxels, and from distances between surfaces.
OVERLAP_QUANTITIES = ("overlap_dice", "overlap_jaccard", "sensitivity", "precision", "volume_similarity")
SURFACE_QUANTITIES = ("hausdorff", "hd95", "masd", "assd", "nsd")
LABEL_QUANTITIES = (*OVERLAP_QUANTITIES, *SURFACE_QUANTITIES)
#: Names of several quantities.
GROUPS: Mapping[str, Sequence[str]] = {"overlap": OVERLAP_QUANTITIES}


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
        if convention in plain.conventions or (convention is not None and len(plain.conventions) > 1):
            arguments.setdefault("convention", convention)
        if which == "nsd" and arguments.get("tolerance") is None:
            if options.get("nsd_tolerance") is None:
                raise ValueError("a tolerance in mm is needed, which has no default: --nsd-tolerance MM.")
            arguments["tolerance"] = options["nsd_tolerance"]
        found.append(plain.given(**arguments))
    return found


def default_quantities(group: str, convention: str | None = None, nsd_tolerance: float | None = None) -> list[Quantity]:
    """Return what is reported of labels, a field or landmarks by default, by a convention where it has one."""
    entries: list[tuple[str, dict[str, Any]]] = []
    if group == "labels":
        entries = [(name, {}) for name in ("sensitivity", "precision", "volume_similarity")]
        entries += [("hd95", {}), ("masd", {}), ("assd", {})]
        if nsd_tolerance is not None:
            entries.append(("nsd", {"tolerance": nsd_tolerance}))
        if convention == LEARN2REG:
            entries.insert(0, ("overlap_dice", {}))
    found = []
    for name, arguments in entries:
        plain = QUANTITIES[name]
        by = {"convention": convention} if convention in plain.conventions else {}
        try:
            found.append(plain.given(False, **arguments, **by))
        except ValueError as error:
            raise InputError(f"{name}: {one_line(error)}") from error
    return found
