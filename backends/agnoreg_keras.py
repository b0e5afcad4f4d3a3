"""The losses as Keras 3 has them, on each of its backends: `Loss` wraps any loss, and each registered one has a class.

Import this module before `keras.saving.load_model`, which then needs no ``custom_objects``: the classes are registered
under the package ``agnoreg``, by names that stay. What is registered is how models were saved.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

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

#: Under which all classes are registered.
PACKAGE = "agnoreg"

#: What Keras calls a loss's reduction; of a mean it takes the share of a replica, where there are several.
REDUCTIONS = {"mean": "sum_over_batch_size", "sum": "sum", "none": "none"}


@keras.saving.register_keras_serializable(package=PACKAGE, name="Loss")
class Loss(keras.losses.Loss):
    """A Keras loss that holds a loss of agnoreg.

    Keras gets the value of every sample, ``(B,)``, so that ``sample_weight`` and `tf.distribute` weigh samples. A loss
    of fields takes ``y_pred`` for the field, whatever ``y_true`` is. Arrays are cast to ``dtype`` by Keras first.

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
        The dtype that the loss gets its arrays in; `keras.config.floatx`, float32, where it is left out.

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
        return self.loss.call(*(y_true, y_pred)[-self.loss.inputs :])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this object again, ready for JSON."""
        return {"loss": described(self.loss), **super().get_config(), "dtype": self.dtype}


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
    Registered.__doc__ = (
        f"`agnoreg.loss.{cls.__module__.rpartition('.')[2]}.{cls.__name__}`, registered as {registered}, for Keras.\n\n"
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
