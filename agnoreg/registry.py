"""Losses by name, and from configuration."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from agnoreg.loss import deform, image, label
from agnoreg.loss.base import Loss
from agnoreg.loss.composite import SECTIONS, RegistrationLoss, WeightedLoss, checked_weight, losses_of

L = TypeVar("L", bound=type[Loss])

_by_name: dict[str, type[Loss]] = {
    "gmi": image.GlobalMutualInformationLoss,
    "lncc": image.LocalNormalizedCrossCorrelationLoss,
    "gncc": image.GlobalNormalizedCrossCorrelationLoss,
    "ssd": label.SumSquaredDifferenceLoss,
    "dice": label.DiceLoss,
    "jaccard": label.JaccardLoss,
    "cross-entropy": label.CrossEntropyLoss,
    "gradient": deform.GradientNorm,
    "bending": deform.BendingEnergy,
}

_by_class: dict[str, type[Loss]] = {
    cls.__name__: cls
    for module in (image, label, deform)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Loss) and cls.__name__ in module.__all__
} | {cls.__name__: cls for cls in (WeightedLoss, RegistrationLoss)}


def register_loss(name: str) -> Callable[[L], L]:
    """Make a class of losses known to `build_loss` by name.

    Parameters
    ----------
    name
        A name that is not taken yet.

    Returns
    -------
    callable
        A decorator for the class, which must be a subclass of `agnoreg.Loss`.

    Raises
    ------
    ValueError
        If the name, or the class's own name, is taken by another class.
    TypeError
        If it does not decorate a subclass of `agnoreg.Loss`.

    Examples
    --------
    >>> import agnoreg
    >>> @agnoreg.register_loss("mae")
    ... class MeanAbsoluteError(agnoreg.Loss):
    ...     def call(self, y_true, y_pred):
    ...         xp = agnoreg.backend_of(y_true).xp
    ...         return xp.mean(xp.abs(y_true - y_pred), axis=(1, 2, 3))
    >>> agnoreg.build_loss({"name": "mae"}).name
    'MeanAbsoluteError'
    """

    def register(cls: L) -> L:
        if not (isinstance(cls, type) and issubclass(cls, Loss)):
            raise TypeError(f"register_loss decorates a subclass of agnoreg.Loss, got {cls!r}.")
        places = ((_by_name, name), (_by_class, cls.__name__))
        for table, key in places:
            known = table.get(key)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"The name {key!r} is taken by {known.__module__}.{known.__qualname__}.")
        for table, key in places:
            table[key] = cls
        return cls

    if not isinstance(name, str):
        raise TypeError(f"register_loss takes the name: @agnoreg.register_loss({'...'!r}), got {name!r}.")
    return register


def registered_losses() -> dict[str, type[Loss]]:
    """Return the registered names and their classes, each to be minimised unless its `direction` says otherwise."""
    return dict(_by_name)


def loss_class(name: str) -> type[Loss]:
    """Return the class of that registered name or class name.

    Raises
    ------
    ValueError
        If there is none; the message lists the known names and the nearest.
    """
    found = (_by_name.get(name) or _by_class.get(name)) if isinstance(name, str) else None
    if found is not None:
        return found
    known = [*_by_name, *_by_class]
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.4)
    hint = f" Did you mean {lowered[near[0]]!r}?" if near else ""
    raise ValueError(f"Unknown loss {name!r}.{hint} The known ones are {', '.join(_by_name)}; class names work, too.")


def build_loss(config: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Loss:
    """Build a loss from its configuration.

    Parameters
    ----------
    config
        One of: a name; ``{"name": ..., arguments}``, the name a registered one or a class's, with an optional
        ``"weight"``; a list of these, which is their weighted sum; a mapping with some of the sections ``image``,
        ``label`` and ``regularization``, each one or a list of these, which is a `RegistrationLoss`.

    Returns
    -------
    Loss
        A loss object; a weight other than 1, or a list, gives a `WeightedLoss`.

    Raises
    ------
    ValueError
        If a name is unknown (the message lists the known ones and the nearest) or an argument out of range.
    TypeError
        If an argument is unknown, or the configuration is none of these.

    Examples
    --------
    >>> build_loss({"name": "lncc", "kernel_size": 7}).kernel_size
    7
    >>> build_loss([{"name": "ssd", "weight": 2.0}, {"name": "gncc"}]).weights
    (2.0, 1.0)
    >>> loss = build_loss({"image": {"name": "lncc"}, "regularization": {"name": "bending", "weight": 0.5}})
    >>> sorted(loss.sections())
    ['image', 'regularization']
    """
    if isinstance(config, Mapping) and "name" not in config:
        beyond = [key for key in config if key not in SECTIONS]
        if list(config) == ["loss"]:
            raise TypeError("Pass what stands under the key 'loss': build_loss(config['loss']).")
        if beyond or not config:
            raise TypeError(
                f"A loss's configuration needs a name, or some of the sections {', '.join(SECTIONS)}; got the keys "
                f"{', '.join(map(str, config)) or 'of nothing'}."
            )
        sections: dict[str, Any] = {key: losses_of(_parts(part)) for key, part in config.items() if part is not None}
        reductions = {section.reduction for section in sections.values()}
        if len(reductions) > 1:
            raise ValueError(f"The sections of one loss have one reduction, got {', '.join(sorted(reductions))}.")
        native = any(section.native for section in sections.values())
        return RegistrationLoss(**sections, reduction=next(iter(reductions)), native=native)
    parts = _parts(config)
    if len(parts) == 1 and parts[0][1] == 1 and isinstance(config, str | Mapping):
        return parts[0][0]
    return losses_of(parts)


def _parts(config: Any) -> list[tuple[Loss, float]]:
    if isinstance(config, str):
        config = {"name": config}
    if isinstance(config, Mapping):
        config = [config]
    if not isinstance(config, Sequence) or not all(isinstance(part, str | Mapping) for part in config):
        raise TypeError(f"A loss's configuration is a name, a mapping with a name, or a list of them, got {config!r}.")
    return [_one({"name": part} if isinstance(part, str) else part) for part in config]


def _one(config: Mapping[str, Any]) -> tuple[Loss, float]:
    if "name" not in config:
        raise TypeError(
            f"A loss's configuration needs a name, got the keys {', '.join(map(str, config)) or 'of nothing'}."
        )
    arguments = {key: value for key, value in config.items() if key not in ("name", "weight")}
    cls = loss_class(config["name"])
    known = [item.name for item in fields(cls) if item.name != "name"]
    for key in arguments:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{config['name']} has no argument {key!r}.{hint} It takes {', '.join(known)}, and weight.")
    try:
        return cls.from_config(arguments), checked_weight(config.get("weight", 1.0))
    except ValueError as error:
        raise ValueError(f"{config['name']}: {error}") from None
