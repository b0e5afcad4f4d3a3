"""Gradients as arrays, in the caller's own framework, also where it has no autodiff."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from agnoreg.engine.argnums import gradients_of, resolve_argnums
from agnoreg.engine.function import Differentiable
from agnoreg.engine.masks import MASKS
from agnoreg.engine.user import FromCall
from agnoreg.messages import describe
from agnoreg.objects.loss import Loss, bound

Array = Any


def value_and_grad(
    loss: Loss | Callable[..., Array], *arrays: Array, argnums: int | str | Sequence[int | str] = -1, **keywords: Any
) -> tuple[Array, Any]:
    """Return a loss and its gradient, as arrays of the caller's framework, on every framework.

    Both are detached: the gradient is no function of the arrays that could be differentiated once more.

    Parameters
    ----------
    loss
        A loss object; a loss function of `agnoreg.functional`; or, where the framework has autodiff, any function of
        the arrays that returns one value a sample, ``(B,)``.
    *arrays
        What the loss takes, in its order: y_true, y_pred; or a field.
    argnums
        Which arrays to differentiate by: an index, or a sequence of them; the last one (y_pred) where it is left out.
        For an `agnoreg.loss.RegistrationLoss` also a section's name, which means that section's last array.
    **keywords
        Forwarded to the loss, masks among them. An `agnoreg.loss.RegistrationLoss` takes its arrays so, and
        ``return_terms=True``.

    Returns
    -------
    value
        What ``loss(*arrays)`` returns.
    gradient
        The gradient of the value's sum: an array of the shape and device of its input, in its dtype if that is a
        floating-point one and otherwise in the value's. A tuple of arrays where ``argnums`` is a sequence. Values and
        gradients are detached, and no array's ``.grad`` is touched.

    Raises
    ------
    NotImplementedError
        If the loss has no gradient of its own and the framework has no autodiff; the message says what to add.
    TypeError, ValueError
        As calling the loss does; and if ``argnums`` does not name an array.

    Examples
    --------
    >>> import numpy as np
    >>> from agnoreg.loss.label import SumSquaredDifference
    >>> value_and_grad(SumSquaredDifference(), np.zeros((1, 2)), np.ones((1, 2)))
    (array(1.), array([[1., 1.]]))
    """
    own = getattr(loss, "value_and_grad", None)
    if own is not None:
        if arrays:
            raise TypeError(f"{describe(loss)} takes its arrays by keyword, got {len(arrays)} by position.")
        return own(argnums, **keywords)
    function, inputs, masks = _function(loss, arrays, keywords)
    wrt, single = resolve_argnums(argnums, function.inputs, function.names)
    reduction = getattr(loss, "reduction", "none")
    value, gradients = gradients_of(function, inputs, wrt, reduction == "mean", masks)
    if isinstance(loss, Loss):
        value = loss.reduce(value)
    return value, gradients[0] if single else gradients


def _function(
    loss: Any, arrays: tuple[Array, ...], keywords: dict[str, Any]
) -> tuple[Differentiable, tuple[Array, ...], dict[str, Any]]:
    """Return what to differentiate, the arrays in its order, and masks by name."""
    if isinstance(loss, type | str) or not callable(loss):
        raise TypeError(f"value_and_grad takes a loss object, such as agnoreg.build_loss makes, got {loss!r}.")
    if isinstance(loss, Loss):
        return bound(loss.measured_by(type(loss)), arrays, keywords)
    if hasattr(loss, "measure"):
        given = inspect.signature(loss).bind(*arrays, **keywords).arguments
        masks = {name: given.pop(name) for name in MASKS if name in given}
        options = {name: given.pop(name) for name in list(given) if name not in ("y_true", "y_pred", "ddf")}
        return loss.measure(**options), tuple(given.values()), masks
    return FromCall(partial(loss, **keywords), None, len(arrays), describe(loss), alike=False), arrays, {}
