"""What metrics ask of an adapter beside the Array API: numbers that are there now, counts, and distances."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from agnoreg.backend.base import Backend

Array = Any


class Counting:
    """Counts and distances; a part of a `Backend`, of which an adapter may replace any.

    A metric counts, sorts and looks for what is nearest. None of it has a gradient, and most of it needs the numbers at
    once: so it is done where they are, by an adapter whose arrays are plain memory. An array on the host is read as
    NumPy's, a view where the framework gives one.
    """

    def __init__(self, backend: "Backend") -> None:
        self.backend = backend
        self.xp = backend.xp

    def recorded(self, array: Array) -> bool:
        """Return whether a gradient by this array is being recorded, which a metric does not have."""
        return False

    def take(self, arrays: tuple[Array, ...]) -> tuple["Backend", tuple[Array, ...]]:
        """Return the adapter that counts in these arrays, and the arrays as its own: here as NumPy's.

        Raises
        ------
        TypeError
            If they have no numbers now, because a function is traced.
        """
        return on_host(), tuple(self.backend.to_numpy(array) for array in arrays)

    def runs(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array | None]:
        """Return flat arrays of one size, or of each run of equal entries in all of them one, and the runs' lengths.

        Here as they are, and None: an adapter may shorten them, where that takes less time than to count them does.
        """
        return arrays, None

    def bincount(self, index: Array, size: int, counts: Array | None = None) -> Array:
        """Return how often each integer of 0 to ``size - 1`` occurs in a 1-D array, or how often with these counts."""
        if counts is None:
            counts = self.xp.ones(index.shape, dtype=self.xp.float64, device=self.backend.device(index))
        return self.backend.operations.scatter_add(index, counts, size)

    def over_blocks(self, function: Callable[..., Array], arrays: tuple[Array, ...], size: int) -> Array:
        """Return ``function(backend, *arrays)``, ``(B, size)``: counts, which those of blocks add up to."""
        return function(self.backend, *arrays)

    def by_voxel(self, function: Callable[..., Array], array: Array, dtype: Any) -> Array:
        """Return ``function(backend, array)``, of which each entry is made of the array's own."""
        return function(self.backend, array)

    def over_neighbourhoods(self, one_pass: Any, arrays: tuple[Array, ...], reach: tuple[int, int]) -> Array:
        """Return ``(B, figures)`` of a pass over arrays whose voxels see some before and after them along each axis.

        ``one_pass.of_block(backend, *arrays)`` gathers, from a block with the voxels that its own see,
        ``one_pass.merged`` merges blocks, and ``one_pass.rows`` makes NumPy's array of figures. The first array has one
        more axis, the last.
        """
        return one_pass.rows(one_pass.of_block(self.backend, *arrays))

    def by_neighbourhood(
        self, function: Callable[..., Array], array: Array, reach: tuple[int, int], added: tuple[int, ...], dtype: Any
    ) -> Array:
        """Return ``function(backend, array)``, of which each voxel is made of some before and after it.

        Its axes are those of the array but the last, without the voxels that see beyond the array, and ``added``.
        """
        return function(self.backend, array)

    def loaded(self, array: Array, most: int) -> tuple["Backend", Array]:
        """Return the adapter that computes in an array, and the array, in memory: here as it is.

        Raises
        ------
        ValueError
            If it is not there yet and has more than ``most`` entries.
        """
        return self.backend, array

    def distinct(self, array: Array) -> Any:
        """Return the distinct values of an array as a NumPy array, in order."""
        return np.sort(self.backend.to_numpy(self.xp.unique_values(array)))

    def bounds(self, array: Array) -> tuple[float, float] | None:
        """Return the least and the greatest number of an array, None where its numbers are not there yet."""
        array = self.xp.astype(array, self.xp.uint8) if array.dtype == self.xp.bool else array
        return float(self.xp.min(array)), float(self.xp.max(array))

    def distance_transform(self, mask: Array, spacing: tuple[float, ...]) -> Array:
        """Return every voxel's distance to the nearest one of a mask without a batch, in float64; inf without any.

        It is exact: the root of the sum of squares, in float64, of how many voxels lie between along each axis times
        ``spacing``.
        """
        raise NotImplementedError(
            f"The backend {self.backend.name} has no distance transform: convert the arrays to NumPy, or give the "
            "adapter's counting that method."
        )

    def distances(self, at: Array, to: Array, spacing: tuple[float, ...]) -> Array:
        """Return the distances of the voxels of one mask, in the order of the array, to the nearest of another."""
        return self.distance_transform(to, spacing)[at]

    def cubic(self, array: Array, points: Array) -> Array:
        """Return an array without a batch at points ``(N, axes)`` between its voxels, by cubic splines, 0 outside."""
        raise NotImplementedError(f"The backend {self.backend.name} has no splines: convert the arrays to NumPy.")

    def boxes(self, places: Array, count: int) -> Any:
        """Return where the voxels of each place from 1 to ``count`` lie in an array of integers without a batch.

        That is a NumPy array ``(count, axes, 2)``: along each axis the first index, and the one after the last; both 0
        where there are none.
        """
        shape, xp = places.shape, self.xp
        found = np.zeros((count, len(shape), 2), dtype=np.int64)
        for axis, size in enumerate(shape):
            steps = xp.arange(size, dtype=xp.int64, device=self.backend.device(places))
            steps = xp.reshape(steps, (-1,) + (1,) * (len(shape) - 1 - axis))
            lines = xp.reshape(xp.astype(places, xp.int64) * size + steps, (-1,))
            there = self.backend.to_numpy(self.bincount(lines, (count + 1) * size)) > 0
            there = there.reshape(count + 1, size)[1:]
            any_there = there.any(axis=1)
            found[:, axis, 0] = np.where(any_there, there.argmax(axis=1), 0)
            found[:, axis, 1] = np.where(any_there, size - there[:, ::-1].argmax(axis=1), 0)
        return found


def on_host() -> "Backend":
    """Return the adapter of plain memory on the host."""
    from agnoreg.backend.lookup import get_backend

    return get_backend("numpy")
