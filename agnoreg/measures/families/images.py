"""Base classes of measures of two images or labels, which handle the axes and the channels."""

from typing import Any

from agnoreg.backend import Backend
from agnoreg.engine import doubts
from agnoreg.engine.axes import axes_between, channels_as_samples, samples_as_channels
from agnoreg.engine.measure import Measure
from agnoreg.engine.slabs import Slab
from agnoreg.engine.validate import check_rank, check_same_shape
from agnoreg.objects.options import ImageOptions

Array = Any


class ImageMeasure(ImageOptions, Measure):
    """A measure of two images, ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, C)``; by `data_format` ``(B, C, d1, d2, d3)``.

    A mask may lack the channel axis. If `by_channel`, channels become samples, and the value is their mean.
    """

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit; without a `data_format` any two equal shapes do."""
        check_same_shape(*shapes)
        if self.data_format is None:
            return
        dims = self.spatial_dims
        axes = [f"dim{i + 1}" for i in range(dims)]
        names = [*axes, "channels"] if self.data_format == "channels_last" else ["channels", *axes]
        layout = f"({', '.join(['batch', *names])})"
        check_rank("y_true", shapes[0], dims + 2, layout)
        if len(shapes[0]) > dims + 2:
            raise ValueError(f"y_true must be {layout}, got shape {shapes[0]}.")

    def channel_axis(self, rank: int) -> int:
        """Return the axis of the channels."""
        return 1 if self.data_format == "channels_first" else rank - 1

    def spatial_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are not the batch or the channels."""
        return axes_between(rank, self.spatial_dims, self.channel_axis(rank))

    @property
    def by_channel(self) -> bool:
        """Whether each channel has a value of its own, and the value is their mean."""
        return False

    def pair(self, slab: Slab) -> tuple[Array, Array]:
        """Return the two images that enter the formula."""
        t, p = slab.arrays
        return t, p

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of channels if each has a value of its own, else 1."""
        return (shape[self.channel_axis(len(shape))] or 1) if self.by_channel else 1

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images; if `by_channel`, with channels as samples."""
        return tuple(channels_as_samples(backend, x, self.data_format) for x in arrays) if self.by_channel else arrays

    def from_canonical(self, backend: Backend, x: Array, shape: tuple[int | None, ...]) -> Array:
        """Undo `to_canonical` for an image: return it in the original ``shape`` of an input."""
        if self.by_channel:
            return samples_as_channels(backend, x, shape, self.data_format)
        return super().from_canonical(backend, x, shape)


def binarised(xp: Any, x: Array) -> Array:
    """Return 1 where ``x >= 0.5``, 0 elsewhere, and NaN where ``x`` is NaN, in the dtype of ``x``."""
    return xp.where(xp.isnan(x), x, xp.astype(x >= 0.5, x.dtype))


class LabelMeasure(ImageMeasure):
    """A measure of two labels, with values in [0, 1] unless they are thresholded."""

    @property
    def thresholded(self) -> bool:
        """Whether the labels are thresholded first."""
        return bool(getattr(self, "binary", False))

    def pair(self, slab: Slab) -> tuple[Array, Array]:
        """Return the two labels, thresholded if `thresholded`."""
        t, p = slab.arrays
        return (binarised(slab.xp, t), binarised(slab.xp, p)) if self.thresholded else (t, p)

    def gradient(self, slab: Slab, coefficients: tuple[Array, ...], wrt: tuple[int, ...]) -> tuple[Array, ...]:
        """Return the family's gradient; zero for thresholded labels."""
        if self.thresholded:
            return tuple(slab.xp.zeros_like(slab.arrays[index]) for index in wrt)
        return super().gradient(slab, coefficients, wrt)

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn if values are far outside [0, 1], as in a map of several labels."""
        labels, mask = arrays[:2], (*arrays[2:], None)[0]
        if (
            not self.thresholded
            and doubts.first_look(backend, labels, self.title)
            and doubts.any_beyond(backend, labels, mask)
        ):
            backend.execution.warn(doubts.LABELS.format(self.title))


class VolumeMeasure(ImageMeasure):
    """A measure of neighbourhoods in two images: channels have values of their own."""

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError if the shapes do not fit."""
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
                    f"Last dimension of {name} is not one. {name} has shape {shape}. If it has channels, say where: "
                    'data_format="channels_first" or data_format="channels_last".'
                )
        if shapes[0][: dims + 1] != shapes[1][: dims + 1]:
            check_same_shape(*shapes)

    @property
    def by_channel(self) -> bool:
        """Whether there are channels; the value is the mean over them."""
        return self.data_format is not None

    def to_canonical(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images as ``(b, planes, lines, entries)``, with channels as samples."""
        dims = self.spatial_dims
        arranged = []
        for array in super().to_canonical(backend, arrays):
            shape = backend.shape(array)
            whole = dims == 3 and len(shape) == 4
            sizes = shape[1 : dims + 1]
            arranged.append(array if whole else backend.xp.reshape(array, (-1, *(1,) * (3 - dims), *sizes)))
        return tuple(arranged)
