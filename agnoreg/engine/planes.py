"""Streaming: the planes of an image pass a step function, a few at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine.slabs import Slab, _cast, _join

Array = Any


@dataclass(frozen=True, slots=True)
class PlaneBatch:
    """Planes ``start`` to ``start + count`` of a streamed image of ``total`` planes; zeros follow the last one.

    The results for a plane are complete ``delay`` planes later. ``start`` is an array while a function is traced.
    """

    start: Any
    count: int
    total: int
    delay: int

    def past(self, delay: int) -> bool:
        """Return whether the planes ``delay`` before these are known to lie after the last plane of the image."""
        return isinstance(self.start, int) and self.start >= self.total + delay

    def existing(self, xp: Any, delay: int, device: Any) -> Array | None:
        """Return which of the planes ``delay`` before these lie in the image, ``(count,)``; None means all."""
        if isinstance(self.start, int) and self.delay <= self.start <= self.total - self.count:
            return None
        place = xp.arange(self.count, dtype=xp.int32, device=device) + (self.start - delay)
        return (place >= 0) & (place < self.total)


def stream_planes(
    backend: Backend,
    dtype: Any,
    arrays: tuple[Array, ...],
    delay: int,
    plane: int,
    elements: int,
    begin: Callable[[Slab], Any],
    step: Callable[[Slab, PlaneBatch, Any], tuple[Any, tuple[Array, ...], tuple[Array, ...]]],
    constants: tuple[Array, ...] = (),
    inputs: int | None = None,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Stream the planes of ``arrays``, about ``elements`` entries at a time; one plane has ``plane`` entries.

    ``begin(slab)`` returns the initial state, as after planes of zeros, which ``slab`` holds.
    ``step(slab, chunk, state)`` returns the state for the next chunk, arrays that are added over chunks, and pieces of
    images, which come ``delay`` planes late. The arrays after the first ``inputs`` are weights.
    """
    xp = backend.xp
    samples, total = backend.shape(arrays[0])[:2]
    assert total is not None
    group, count = samples or 1, total + delay
    if group * count * plane > elements:
        group = 1 if samples is None else max(1, elements // (count * plane))
        if group == 1:
            # Chunks of even size: the last one is padded with zeros.
            count = math.ceil(count / math.ceil(count / max(1, elements // plane)))
    whole = samples is None or group == samples

    def slab_of(planes: tuple[Array, ...], own: slice, values: tuple[Array, ...]) -> Slab:
        return Slab(backend, planes[:inputs], own, values, planes[inputs:] if inputs else ())

    passing = [PlaneBatch(start, count, total, delay) for start in range(0, total + delay, count)]
    results = []
    for first in [0] if whole else range(0, samples or 1, group):
        selected = arrays if whole else tuple(array[first : first + group, ...] for array in arrays)
        values = constants if whole else tuple(constant[first : first + group, ...] for constant in constants)

        def body(chunk: PlaneBatch, state: Any, selected: Any = selected, values: Any = values) -> Any:
            pieces = (backend.execution.planes(array, chunk.start, chunk.count, beyond=True) for array in selected)
            planes = tuple(_cast(backend, dtype, x) for x in pieces)
            return step(slab_of(planes, slice(0, chunk.count), values), chunk, state)

        few = min(count, max(delay, 1), total)
        zeros = tuple(xp.zeros_like(_cast(backend, dtype, array[:, :few, ...])) for array in selected)
        state = begin(slab_of(zeros, slice(0, few), values))
        results.append(backend.execution.scan(passing, body, state, slice(delay, delay + total)))
    if len(results) == 1:
        return results[0]
    totals, images = zip(*results, strict=True)
    return _join(xp, totals), _join(xp, images)
