"""One metric of an evaluation: what it is called, on what it is measured, in which unit, and how it fits a volume."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agnoreg.evaluate.nifti import InputError, Volume
from agnoreg.files import one_line
from agnoreg.objects.documentation import sections
from agnoreg.objects.loss import Loss
from agnoreg.objects.mixins import metric_of
from agnoreg.objects.options import FieldOptions
from agnoreg.objects.registry import registered_losses

__all__ = ["Metric", "arguments_of", "measured_on", "metric_of"]

CENTROID_DISTANCE = "compute_centroid_distance"

#: The spacing that stands for the voxel size in a header.
HEADER = "header"

#: Arguments of every loss that say nothing about one sample's value.
_ASIDE = ("name", "reduction", "native")
#: Arguments that may have a value for each axis.
_PER_AXIS = ("kernel_size", "spacing")
#: What a volume is called that has more than one voxel along one axis, or along two.
FLAT = {1: "line", 2: "slice"}


#: What differs between libraries, as a definition says it.
LIBRARIES = {
    "exact": "without small constants",
    "deepreg": "DeepReg's formula",
    "monai": "MONAI's formula",
    "voxelmorph": "VoxelMorph's formula",
    "ants": "the formula of ANTs and ITK",
}
#: Definitions of metrics whose class has more than one.
OWN_WORDS = {"Pearson's r": "The covariance of the images over the product of their standard deviations"}


@dataclass(frozen=True)
class Metric:
    """A metric to compute.

    Attributes
    ----------
    loss
        The object that computes it; None for the distance of centroids, which is a function.
    arguments
        What was asked for of its arguments, or what the defaults ask for.
    measures
        On what it can be computed: ``"images"``, ``"labels"``, ``"field"``.
    required
        Whether the user asked for it: an input that it does not fit is an error then, and otherwise a note.
    rescale
        Whether images are scaled to [0, 1] first where they are not.
    in_mm
        Whether a field is measured in mm, with the header's voxel size for spacing.
    settled
        Whether the user chose its number of axes, which is then kept.
    """

    loss: Loss | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    measures: tuple[str, ...] = ("labels",)
    required: bool = True
    rescale: bool = False
    in_mm: bool = False
    settled: bool = False

    @property
    def name(self) -> str:
        """Its class's name, or the function's."""
        return CENTROID_DISTANCE if self.loss is None else type(self.loss).__name__

    @property
    def title(self) -> str:
        """What the field calls it; its class's name where that is nobody else's."""
        if self.loss is None:
            return "centroid distance"
        kind = type(self.loss)
        plain = metric_of(kind)
        title = self.loss.own_title
        if not title or not (kind is plain or kind in registered_losses().values()):
            return kind.__name__
        return title if kind is plain else f"{title} loss"

    @property
    def definition(self) -> str:
        """What the number is, in a sentence, and whose formula it is where libraries differ."""
        if self.loss is None:
            return "The distance between the centroids of a label in both maps."
        text = OWN_WORDS.get(self.title) or sections(metric_of(type(self.loss)).__doc__ or "")[""].split("\n\n")[0]
        text = " ".join(text.replace("``", "").split()).rstrip(".")
        convention = getattr(self.loss, "convention", None)
        whose = "" if convention is None else f"; {LIBRARIES.get(convention, convention)}"
        return f"{text}{whose}."

    @property
    def unit(self) -> str:
        """The unit of its value; empty where it has none, as a gradient in mm per mm."""
        if self.loss is None:
            return "mm"
        if not self.loss.per_length:
            return ""
        length = "mm" if self.in_mm else "voxel" if set(self.spacing) == {1.0} else "unit"
        return f"1/{length}^{self.loss.per_length}"

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value."""
        low, high = (0.0, math.inf) if self.loss is None else self.loss.value_range
        return low + 0.0, high + 0.0  # No negative zeros.

    @property
    def direction(self) -> str:
        """``"lower"`` or ``"higher"``: which is better."""
        return "lower" if self.loss is None else self.loss.direction

    @property
    def identity_value(self) -> float | None:
        """The value of two equal images or labels, or of no displacement; None where it depends on them."""
        return 0.0 if self.loss is None else self.loss.identity_value

    @property
    def spacing(self) -> tuple[float, ...]:
        """The distance of voxels along each axis; displacements in voxels times it are in its unit."""
        spacing = getattr(self.loss, "spacing", 1.0) if isinstance(self.loss, FieldOptions) else 1.0
        return tuple(map(float, spacing)) if isinstance(spacing, tuple) else (float(spacing),)

    def of(self, volume: Volume) -> "Metric":
        """Return the metric as it fits a volume: of its voxel size, and of a single slice in 2-D.

        Raises
        ------
        InputError
            If the user chose another number of axes for it, or its arguments do not fit this one.
        """
        dims, axes = getattr(self.loss, "spatial_dims", None), len(volume.axes)
        scales = getattr(self.loss, "scales", None) or ()
        largest = max((float(scale) for scale in scales), default=0.0)
        if largest > max(volume.shape):
            raise InputError(
                f"{self.name}: a scale of {largest:g} voxels is larger than the image, {max(volume.shape)} voxels: all "
                "that it leaves is a mean. Scales are the sigmas of kernels, in voxels."
            )
        changed: dict[str, Any] = {"spacing": volume.along(volume.voxel_size)} if self.in_mm else {}
        if axes < 3 and dims not in (None, axes):
            if self.settled:
                raise InputError(
                    f"{self.name} has spatial_dims={dims}, and a {FLAT[axes]} is evaluated in {axes}-D: give it "
                    f"spatial_dims={axes}."
                )
            own = {name: getattr(self.loss, name, None) for name in _PER_AXIS}
            per_axis = {
                name: volume.along(value) for name, value in own.items() if isinstance(value, tuple) and len(value) == 3
            }
            changed = {"spatial_dims": axes, **per_axis, **changed}
        if not changed:
            return self
        assert self.loss is not None
        try:
            return replace(self, loss=replace(self.loss, **changed))
        except (TypeError, ValueError) as error:
            what = "" if axes == 3 else f" of a {FLAT[axes]}"
            raise InputError(f"{self.name}{what}: {one_line(error)}") from error


def measured_on(kind: type[Loss]) -> tuple[str, ...]:
    """Return what a loss can be computed on: ``"images"``, ``"labels"``, ``"field"``."""
    return ("field",) if kind.inputs == 1 else kind.measured_on


def arguments_of(kind: type[Loss]) -> dict[str, Any]:
    """Return the arguments of a loss that change one sample's value, with their defaults."""
    config = kind().get_config()
    return {key: config[key] for key in inspect.signature(kind).parameters if key not in _ASIDE}
