"""One number of `agnoreg.metrics` that an evaluation reports: what it is called, its unit, its definition."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agnoreg.engine.axes import check_choice
from agnoreg.engine.validate import as_number
from agnoreg.evaluate.nifti import Volume
from agnoreg.metrics.conventions import COMBINATIONS, DIRECTIONS, EMPTY, convention_of
from agnoreg.metrics.surface_elements import SURFACES

__all__ = ["LEARN2REG", "Quantity"]

LEARN2REG = "learn2reg"
_RAISED = ", which adds 3 to the determinant and clips it to 1e-9 ... 1e9"
#: What is particular about a tool's definition of a measure of fields or landmarks, by function and convention.
THEIRS = {
    ("folding", "learn2reg"): f"{_RAISED}, so that nothing folds",
    ("folding", "lumir"): f"{_RAISED}, so that nothing folds",
    ("folding", "voxelmorph"): ": the border counts, by one-sided differences",
    ("folding", "transmorph"): ": the border counts, by one-sided differences",
    ("folding", "icon"): ": determinants below 0 of backward differences",
    ("sdlogj", "learn2reg"): f"{_RAISED}; two voxels are left out at each end",
    ("sdlogj", "lumir"): f"{_RAISED}; two voxels are left out at each end",
    ("target_registration_error", "learn2reg"): ": the field is read by cubic splines, and is 0 outside the image",
}

#: What an element of a surface is, by the argument ``surface``.
ELEMENTS = {
    "surfels": "corners of voxels on the surface, weighted by its area there",
    "voxels": "voxels with a face to the background, all of one weight",
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
    function
        The function of `agnoreg.metrics` that computes it, or the method of `SurfaceDistances`.
    part
        Which part of what that returns; empty where that is the number itself.
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
        Whether the user asked for it: an input that it does not fit is an error then, and otherwise a note.
    """

    name: str
    title: str
    measures: tuple[str, ...]
    function: str
    part: str = ""
    formula: str = ""
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
    def own(self) -> "Quantity":
        """The same by agnoreg's own definition."""
        return replace(self, arguments={key: value for key, value in self.arguments.items() if key != "convention"})

    @property
    def percentile(self) -> float:
        """The percentile of a Hausdorff distance."""
        return 95 if self.name == "hd95" else float(as_number(self.arguments.get("percentile", 100)))

    @property
    def of_surfaces(self) -> bool:
        """Whether it is of distances between surfaces."""
        return self.function in ("hausdorff", "masd", "assd", "nsd")

    @property
    def unit(self) -> str:
        """Its unit; empty where it has none."""
        in_voxels = self.plain_unit == "mm" and self.of_surfaces and convention_of(self.convention).in_voxels
        return "voxel" if in_voxels else self.plain_unit

    @property
    def definition(self) -> str:
        """What the number is, with its convention."""
        text = _surface_text(self) if self.of_surfaces else self.formula
        if "landmarks" in self.measures and not self.convention:
            text += ", read linearly"
        if self.convention:
            text += f"; the definition of {self.convention}"
            text += THEIRS.get((self.function, self.convention), "")
            if self.convention == LEARN2REG and "labels" in self.measures:
                text += ": NaN for a label that the fixed or the unwarped moving map lacks"
        return f"{text}."

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
