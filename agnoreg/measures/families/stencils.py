"""Options of the regularisers by finite differences: which differences they use."""

import math
from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

from agnoreg.measures.author import *
from agnoreg.measures.conventions import check_convention, check_fixed


class StencilOptions(FieldOptions):
    """Parameters of a regulariser by finite differences."""

    bounds, identity = (0.0, math.inf), 0.0
    evaluated = {"field": {}}
    #: The stencil of each convention.
    stencils: ClassVar[Mapping[str, str]]
    #: Name of the measure in messages.
    called: ClassVar[str]

    stencil: str | None = choice("central", "compact", default=None, kw_only=True)
    convention: str = field(default="deepreg", kw_only=True)

    def validate(self) -> None:
        """Check the convention, and take the stencil from it if None; only DeepReg's allows either stencil."""
        super().validate()
        check_convention(self.called, self.convention, tuple(self.stencils))
        if self.stencil is None:
            self._store(stencil=self.stencils[self.convention])
        elif self.convention != "deepreg":
            check_fixed(self.convention, "stencil", self.stencil, (self.stencils[self.convention],))

    def field_options(self) -> dict[str, Any]:
        """Return the parameters that all measures of a field have."""
        return {name: getattr(self, name) for name in ("spacing", "spatial_dims", "data_format")}
