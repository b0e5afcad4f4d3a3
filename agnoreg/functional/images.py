"""What measures of two images or labels share: how many axes there are, and where the channels are."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from agnoreg.backend import Backend
from agnoreg.engine import doubts
from agnoreg.engine.axes import (
    FORMATS,
    axes_between,
    channels_as_samples,
    check_choice,
    check_spatial_dims,
    samples_as_channels,
)
from agnoreg.engine.measure import Measure
from agnoreg.engine.validate import check_rank, check_same_shape

Array = Any


@dataclass(frozen=True)
class ImageMeasure(Measure):
    """A measure of two images, ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, C)``; by `data_format` ``(B, C, d1, d2, d3)``.

    A mask may lack the axis of the channels. Where these have values of their own, they are samples, of which the mean
    is taken.
    """

    spatial_dims: int = field(default=3, kw_only=True)
    data_format: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "spatial_dims", check_spatial_dims(self.spatial_dims))
        if self.data_format is not None:
            check_choice("data_format", self.data_format, FORMATS)

    def check(self, *shapes: tuple[int | None, ...]) -> None:
        """Raise ValueError where these shapes do not fit; without a `data_format` any two equal ones do."""
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
        """Whether the value is the mean of the channels' own."""
        return False

    def parts(self, shape: tuple[int | None, ...]) -> int:
        """Return the number of channels, where each has a value of its own."""
        return (shape[self.channel_axis(len(shape))] or 1) if self.by_channel else 1

    def arrange(self, backend: Backend, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Return the images, with every channel a sample where each has a value of its own."""
        return tuple(channels_as_samples(backend, x, self.data_format) for x in arrays) if self.by_channel else arrays

    def arrange_back(self, backend: Backend, x: Array, shape: tuple[int | None, ...]) -> Array:
        """Return an image with the shape of an input as it came."""
        if self.by_channel:
            return samples_as_channels(backend, x, shape, self.data_format)
        return super().arrange_back(backend, x, shape)


class LabelMeasure(ImageMeasure):
    """A measure of two labels, whose numbers are in [0, 1] unless it thresholds them."""

    title: ClassVar[str]
    binary: bool

    def look(self, backend: Backend, arrays: tuple[Array, ...]) -> None:
        """Warn where other numbers are taken for labels."""
        labels, mask = arrays[:2], (*arrays[2:], None)[0]
        if (
            not self.binary
            and doubts.first_look(backend, labels, self.title)
            and doubts.any_beyond(backend, labels, mask)
        ):
            backend.execution.warn(doubts.LABELS.format(self.title))
