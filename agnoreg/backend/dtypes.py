"""The dtypes in which a loss is computed and its sums are accumulated."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any


class Dtypes:
    """The dtypes of a framework; a part of its `Backend`, which an adapter may replace."""

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        xp = self.xp = backend.xp
        # The usual dtypes are entered here: if the first call entered them, a compiler that traces it would recompile
        # at the second call.
        floats = (getattr(xp, name) for name in ("float32", "float64") if hasattr(xp, name))
        self._chosen: dict[Any, Any] = {dtype: dtype for dtype in floats}

    def compute(self, *arrays: Array) -> Any:
        """Return the dtype that a loss of these arrays is computed in and returned as.

        float64 stays float64; float32, half, bool and integers up to 16 bit become float32; wider integers become the
        framework's default float. Of several arrays the widest dtype is used.
        """
        wide = self.xp.float64
        dtypes = [self._of(array.dtype) for array in arrays]
        return wide if wide in dtypes else self.xp.float32

    def _of(self, dtype: Any) -> Any:
        if dtype not in self._chosen:
            self._chosen[dtype] = self.choose(dtype)
        return self._chosen[dtype]

    def choose(self, dtype: Any) -> Any:
        """Return the dtype that a loss of an array of this dtype is computed in.

        Raises
        ------
        TypeError
            If the dtype is not real.
        """
        xp = self.xp
        if not xp.isdtype(dtype, ("bool", "integral", "real floating")):
            raise TypeError(
                f"A loss takes real numbers, got an array of dtype {dtype}; of a complex image pass the modulus, say."
            )
        if xp.isdtype(dtype, "real floating"):
            return xp.float64 if xp.finfo(dtype).bits > 32 else xp.float32
        if xp.isdtype(dtype, "integral") and xp.iinfo(dtype).bits > 16:
            return self.default_float()
        return xp.float32

    def default_float(self) -> Any:
        """Return this framework's dtype for a Python float."""
        return self.xp.asarray(1.0).dtype

    def accumulator(self, array: Array) -> Any:
        """Return the dtype in which sums over slabs of ``array`` are accumulated."""
        return self.xp.float64

    def index(self) -> Any:
        """Return the dtype of indices of voxels."""
        return self.xp.int64
