"""Local normalised cross-correlation of two images (LNCC), in windows: squared, or signed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

from agnoreg import doubts
from agnoreg.backend import Backend, backend_of
from agnoreg.differentiable import (
    PassingMeasure,
    as_number,
    check_flag,
    check_number,
    check_rank,
    check_same_shape,
    evaluate,
    measured_by,
)
from agnoreg.functional import kernels
from agnoreg.functional.axes import check_choice
from agnoreg.functional.conventions import check_convention, check_fixed, take
from agnoreg.functional.images import ImageMeasure
from agnoreg.functional.intensities import centres
from agnoreg.functional.moments import JoiningMoments, JoiningWeightedMoments, Moments, WeightedMoments
from agnoreg.masks import by_name
from agnoreg.messages import named, shown
from agnoreg.passing import SUMS, Layout, along_planes, earlier, latest, no_windows_before, nothing_before
from agnoreg.tiling import Chunk, Slab, filled

Array = Any

EPS = 1e-5

#: ITK takes windows for flat up to here.
FLAT = 2.220446049250313e-16
#: What lies beyond the border: zeros, or nothing.
PADDINGS = ("zero", "truncate")

KERNELS: dict[str, Callable[[int], Array]] = {
    "rectangular": kernels.rectangular,
    "triangular": kernels.triangular,
    "gaussian": kernels.gaussian_kernel1d_size,
}


#: For each convention: smooth_nr, smooth_dr, padding and flat_value.
LOCAL_CONVENTIONS: dict[str, tuple[float, float, str, float | None]] = {
    "deepreg": (EPS, EPS, "zero", None),
    "monai": (0.0, EPS, "zero", None),
    "voxelmorph": (0.0, EPS, "zero", None),
    "ants": (0.0, 0.0, "truncate", 1.0),
    "exact": (0.0, 0.0, "truncate", None),
}


@dataclass(frozen=True)
class LocalCorrelation(ImageMeasure, PassingMeasure):
    """The mean over voxels of ``(cross^2 + nr) / (vt vp + dr)``, the centred second moments of each window.

    Signed, it is ``(cross + nr) / sqrt(vt vp + dr)``; MONAI's has ``max(vt, dr) max(vp, dr)`` below. The exact one has
    no constants: it is the mean of the windows in which neither image is flat.
    """

    kernel_size: int | Sequence[int] = 9
    kernel_type: str = "rectangular"
    smooth_nr: float | None = None
    smooth_dr: float | None = None
    padding: str | None = None
    squared: bool = True
    flat_value: float | None = None
    convention: str = "deepreg"

    def __post_init__(self) -> None:
        """Check the parameters, and take what was left out from the convention."""
        super().__post_init__()
        check_convention("LNCC", self.convention, tuple(LOCAL_CONVENTIONS))
        nr, dr, padding, flat_value = LOCAL_CONVENTIONS[self.convention]
        take(self, smooth_nr=nr, smooth_dr=dr, padding=padding, flat_value=flat_value)
        check_choice("padding", self.padding, PADDINGS)
        if not isinstance(self.kernel_type, str) or self.kernel_type not in tuple(KERNELS):
            raise ValueError(
                f"Wrong kernel_type {named(self.kernel_type)} for LNCC loss type. Feasible values are "
                f"{', '.join(KERNELS)}."
            )
        several = isinstance(self.kernel_size, Sequence) and not isinstance(self.kernel_size, str)
        if several:
            object.__setattr__(self, "kernel_size", tuple(self.kernel_size))  # type: ignore[arg-type]
        if several and len(self.kernel_size) != self.spatial_dims:  # type: ignore[arg-type]
            raise ValueError(
                f"kernel_size must be an integer, or one for each of {self.spatial_dims} axes, got "
                f"{shown(self.kernel_size)}."
            )
        sizes = tuple(len(taps) for taps in self.own_taps)
        object.__setattr__(self, "kernel_size", sizes if several else sizes[0])
        kernels.warn_of_even(sizes)
        check_number("smooth_nr", self.smooth_nr)
        check_number("smooth_dr", self.smooth_dr)
        check_flag("squared", self.squared)
        if self.flat_value is not None and not math.isfinite(as_number(self.flat_value)):
            raise ValueError(f"flat_value must be a finite number or None, got {shown(self.flat_value)}.")
        if self.exact:
            check_fixed(self.convention, "smooth_nr", self.smooth_nr, (0.0,))
            check_fixed(self.convention, "smooth_dr", self.smooth_dr, (0.0,))
        elif self.convention != "deepreg":
            if not all(size % 2 for size in sizes):
                raise ValueError(f"The convention {self.convention!r} has odd kernel_sizes alone, got {sizes}.")
            check_fixed(self.convention, "squared", self.squared, (True,))
            if self.convention != "monai":
                check_fixed(self.convention, "kernel_type", self.kernel_type, ("rectangular",))

    @property
    def exact(self) -> bool:
        """Whether there are no constants, and images are divided by their largest intensities."""
        return self.convention == "exact"

    @property
    def counts(self) -> bool:
        """Whether flat windows do not count."""
        return self.exact and self.flat_value is None

    @property
    def constant_count(self) -> int:  # type: ignore[override]
        """How many arrays `constants` returns."""
        return 4 if self.exact else 2

    @property
    def own_taps(self) -> tuple[tuple[float, ...], ...]:
        """The window's weights along each spatial axis."""
        sizes = self.kernel_size
        return tuple(map(self._taps, sizes if isinstance(sizes, tuple) else (sizes,) * self.spatial_dims))

    @property
    def taps(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """The window's weights along each axis of arranged images."""
        x, y, z = ((1.0,),) * (3 - self.spatial_dims) + self.own_taps
        return x, y, z

    #: The weights of a window's middle and of all of it, along axes that are taken with their middles alone.
    fold: ClassVar[tuple[float, float]] = (1.0, 1.0)

    @property
    def volume(self) -> float:
        """The sum of a window's weights."""
        return math.prod(map(sum, self.taps)) * self.fold[1]

    def fitted(self, shape: tuple[int | None, ...]) -> "LocalCorrelation":
        """Return the measure for images that are single voxels along an axis, which need no windows along it."""
        sizes = [shape[axis] for axis in self.spatial_axes(len(shape))]
        if not any(size == 1 and len(taps) > 1 for size, taps in zip(sizes, self.own_taps, strict=True)):
            return self
        return _thin(self, tuple(size == 1 for size in sizes))

    def _taps(self, size: int) -> tuple[float, ...]:
        if self.convention == "monai" and self.kernel_type == "triangular":
            return kernels.narrow_triangle(kernels.check_kernel_size(size))
        return kernels.window_taps(self.kernel_type, size)

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit."""
        dims = self.spatial_dims
        if self.data_format is not None:
            super().check(*shapes)
            return
        names = ", ".join(f"dim{i + 1}" for i in range(dims))
        for name, shape in zip(("y_true", "y_pred"), shapes, strict=True):
            check_rank(name, shape, dims + 1, f"(batch, {names}) or (batch, {names}, 1)")
            if len(shape) > dims + 2:
                raise ValueError(f"{name} must have {dims + 1} or {dims + 2} axes, got shape {shape}.")
            if len(shape) == dims + 2 and shape[-1] != 1:
                raise ValueError(
                    f"Last dimension of {name} is not one. {name} has shape {shape}; channels go last, or where "
                    "data_format says."
                )
        if shapes[0][: dims + 1] != shapes[1][: dims + 1]:
            check_same_shape(*shapes)

    def doubt(self, *shapes: tuple[int | None, ...]) -> str:
        """Return why images of such shapes are probably not what is meant."""
        first, dims = (2 if self.data_format == "channels_first" else 1), self.spatial_dims

        def widths() -> list[int]:
            return [len(taps) for taps in self.taps[3 - dims :]]

        if self.padding != "zero" or not doubts.thin(shapes[0], range(first, first + dims), widths):
            return ""
        return doubts.THIN.format(
            "LNCC's windows hold", "for a volume this thin padding='truncate', or a kernel_size of 1 along that axis"
        )

    @property
    def by_channel(self) -> bool:
        """Whether there are channels, whose mean the value is."""
        return self.data_format is not None

    def mask(self, backend: Backend, arrays: tuple[Array, ...]) -> Array | None:
        """Return the mask; where nothing lies beyond the border, there must be one."""
        mask = super().mask(backend, arrays)
        if mask is not None or self.padding == "zero":
            return mask
        return backend.xp.ones((1,) * len(arrays[0].shape), dtype=backend.xp.bool, device=backend.device(arrays[0]))

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, planes, lines, entries)``, every channel a sample of its own."""
        dims = self.spatial_dims
        arranged = []
        for array in super().arrange(backend, arrays):
            shape = backend.shape(array)
            whole = dims == 3 and len(shape) == 4
            sizes = shape[1 : dims + 1]
            arranged.append(array if whole else backend.xp.reshape(array, (-1, *(1,) * (3 - dims), *sizes)))
        return tuple(arranged)

    def constants(
        self, backend: Backend, dtype: Any, arrays: tuple[Array, ...], weights: Array | None = None
    ) -> tuple[Array, ...]:
        """Return a centre of each image, by which it is shifted, padding included; and what it is then divided by."""
        return centres(backend, dtype, arrays, weights, self.exact)

    def layout(self, shape: tuple[int | None, ...]) -> Layout:
        """Return how planes are laid out."""
        assert shape[2] is not None
        assert shape[3] is not None
        _, y, z = self.taps
        return Layout(shape[2], shape[3], len(y) - 1, len(z) - 1)

    @property
    def extent(self) -> tuple[int, int, int]:
        """As far as a window reaches from its middle."""
        x, y, z = (len(taps) // 2 for taps in self.taps)
        return x, y, z

    @property
    def back_lag(self) -> int:
        """The planes of a window before its middle."""
        return (len(self.taps[0]) - 1) // 2

    @property
    def around(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The lines and entries of a window before its middle, and those after it."""
        _, y, z = (len(taps) for taps in self.taps)
        return ((y - 1) // 2, (z - 1) // 2), (y // 2, z // 2)

    def begin(self, slab: Slab, layout: Layout, wrt: tuple[int, ...] | None) -> tuple[Any, ...]:
        """Return what was before the first plane: zeros, which the shift by the images' centres moves too."""
        xp, device = slab.xp, slab.backend.device(slab.arrays[0])
        count = self.constant_count
        centres = tuple(layout.outside(xp, c, self.around[0], device) for c in slab.constants[:count])
        inside = layout.inside(xp, device)
        t, p, *weights = self._images(slab, layout, centres, inside, None)
        images, zero = (t, p, *weights[1:]), xp.zeros_like(t)
        _, y, z = self.taps
        in_plane = sum(y) * sum(z) * self.fold[1]
        first: Any = WeightedMoments(t, p, weights[0] * in_plane) if weights else Moments(t, p)
        before = no_windows_before(self._joining(slab), first._replace(tt=zero, pp=zero, tp=zero), self.taps[0])
        state = inside, centres, before
        if wrt is None:
            return (*state, *nothing_before(tuple(weights[1:]), (self.lag,))) if weights else state
        sums = (zero,) * (1 + 2 * len(wrt))
        memory = (self.lag + self.back_lag,)
        return *state, *nothing_before(images, memory), no_windows_before(SUMS, sums, self.taps[0])

    def _joining(self, slab: Slab) -> JoiningMoments | JoiningWeightedMoments:
        return (JoiningWeightedMoments if slab.weights else JoiningMoments)(slab.backend)

    def _images(
        self, slab: Slab, layout: Layout, centres: tuple[Array, ...], inside: Array, chunk: Chunk | None
    ) -> tuple[Array, ...]:
        """Return the images laid out and shifted, zeros beyond the border included.

        With a mask there follow the weights of windows' voxels, beyond the border too, and those of windows' middles.
        What has no weight is 0 after the shift, so that a window that holds nothing has means of 0.
        """
        xp = slab.xp
        t, p = (layout.lay(xp, x) - centre for x, centre in zip(slab.arrays, centres[:2], strict=True))
        if self.exact:
            t, p = t / centres[2], p / centres[3]
        if not slab.weights:
            return t, p
        own = weights = layout.lay(xp, slab.weights[0])
        if self.padding == "zero":
            # Beyond the border there are voxels, too.
            there = None if chunk is None else chunk.existing(xp, 0, slab.backend.device(t))
            here = inside if there is None else there[:, None, None] & inside
            weights = own + xp.astype(~here, own.dtype) if chunk is not None else xp.ones_like(own)
        return *filled(slab.backend, (t, p), weights), weights, own

    def _voxels(self, slab: Slab, images: tuple[Array, ...], centres: tuple[Array, ...]) -> Any:
        """Return the moments of the smallest windows, of one voxel each."""
        return WeightedMoments(*images[:3]) if slab.weights else Moments(*images)

    def _moments(
        self, slab: Slab, layout: Layout, images: tuple[Array, ...], centres: tuple[Array, ...], lines: Any
    ) -> tuple[Any, Any]:
        """Return the lines for the next planes, and the moments of the windows complete now."""
        xp, joining, unit = slab.xp, self._joining(slab), self.fold[1]
        x, y, z = self.taps
        m = layout.windows(xp, joining, self._voxels(slab, images, centres), (y, z), *self.around, unit)
        if m.tt is None:
            # A window of one voxel has second moments of 0, or of NaN.
            tt, pp = (image * 0.0 for image in images[:2])
            m = m._replace(tt=tt, pp=pp, tp=tt + pp)
        return along_planes(xp, joining, lines, m, x, sum(y) * sum(z) * unit)

    def _values(
        self, xp: Any, m: Any, here: Array, weights: Array | None, wrt: tuple[int, ...] | None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return each window's value, and what the gradients are window sums of, times the weight of its middle.

        What belongs to no voxel is multiplied by 0. Where it may come from another sample, whose NaN times 0 would
        still be NaN, it is left out.
        """
        mask = xp.astype(here, m.t.dtype) if weights is None else weights
        alone = m.t.shape[1] == 1

        def only(x: Array) -> Array:
            return x if alone else xp.where(here, x, xp.zeros_like(x))

        tt, pp, product = m.tt, m.pp, m.tt * m.pp
        if self.convention == "monai":
            tt, pp = (xp.maximum(x, xp.zeros_like(x) + self.smooth_dr) for x in (tt, pp))
            denominator = tt * pp
        else:
            denominator = product + self.smooth_dr
        flat = None if self.flat_value is None else product <= (FLAT if self.convention == "ants" else 0.0)
        if flat is not None:
            denominator = xp.where(flat, xp.ones_like(denominator), denominator)
        if self.squared:
            inverse = mask / denominator
            # Cauchy and Schwarz's bound, which rounding must not break.
            value = only((xp.minimum(m.tp * m.tp, product) + self.smooth_nr) * inverse)
            half_by_cross = m.tp * inverse
        else:
            inverse = mask / xp.sqrt(denominator)
            value = only((m.tp + self.smooth_nr) * inverse)
            half_by_cross = 0.5 * inverse
        weight = value / denominator if self.squared else value / (denominator * 2.0)
        if flat is not None:
            zeros = xp.zeros_like(value)
            value = xp.where(flat, only(mask * self.flat_value), value)
            half_by_cross, weight = xp.where(flat, zeros, half_by_cross), xp.where(flat, zeros, weight)
        if wrt is None:
            return value, ()
        by_cross = only(half_by_cross)
        sums = [by_cross]
        for index in wrt:
            own, other = (m.t, m.tt, tt), (m.p, m.pp, pp)
            (own_mean, own_moment, _), (other_mean, _, factor) = (own, other) if index == 0 else (other, own)
            # In a flat window every voxel is the mean, and a large factor of their difference is of no account.
            moves = own_moment > self.smooth_dr if self.convention == "monai" else own_moment != 0.0
            by_variance = only(weight * factor * xp.astype(moves, weight.dtype))
            means = by_cross * other_mean
            means -= by_variance * own_mean
            sums += [by_variance, only(means)]
        return value, tuple(sums)

    def _exact_values(
        self,
        xp: Any,
        m: Any,
        centres: tuple[Array, ...],
        here: Array,
        weights: Array | None,
        wrt: tuple[int, ...] | None,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Return the same without constants, of images that were divided by their largest intensities.

        A window is flat if its standard deviation is no more than a rounding of its own intensities; of the products of
        variances there are only roots, which stay in the dtype's range. Where flat windows do not count, the values
        come with how much each counts.
        """
        eps = float(xp.finfo(m.t.dtype).eps)
        zeros = xp.zeros_like(m.t)
        mask = zeros + xp.astype(here, m.t.dtype) if weights is None else weights
        whole = self.volume if weights is None else m.w
        flat, roots = ~here, []
        for mean, moment, index in ((m.t, m.tt, 0), (m.p, m.pp, 1)):
            rounding = (xp.abs(mean) + xp.abs(centres[index] / centres[2 + index])) * eps
            flat = flat | (moment <= rounding * rounding * whole)
        for moment in (m.tt, m.pp):
            roots.append(1.0 / xp.sqrt(xp.where(flat, xp.ones_like(moment), moment)))
        both = roots[0] * roots[1]
        value = xp.where(flat, zeros, m.tp) * roots[0] * roots[1]
        # Cauchy and Schwarz's bound, which rounding must not break; what is no number passes no comparison.
        for bound in (1.0, -1.0):
            value = xp.where(value * bound > 1.0, zeros + bound, value)
        half_by_cross = value * both if self.squared else 0.5 * both
        value = value * value if self.squared else value
        weight = mask * (value if self.squared else 0.5 * value)
        value = xp.where(flat, zeros + (self.flat_value or 0.0), value) * mask
        counted = xp.where(flat, zeros, mask)
        value = (value, counted) if self.counts else value
        if wrt is None:
            return value, ()
        by_cross = xp.where(flat, zeros, mask * half_by_cross)
        sums = [by_cross]
        for index in wrt:
            own_mean, other_mean = (m.t, m.p) if index == 0 else (m.p, m.t)
            by_variance = xp.where(flat, zeros, weight * roots[index] * roots[index])
            sums += [by_variance, xp.where(flat, zeros, by_cross * other_mean - by_variance * own_mean)]
        return value, tuple(sums)

    def step(
        self, slab: Slab, layout: Layout, chunk: Chunk, state: tuple[Any, ...], wrt: tuple[int, ...] | None
    ) -> tuple[Any, Any, tuple[Array, ...]]:
        """Return the next state, the windows' values, and half the gradients: three more window sums for each input.

        With ``a = ∂/∂cross`` and ``b = ∂/∂vp`` of each window, ``mean t`` and ``mean p`` its means and ``S'`` the
        adjoint of the window sum: ``grad_p = t S'[a] + 2 p S'[b] - S'[a mean t + 2 b mean p]``.
        """
        xp, (x, y, z) = slab.xp, self.taps
        inside, centres, windows, *rest = state
        images = self._images(slab, layout, centres, inside, chunk)
        # With a mask, its weights of the windows' middles.
        now = images[3:] if wrt is None else images[:2] + images[3:]
        past = (*rest[0], now) if now else ()
        if chunk.past(self.lag):
            # Every window is complete; the gradient's still wait for planes of zeros.
            zeros = xp.zeros_like(images[0])
            value = (zeros, zeros) if self.counts else zeros
            in_plane = (zeros,) * (1 + 2 * len(wrt or ()))
        else:
            windows, m = self._moments(slab, layout, images, centres, windows)
            # What belongs to no voxel may be anything, another sample's NaN too.
            there = chunk.existing(xp, self.lag, slab.backend.device(inside))
            here = inside if there is None else there[:, None, None] & inside
            weights = earlier(xp, past, self.lag)[-1] if slab.weights else None
            if self.exact:
                value, sums = self._exact_values(xp, m, centres, here, weights, wrt)
            else:
                value, sums = self._values(xp, m, here, weights, wrt)
            before, after = self.around
            in_plane = layout.windows(xp, SUMS, sums, (y, z), after, before) if sums else ()
        if wrt is None:
            state = inside, centres, windows
            return (*state, latest(past, self.lag)) if slab.weights else state, value, ()
        back = rest[1]
        memory = self.lag + self.back_lag
        images, past = earlier(xp, past, memory), latest(past, memory)
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
            gradients.append(gradient / centres[2 + index] if self.exact else gradient)
        return (inside, centres, windows, past, back), value, tuple(gradients)

    def map(self, y_true: Array, y_pred: Array, masks: Mapping[str, Array | None] | None = None) -> Array:
        """Return the value at every voxel, with an axis for a channel."""
        image = self.image(y_true, y_pred, masks=masks)
        bare = len(image.shape) == self.spatial_dims + 1
        return backend_of(image).xp.expand_dims(image, axis=-1) if bare else image


@dataclass(frozen=True)
class ThinCorrelation(LocalCorrelation):
    """The same for images that are single voxels along some axes, along which there are no windows to be made.

    What a window holds of such an axis is the voxel and, with zeros beyond the border, a known weight of zeros. These
    two are joined first. The single axes are arranged between the others, so that planes are small.
    """

    #: Which spatial axes have one voxel.
    single: tuple[bool, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The spatial axes in the order of arranged images: first one that has several voxels, if there is any."""
        several = [axis for axis, single in enumerate(self.single) if not single]
        return (*several[:1], *(axis for axis, single in enumerate(self.single) if single), *several[1:])

    @property
    def taps(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """The window's weights along each axis of arranged images."""
        own = tuple((1.0,) if self.single[axis] else self.own_taps[axis] for axis in self.order)
        x, y, z = ((1.0,),) * (3 - len(own)) + own
        return x, y, z

    @property
    def fold(self) -> tuple[float, float]:  # type: ignore[override]
        """The weights of a window's middle and of all of it, along the single axes."""
        own = [taps for taps, single in zip(self.own_taps, self.single, strict=True) if single]
        return math.prod(taps[(len(taps) - 1) // 2] for taps in own), math.prod(map(sum, own))

    def fitted(self, shape: tuple[int | None, ...]) -> "LocalCorrelation":
        """Return the measure."""
        return self

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the channels, in the order of arranged images."""
        axes = super().spatial_axes(rank)
        return tuple(axes[axis] for axis in self.order)

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, planes, lines, entries)``, every channel a sample of its own."""
        arranged = []
        for array in super().arrange(backend, arrays):
            sizes = backend.shape(array)[4 - self.spatial_dims :]
            sizes = (*(1,) * (3 - self.spatial_dims), *(sizes[axis] for axis in self.order))
            arranged.append(backend.xp.reshape(array, (-1, *sizes)))
        return tuple(arranged)

    def _voxels(self, slab: Slab, images: tuple[Array, ...], centres: tuple[Array, ...]) -> Any:
        """Return the moments of a voxel and the zeros around it; zeros are the negative centre after the shift."""
        t, p, *weights = images
        middle, whole = self.fold
        zeros = whole - middle if self.padding == "zero" else 0.0
        if weights and not zeros:
            return WeightedMoments(t, p, weights[0] * middle)
        zero_t, zero_p = (-c / centres[2 + i] if self.exact else -c for i, c in enumerate(centres[:2]))
        dt, dp = t - zero_t, p - zero_p
        share: Any = middle / whole
        if weights:
            share = weights[0] * middle
            whole = share + zeros
            share = share / whole
        # The product of both weights by their sum.
        both = share * zeros
        means = zero_t + dt * share, zero_p + dp * share
        seconds = dt * dt * both, dp * dp * both, dt * dp * both
        return WeightedMoments(*means, whole, *seconds) if weights else Moments(*means, *seconds)


@lru_cache(maxsize=256)
def _thin(measure: LocalCorrelation, single: tuple[bool, ...]) -> ThinCorrelation:
    return ThinCorrelation(**{item.name: getattr(measure, item.name) for item in fields(measure)}, single=single)


@measured_by(LocalCorrelation)
def lncc(
    y_true: Array,
    y_pred: Array,
    *,
    kernel_size: int | Sequence[int] = 9,
    kernel_type: str = "rectangular",
    smooth_nr: float | None = None,
    smooth_dr: float | None = None,
    spatial_dims: int = 3,
    data_format: str | None = None,
    padding: str | None = None,
    squared: bool = True,
    flat_value: float | None = None,
    convention: str = "deepreg",
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
) -> Array:
    """Return the squared local normalised cross-correlation of two images (LNCC), per sample.

    With ``S[.]`` the window sum (zero padded, the kernel not normalised) and ``V`` the full window's volume: ``cross =
    S[tp] - S[t] S[p] / V``, ``vt = S[tt] - S[t]^2 / V``, ``vp`` likewise; the value is the mean over voxels of
    ``(cross^2 + smooth_nr) / (vt vp + smooth_dr)``. The moments are centred before they are squared, so that float32
    results are right whatever the intensities' offset, CT included. Zeros beyond the border count as voxels: an offset
    changes the value there.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``.
    kernel_size
        Voxels of the window along each axis, one number for all or one for each.
    kernel_type
        ``"rectangular"``, ``"triangular"`` (odd sizes) or ``"gaussian"`` (standard deviation a third of the size).
    smooth_nr, smooth_dr
        Added to numerator and denominator; a flat window scores ``smooth_nr / smooth_dr``. None: the convention's, 1e-5
        each.
    spatial_dims
        Axes of the image, 1, 2 or 3: what is said of three axes holds for those that there are.
    data_format
        None: one channel, on a last axis or on none. ``"channels_last"``, ``(B, d1, d2, d3, C)``, or
        ``"channels_first"``, ``(B, C, d1, d2, d3)``: the value is the mean of the channels' own.
    padding
        What lies beyond the border: ``"zero"``, voxels that are 0; or ``"truncate"``, nothing, so that windows hold
        the image's voxels alone, as ITK's do. None: the convention's, ``"zero"``.
    squared
        False: the signed correlation, ``(cross + smooth_nr) / sqrt(vt vp + smooth_dr)``, in [-1, 1], for which inverted
        contrast is worst.
    flat_value
        The value of windows in which one of the images is flat, ``vt vp = 0``; they have no gradient then. None: what
        the formula gives; of the exact convention, they do not count.
    convention
        Whose formula: ``"deepreg"``, the one above. ``"monai"``: ``(cross^2 + nr) / (max(vt, dr) max(vp, dr))``, ``nr =
        0``; its triangular windows are narrower, and add up to 1. ``"voxelmorph"``: ``nr = 0``. ``"ants"``, ITK's:
        ``nr = dr = 0``, ``padding="truncate"``, and 1 where ``vt vp`` is below 2.3e-16. ``"exact"``: no constants,
        ``padding="truncate"``, whatever the images' units; windows in which one of the images is flat, or that have
        fewer than two voxels, are left out of the mean, which is 0, with a gradient of 0, where all are. Flat are
        windows whose standard deviation is no more than a rounding of their intensities.
    mask, fixed_mask, moving_mask
        Which voxels count, of both images, of y_true and of y_pred: bools or integers, which count where they are not
        0, or floating-point weights of at least 0, of the shape of y_true, which may lack the axis of channels and may
        have size 1 along any axis. Their product counts. What it leaves out does not exist; see `agnoreg.Loss`.

    Returns
    -------
    array
        Shape ``(B,)``; in [0, 1] where ``smooth_nr <= smooth_dr``, higher is better, 1 for equal images (squared: also
        for inverted contrast).

    Raises
    ------
    ValueError
        If the shapes do not fit or a parameter is out of range.

    References
    ----------
    Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((1, 8, 8, 8))
    >>> lncc(image, image, kernel_size=5).round(4)
    array([1.])
    """
    measure = LocalCorrelation(
        kernel_size,
        kernel_type,
        smooth_nr,
        smooth_dr,
        padding,
        squared,
        flat_value,
        convention,
        spatial_dims=spatial_dims,
        data_format=data_format,
    )
    return evaluate(measure, y_true, y_pred, masks=by_name(mask, fixed_mask, moving_mask))


def lncc_map(
    y_true: Array,
    y_pred: Array,
    *,
    kernel_size: int | Sequence[int] = 9,
    kernel_type: str = "rectangular",
    smooth_nr: float | None = None,
    smooth_dr: float | None = None,
    spatial_dims: int = 3,
    data_format: str | None = None,
    padding: str | None = None,
    squared: bool = True,
    flat_value: float | None = None,
    convention: str = "deepreg",
    mask: Array | None = None,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
) -> Array:
    """Return the squared local normalised cross-correlation at every voxel, of which `lncc` is the mean.

    Parameters
    ----------
    y_true, y_pred
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, 1)``.
    kernel_size, kernel_type, smooth_nr, smooth_dr, spatial_dims, data_format, padding, squared, flat_value, convention
        As in `lncc`.
    mask, fixed_mask, moving_mask
        Which voxels count, as in `lncc`; whether they do, not how much.

    Returns
    -------
    array
        Shape ``(B, d1, d2, d3, 1)``, or the images' own where they have channels; in [0, 1] where ``smooth_nr <=
        smooth_dr``, higher is better. NaN where a mask leaves a voxel out, and by the exact convention without a
        `flat_value` where its window is flat. Its gradient is the framework's own.

    Raises
    ------
    ValueError
        If the shapes do not fit or a parameter is out of range.
    """
    measure = LocalCorrelation(
        kernel_size,
        kernel_type,
        smooth_nr,
        smooth_dr,
        padding,
        squared,
        flat_value,
        convention,
        spatial_dims=spatial_dims,
        data_format=data_format,
    )
    return measure.map(y_true, y_pred, by_name(mask, fixed_mask, moving_mask))
