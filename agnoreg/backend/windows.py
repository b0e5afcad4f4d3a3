"""Window sums along one axis by doubling, in Array API calls only."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agnoreg.backend.shifts import cut, pad

Array = Any

T = TypeVar("T")


class WindowMerge:
    """How what is known of two neighbouring windows is put together: here sums, of one array.

    What is known of a window of 2, 4, 8, ... windows may be kept in a form of its own until it is settled.
    """

    def merge_equal(self, a: Any, b: Any, count: int, unit: float) -> Any:
        """Join two windows of ``count`` windows of weight ``unit`` each."""
        return a + b

    def finalize(self, a: Any, count: int) -> Any:
        """Return what is known of a window of ``count`` windows, which doubling made, in its final form."""
        return a

    def merge(self, a: Any, na: int, b: Any, nb: int, unit: float) -> Any:
        """Join a settled window of ``na`` windows of weight ``unit`` with one of ``nb`` that doubling made."""
        return a + b

    def weighted(self, near: Sequence[Any], taps: Sequence[float], unit: float) -> Any:
        """Join windows of weight ``unit``, each times its tap."""
        return paired_sum(taps, near)


def sliding(
    joining: WindowMerge,
    x: T,
    width: int,
    stride: int,
    unit: float,
    take: Callable[[T, int | None, int | None], T],
    aligned: int = 1,
) -> tuple[T, int]:
    """Join every ``width`` neighbours of ``x``, in about ``2 log2(width)`` steps instead of ``width - 1``.

    Windows of 2, 4, 8, ... neighbours are made by doubling, and those that the binary digits of ``width`` name are
    joined. Neighbours are ``stride`` entries apart; ``take(x, start, stop)`` slices. Entry ``i`` of the result covers
    the neighbours ``i``, ``i + stride``, ... of ``x``. Returned beside it is how many entries it is shorter:
    ``(width - 1) * stride``, or more where every slice from the beginning shall lose a multiple of ``aligned`` entries.
    """
    power, size, lost = x, 1, 0
    result, covered, missing = None, 0, 0
    while True:
        if width & size:
            if result is None:
                result, covered, missing = joining.finalize(power, size), size, lost
            else:
                ahead = covered * stride
                fewer = max(missing, _up(lost + ahead, aligned))
                before = take(result, None, missing - fewer or None)
                result = joining.merge(before, covered, take(power, ahead, ahead + lost - fewer or None), size, unit)
                covered, missing = covered + size, fewer
        if 2 * size > width:
            assert result is not None
            return result, missing
        ahead = size * stride
        fewer = _up(lost + ahead, aligned)
        before, after = take(power, None, lost - fewer), take(power, ahead, ahead + lost - fewer or None)
        power = joining.merge_equal(before, after, size, unit)
        size, lost = 2 * size, fewer


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def boxes(taps: tuple[float, ...]) -> tuple[int, ...]:
    """Return the widths of the boxes whose convolution is ``taps``: one box, two (a triangle), or none."""
    width = len(taps)
    if all(tap == 1.0 for tap in taps):
        return (width,)
    half = (width + 1) // 2
    if width % 2 and taps == tuple(float(min(i, width - 1 - i) + 1) for i in range(width)):
        return (half, half)
    return ()


def window_sum(xp: Any, x: Array, taps: Sequence[Any], axis: int, transpose: bool = False) -> Array:
    """Correlate ``x`` with ``taps`` along ``axis``: zero padded, the size kept.

    A kernel of length ``k`` reaches ``(k - 1) // 2`` entries back and ``k // 2`` ahead. ``transpose`` is the adjoint:
    the taps and the two paddings swap. Boxes and triangles of Python floats cost the logarithm of their width.
    """
    width = len(taps)
    before, after = (width - 1) // 2, width // 2
    if transpose:
        before, after, taps = after, before, tuple(reversed(taps))
    if width == 1:
        return x if isinstance(taps[0], float) and taps[0] == 1.0 else x * taps[0]
    length = x.shape[axis]
    x = pad(xp, x, axis, before, after)
    widths = boxes(tuple(taps)) if all(isinstance(tap, float) for tap in taps) else ()
    if widths:
        for box in widths:
            x, _ = sliding(WindowMerge(), x, box, 1, 1.0, lambda a, i, j: cut(a, axis, i, j))
        return x
    shifted = [cut(x, axis, i, i + length) for i in range(width)]
    return paired_sum(taps, shifted)


def paired_sum(taps: Sequence[Any], terms: Sequence[Array]) -> Array:
    """Return ``sum(tap * term)``, adding the two terms of an equal outer pair of taps before they are multiplied."""
    width = len(taps)
    total = None
    for i in range((width + 1) // 2):
        j = width - 1 - i
        if i == j:
            part = terms[i] * taps[i]
        elif taps[i] is taps[j] or (isinstance(taps[i], float) and taps[i] == taps[j]):
            part = (terms[i] + terms[j]) * taps[i]
        else:
            part = terms[i] * taps[i] + terms[j] * taps[j]
        total = part if total is None else total + part
    return total
