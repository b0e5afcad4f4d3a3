"""What the metrics of two masks or label maps take: the arrays checked, and the adapter that counts in them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import Backend, backend_of
from agnoreg.engine.axes import check_spatial_dims
from agnoreg.engine.validate import check_rank
from agnoreg.metrics.labels import checked_labels

Array = Any


def refuse_gradient(backend: Backend, arrays: tuple[Array, ...], metric: str, instead: str) -> None:
    """Raise TypeError where a gradient by an array is asked for, and say which loss has one."""
    if any(backend.counting.recorded(array) for array in arrays):
        raise TypeError(
            f"{metric} has no gradient and needs the numbers: train with {instead}, and call this on arrays without a "
            "gradient (detached), outside transformations."
        )


@dataclass(frozen=True)
class Maps:
    """Two masks, or label maps, of one grid."""

    #: The adapter of the arrays as they came, and their device, for results.
    owner: Backend
    device: Any
    #: The adapter that counts in them, and they as its own, ``(B, d1, ...)``; with a mask, which voxels count.
    backend: Backend
    true: Array
    pred: Array
    mask: Array | None
    #: None for all that occur.
    labels: tuple[int, ...] | None
    #: Whether results have no axis of labels.
    single: bool

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The maps, and the mask if there is one."""
        return (self.true, self.pred) if self.mask is None else (self.true, self.pred, self.mask)

    def at(self) -> AbstractContextManager[Any]:
        """Return a context in which the adapter works where the maps are."""
        return self.backend.execution.at(self.true)

    def result(self, values: Array) -> Array:
        """Return ``(B, labels)`` as an array of the caller's, where its maps are: ``(B,)`` for a single label."""
        values = values[:, 0] if self.single else values
        if self.backend is self.owner:
            return values
        return self.owner.from_numpy(self.backend.to_numpy(values), self.device)


def read(
    y_true: Array, y_pred: Array, labels: Any, mask: Array | None, spatial_dims: Any, metric: str, instead: str
) -> Maps:
    """Check two maps and a mask, and find the labels.

    Raises
    ------
    ValueError
        If shapes do not fit, or labels are no integers.
    TypeError
        If a gradient is asked for, or the arrays are not of one framework on one device.
    """
    dims = check_spatial_dims(spatial_dims)
    wanted, single = checked_labels(labels)
    given = (y_true, y_pred) if mask is None else (y_true, y_pred, mask)
    owner = backend_of(*given)
    given = tuple(owner.prepare(array) for array in given)
    refuse_gradient(owner, given[:2], metric, instead)
    true, pred = (_without_channel(owner, array, dims) for array in given[:2])
    _check_shapes(owner.shape(true), owner.shape(pred), dims)
    device = owner.device(given[0])
    backend, arrays = owner.counting.take((true, pred, *given[2:]))
    xp = backend.xp
    for array in arrays:
        if not xp.isdtype(array.dtype, ("bool", "integral", "real floating")):
            raise TypeError(f"A label map, or a mask, must hold integers or bools, got dtype {array.dtype}.")
    masks = arrays[0].dtype == xp.bool and arrays[1].dtype == xp.bool
    if masks and wanted is None:
        wanted, single = (1,), True
    counts = None if mask is None else fitted_mask(backend, arrays[2], arrays[0].shape)
    return Maps(owner, device, backend, arrays[0], arrays[1], counts, wanted, single)


def _without_channel(backend: Backend, x: Array, dims: int) -> Array:
    shape = backend.shape(x)
    if len(shape) == dims + 2 and shape[-1] == 1:
        return backend.xp.reshape(x, shape[:-1])
    return x


def _check_shapes(true: tuple[int | None, ...], pred: tuple[int | None, ...], dims: int) -> None:
    layout = "(batch, " + ", ".join(f"d{axis + 1}" for axis in range(dims)) + ")"
    for name, shape in (("y_true", true), ("y_pred", pred)):
        if len(shape) != dims + 1:
            raise ValueError(
                f"{name} must be {layout} for spatial_dims={dims}, one integer or bool a voxel, got shape {shape}: add "
                "the axis of the batch (array[None]), or make labels of one-hot channels by argmax."
            )
        check_rank(name, shape, dims + 1, layout)
    if true != pred:
        raise ValueError(f"y_true and y_pred must have one shape, got y_true {true} and y_pred {pred}.")


def fitted_mask(backend: Backend, mask: Array, shape: tuple[int, ...]) -> Array:
    """Return which voxels count, in the maps' shape: those where a mask is not 0."""
    own = tuple(mask.shape)
    if len(own) == len(shape) + 1 and own[-1] == 1:
        own = own[:-1]
    elif len(own) == len(shape) - 1:
        own = (1, *own)
    if len(own) != len(shape) or any(a not in (1, b) for a, b in zip(own, shape, strict=True)):
        raise ValueError(
            f"mask must have the maps' shape {shape}, with or without the axis of the batch, and may have size 1 along "
            f"any axis; got {tuple(mask.shape)}."
        )
    there = mask if mask.dtype == backend.xp.bool else mask != 0
    return backend.xp.broadcast_to(backend.xp.reshape(there, own), shape)
