"""Family: the mean over voxels of a function of the local moments of two images, in windows around the voxels."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.delay import along_planes, delayed, keep_last, zero_history, zero_window_history
from agnoreg.engine.planes import PlaneBatch
from agnoreg.engine.rows import SUMS, Layout
from agnoreg.engine.slabs import Slab, fill_masked
from agnoreg.engine.streaming import StreamingMeasure
from agnoreg.measures.families.images import VolumeMeasure
from agnoreg.measures.families.moments import MomentMerge, Moments, WeightedMomentMerge, WeightedMoments
from agnoreg.measures.intensities import centres

Array = Any
#: The window's weights along each axis of canonical images.
Taps = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


class LocalMoments(VolumeMeasure, StreamingMeasure):
    """Mean over voxels of a function of the means and centred second moments of each window.

    The author writes `own_taps`, the window, and `of_moments`, the local formula. The family handles windows, masks,
    the border and the adjoint, in one streaming pass over the planes of the images.
    """

    #: The middle weight and the total weight of the window along axes of a single voxel that `ThinMoments` leaves out.
    fold: ClassVar[tuple[float, float]] = (1.0, 1.0)

    @property
    def own_taps(self) -> tuple[tuple[float, ...], ...]:
        """The window's weights along each spatial axis."""
        raise NotImplementedError

    def of_moments(
        self,
        xp: Any,
        m: Any,
        centres: tuple[Array, ...],
        here: Array,
        weights: Array | None,
        wrt: tuple[int, ...] | None,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Return each window's value, and the images whose window sums make the gradients.

        Parameters
        ----------
        xp
            The arrays' namespace.
        m
            Moments of each window: means ``t`` and ``p``, centred second moments ``tt``, ``pp`` and ``tp``, which are
            sums over the window, not divided by its weight.
        centres
            What was subtracted from each image and, if `scaled`, what each was divided by.
        here
            Which windows have a voxel in their middle; results are 0 elsewhere.
        weights
            The mask's weights of the middles, or None. All results are multiplied by them.
        wrt
            Inputs that need a gradient, or None.

        Returns
        -------
        tuple
            The value; and the images ``a`` and, for each input in ``wrt``, ``b`` and ``a * other mean - b * own mean``.
            ``a`` is half the derivative of the value by ``tp``, and ``b`` minus its derivative by the input's own
            second moment. Without ``wrt`` there are none.

        Examples
        --------
        For the squared correlation ``v = tp^2 / (tt pp)``, half the derivative by ``tp`` is ``a = tp / (tt pp)``, and
        the derivative by ``pp`` is ``-v / pp``. So for ``wrt = (1,)`` the images are ``a``, ``b = v / pp`` and
        ``a t - b p``.
        """
        raise NotImplementedError

    @property
    def taps(self) -> Taps:
        """The window's weights along each axis of canonical images."""
        x, y, z = ((1.0,),) * (3 - self.spatial_dims) + self.own_taps
        return x, y, z

    @property
    def volume(self) -> float:
        """The sum of a window's weights."""
        return math.prod([sum(taps) for taps in self.taps]) * self.fold[1]

    def fitted(self, shape: tuple[int | None, ...]) -> "LocalMoments":
        """Return the measure for images of this shape; axes of a single voxel need no windows."""
        sizes = [shape[axis] for axis in self.spatial_axes(len(shape))]
        if 1 not in sizes:
            return self
        if not any(size == 1 and len(taps) > 1 for size, taps in zip(sizes, self.own_taps, strict=True)):
            return self
        return self.thin(tuple(size == 1 for size in sizes))

    def thin(self, single: tuple[bool, ...]) -> "LocalMoments":
        """Return the measure for images with one voxel along the axes that are ``single``, a `ThinMoments`."""
        return self

    @property
    def truncated(self) -> bool:
        """Whether windows are cut off at the border; otherwise zeros beyond it count as voxels."""
        return False

    @property
    def scaled(self) -> bool:
        """Whether images are divided by their largest intensities."""
        return False

    @property
    def constant_count(self) -> int:  # type: ignore[override]
        """Number of arrays that `constants` returns."""
        return 4 if self.scaled else 2

    @property
    def constants_of_blocks(self) -> bool:  # type: ignore[override]
        """Whether each block may have its own centre: moments do not depend on it, but for rounding."""
        return not self.scaled

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask; if `truncated`, a mask of ones where there is none, so that windows know the border."""
        mask = super().mask(backend, arrays)
        if mask is not None or not self.truncated:
            return mask
        return backend.xp.ones((1,) * len(arrays[0].shape), dtype=backend.xp.bool, device=backend.device(arrays[0]))

    def constants(
        self, backend: Backend, dtype: Any, arrays: tuple[Array, ...], weights: Array | None = None
    ) -> tuple[Array, ...]:
        """Return a centre of each image, which is subtracted, from the padding too; if `scaled`, also the divisors."""
        return centres(backend, dtype, arrays, weights, self.scaled)

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return the layout of a plane, with gaps as wide as windows reach."""
        assert shape[2] is not None
        assert shape[3] is not None
        _, y, z = self.taps
        return Layout(shape[2], shape[3], len(y) - 1, len(z) - 1)

    @property
    def window_radius(self) -> tuple[int, int, int]:
        """How far a window reaches from its middle."""
        x, y, z = (len(taps) // 2 for taps in self.taps)
        return x, y, z

    @property
    def gradient_delay(self) -> int:
        """Planes of a window before its middle."""
        return (len(self.taps[0]) - 1) // 2

    @property
    def around(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Lines and entries of a window before its middle, and those after it."""
        _, y, z = (len(taps) for taps in self.taps)
        return ((y - 1) // 2, (z - 1) // 2), (y // 2, z // 2)

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return the state before the first plane, as after planes of zeros less the centres."""
        xp, device = slab.xp, slab.backend.device(slab.arrays[0])
        count = self.constant_count
        centres = tuple(layout.border_values(xp, c, self.around[0], device) for c in slab.constants[:count])
        inside = layout.voxel_mask(xp, device)
        t, p, *weights = self._images(slab, layout, centres, inside, None)
        images, zero = (t, p, *weights[1:]), xp.zeros_like(t)
        _, y, z = self.taps
        in_plane = sum(y) * sum(z) * self.fold[1]
        first: Any = WeightedMoments(t, p, weights[0] * in_plane) if weights else Moments(t, p)
        before = zero_window_history(self._joining(slab), first._replace(tt=zero, pp=zero, tp=zero), self.taps[0])
        state = inside, centres, before
        if wrt is None:
            return (*state, *zero_history(tuple(weights[1:]), (self.value_delay,))) if weights else state
        sums = (zero,) * (1 + 2 * len(wrt))
        memory = (self.value_delay + self.gradient_delay,)
        return *state, *zero_history(images, memory), zero_window_history(SUMS, sums, self.taps[0])

    def _joining(self, slab: Slab) -> MomentMerge | WeightedMomentMerge:
        return (WeightedMomentMerge if slab.weights else MomentMerge)(slab.backend)

    def _images(
        self, slab: Slab, layout: Layout, centres: tuple[Array, ...], inside: Array, chunk: PlaneBatch | None
    ) -> tuple[Array, ...]:
        """Return the packed images less their centres; zeros beyond the border are shifted too.

        With a mask two arrays follow: the weights of voxels in windows, those beyond the border included, and the
        weights of windows' middles. Voxels of weight 0 are 0 after the shift, so that the means of an empty window are
        0.
        """
        xp = slab.xp
        t, p = (layout.pack(xp, x) - centre for x, centre in zip(slab.arrays, centres[:2], strict=True))
        if self.scaled:
            t, p = t / centres[2], p / centres[3]
        if not slab.weights:
            return t, p
        own = weights = layout.pack(xp, slab.weights[0])
        if not self.truncated:
            # Zeros beyond the border count as voxels of weight 1.
            there = None if chunk is None else chunk.existing(xp, 0, slab.backend.device(t))
            here = inside if there is None else there[:, None, None] & inside
            weights = own + xp.astype(~here, own.dtype) if chunk is not None else xp.ones_like(own)
        return *fill_masked(slab.backend, (t, p), weights), weights, own

    def voxels(self, slab: Slab, images: tuple[Array, ...], centres: tuple[Array, ...]) -> Any:
        """Return the moments of the smallest windows, of one voxel each."""
        return WeightedMoments(*images[:3]) if slab.weights else Moments(*images)

    def _moments(
        self, slab: Slab, layout: Layout, images: tuple[Array, ...], centres: tuple[Array, ...], lines: Any
    ) -> tuple[Any, Any]:
        """Return the delay lines for the next planes, and the moments of the windows that are now complete."""
        xp, joining, unit = slab.xp, self._joining(slab), self.fold[1]
        x, y, z = self.taps
        m = layout.windows(xp, joining, self.voxels(slab, images, centres), (y, z), *self.around, unit)
        if m.tt is None:
            # The second moments of a window of one voxel are 0, or NaN if the voxel is.
            tt, pp = (image * 0.0 for image in images[:2])
            m = m._replace(tt=tt, pp=pp, tp=tt + pp)
        return along_planes(xp, joining, lines, m, x, sum(y) * sum(z) * unit)

    def step(
        self, slab: Slab, layout: Layout, chunk: PlaneBatch, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Any, tuple[Array, ...]]:
        """Return the next state, the windows' values, and half the gradients.

        With ``a`` and ``b`` from `of_moments`, and ``S'`` the adjoint of the window sum, half the gradient for ``p`` is
        ``t S'[a] - p S'[b] - S'[a mean t - b mean p]``; likewise for ``t``.
        """
        xp, (x, y, z) = slab.xp, self.taps
        inside, centres, windows, *rest = state
        images = self._images(slab, layout, centres, inside, chunk)
        # With a mask, the weights of the windows' middles come last.
        now = images[3:] if wrt is None else images[:2] + images[3:]
        past = (*rest[0], now) if now else ()
        if chunk.past(self.value_delay):
            # All windows are complete; window sums of the gradient still need planes of zeros.
            zeros = xp.zeros_like(images[0])
            value = (zeros, zeros) if self.counts else zeros
            in_plane = (zeros,) * (1 + 2 * len(wrt or ()))
        else:
            windows, m = self._moments(slab, layout, images, centres, windows)
            # Windows around gap entries may hold anything, even another sample's NaN.
            there = chunk.existing(xp, self.value_delay, slab.backend.device(inside))
            here = inside if there is None else there[:, None, None] & inside
            weights = delayed(xp, past, self.value_delay)[-1] if slab.weights else None
            value, sums = self.of_moments(xp, m, centres, here, weights, wrt)
            before, after = self.around
            in_plane = layout.windows(xp, SUMS, sums, (y, z), after, before) if sums else ()
        if wrt is None:
            state = inside, centres, windows
            return (*state, keep_last(past, self.value_delay)) if slab.weights else state, value, ()
        back = rest[1]
        memory = self.value_delay + self.gradient_delay
        images, past = delayed(xp, past, memory), keep_last(past, memory)
        back, (by_cross, *others) = along_planes(xp, SUMS, back, in_plane, x, 1.0)
        gradients = []
        for place, index in enumerate(wrt):
            gradient = images[1 - index] * by_cross
            gradient -= images[index] * others[2 * place]
            gradient -= others[2 * place + 1]
            if slab.weights:
                gradient *= images[2]
            if self.fold[0] != 1.0:
                gradient *= self.fold[0]
            gradients.append(gradient / centres[2 + index] if self.scaled else gradient)
        return (inside, centres, windows, past, back), value, tuple(gradients)

    def map(self, y_true: Array, y_pred: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
        """Return the value at every voxel, with a channel axis: ``(B, d1, d2, d3, 1)`` or the shape of the images."""
        image = self.image(y_true, y_pred, masks=masks)
        bare = len(image.shape) == self.spatial_dims + 1
        return backend_of(image).xp.expand_dims(image, axis=-1) if bare else image
