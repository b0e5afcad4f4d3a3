"""First and second differences of a displacement field, and their energies."""

from typing import Any, ClassVar

from agnoreg.engine.slabs import Slab
from agnoreg.measures.families.fields import FieldMeasure
from agnoreg.measures.families.row_differences import times
from agnoreg.objects.options import flag

Array = Any


class FirstDifferences(FieldMeasure):
    """A sum of squares of first differences, or of their absolute values."""

    l1: bool = flag(default=False)

    title: ClassVar[str] = "The gradient norm"
    #: Factor of a difference, apart from the spacing.
    rate: ClassVar[float]

    @property
    def quadratic(self) -> bool:  # type: ignore[override]
        """Whether energies are squares."""
        return not self.l1

    @property
    def units(self) -> tuple[float, float]:
        """Factors of the values and of the gradients, from the differences' factor along the last axis."""
        assert isinstance(self.spacing, tuple)
        rate = self.rate / self.spacing[-1]
        return (rate, rate) if self.l1 else (rate**2, 2.0 * rate**2)

    def energy(self, xp: Any, difference: Array) -> Array:
        """Return the square, or the absolute value."""
        return xp.abs(difference) if self.l1 else difference * difference

    def back(self, slab: Slab, difference: Array, factor: float, mask: Array) -> Array:
        """Return half the energy's derivative by the difference, times its factor; if `l1`, all of the derivative."""
        return self.again(
            slab, times(slab.backend.operations.sign(difference) if self.l1 else difference, factor), mask
        )


class SecondDifferences(FieldMeasure):
    """``uxx^2 + uyy^2 + uzz^2 + 2 uxy^2 + 2 uxz^2 + 2 uyz^2``, from differences without their factor of 1/4."""

    gap: ClassVar[int] = 4
    title: ClassVar[str] = "The bending energy"

    @property
    def units(self) -> tuple[float, float]:
        """Factors of the values and of the gradients."""
        assert isinstance(self.spacing, tuple)
        unit = (0.5 / self.spacing[-1]) ** 4
        return unit, 2.0 * unit
