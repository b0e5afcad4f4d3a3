"""The losses as Keras 3 has them, on each of its backends: `Loss` wraps any loss, and each registered one has a class.

Import this module before `keras.saving.load_model`, which then needs no ``custom_objects``: the classes are registered
under the package ``agnoreg``, by names that stay. What is registered is how models were saved.
"""

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    import keras
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ModuleNotFoundError("Keras is not installed: pip install agnoreg[keras].", name="keras") from error

import agnoreg
from agnoreg.objects.weighted import described

Array = Any

__all__ = ["Loss"]

#: Of an image, a volume.
MOST_AXES = 3

#: Under which all classes are registered.
PACKAGE = "agnoreg"

#: What Keras calls a loss's reduction; of a mean it takes the share of a replica, where there are several.
REDUCTIONS = {"mean": "sum_over_batch_size", "sum": "sum", "none": "none"}


@keras.saving.register_keras_serializable(package=PACKAGE, name="Loss")
class Loss(keras.losses.Loss):
    """A Keras loss that holds a loss of agnoreg.

    Keras gets the value of every sample, ``(B,)``, so that ``sample_weight`` and ``tf.distribute`` weigh samples. A
    loss of fields takes ``y_pred`` for the field, whatever ``y_true`` is. Arrays are cast to ``dtype`` by Keras first.

    Parameters
    ----------
    loss
        An `agnoreg.Loss` that is better when lower, or what `agnoreg.build_loss` makes one of.
    reduction
        Keras's: ``"sum_over_batch_size"``, ``"sum"``, ``"mean"``, ``"mean_with_sample_weight"`` or ``"none"``. None:
        the first of these for the loss's own ``"mean"``, or else the loss's own.
    name
        The name that Keras shows; the loss's own where it is left out.
    dtype
        The dtype that the loss gets its arrays in; ``keras.config.floatx``, float32, where it is left out.

    Raises
    ------
    ValueError
        If the loss is better when higher, which Keras would make worse.
    TypeError
        If it is a whole registration's, which takes more than ``y_true`` and ``y_pred``.

    Examples
    --------
    >>> import agnoreg
    >>> Loss(agnoreg.build_loss([{"name": "lncc"}, {"name": "ssd", "weight": 0.1}])).loss.weights
    (1.0, 0.1)
    """

    def __init__(
        self,
        loss: agnoreg.Loss | str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        reduction: str | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        loss = loss if isinstance(loss, agnoreg.Loss) else agnoreg.build_loss(loss)
        if loss.inputs not in (1, 2):
            raise TypeError(
                f"Keras calls a loss with y_true and y_pred, and {loss.name} takes a whole registration's arrays: give "
                "each output of the model the loss of its section, and their weights by compile's loss_weights."
            )
        if loss.direction != "lower":
            raise ValueError(f"Keras minimises a loss, and {loss.name} is better when higher: take its negative.")
        self.loss = loss
        super().__init__(name=name or loss.name, reduction=reduction or REDUCTIONS[loss.reduction], dtype=dtype)

    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> Array:
        """Return the values of the samples, weighted and reduced.

        Parameters
        ----------
        y_true, y_pred
            What `call` takes.
        sample_weight
            A weight for each sample, ``(B,)``, by which its value is multiplied. Or one for each voxel, of the shape of
            y_pred, with or without its channels, of size 1 along any axis: a mask, as `agnoreg.Loss` takes it, bools
            or integers, which count where they are not 0, or weights. Weights of a sample's voxels are relative: its
            value is their weighted mean. A sample all of whose weights are 0 counts as 0.

        Returns
        -------
        array
            Shape ``()``; ``(B,)`` for the reduction ``"none"``.

        Raises
        ------
        ValueError
            If the weights are neither, or the axes of an image cannot be what the loss takes them for.
        """
        mask = _mask_of(self.loss, sample_weight, y_pred)
        if mask is None:
            return super().__call__(y_true, y_pred, _one_a_sample(sample_weight))
        masked = copy.copy(self)
        masked._mask = mask
        return super(Loss, masked).__call__(y_true, y_pred)

    #: The weights of voxels in one call; none in a loss itself.
    _mask: Array | None = None

    def call(self, y_true: Array, y_pred: Array) -> Array:
        """Return the value of every sample.

        Parameters
        ----------
        y_true, y_pred
            Images or labels of one shape, ``(B, ...)``; for a loss of fields ``y_pred`` is the field,
            ``(B, d1, d2, d3, 3)``, and ``y_true`` is not read.

        Returns
        -------
        array
            Shape ``(B,)``.
        """
        arrays = (y_true, y_pred)[-self.loss.inputs :]
        _check_axes(self.loss, arrays)
        mask = () if self._mask is None else (self._mask,)
        return _evaluated(self.loss, arrays, mask)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this object again, ready for JSON."""
        return {"loss": described(self.loss), **super().get_config(), "dtype": self.dtype}


def _shape(array: Array) -> tuple[int | None, ...] | None:
    """Return a shape, with None for sizes that are not known in a graph; None where their number is not."""
    shape = array.shape if hasattr(array, "shape") else np.shape(array)
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _measure(loss: agnoreg.Loss) -> Any:
    return loss.measured_by(type(loss))


def _check_axes(loss: agnoreg.Loss, arrays: Sequence[Array]) -> None:
    """Raise ValueError where a plane with its channel, as Keras has it, would be taken for a volume of one slice."""
    shapes = [_shape(array) for array in arrays]
    of, dims = shapes[-1], len(shapes[-1] or ()) - 2
    if of is None or dims > MOST_AXES - 1 or of[-1] != 1 or any(shape is None for shape in shapes):
        return
    if _measure(loss).doubt(*shapes):
        raise ValueError(
            f"{loss.name} got images of shape {of}, whose channels it takes for an axis of one voxel: give it "
            f"spatial_dims={dims}. Volumes have one axis more, (batch, dim1, dim2, dim3, 1)."
        )


def _mask_of(loss: agnoreg.Loss, weights: Array | None, y_pred: Array) -> Array | None:
    """Return weights of voxels as a mask; None where there are none, or they are of samples."""
    shape, of = (None if weights is None else _shape(weights)), _shape(y_pred)
    if weights is None or shape is None or of is None or all(size == 1 for size in shape[1:]):
        return None
    axis = _measure(loss).channel_axis(len(of))
    own = (*shape[:axis], 1, *shape[axis:]) if len(shape) == len(of) - 1 else shape
    if len(own) != len(of) or any(None not in (a, b) and a not in (1, b) for a, b in zip(own, of, strict=True)):
        raise ValueError(
            f"sample_weight must have one weight a sample, shape (batch,), or one a voxel, the shape of y_pred, {of}, "
            f"with or without its channels; got {shape}."
        )
    weights = weights if hasattr(weights, "dtype") else np.asarray(weights)
    wide = keras.backend.standardize_dtype(weights.dtype) == "float64"
    return keras.ops.convert_to_tensor(weights, dtype=keras.config.floatx() if wide else None)


def _one_a_sample(weights: Array | None) -> Array | None:
    """Return weights of samples as ``(B,)``, whatever axes of size 1 follow."""
    return weights if weights is None or len(_shape(weights) or ()) < 3 else keras.ops.reshape(weights, (-1,))


def _evaluated(loss: agnoreg.Loss, arrays: Sequence[Array], mask: Sequence[Array]) -> Array:
    """Return the value of every sample; with a mask that leaves nothing of one, 0."""
    if keras.config.backend() == "tensorflow":
        arrays = _completed(arrays)
        if any(map(_unknown, (*arrays, *mask))):
            return _when_run(loss, arrays, mask)
    if not mask:
        return loss.call(*arrays)
    with warnings.catch_warnings():
        # Its value is not NaN here.
        warnings.simplefilter("ignore", agnoreg.EmptyMaskWarning)
        values = loss.call(*arrays, mask=mask[0])
    kept = keras.ops.cast(mask[0], "bool")
    there = keras.ops.any(kept, axis=tuple(range(1, len(kept.shape))))
    return keras.ops.where(there, values, keras.ops.zeros_like(values))


# --- graphs of images of unknown sizes --------------------------------------------------------------------------------


def _unknown(array: Array) -> bool:
    """Return whether another size than the batch's is not known."""
    return array.shape.rank is None or None in tuple(array.shape)[1:]


def _completed(arrays: Sequence[Array]) -> Sequence[Array]:
    """Return tensors with what sizes are known of one of them, where they are to have one shape."""
    import tensorflow as tf

    shape = arrays[0].shape
    if not any(map(_unknown, arrays)) or not all(shape.is_compatible_with(array.shape) for array in arrays):
        return arrays
    for array in arrays[1:]:
        shape = shape.merge_with(array.shape)
    return tuple(tf.ensure_shape(array, shape) for array in arrays)


def _when_run(loss: agnoreg.Loss, arrays: Sequence[Array], mask: Sequence[Array]) -> Array:
    """Return the value of every sample by a node of the graph that computes it eagerly, with its gradient."""
    import tensorflow as tf
    from agnoreg_tensorflow._private import made_for_xla

    if made_for_xla():
        raise ValueError(
            f"{loss.name} got images of shape {arrays[-1].shape}, whose sizes are not known when XLA compiles "
            "the step: give the model its images' shape, or call model.compile(..., jit_compile=False)."
        )

    def values(*given: Array) -> Array:
        return tf.cast(_evaluated(loss, given[: len(arrays)], given[len(arrays) :]), arrays[-1].dtype)

    # The node's gradient by each of its inputs is made, though nobody asks for a mask's.
    mask = [x if x.dtype.is_floating else tf.cast(tf.cast(x, tf.bool), arrays[-1].dtype) for x in mask]
    found = tf.py_function(values, [*arrays, *mask], Tout=arrays[-1].dtype)
    return tf.ensure_shape(found, arrays[-1].shape[:1] if arrays[-1].shape.rank else (None,))


def _class_of(registered: str, name: str) -> type[Loss]:
    """Return the Keras class of a registered loss: a `Loss` that is made by the loss's own arguments."""
    cls = agnoreg.registered_losses()[registered]

    class Registered(Loss):
        def __init__(
            self,
            *arguments: Any,
            reduction: str | None = "sum_over_batch_size",
            name: str | None = registered,
            dtype: Any = None,
            **keywords: Any,
        ) -> None:
            super().__init__(cls(*arguments, **keywords), reduction or "none", name or registered, dtype)

        def get_config(self) -> dict[str, Any]:
            """Return the arguments that make this object again, ready for JSON."""
            return self.loss.get_config() | {"reduction": self.reduction, "name": self.name, "dtype": self.dtype}

    Registered.__name__ = Registered.__qualname__ = name
    where = "agnoreg.loss" if getattr(agnoreg.loss, cls.__name__, None) is cls else cls.__module__
    Registered.__doc__ = (
        f"`{where}.{cls.__name__}`, registered as ``{registered}``, for Keras.\n\n"
        "It takes that class's arguments, and Keras's own ``reduction``, ``name`` and ``dtype``; see `Loss`."
    )
    own = [one for one in inspect.signature(cls).parameters.values() if one.name not in ("reduction", "name")]
    keras_own = [
        one
        for one in inspect.signature(Registered.__init__).parameters.values()
        if one.name in ("reduction", "name", "dtype")
    ]
    Registered.__signature__ = inspect.Signature([*own, *keras_own])
    return keras.saving.register_keras_serializable(package=PACKAGE, name=name)(Registered)


# A class for each registered loss that has a short name: `LNCC`, `Dice`, ...
for _name, _cls in agnoreg.registered_losses().items():
    if _cls.short:
        globals()[_cls.short] = _class_of(_name, _cls.short)
        __all__.append(_cls.short)

#: The same by the names of their classes.
GradientNorm, BendingEnergy = globals()["Gradient"], globals()["Bending"]
__all__ += ["BendingEnergy", "GradientNorm"]
