"""Window sums along one axis by repeated doubling, in Array API calls only."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agnoreg.backend.shifts import cut, pad

Array = Any

T = TypeVar("T")


class WindowMerge:
    """Merges the statistics of two adjacent windows; here sums, of one array.

    A subclass may keep the statistics of windows made by doubling in a form of its own until `finalize`. A count is the
    number of base windows, each of weight ``unit``, in a window.
    """

    def merge_equal(self, a: Any, b: Any, count: int, unit: float) -> Any:
        """Merge two adjacent windows, each the union of ``count`` base windows."""
        return a + b

    def finalize(self, a: Any, count: int) -> Any:
        """Return the statistics of a window made by doubling, of ``count`` base windows, in final form."""
        return a

    def merge(self, a: Any, na: int, b: Any, nb: int, unit: float) -> Any:
        """Merge a finalized window of ``na`` base windows and one of ``nb`` made by doubling."""
        return a + b

    def weighted(self, near: Sequence[Any], taps: Sequence[float], unit: float) -> Any:
        """Merge windows of weight ``unit``, each times its tap."""
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
    """Merge every ``width`` neighbours of ``x``, in about ``2 log2(width)`` steps instead of ``width - 1``.

    Windows of 1, 2, 4, ... neighbours are made by doubling, and those in the binary representation of ``width`` are
    merged: a window of 5 is one of 1 and the following one of 4. Neighbours are ``stride`` entries apart, and
    ``take(x, start, stop)`` slices.

    Entry ``i`` of the result covers the entries ``i``, ``i + stride``, ... of ``x``. The second result is how many
    entries shorter the first one is: ``(width - 1) * stride``, or more if slices must lose a multiple of ``aligned``.
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
    """Return the widths of the boxes whose convolution is ``taps``: one box, two for a triangle, otherwise none."""
    width = len(taps)
    if all(tap == 1.0 for tap in taps):
        return (width,)
    half = (width + 1) // 2
    if width % 2 and taps == tuple(float(min(i, width - 1 - i) + 1) for i in range(width)):
        return (half, half)
    return ()


def window_sum(xp: Any, x: Array, taps: Sequence[Any], axis: int, transpose: bool = False) -> Array:
    """Correlate ``x`` with ``taps`` along ``axis``, with zero padding and unchanged size.

    A kernel of length ``k`` reaches ``(k - 1) // 2`` entries back and ``k // 2`` ahead. ``transpose`` is the adjoint:
    it reverses the taps and swaps the two paddings. Boxes and triangles of Python floats take logarithmic time.
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
    """Return ``sum(tap * term)``, where the terms of a symmetric pair of equal taps are added before multiplication."""
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
