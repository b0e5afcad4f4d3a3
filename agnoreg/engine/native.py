"""Whether the framework differentiates the losses itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Native(threading.local):
    """Whether the framework differentiates by itself, in this thread; compilers cannot read a context variable."""

    wanted: bool = False


_native = _Native()


@contextmanager
def native_autodiff() -> Iterator[None]:
    """Let the framework differentiate the losses itself, inside this context, instead of the closed-form gradients.

    For second derivatives, forward mode and research: values are the same, time and memory are what the framework's
    autodiff takes. Without it a second derivative of a loss raises an error, unless the framework differentiates the
    operations of its gradient.
    """
    before, _native.wanted = _native.wanted, True
    try:
        yield
    finally:
        _native.wanted = before


def natively_differentiated() -> bool:
    """Say whether this thread is inside `native_autodiff`: nothing may be hidden from the framework then."""
    return _native.wanted
