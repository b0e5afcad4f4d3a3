"""The definitions of measures of displacement fields in other tools, as settings of ours.

Each was read from the tool's source, and is tested against its formula.
"""

from dataclasses import dataclass

from agnoreg.engine.axes import check_choice

#: Which neighbours a determinant is of, and how many voxels at the ends of each axis have none for it.
SCHEMES = {"central": (1, 1), "forward": (0, 1), "backward": (1, 0), "corners": (1, 1)}


@dataclass(frozen=True)
class FieldConvention:
    """What a tool means by a determinant and by folding, where an argument does not say otherwise."""

    #: The scheme of volumes, and of slices and lines.
    scheme: str = "central"
    scheme_of_slices: str = "central"
    #: How many more voxels are left out at both ends of each axis. At -1 the border itself counts, by one-sided
    #: differences.
    border: int = 0
    #: Whether a determinant of 0 counts as folded.
    zero_folds: bool = True
    #: What is added to a determinant, which is then clipped to 1e-9 ... 1e9, before it counts.
    raised: float | None = None

    def scheme_for(self, dims: int) -> str:
        """Return the scheme of fields of so many axes."""
        return self.scheme if dims == 3 else self.scheme_of_slices


#: The identity is in Learn2Reg's determinant already when 3 is added: nothing counts as folded, and logarithms are of 4
#: where they should be of 1. LUMIR's copy has the same, beside the non-diffeomorphic volume.
_LEARN2REG = FieldConvention(border=1, raised=3.0)
_NP_GRADIENT = FieldConvention(border=-1)

_ICON = FieldConvention(scheme="backward", scheme_of_slices="forward", zero_folds=False)
DEFAULT = FieldConvention()

_ALL = {
    "learn2reg": _LEARN2REG,
    "lumir": _LEARN2REG,
    "voxelmorph": _NP_GRADIENT,
    "transmorph": _NP_GRADIENT,
    "icon": _ICON,
}
#: By measure, the conventions of the tools that compute it. LUMIR's non-diffeomorphic volume is ours.
CONVENTIONS: dict[str, dict[str, FieldConvention]] = {
    "jacobian_determinant": _ALL,
    "folding": _ALL,
    "nondiffeomorphic_volume": {"lumir": DEFAULT},
    "sdlogj": {"learn2reg": _LEARN2REG, "lumir": _LEARN2REG},
    "target_registration_error": {"learn2reg": DEFAULT},
}


def field_convention(measure: str, name: str | None) -> FieldConvention:
    """Return the settings of a tool, or our own; raise ValueError where none of this measure is so called."""
    if name is None:
        return DEFAULT
    check_choice(f"convention of {measure}", name, tuple(CONVENTIONS[measure]))
    return CONVENTIONS[measure][name]
