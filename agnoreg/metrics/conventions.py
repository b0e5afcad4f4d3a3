"""The definitions of surface measures in other tools, as settings of ours.

Each was read from the tool's source, and is tested against the installed package where there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agnoreg.engine.axes import check_choice

#: How the values of the two directions become one: the larger, their mean, or one value of the distances of both.
COMBINATIONS = ("max", "mean", "pooled")
#: Distances of one direction alone.
DIRECTIONS = ("true_to_pred", "pred_to_true")
#: What a measure is where neither map has a surface, where y_pred has none, and where y_true has none. ``worst`` is
#: inf for a distance and 0 for the NSD, ``best`` 0 and 1, ``diagonal`` the length of the image's and 0.
EMPTY: dict[str, tuple[str, str, str]] = {
    "default": ("nan", "worst", "worst"),
    "worst": ("best", "worst", "worst"),
    "diagonal": ("nan", "diagonal", "diagonal"),
    "nan": ("nan", "nan", "nan"),
    "raise": ("raise", "raise", "raise"),
}
#: The measures, with the Hausdorff distance of a percentile below 100 apart.
MEASURES = ("hausdorff", "hausdorff_percentile", "masd", "assd", "nsd")


def _combining(**given: str) -> dict[str, str]:
    own = {"hausdorff": "max", "hausdorff_percentile": "max", "masd": "mean", "assd": "pooled", "nsd": "pooled"}
    return own | given


def _where_empty(rules: tuple[str, str, str] = EMPTY["default"], **given: tuple[str, str, str]) -> Mapping[str, Any]:
    return dict.fromkeys(MEASURES, rules) | given


@dataclass(frozen=True)
class Convention:
    """What a tool means by a surface and its distances, where an argument does not say otherwise."""

    surface: str = "surfels"
    #: The percentile is the first distance at which so much of the area is reached; else interpolated, of all alike.
    weighted: bool = True
    combine: Mapping[str, str] = field(default_factory=_combining)
    empty: Mapping[str, tuple[str, str, str]] = field(default_factory=_where_empty)
    #: Distances are in voxels, whatever the spacing.
    in_voxels: bool = False
    #: Distances are rounded to float32 before they are compared with a tolerance.
    rounded: bool = False

    def percentile(self, share: float, distances: Any, areas: Any) -> float:
        """Return the percentile of the distances of elements with these areas."""
        if share == 100:
            return float(distances.max())
        if not self.weighted:
            return float(np.percentile(distances, share))
        order: Any = np.argsort(distances)
        reached = np.cumsum(areas[order]) / np.sum(areas)
        return float(distances[order[min(np.searchsorted(reached, share / 100), len(order) - 1)]])


VOXELS: dict[str, Any] = {"surface": "voxels", "weighted": False}
NOWHERE = ("nan", "nan", "nan")

CONVENTIONS: dict[str, Convention] = {
    # Nikolov et al. Neither: HD inf, the others 0 / 0. One: the mean of a mean of nothing is NaN.
    "deepmind": Convention(
        empty=_where_empty(("worst", "worst", "worst"), masd=NOWHERE, assd=NOWHERE, nsd=("nan", "worst", "worst"))
    ),
    # A percentile of distances that are all inf interpolates between two of them, which is NaN.
    "monai": Convention(**VOXELS, rounded=True, empty=_where_empty(hausdorff_percentile=NOWHERE)),
    "medpy": Convention(
        **VOXELS, combine=_combining(hausdorff_percentile="pooled"), empty=_where_empty(EMPTY["raise"])
    ),
    "medpy-0.4": Convention(
        **VOXELS,
        combine=_combining(hausdorff_percentile="pooled", assd="mean"),
        empty=_where_empty(EMPTY["raise"]),
    ),
    "metricsreloaded": Convention(**VOXELS, empty=_where_empty(("best", "nan", "nan"))),
    # A label that y_true lacks is left out; one that is lost under the transform is not.
    "learn2reg": Convention(in_voxels=True, empty=_where_empty(("nan", "worst", "nan"))),
    "meshmetrics": Convention(surface="mesh", empty=_where_empty(EMPTY["worst"])),
    "panoptica": Convention(
        **VOXELS,
        combine=_combining(hausdorff_percentile="pooled", assd="mean", nsd="mean"),
    ),
    "itk": Convention(surface="volume", weighted=False, empty=_where_empty(EMPTY["raise"])),
    "scikit-image": Convention(
        surface="volume",
        weighted=False,
        in_voxels=True,
        combine=_combining(masd="max"),
        empty=_where_empty(EMPTY["worst"]),
    ),
}
DEFAULT = Convention()


def convention_of(name: str | None) -> Convention:
    """Return the settings of a tool, or our own; raise ValueError where nobody is called so."""
    if name is None:
        return DEFAULT
    check_choice("convention", name, tuple(CONVENTIONS))
    return CONVENTIONS[name]
