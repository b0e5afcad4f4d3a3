"""Options: the parameters of a measure, declared, defaulted, checked and documented once.

A measure's formula, its metric, its loss and its function inherit them from one class. Every class of options is a
frozen dataclass by itself; `validate` checks a level's own parameters and calls `super().validate()`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from agnoreg.engine.axes import FORMATS, check_choice, check_spacing, check_spatial_dims
from agnoreg.engine.validate import check_flag, check_integer, check_number, check_share
from agnoreg.messages import shown
from agnoreg.objects.documentation import class_text

Array = Any


Check = Callable[[str, Any], Any]


def _checked(check: Check, default: Any, kw_only: bool) -> Any:
    """Return a field with a check that returns the value to store; None is accepted if it is the default."""

    def unless_none(name: str, value: Any) -> Any:
        return None if value is None and default is None else check(name, value)

    return field(default=default, kw_only=kw_only, metadata={"check": unless_none})


def number(
    *, default: float | None, above: bool = False, between: tuple[float, float] | None = None, kw_only: bool = False
) -> Any:
    """Declare a parameter that is a finite number of at least 0, or above 0; ``between`` bounds its magnitude too."""

    def check(name: str, value: Any) -> Any:
        check_number(name, value, above=above)
        if between and not between[0] <= value <= between[1]:
            raise ValueError(f"{name} must be between {between[0]:g} and {between[1]:g}, got {shown(value)}.")
        return value

    return _checked(check, default, kw_only)


def integer(*, default: int, least: int, kw_only: bool = False) -> Any:
    """Declare a parameter that is an integer of at least ``least``."""
    return _checked(lambda name, value: check_integer(name, value, least), default, kw_only)


def share(*, default: float, of: str = "", kw_only: bool = False) -> Any:
    """Declare a parameter in [0, 1]; messages use its name, or ``of`` if given."""

    def check(name: str, value: Any) -> Any:
        check_share(of or name, value)
        return value

    return _checked(check, default, kw_only)


def flag(*, default: bool | None, kw_only: bool = False) -> Any:
    """Declare a parameter that is True or False."""

    def check(name: str, value: Any) -> Any:
        check_flag(name, value)
        return value

    return _checked(check, default, kw_only)


def choice(*choices: str, default: str | None, kw_only: bool = False) -> Any:
    """Declare a parameter that is one of the given strings."""

    def check(name: str, value: Any) -> Any:
        check_choice(name, value, choices)
        return value

    return _checked(check, default, kw_only)


def axes(*, default: int, kw_only: bool = True) -> Any:
    """Declare the number of spatial axes, 1, 2 or 3."""
    return _checked(lambda name, value: check_spatial_dims(value), default, kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(field, number, integer, share, flag, choice, axes))
class Options:
    """Parameters of a measure, and the properties of its value."""

    #: Number of arrays that the measure takes: 2 (y_true, y_pred), or 1 (a field).
    inputs: ClassVar[int] = 2
    #: What the measure can be computed on: ``"images"``, ``"labels"``, ``"field"``.
    measured_on: ClassVar[tuple[str, ...]] = ("images",)
    #: Minimum and maximum of the value, for inputs in the range that the measure expects.
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    #: Whether higher values are better.
    higher_is_better: ClassVar[bool] = False
    #: The value of two equal images, or of a field of zero displacement; None if it depends on them.
    identity: ClassVar[float | None] = None
    #: The entry for the arrays in the function's docstring.
    arrays_text: ClassVar[str] = ""
    #: Short name of the loss, as in ``agnoreg.LNCC`` and for its class in other packages.
    short: ClassVar[str] = ""
    #: The usual name of the measure, for tables and messages.
    title: ClassVar[str] = ""
    #: The inputs on which ``agnoreg evaluate`` computes the metric by default, with the arguments for each.
    evaluated: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: The power of the unit of length by which the value is divided: 2 means per squared unit of the spacing.
    per_length: ClassVar[int] = 0
    #: Text in front of the description: what a loss does to the value of its metric.
    preface: ClassVar[str] = ""
    _text_is_inherited: ClassVar[bool] = False
    #: The parameters' names, listed in advance: compilers that trace a loss cannot inspect fields.
    parameter_names: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[tuple[tuple[str, Check], ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Make every subclass a frozen dataclass."""
        super().__init_subclass__(**keywords)
        if not vars(cls).get("__doc__"):
            cls.__doc__ = class_text(cls)
            cls._text_is_inherited = True
        dataclass(frozen=True)(cls)
        declared = fields(cls)  # type: ignore[arg-type]
        cls.parameter_names = tuple(one.name for one in declared)
        cls._checks = tuple((one.name, one.metadata["check"]) for one in declared if "check" in one.metadata)

    def __post_init__(self) -> None:
        """Check the parameters of every level."""
        self.validate()

    def validate(self) -> None:
        """Raise ValueError or TypeError if a parameter is out of range, and store normalised values."""
        for name, check in self._checks:
            self._store(**{name: check(name, getattr(self, name))})

    def _store(self, **values: Any) -> None:
        """Set parameters of this frozen object during construction."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def value_range(self) -> tuple[float, float]:
        """Minimum and maximum of the value, for inputs in the range that the measure expects."""
        return self.bounds

    @property
    def own_title(self) -> str:
        """The usual name of the measure with these parameters."""
        return self.title

    @property
    def direction(self) -> str:
        """``"higher"`` if higher values are better, else ``"lower"``."""
        return "higher" if self.higher_is_better else "lower"

    @property
    def identity_value(self) -> float | None:
        """The value of two equal images, or of a field of zero displacement; None if it depends on them."""
        return self.identity


class ImageOptions(Options):
    """Parameters of a measure of two images or labels.

    Parameters
    ----------
    spatial_dims
        Number of spatial axes: 1, 2 or 3. Shapes are written for 3.
    data_format
        ``"channels_last"``, ``(B, d1, d2, d3, C)``, or ``"channels_first"``, ``(B, C, d1, d2, d3)``. None: channels, if
        any, are last, and a mask with one axis fewer lacks them.
    """

    arrays_text = """y_true, y_pred
    Fixed and moving image, of one shape: ``(B, d1, d2, d3)``, or with channels as ``data_format`` says."""

    spatial_dims: int = axes(default=3, kw_only=True)
    data_format: str | None = choice(*FORMATS, default=None, kw_only=True)


class LabelOptions(ImageOptions):
    """Parameters of a measure of two labels, one mask each (or one a channel), with values in [0, 1]."""

    measured_on = ("labels",)
    arrays_text = """y_true, y_pred
    Fixed and moving label, of one shape: ``(B, d1, d2, d3)``, or with channels as ``data_format`` says; values in
    [0, 1]."""


class FieldOptions(Options):
    """Parameters of a measure of a displacement field.

    Parameters
    ----------
    spacing
        Distance between neighbouring voxels, in the unit of the displacements: one number, or one for each axis. 1
        means displacements in voxels.
    spatial_dims
        Number of spatial axes: 1, 2 or 3. Shapes are written for 3.
    data_format
        ``"channels_last"``, or ``"channels_first"``: components are axis 1, ``(B, 3, d1, d2, d3)``.
    """

    inputs = 1
    measured_on = ("field",)
    arrays_text = """ddf
    Displacement field ``(B, d1, d2, d3, 3)``; component i is the displacement along axis i, in the unit of
    ``spacing``."""

    spacing: float | Sequence[float] = field(default=1.0, kw_only=True)
    spatial_dims: int = axes(default=3, kw_only=True)
    data_format: str = choice(*FORMATS, default="channels_last", kw_only=True)

    def validate(self) -> None:
        """Check the spacing."""
        super().validate()
        check_spacing(self.spacing, self.spatial_dims)


class FieldMask(Options):
    """The mask of a call with a field.

    Parameters
    ----------
    mask
        Voxels that count: bools or integers (nonzero counts), or floating-point weights of at least 0, of the shape of
        the input without channels or components, with size 1 along any axis. Voxels of weight 0 are ignored, NaN
        included; see `agnoreg.Loss`.
    """

    mask: Array | None = field(default=None, kw_only=True)


class Masks(FieldMask):
    """The masks of a call with two images.

    Parameters
    ----------
    fixed_mask, moving_mask
        The same for y_true and y_pred alone. The product of all masks counts.
    """

    fixed_mask: Array | None = field(default=None, kw_only=True)
    moving_mask: Array | None = field(default=None, kw_only=True)
