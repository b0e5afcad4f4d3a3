"""The TensorFlow adapter."""

from typing import Any

import tensorflow as tf

from agnoreg.backend import Backend, Dtypes, Operations
from agnoreg_tensorflow import namespace as xp
from agnoreg_tensorflow._devices import device_of, placed
from agnoreg_tensorflow.autodiff import TensorFlowAutodiff
from agnoreg_tensorflow.counting import TensorFlowCounting
from agnoreg_tensorflow.execution import TensorFlowExecution

Array = Any


class TensorFlowDtypes(Dtypes):
    """TensorFlow's dtypes."""

    def default_float(self) -> Any:
        """Return float32, which TensorFlow gives a Python float."""
        return tf.float32


class TensorFlowOperations(Operations):
    """What TensorFlow has as one operation."""

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``, 0 where both are."""
        return tf.math.divide_no_nan(part, whole)

    def exp_minus(self, x: Array) -> Array:
        """Return ``exp(-x)``; TensorFlow joins functions of one tensor that follow each other, in a graph."""
        return tf.exp(-x)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return tf.math.unsorted_segment_sum(weights, index, size)


class TensorFlowBackend(Backend):
    """TensorFlow tensors and variables, eager or while a function is traced, on any device."""

    def __init__(self) -> None:
        super().__init__(
            "tensorflow",
            xp,
            dtypes=TensorFlowDtypes,
            execution=TensorFlowExecution,
            operations=TensorFlowOperations,
            autodiff=TensorFlowAutodiff,
            counting=TensorFlowCounting,
        )

    def owns(self, array: Any) -> bool:
        """Return whether this is a dense tensor or a variable, Keras's own included."""
        return tf.is_tensor(array) and not isinstance(array, (tf.SparseTensor, tf.RaggedTensor, tf.IndexedSlices))

    def prepare(self, array: Array) -> Array:
        """Read a variable, in sight of a tape; a tensor stays as it is."""
        return tf.convert_to_tensor(array)

    def device(self, array: Array) -> str | None:
        """Return for example ``"GPU:0"``; ``None`` while a function is traced, when devices are not assigned yet."""
        return device_of(array if hasattr(array, "device") else tf.convert_to_tensor(array))

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """Return the shape, with ``None`` for a batch size that is not known while a function is traced.

        Raises
        ------
        ValueError
            If the number of axes, or any size but the batch's, is unknown; the message names the argument.
        """
        shape = array.shape
        if shape.rank is None or any(size is None for size in shape[1:]):
            raise ValueError(
                f"Only the batch size may be unknown while a function is traced, got {array.name} of shape {shape}: "
                "state the others in the function's input_signature, or by tf.ensure_shape."
            )
        return tuple(shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a tensor, on ``device`` (``"cpu"``, ``"gpu"``, ``"GPU:1"``) if one is named."""
        with placed(device):
            return tf.convert_to_tensor(array)

    def to_numpy(self, array: Array) -> Any:
        """Copy an eager tensor or a variable to the host."""
        return tf.convert_to_tensor(array).numpy()
