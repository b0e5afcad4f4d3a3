"""What the metrics of a displacement field take: the field checked, its mask, and the adapter that counts in them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.axes import FORMATS, check_choice, check_spacing
from agnoreg.metrics.field_conventions import SCHEMES
from agnoreg.metrics.inputs import fitted_mask, refuse_gradient

Array = Any
UNITS = ("voxel", "mm")


@dataclass(frozen=True)
class Field:
    """A displacement field, its components last."""

    #: The adapter of the field as it came, and its device, for results.
    owner: Backend
    device: Any
    #: The adapter that counts in it, and the field as its own, ``(B, d1, ..., dims)``; with a mask, which voxels count.
    backend: Backend
    ddf: Array
    mask: Array | None
    #: The spacing of each axis, 1 where none was given.
    steps: tuple[float, ...]
    in_mm: bool

    @property
    def dims(self) -> int:
        """The number of spatial axes."""
        return len(self.steps)

    @property
    def scales(self) -> tuple[float, ...]:
        """By what each component is divided to be in voxels."""
        return self.steps if self.in_mm else (1.0,) * self.dims

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The field, and the mask if there is one."""
        return (self.ddf,) if self.mask is None else (self.ddf, self.mask)

    def at(self) -> AbstractContextManager[Any]:
        """Return a context in which the adapter works where the field is."""
        return self.backend.execution.at(self.ddf)

    def column(self, numbers: Sequence[float]) -> Array:
        """Return a number for each sample as ``(B,)`` of the caller's arrays."""
        return self.result(np.asarray(numbers, dtype=np.float64))

    def result(self, values: Array) -> Array:
        """Return an array as one of the caller's, where the field is; one of NumPy's, or the adapter's own."""
        if self.backend is not self.owner:
            values = values if isinstance(values, np.ndarray) else self.backend.to_numpy(values)
            return self.owner.from_numpy(values, self.device)
        return self.owner.from_numpy(values, self.device) if isinstance(values, np.ndarray) else values


def read_field(
    ddf: Array,
    *others: Array,
    mask: Array | None,
    spacing: Any,
    units: str,
    data_format: str | None,
    metric: str,
    instead: str,
) -> tuple[Field, ...]:
    """Check a field, and others of its shape, and return each.

    Raises
    ------
    ValueError
        If the shapes do not fit; if units are none, or are mm without a spacing; if the spacing does not fit.
    TypeError
        If a gradient is asked for, or the arrays are not of one framework on one device.
    """
    check_choice("units", units, UNITS)
    if data_format is not None:
        check_choice("data_format", data_format, FORMATS)
    first = data_format == "channels_first"
    fields = (ddf, *others)
    given = fields if mask is None else (*fields, mask)
    owner = backend_of(*given)
    given = tuple(owner.prepare(array) for array in given)
    refuse_gradient(owner, given[: len(fields)], metric, instead)
    shapes = [owner.shape(array) for array in given[: len(fields)]]
    dims = _check_shapes(shapes, 1 if first else -1)
    if spacing is None and units == "mm":
        raise ValueError(
            f"spacing must be given with units='mm': {metric} is of displacements in voxels, and spacing says how "
            "many mm a voxel is along each axis."
        )
    steps = (1.0,) * dims if spacing is None else check_spacing(spacing, dims)
    device = owner.device(given[0])
    backend, arrays = owner.counting.take(given)
    if first:
        arrays = tuple(backend.xp.moveaxis(x, 1, -1) for x in arrays[: len(fields)]) + arrays[len(fields) :]
    counts = None if mask is None else fitted_mask(backend, arrays[-1], tuple(arrays[0].shape[:-1]))
    in_mm = units == "mm"
    return tuple(Field(owner, device, backend, x, counts, steps, in_mm) for x in arrays[: len(fields)])


def _check_shapes(shapes: list[tuple[int | None, ...]], place: int) -> int:
    """Return the number of spatial axes of fields of these shapes."""
    shape = shapes[0]
    dims = len(shape) - 2
    layouts = "(B, d1, d2, d3, 3), (B, d1, d2, 2) or (B, d1, 1)"
    if dims not in (1, 2, 3) or shape[place] != dims:
        raise ValueError(
            f"A displacement field must have shape {layouts}, one component for each axis, or the components after the "
            f"batch with data_format='channels_first'; got {shape}. A single field lacks the axis of the batch: pass "
            "array[None]."
        )
    if any(other != shape for other in shapes[1:]):
        raise ValueError(f"The fields must have one shape, got {' and '.join(map(str, shapes))}.")
    return dims


def check_size(field: Field, scheme: str, border: int) -> None:
    """Raise ValueError where an axis has too few voxels for a determinant."""
    least = 2 if border < 0 else sum(SCHEMES[scheme]) + 2 * border + 1
    sizes = tuple(field.ddf.shape[1:-1])
    if min(sizes) < least:
        raise ValueError(f"The field must have at least {least} voxels along each axis, got {sizes}.")


def with_border(field: Field, border: int) -> tuple[Array, ...]:
    """Return the field, and the mask, without so many voxels at each end; at -1 with one more, extrapolated linearly.

    The central difference at a voxel of the border is then one-sided, as numpy.gradient's.
    """
    arrays = field.arrays
    if border == 0:
        return arrays
    if border > 0:
        inside = (slice(None), *(slice(border, -border),) * field.dims)
        return tuple(x[(*inside, ...)] for x in arrays)
    xp = field.backend.xp
    ddf, *mask = arrays
    # Without this the difference of small integers would wrap.
    ddf = xp.astype(ddf, field.backend.dtypes.compute(ddf), copy=False)
    for axis in range(1, field.dims + 1):

        def plane(x: Array, place: int, axis: int = axis) -> Array:
            size = x.shape[axis]
            return x[(slice(None),) * axis + (slice(place % size, place % size + 1), ...)]

        ends = [2.0 * plane(ddf, near) - plane(ddf, next_one) for near, next_one in ((0, 1), (-1, -2))]
        ddf = xp.concat([ends[0], ddf, ends[1]], axis=axis)
        mask = [xp.concat([xp.zeros_like(plane(x, 0)), x, xp.zeros_like(plane(x, 0))], axis=axis) for x in mask]
    return ddf, *mask
