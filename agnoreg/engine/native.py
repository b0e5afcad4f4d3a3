"""The switch that lets the framework differentiate the losses itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Native(threading.local):
    """The switch's state in this thread; a context variable would be opaque to compilers."""

    wanted: bool = False


_native = _Native()


@contextmanager
def native_autodiff() -> Iterator[None]:
    """Let the framework differentiate the losses itself, inside this context, instead of the closed-form gradients.

    For second derivatives, forward mode and research. Values are the same; time and memory are those of the framework's
    autodiff. Outside this context a second derivative of a loss raises an error, unless the framework can differentiate
    the operations of the closed-form gradient.
    """
    before, _native.wanted = _native.wanted, True
    try:
        yield
    finally:
        _native.wanted = before


def natively_differentiated() -> bool:
    """Return whether this thread is inside `native_autodiff`: the framework must then see every operation."""
    return _native.wanted
