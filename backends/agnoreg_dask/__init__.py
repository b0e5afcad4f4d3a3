"""The Dask adapter: losses of chunked arrays that stay lazy, and gradients in the chunks of their inputs.

A measure is computed block by block (`graph`), by the adapter of the chunks' framework (`blocks`). Nothing is computed
before the user asks.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from array_api_compat import device
from array_api_compat.dask import array as xp

from agnoreg.backend import Backend, Dtypes, Execution, Operations, backend_of
from agnoreg_dask.counting import DaskCounting
from agnoreg_dask.graph import InBlocks
from agnoreg_dask.overlap import chunks_for, correlated

Array = Any


class DaskDtypes(Dtypes):
    """NumPy's dtypes."""

    def default_float(self) -> Any:
        """Return NumPy's, float64."""
        return xp.float64


class DaskOperations(Operations):
    """Operations of chunks."""

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return the arrays where ``there`` holds, elsewhere a number."""
        return tuple(da.where(there, x, da.full_like(x, fill)) for x in arrays)

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Let the chunks' framework correlate each chunk, and as many voxels around it as a kernel reaches."""
        depths = {axis: len(taps) // 2 for axis, taps in enumerate(kernels, start=1) if taps is not None}
        chunks = chunks_for(x.chunks, depths)
        # A single chunk needs nothing from beside it.
        depths = {axis: depth if len(chunks[axis]) > 1 else 0 for axis, depth in depths.items()}
        function = partial(correlated, kernels=tuple(kernels), transpose=transpose)
        whole = x.rechunk(tuple(chunks))
        if any(depths.values()):
            result = da.map_overlap(function, whole, depth=depths, boundary="none", allow_rechunk=False, meta=x._meta)
        else:
            result = whole.map_blocks(function, meta=x._meta)
        return result.rechunk(x.chunks)


class DaskExecution(Execution):
    """Graphs, of which nothing is computed before the user asks."""

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the measure computed block by block."""
        return InBlocks(measure)


class DaskBackend(Backend):
    """Dask arrays, whose chunks are NumPy's or CuPy's. Values and gradients are lazy; there is no autodiff."""

    def __init__(self) -> None:
        super().__init__(
            "dask",
            xp,
            dtypes=DaskDtypes,
            execution=DaskExecution,
            operations=DaskOperations,
            counting=DaskCounting,
        )

    def owns(self, array: Array) -> bool:
        """Return whether this is a Dask array."""
        return isinstance(array, da.Array)

    def device(self, array: Array) -> Any:
        """Return ``"cpu"`` where the chunks are NumPy's, and what array-api-compat says elsewhere."""
        return device(array)

    def shape(self, array: Array) -> tuple[int, ...]:
        """Return the shape.

        Raises
        ------
        ValueError
            If a size is unknown, as after boolean indexing.
        """
        if any(np.isnan(size) for size in array.shape):
            raise ValueError(
                f"A Dask array has the shape {array.shape}, whose unknown sizes a loss must know: call "
                "compute_chunk_sizes() on it first."
            )
        return tuple(array.shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Return a NumPy array in chunks of the size that Dask's configuration says (``array.chunk-size``)."""
        return da.from_array(array, chunks="auto")

    def to_numpy(self, array: Array) -> Any:
        """Compute the array."""
        result = array.compute()
        return backend_of(result).to_numpy(result)


backend = DaskBackend()
