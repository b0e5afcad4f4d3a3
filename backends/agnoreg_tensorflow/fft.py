"""The extension ``fft``: discrete Fourier transforms, axis by axis."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt
from agnoreg_tensorflow._devices import placed
from agnoreg_tensorflow._dtypes import tensor
from agnoreg_tensorflow._manipulation import roll
from agnoreg_tensorflow._shapes import Axis, all_axes, one_axis, sizes, with_shape

__all__ = [
    "fft",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfftn",
    "rfft",
    "rfftfreq",
    "rfftn",
]

Array = Any
Dtype = Any
Norm = Literal["backward", "ortho", "forward"]

#: A transform back is scaled as one forth is with the other name.
_OTHER_WAY: dict[str, Norm] = {"backward": "forward", "ortho": "ortho", "forward": "backward"}


# --- parts ------------------------------------------------------------------------------------------------------------


def _check(norm: str) -> None:
    if norm not in _OTHER_WAY:
        raise ValueError(f"norm must be 'backward', 'ortho' or 'forward', got {norm!r}.")


def _last(x: Array, axis: int) -> Array:
    """Swap an axis with the last one."""
    rank = len(x.shape)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    return x if axis == rank - 1 else tf.transpose(x, order)


def _resized(x: Array, n: Any) -> Array:
    """Cut the last axis off at ``n`` elements, or fill it up with zeros."""
    have = sizes(x)[-1]
    if isinstance(n, int) and isinstance(have, int) and n == have:
        return x
    x = x[..., : tf.minimum(n, have)]
    missing = tf.concat([tf.shape(x)[:-1], [tf.maximum(n - have, 0)]], axis=0)
    joined = tf.concat([x, tf.zeros(missing, x.dtype)], axis=-1)
    return with_shape(joined, [*x.shape[:-1], n if isinstance(n, int) else None])


def _scaled(x: Array, n: Any, divided: bool, norm: str) -> Array:
    """Scale a transform along ``n`` elements as ``norm`` says of one forth; ``divided``: it has been by ``n``."""
    wanted = {"backward": 0.0, "ortho": -0.5, "forward": -1.0}[norm]
    power = wanted + (1.0 if divided else 0.0)
    return x if power == 0 else x * tf.cast(tf.cast(n, tf.float64) ** power, x.dtype)


def _forth(x: Array, n: int | None, axis: int, norm: str) -> Array:
    x = _last(x, axis)
    n = sizes(x)[-1] if n is None else n
    return _last(_scaled(tf.signal.fft(_resized(x, n)), n, False, norm), axis)


def _back(x: Array, n: int | None, axis: int, norm: str) -> Array:
    x = _last(x, axis)
    n = sizes(x)[-1] if n is None else n
    return _last(_scaled(tf.signal.ifft(_resized(x, n)), n, True, _OTHER_WAY[norm]), axis)


def _half(x: Array, n: int | None, axis: int, norm: str) -> Array:
    """Transform real numbers; of the result, whose other half is this one's conjugate, only this half is kept."""
    x = _last(x, axis)
    n = sizes(x)[-1] if n is None else n
    result = tf.signal.rfft(_resized(x, n), [n])
    result = with_shape(result, [*x.shape[:-1], n // 2 + 1 if isinstance(n, int) else None])
    return _last(_scaled(result, n, False, norm), axis)


def _whole(x: Array, n: int | None, axis: int, norm: str) -> Array:
    """Transform such a half back to ``n`` real numbers, scaled as a transform forth is."""
    x = _last(x, axis)
    n = 2 * (sizes(x)[-1] - 1) if n is None else n
    result = tf.signal.irfft(_resized(x, n // 2 + 1), [n])
    result = with_shape(result, [*x.shape[:-1], n if isinstance(n, int) else None])
    return _last(_scaled(result, n, True, norm), axis)


# --- along one axis ---------------------------------------------------------------------------------------------------


def _arguments(name: str, x: Array, kind: str, axis: int, norm: str) -> tuple[Array, int]:
    _check(norm)
    x = tensor(x, name, kind)
    return x, one_axis(axis, len(x.shape))


def fft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform complex numbers along ``axis``, which is cut or filled up with zeros to ``n`` elements."""
    x, axis = _arguments("fft", x, "complex floating", axis, norm)
    return _forth(x, n, axis, norm)


def ifft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform back what ``fft`` returned."""
    x, axis = _arguments("ifft", x, "complex floating", axis, norm)
    return _back(x, n, axis, norm)


def rfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform real numbers along ``axis``; it has ``n // 2 + 1`` elements then."""
    x, axis = _arguments("rfft", x, "real floating", axis, norm)
    return _half(x, n, axis, norm)


def irfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform back what ``rfft`` returned, to ``n`` real numbers, an even number unless it is given."""
    x, axis = _arguments("irfft", x, "complex floating", axis, norm)
    return _whole(x, n, axis, _OTHER_WAY[norm])


def hfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform a signal of Hermitian symmetry, of which ``x`` is half, to ``n`` real numbers."""
    x, axis = _arguments("hfft", x, "complex floating", axis, norm)
    return _whole(tf.math.conj(x), n, axis, norm)


def ihfft(x: Array, /, *, n: int | None = None, axis: int = -1, norm: Norm = "backward") -> Array:
    """Transform back what ``hfft`` returned."""
    x, axis = _arguments("ihfft", x, "real floating", axis, norm)
    return tf.math.conj(_half(x, n, axis, _OTHER_WAY[norm]))


# --- along several axes -----------------------------------------------------------------------------------------------


def _along(x: Array, s: Sequence[int] | None, axes: Sequence[int] | None) -> list[tuple[int | None, int]]:
    """Return the number of elements, ``None`` for as many as there are, and the axis of each transform."""
    if s is not None and axes is None:
        raise ValueError("s says how many elements there are on each of axes, which must be given too.")
    found = all_axes(None if axes is None else tuple(axes), len(x.shape))
    lengths = [None] * len(found) if s is None else [None if n == -1 else n for n in s]
    return list(zip(lengths, found, strict=True))


def _of_all(name: str, transform: Callable[..., Array]) -> Callable[..., Array]:
    def apply(
        x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
    ) -> Array:
        _check(norm)
        x = tensor(x, name, "complex floating")
        for n, axis in _along(x, s, axes):
            x = transform(x, n, axis, norm)
        return x

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = f"Apply ``{name[:-1]}`` along each of ``axes``, to ``s`` elements; along all where it is ``None``."
    return apply


fftn = _of_all("fftn", _forth)
ifftn = _of_all("ifftn", _back)


def rfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """Apply ``rfft`` along the last of ``axes`` and ``fft`` along the others."""
    _check(norm)
    x = tensor(x, "rfftn", "real floating")
    *others, (n, axis) = _along(x, s, axes)
    x = _half(x, n, axis, norm)
    for n, axis in others:
        x = _forth(x, n, axis, norm)
    return x


def irfftn(
    x: Array, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = "backward"
) -> Array:
    """Apply ``ifft`` along all of ``axes`` but the last, and ``irfft`` along that."""
    _check(norm)
    x = tensor(x, "irfftn", "complex floating")
    *others, (last, last_axis) = _along(x, s, axes)
    for n, axis in others:
        x = _back(x, n, axis, norm)
    return _whole(x, last, last_axis, _OTHER_WAY[norm])


# --- frequencies ------------------------------------------------------------------------------------------------------


def _frequencies(first: int, last: int, n: int, d: float, dtype: Dtype, device: Any) -> Array:
    """Return ``[first, ..., last - 1] / (d * n)``."""
    with placed(device):
        steps = tf.cast(tf.range(first, last, dtype=tf.int64), tf.float64) / (d * n)
        return tf.cast(steps, dt.DEFAULT_FLOAT if dtype is None else dtype)


def fftfreq(n: int, /, *, d: float = 1.0, dtype: Dtype = None, device: Any = None) -> Array:
    """Return the frequencies of ``fft``'s result for ``n`` samples ``d`` apart: 0 and up, then the negative ones."""
    return ifftshift(_frequencies(-(n // 2), (n + 1) // 2, n, d, dtype, device))


def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Dtype = None, device: Any = None) -> Array:
    """Return the frequencies of ``rfft``'s result for ``n`` samples ``d`` apart."""
    return _frequencies(0, n // 2 + 1, n, d, dtype, device)


def _shifted(name: str, x: Array, axes: Axis, sign: int) -> Array:
    x = tensor(x, name, dt.FLOATING)
    found = all_axes(axes, len(x.shape))
    return roll(x, [sign * (sizes(x)[axis] // 2) for axis in found], axis=found) if found else x


def fftshift(x: Array, /, *, axes: Axis = None) -> Array:
    """Move the frequency 0 from the front of each of ``axes`` to its middle."""
    return _shifted("fftshift", x, axes, 1)


def ifftshift(x: Array, /, *, axes: Axis = None) -> Array:
    """Move the frequency 0 from the middle of each of ``axes`` to its front."""
    return _shifted("ifftshift", x, axes, -1)
