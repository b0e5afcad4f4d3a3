"""What metrics ask of TensorFlow: where the numbers of tensors are counted."""

from typing import Any

import tensorflow as tf

from agnoreg.backend import Backend, Counting
from agnoreg_tensorflow import _private

Array = Any


class TensorFlowCounting(Counting):
    """NumPy counts in eager tensors on the host, CuPy in those on a card."""

    def recorded(self, array: Array) -> bool:
        """Return whether a tape watches the tensor."""
        watched = tf.executing_eagerly() and array.dtype.is_floating and not _private.unwatched()
        return watched and _private.recorded(array)

    def take(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return eager tensors on the host as NumPy's arrays, those on a card as CuPy's.

        Raises
        ------
        TypeError
            While a function is traced, and for tensors on a card without CuPy.
        """
        if not tf.executing_eagerly():
            raise TypeError("A metric needs the numbers: call it outside tf.function.")
        if all("CPU" in array.device for array in arrays):
            return super().take(arrays)
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                "A metric of tensors on a card needs CuPy: pip install agnoreg[cupy12] (or cupy13), or pass tensors on "
                "the host."
            ) from error
        return adopted(arrays)
