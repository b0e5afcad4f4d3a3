"""Losses from configuration."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from agnoreg.loss.base import Loss
from agnoreg.loss.composite import SECTIONS, RegistrationLoss, checked_weight, losses_of
from agnoreg.loss.names import loss_class


def build_loss(config: str | Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Loss:
    """Build a loss from its configuration.

    Parameters
    ----------
    config
        One of: a name; ``{"name": ..., arguments}``, the name a registered one or a class's, with an optional
        ``"weight"``; a list of these, which is their weighted sum; a mapping with some of the sections ``image``,
        ``label`` and ``regularization``, each one or a list of these, which is a `RegistrationLoss`. Wherever
        ``{"name": ...}`` stands, so may ``{"class": the class's name, "config": loss.get_config()}``, which describes
        a loss that exists whole, the object's own name included.

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
    if isinstance(config, Mapping) and "name" not in config and not _is_described(config):
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
        return RegistrationLoss(**sections, reduction=next(iter(reductions), "mean"), native=native)
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


def _is_described(config: Mapping[str, Any]) -> bool:
    """Say whether this is a loss's class and what `get_config` returned, as a sum describes its losses."""
    return set(config) - {"weight"} == {"class", "config"}


def _one(config: Mapping[str, Any]) -> tuple[Loss, float]:
    if _is_described(config):
        name, arguments = config["class"], config["config"]
        if not isinstance(arguments, Mapping):
            raise TypeError(f"{name}: what stands under 'config' is what get_config returns, got {arguments!r}.")
        arguments = dict(arguments)
    elif "name" in config:
        name = config["name"]
        arguments = {key: value for key, value in config.items() if key not in ("name", "weight")}
    else:
        raise TypeError(
            f"A loss's configuration needs a name, got the keys {', '.join(map(str, config)) or 'of nothing'}."
        )
    cls = loss_class(name)
    known = [item.name for item in fields(cls) if item.name != "name"]
    for key in arguments:
        if key not in (*known, "name"):
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{name} has no argument {key!r}.{hint} It takes {', '.join(known)}, and weight.")
    try:
        return cls.from_config(arguments), checked_weight(config.get("weight", 1.0))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except KeyError as error:
        raise TypeError(f"{name}: the key {error} is missing.") from None
