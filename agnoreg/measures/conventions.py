"""Conventions: which library's definition a measure follows, so that its numbers can be reproduced."""

from collections.abc import Sequence
from typing import Any

from agnoreg.engine.axes import check_choice
from agnoreg.messages import shown

#: The definitions of DeepReg, MONAI 1.6, VoxelMorph 0.3 (in neurite) and ANTs (in ITK); and the exact definition, which
#: has no smoothing constants.
CONVENTIONS = ("deepreg", "monai", "voxelmorph", "ants", "exact")


def check_convention(measure: str, convention: Any, defined: Sequence[str]) -> None:
    """Raise ValueError if the library does not define the measure."""
    check_choice("convention", convention, CONVENTIONS)
    if convention not in tuple(defined):
        raise ValueError(f"{measure} has no convention {convention!r}: it is defined by {', '.join(defined)}.")


def check_fixed(convention: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError if the library does not have the option."""
    if value not in tuple(choices):
        raise ValueError(
            f"The convention {convention!r} supports only {name}={' or '.join(map(repr, choices))}, got {shown(value)}."
        )


def take(measure: Any, **own: Any) -> None:
    """Set the parameters of a frozen measure that are None to those of its convention."""
    for name, value in own.items():
        if getattr(measure, name) is None:
            object.__setattr__(measure, name, value)
