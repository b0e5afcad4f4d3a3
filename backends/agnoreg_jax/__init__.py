"""The JAX adapter."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as xp

from agnoreg.backend import Backend, Dtypes, Operations
from agnoreg_jax import compiled
from agnoreg_jax._private import committed, traced
from agnoreg_jax.autodiff import JaxAutodiff
from agnoreg_jax.counting import JaxCounting
from agnoreg_jax.execution import JaxExecution

Array = Any


class JaxDtypes(Dtypes):
    """JAX's dtypes, of which ``jax_enable_x64`` decides."""

    def default_float(self) -> Any:
        """Return the dtype that JAX gives a Python float: float64 where ``jax_enable_x64`` is on."""
        return xp.result_type(float)

    def accumulator(self, array: Array) -> Any:
        """Return float64 where ``jax_enable_x64`` is on; nothing else may be asked for where it is off."""
        return jax.dtypes.canonicalize_dtype(np.float64)

    def index(self) -> Any:
        """Return int64 where ``jax_enable_x64`` is on."""
        return jax.dtypes.canonicalize_dtype(np.int64)

    def _of(self, dtype: Any) -> Any:
        # Not kept: ``jax.enable_x64`` may change it.
        return self.choose(dtype)


class JaxOperations(Operations):
    """JAX's operations."""

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Correlate with one kernel an axis, compiled as a whole where the kernels are numbers."""
        fixed = tuple(None if taps is None else tuple(taps) for taps in kernels)
        if not all(isinstance(tap, float) for taps in fixed for tap in taps or ()):
            return super().conv3d(x, kernels, transpose)
        return compiled.filter_of(self.backend, fixed, transpose, compiled.options_for(x))(x)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return xp.zeros((size,), dtype=weights.dtype).at[index].add(weights)


class JaxBackend(Backend):
    """JAX arrays, eager or traced by any of JAX's transformations, on any device."""

    def __init__(self) -> None:
        super().__init__(
            "jax",
            xp,
            dtypes=JaxDtypes,
            execution=JaxExecution,
            operations=JaxOperations,
            autodiff=JaxAutodiff,
            counting=JaxCounting,
        )

    def owns(self, array: Any) -> bool:
        """Return whether this is an array, or a tracer, which stands for one."""
        return isinstance(array, jax.Array)

    def device(self, array: Array) -> Any:
        """Return the one device that the array was put on; None where JAX may choose, and while a function is traced.

        An array that was not put anywhere goes where the others are. One that is spread over several devices is left to
        JAX, too.
        """
        if traced(array) or not committed(array) or len(array.sharding.device_set) > 1:
            return None
        return array.device

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to ``device``: one of JAX's, or a name such as ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

        float64 and int64 become float32 and int32 where ``jax_enable_x64`` is off, as JAX has it.
        """
        if isinstance(device, str):
            platform, _, index = device.partition(":")
            device = jax.devices(platform)[int(index or 0)]
        return jax.device_put(np.array(array), device)


backend = JaxBackend()
