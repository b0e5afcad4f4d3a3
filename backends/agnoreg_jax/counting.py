"""What metrics ask of JAX: where the numbers of arrays are counted."""

from typing import Any

from agnoreg.backend import Backend, Counting
from agnoreg_jax._private import traced

Array = Any


class JaxCounting(Counting):
    """NumPy counts in arrays on the host, CuPy in those on a card."""

    def recorded(self, array: Array) -> bool:
        """Return whether JAX traces the array, be it for a gradient or for its compiler."""
        return traced(array)

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return arrays on the host as NumPy's, those on a card as CuPy's.

        Raises
        ------
        TypeError
            For arrays that are traced, or on a device that neither of them knows.
        """
        if any(traced(array) for array in arrays):
            raise TypeError("A metric needs the numbers: call it outside functions that JAX transforms.")
        platforms = {one.platform for array in arrays for one in array.devices()}
        if platforms == {"cpu"}:
            return super().take(arrays)
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                f"A metric of arrays on {', '.join(sorted(platforms))} needs CuPy, or arrays on the host: "
                "jax.device_put(array, jax.devices('cpu')[0])."
            ) from error
        return adopted(arrays)
