"""The registry of losses: by registered name, and by class name."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from agnoreg.messages import did_you_mean, shown
from agnoreg.objects.loss import Loss

L = TypeVar("L", bound=type[Loss])

_by_name: dict[str, type[Loss]] = {}
_by_class: dict[str, type[Loss]] = {}

#: Other names of registered losses; a registered name takes precedence over them.
ALIASES = {"mi": "gmi", "ncc": "gncc", "mse": "ssd"}


def remember(cls: L) -> L:
    """Decorator that makes a class of losses known by its class name."""
    _by_class[cls.__name__] = cls
    return cls


def register_loss(name: str) -> Callable[[L], L]:
    """Return a decorator that registers a class of losses under a name, for `build_loss`.

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
        If the decorated object is not a subclass of `agnoreg.Loss`.

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
            raise TypeError(f"register_loss decorates a subclass of agnoreg.Loss, got {shown(cls)}.")
        places = ((_by_name, name), (_by_class, cls.__name__))
        for table, key in places:
            known = table.get(key)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"The name {shown(key)} is taken by {known.__module__}.{known.__qualname__}.")
        for table, key in places:
            table[key] = cls
        # The metric that a loss negates or averages over scales becomes known, too.
        for base in cls.__mro__[1:]:
            if "formula" in vars(base):
                _by_class.setdefault(base.__name__, base)
        return cls

    if not isinstance(name, str):
        raise TypeError(f"register_loss takes the name: @agnoreg.register_loss({'...'!r}), got {shown(name)}.")
    return register


def registered_losses() -> dict[str, type[Loss]]:
    """Return the registered losses, keyed by name; `direction` tells whether to minimise or to maximise one."""
    return dict(_by_name)


def loss_class(name: str) -> type[Loss]:
    """Return the class for a registered name, class name or alias; case matters only if names differ by it alone.

    Raises
    ------
    ValueError
        If there is none; the message lists the known names and the nearest.
    """
    known: dict[str, type[Loss]] = {
        **{alias: _by_name[name] for alias, name in ALIASES.items()},
        **_by_class,
        **_by_name,
    }
    if isinstance(name, str):
        alike = {cls for one, cls in known.items() if one.casefold() == name.casefold()}
        if name in known or len(alike) == 1:
            return known[name] if name in known else alike.pop()
    hint = did_you_mean(name, known, cutoff=0.4)
    raise ValueError(
        f"Unknown loss {shown(name)}.{hint} The known ones are {', '.join(_by_name)}; class names work, too."
    )


def loss_of(name: str, arguments: Any) -> Loss:
    """Return the loss of this name with these arguments, for example a config from `get_config`.

    Raises
    ------
    ValueError
        If there is no such loss or an argument is out of range; the message names both.
    TypeError
        If an argument is unknown or missing.
    """
    cls = loss_class(name)
    if not isinstance(arguments, Mapping):
        raise TypeError(f"{name}: what stands under 'config' is what get_config returns, got {shown(arguments)}.")
    known = [item.name for item in fields(cls) if item.name != "name"]
    for key in arguments:
        if key not in (*known, "name"):
            hint = did_you_mean(key, [*known, "weight"])
            raise TypeError(f"{name} has no argument {shown(key)}.{hint} It takes {', '.join(known)}, and weight.")
    try:
        return cls.from_config(dict(arguments))
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from None
