"""Losses by name: the registered ones, and every class by its own name."""

import difflib
from collections.abc import Callable
from typing import TypeVar

from agnoreg.loss import deform, image, label
from agnoreg.loss.base import Loss

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
}


def remember(cls: L) -> L:
    """Make a class of losses known by its own name, as a decorator."""
    _by_class[cls.__name__] = cls
    return cls


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
