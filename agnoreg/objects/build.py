"""Losses from configuration."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agnoreg.engine.axes import is_sequence
from agnoreg.messages import did_you_mean, named, shown
from agnoreg.objects.loss import Loss
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.registry import loss_of, registered_losses
from agnoreg.objects.weighted import SECTIONS, WeightedLoss, checked_weight, losses_of

#: Maximum number of entries of a configuration, nested ones included, and maximum depth.
MOST, DEEPEST = 20_000, 50


def build_loss(config: str | Mapping[str, Any] | Sequence[Mapping[str, Any]], **arguments: Any) -> Loss:
    """Build a loss from its configuration.

    Parameters
    ----------
    config
        One of: a name; ``{"name": ..., arguments}``, the name a registered one or a class's, with an optional
        ``"weight"``; a list of these, which is their weighted sum; a mapping with some of the sections ``image``,
        ``label`` and ``regularization``, each one or a list of these, which is an
        `agnoreg.loss.RegistrationLoss`. Wherever ``{"name": ...}`` stands, so may ``{"class": the class's name,
        "config": loss.get_config()}``, which describes a loss that exists whole, the object's own name included. Names
        may have capitals; ``"mse"``, ``"ncc"`` and ``"mi"`` are ``"ssd"``, ``"gncc"`` and ``"gmi"``.
    **arguments
        The arguments of a loss that is given by its name alone, ``weight`` and the object's own ``name`` among them.

    Returns
    -------
    Loss
        A loss object; a weight other than 1, or a list, gives an `agnoreg.loss.WeightedLoss`.

    Raises
    ------
    ValueError
        If a name is unknown (the message lists the known ones and the nearest) or an argument out of range; or if the
        configuration has more than 20 000 entries or is nested more than 50 deep.
    TypeError
        If an argument is unknown, or the configuration is none of these.

    Examples
    --------
    >>> build_loss({"name": "lncc", "kernel_size": 7}).kernel_size
    7
    >>> build_loss("LNCC", kernel_size=5).kernel_size
    5
    >>> build_loss([{"name": "ssd", "weight": 2.0}, {"name": "gncc"}]).weights
    (2.0, 1.0)
    >>> loss = build_loss({"image": {"name": "lncc"}, "regularization": {"name": "bending", "weight": 0.5}})
    >>> sorted(loss.sections())
    ['image', 'regularization']
    """
    if arguments:
        if not isinstance(config, str):
            raise TypeError(
                f"Arguments by keyword belong to a loss's name, got {shown(config)} and {', '.join(arguments)}."
            )
        weight = {"weight": arguments.pop("weight")} if "weight" in arguments else {}
        config = {"class": config, "config": arguments, **weight}
    check_extent(config)
    if isinstance(config, Mapping) and "name" not in config and not _is_described(config):
        return _registration(config)
    parts = _parts(config)
    if len(parts) == 1 and parts[0][1] == 1 and isinstance(config, str | Mapping):
        return parts[0][0]
    return losses_of(parts)


def check_extent(config: Any, within: Callable[[Any], Iterable[Any]] | None = None) -> None:
    """Raise ValueError if a configuration has more than `MOST` entries or is nested deeper than `DEEPEST`.

    A part that is referenced several times, such as a YAML alias, counts each time. ``within`` returns the parts of a
    part; by default, those of lists and mappings.
    """
    within = within or _within
    rest, count = [(config, 0)], 0
    while rest:
        part, depth = rest.pop()
        count += 1
        if count > MOST or depth > DEEPEST:
            beyond = f"has more than {MOST} entries" if count > MOST else f"is nested more than {DEEPEST} deep"
            raise ValueError(f"A loss's configuration that {beyond}, its aliases written out, is not read.")
        # Never more than the limit: the rest need not be counted.
        rest.extend((inner, depth + 1) for inner in itertools.islice(within(part), MOST))


def _within(part: Any) -> Iterable[Any]:
    if isinstance(part, Mapping):
        return part.values()
    return part if is_sequence(part) else ()


def _registration(config: Mapping[str, Any]) -> RegistrationLoss:
    beyond = [key for key in config if key not in SECTIONS]
    if beyond or not config:
        for place in (("loss",), ("train", "loss")):
            if found_at(config, *place) is not None:
                found = "".join(f"[{key!r}]" for key in place)
                raise TypeError(f"Pass what stands under the key 'loss': build_loss(config{found}).")
        hints = [did_you_mean(key, SECTIONS) for key in beyond]
        keys = ", ".join(map(named, itertools.islice(config, 20))) or "of nothing"
        raise TypeError(
            f"A loss's configuration needs a name, or some of the sections {', '.join(SECTIONS)}; got the keys {keys}."
            f"{next(filter(None, hints), '')}"
        )
    sections: dict[str, Any] = {}
    for key, part in config.items():
        if part is not None:
            try:
                sections[key] = losses_of(_parts(part))
            except (TypeError, ValueError) as error:
                raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{key}: {error}") from None
    reductions = {section.reduction for section in sections.values()}
    if len(reductions) > 1:
        raise ValueError(f"The sections of one loss have one reduction, got {', '.join(sorted(reductions))}.")
    native = any(section.native for section in sections.values())
    return RegistrationLoss(**sections, reduction=next(iter(reductions), "mean"), native=native)


def found_at(config: Any, *keys: str) -> Any:
    """Return the entry under nested keys of a mapping, or None."""
    for key in keys:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _parts(config: Any) -> list[tuple[Loss, float]]:
    if isinstance(config, str | Mapping):
        config = [config]
    if not is_sequence(config) or not all(isinstance(part, str | Mapping) for part in config):
        raise TypeError(
            f"A loss's configuration is a name, a mapping with a name, or a list of them, got {shown(config)}."
        )
    return [_one({"name": part} if isinstance(part, str) else part) for part in config]


def _is_described(config: Mapping[str, Any]) -> bool:
    """Return whether this is ``{"class": ..., "config": ...}``, the form in which a sum describes its losses."""
    return set(config) - {"weight"} == {"class", "config"}


def _one(config: Mapping[str, Any]) -> tuple[Loss, float]:
    if _is_described(config):
        name, arguments = config["class"], config["config"]
    elif "name" in config:
        name = config["name"]
        arguments = {key: value for key, value in config.items() if key not in ("name", "weight")}
    else:
        keys = ", ".join(map(named, itertools.islice(config, 20))) or "of nothing"
        raise TypeError(f"A loss's configuration needs a name, got the keys {keys}.")
    loss = loss_of(name, arguments)
    try:
        return loss, checked_weight(config.get("weight", 1.0))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# --- back to a configuration ------------------------------------------------------------------------------------------


def shortest(loss: Loss) -> Any:
    """Return the shortest configuration of a loss, without arguments that have their default values.

    That `build_loss` makes an equal loss of it is not checked: for a class that is not registered it cannot.
    """
    for short in (_as_sections, _as_list, _by_name):
        config = short(loss)
        if config is not None:
            try:
                if build_loss(config) == loss:
                    return config
            except (TypeError, ValueError):
                pass
    return _whole(loss)


def _as_sections(loss: Loss) -> Any:
    if not isinstance(loss, RegistrationLoss):
        return None
    return {
        name: parts if len(parts := _as_list(section)) > 1 else parts[0] for name, section in loss.sections().items()
    }


def _as_list(loss: Loss) -> Any:
    if not isinstance(loss, WeightedLoss):
        return None
    parts = []
    for one, weight in zip(loss.losses, loss.weights, strict=True):
        part = shortest(one)
        part = part if isinstance(part, dict) and {"name", "class"} & set(part) else _whole(one)
        parts.append(part if weight == 1 else part | {"weight": weight})
    return parts


def _by_name(loss: Loss) -> Any:
    arguments = _needed(loss)
    names = [*(name for name, cls in registered_losses().items() if cls is type(loss)), type(loss).__name__]
    # The object's own name and its class's name would share a key, and so would its own weight and that in a sum.
    return {"name": names[0], **arguments} if not {"name", "weight"} & set(arguments) else None


def _whole(loss: Loss) -> dict[str, Any]:
    return {"class": type(loss).__name__, "config": _needed(loss)}


def _needed(loss: Loss) -> dict[str, Any]:
    """Return the arguments of `get_config` that differ from their defaults."""
    config = loss.get_config()
    if isinstance(loss, WeightedLoss):
        config["losses"] = [_whole(one) for one in loss.losses]
    for key in list(config):
        less = {other: value for other, value in config.items() if other != key}
        try:
            again = type(loss).from_config(dict(less))
        except Exception:
            # A user's class may raise anything if an argument is missing.
            continue
        if again == loss and again.get_config() == loss.get_config():
            config = less
    return config
