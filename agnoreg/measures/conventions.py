"""Conventions: whose formula a measure follows, so that another library's number can be had from the same inputs."""

from collections.abc import Sequence
from typing import Any

from agnoreg.engine.axes import check_choice
from agnoreg.messages import shown

#: Whose numbers there are: DeepReg's, MONAI 1.6's, VoxelMorph 0.3's (neurite's), those of ANTs, which are ITK's, and
#: nobody's own: the definition without small constants.
CONVENTIONS = ("deepreg", "monai", "voxelmorph", "ants", "exact")


def check_convention(measure: str, convention: Any, defined: Sequence[str]) -> None:
    """Raise ValueError where a measure is not defined by that library."""
    check_choice("convention", convention, CONVENTIONS)
    if convention not in tuple(defined):
        raise ValueError(f"{measure} has no convention {convention!r}: it is defined by {', '.join(defined)}.")


def check_fixed(convention: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError where a library does not have that option."""
    if value not in tuple(choices):
        raise ValueError(
            f"The convention {convention!r} has {name} {' or '.join(map(repr, choices))} alone, got {shown(value)}."
        )


def take(measure: Any, **own: Any) -> None:
    """Give a frozen measure its convention's parameters where it has None."""
    for name, value in own.items():
        if getattr(measure, name) is None:
            object.__setattr__(measure, name, value)
