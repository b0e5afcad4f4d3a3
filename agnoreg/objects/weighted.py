"""Weighted sums of losses of the same inputs."""

import itertools
import math
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, Self

from agnoreg.backend import backend_of
from agnoreg.engine.combinators import WeightedSum, weighted_sum
from agnoreg.engine.function import Differentiable
from agnoreg.engine.validate import as_number
from agnoreg.messages import shown
from agnoreg.objects.loss import Loss
from agnoreg.objects.registry import loss_of, remember

Array = Any

#: The sections of a registration's loss, and the number of arrays of each.
SECTIONS = {"image": 2, "label": 2, "regularization": 1}


@remember
class WeightedLoss(Loss):
    """A weighted sum of losses of the same inputs.

    Parameters
    ----------
    losses
        At least one; all take the same arrays. Their own reductions are ignored.
    weights
        One finite number for each loss.

    Raises
    ------
    ValueError
        If there are no losses, or not one weight each, or some take images and others fields.

    Examples
    --------
    >>> import numpy as np
    >>> from agnoreg.loss.label import SumSquaredDifference
    >>> loss = WeightedLoss((SumSquaredDifference(),), (0.5,))
    >>> loss(np.zeros((1, 2)), np.ones((1, 2)))
    array(0.5)
    """

    losses: tuple[Loss, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the configuration."""
        object.__setattr__(self, "losses", _sequence("losses", self.losses))
        weights = tuple(checked_weight(weight) for weight in _sequence("weights", self.weights))
        object.__setattr__(self, "weights", weights)
        for loss in self.losses:
            if not isinstance(loss, Loss) or loss.inputs not in SECTIONS.values():
                raise TypeError(f"A weighted sum is of losses of images, labels or fields, got {shown(loss)}.")
        if not self.losses or len(self.losses) != len(self.weights):
            raise ValueError(
                f"A weighted sum needs losses and a weight for each, got {len(self.losses)} losses and "
                f"{len(self.weights)} weights."
            )
        if len({loss.inputs for loss in self.losses}) > 1:
            names = ", ".join(str(loss.name) for loss in self.losses)
            raise ValueError(
                f"The losses of one sum must take the same arrays; of {names} some take images, some a field."
            )
        if len(self._directions()) > 1:
            raise ValueError(
                "The terms of one sum must improve in the same direction: give those that are better when higher a "
                f"negative weight, or take their Loss; got {', '.join(self._described_terms())}."
            )
        object.__setattr__(self, "inputs", self.losses[0].inputs)
        # Native differentiation is all or nothing: one loss that asks for it decides for the sum.
        object.__setattr__(self, "native", self.native or any(loss.native for loss in self.losses))
        super().__post_init__()

    def measure(self) -> Differentiable:
        """Return the weighted sum of the losses' functions."""
        return WeightedSum(tuple(loss.measure() for loss in self.losses), self.weights)

    def terms(self, *arrays: Array, **masks: Array) -> dict[str, Array]:
        """Return the weighted value of each loss, keyed by its name.

        Parameters
        ----------
        *arrays
            The arrays that the losses take.
        **masks
            Masks, as in `Loss.__call__`.

        Returns
        -------
        dict
            Arrays ``()`` or ``(B,)``, reduced as the sum is; their sum is the value. The second loss of the same
            name becomes ``name_2``.
        """
        return {name: self.reduce(loss.call(*arrays, **masks) * weight) for name, loss, weight in self.named()}

    def named(self) -> list[tuple[str, Loss, float]]:
        """Return name, loss and weight of every term; repeated names are numbered."""
        terms: dict[str, tuple[str, Loss, float]] = {}
        for loss, weight in zip(self.losses, self.weights, strict=True):
            candidates = (str(loss.name) if i == 1 else f"{loss.name}_{i}" for i in itertools.count(1))
            name = next(name for name in candidates if name not in terms)
            terms[name] = (name, loss, weight)
        return list(terms.values())

    def _directions(self) -> set[str]:
        """Return the directions of the terms with a nonzero weight, each reversed by a negative one."""
        opposite = {"lower": "higher", "higher": "lower"}
        return {
            direction if weight > 0 else opposite[direction]
            for loss, weight in zip(self.losses, self.weights, strict=True)
            if weight
            for direction in (loss._directions() if isinstance(loss, WeightedLoss) else (loss.direction,))
        }

    def _described_terms(self) -> list[str]:
        return [f"{weight:g} {name} ({loss.direction} is better)" for name, loss, weight in self.named()]

    @property
    def direction(self) -> str:
        """The direction of the losses, reversed by a negative weight."""
        return next(iter(self._directions()), "lower")

    @property
    def value_range(self) -> tuple[float, float]:
        """The weighted sum of the ranges."""
        ends = [
            sorted((weight * low, weight * high) if weight else (0.0, 0.0))
            for weight, (low, high) in zip(self.weights, (loss.value_range for loss in self.losses), strict=True)
        ]
        return sum(low for low, _ in ends), sum(high for _, high in ends)

    @property
    def identity_value(self) -> float | None:
        """The weighted sum of the losses' values, or None unless all have one."""
        values = [loss.identity_value for loss in self.losses]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return sum(weight * value for weight, value in zip(self.weights, known, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, ready for JSON; each loss as its class and its config."""
        return super().get_config() | {"losses": [described(loss) for loss in self.losses]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that a config from `get_config` describes."""
        if "losses" not in config:
            raise TypeError("the key 'losses' is missing.")
        return cls(**config | {"losses": tuple(map(_restored, _sequence("losses", config["losses"])))})


def _sequence(name: str, value: Any) -> tuple[Any, ...]:
    """Return an argument as a tuple, or raise TypeError if it has no entries in an order."""
    if not isinstance(value, str | bytes | bytearray | Mapping | Set):
        with suppress(TypeError):
            return tuple(value)
    raise TypeError(f"{name} must be a sequence, got {shown(value)}.")


def checked_weight(weight: Any) -> float:
    """Return the weight as a float, or raise ValueError if it is not a finite number."""
    if not math.isfinite(as_number(weight)):
        raise ValueError(f"A weight must be a finite number, got {shown(weight)}.")
    return float(weight)


def described(loss: Loss) -> dict[str, Any]:
    """Return a loss's class and its config, ready for JSON."""
    return {"class": type(loss).__name__, "config": loss.get_config()}


def _restored(part: Any) -> Loss:
    if not isinstance(part, Mapping):
        raise TypeError(f"losses must hold each loss's 'class' and 'config', got {shown(part)}.")
    for key in ("class", "config"):
        if key not in part:
            raise TypeError(f"the key {key!r} is missing.")
    return loss_of(part["class"], part["config"])


def _added(weights: Sequence[float], values: Sequence[Array]) -> Array:
    with backend_of(values[0]).execution.at(values[0]):
        return weighted_sum(weights, values)


def losses_of(parts: Sequence[tuple[Loss, float]]) -> WeightedLoss:
    """Return the weighted sum of these losses, with their common reduction.

    Raises
    ------
    ValueError
        If their reductions differ.
    """
    reductions = {loss.reduction for loss, _ in parts}
    if len(reductions) > 1:
        raise ValueError(f"The losses of one sum have one reduction, got {', '.join(sorted(reductions))}.")
    losses, weights = tuple(loss for loss, _ in parts), tuple(weight for _, weight in parts)
    return WeightedLoss(losses, weights, reduction=next(iter(reductions), "mean"))
