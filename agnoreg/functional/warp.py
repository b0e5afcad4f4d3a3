"""The linear warp of an image by a dense displacement field, and its adjoint.

Voxel x of the result is the image at x + u(x), interpolated linearly between the 8 voxels around that point. The image
is zero beyond its border, so each of the 8 that lies outside contributes zero. That makes the warp linear in the image
and its adjoint exact: the same 8 weights, scattered instead of gathered.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

from agnoreg.backend import Backend, backend_of
from agnoreg.backend.shifts import pad
from agnoreg.engine.slabs import PlaneRange, plan

Array = Any
Corner = tuple[int, ...]
Results = tuple[tuple[Array, ...], tuple[Array, ...]]

# Zero planes on each side of the image: a cell that lies outside, however far, is moved to where its 8 voxels are zero.
_BORDER = 2
_PAIRS = tuple(product((0, 1), repeat=2))


def warp(image: Array, ddf: Array) -> Array:
    """Sample an image linearly at ``x + ddf(x)``.

    With ``f = u - floor(u)`` along each axis, and ``I`` zero outside the image::

        warp(I, u)(x) = sum over c in {0, 1}^3 of I(x + floor(u) + c) * prod_i (f_i if c_i else 1 - f_i)

    The fraction is taken from the displacement, not from the position, so its rounding does not grow with x. A
    framework with autodiff can differentiate this; `warp_adjoint` gives the same gradients with or without it.

    Parameters
    ----------
    image
        Shape ``(B, d1, d2, d3)`` or ``(B, d1, d2, d3, ch)``, or with fewer spatial axes.
    ddf
        Displacements in voxels, shape ``(B, d1, d2, d3, 3)``; component i is along the i-th spatial axis. For a plane
        it is ``(B, d1, d2, 2)``, for a line ``(B, d1, 1)``.

    Returns
    -------
    Array
        The image's shape; float64 if one of the two is, else float32 (integers of 32 bit or more: the framework's
        default float). NaN wherever the displacement is not finite or one of the 8 voxels is NaN, whatever its weight.

    Raises
    ------
    ValueError
        If the rank of the image or of the field is wrong, the field has not a component for each axis, or their sizes
        differ. While a function is traced, the batch size alone may be unknown.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(3.0).reshape(1, 3, 1, 1)
    >>> ddf = np.zeros((1, 3, 1, 1, 3))
    >>> ddf[..., 0] = 0.5
    >>> warp(image, ddf)[0, :, 0, 0]
    array([0.5, 1.5, 1. ])
    """
    backend, (image, ddf) = _checked(image, ddf)
    with backend.execution.at(image):
        return _warped(backend, image, ddf)


def _warped(backend: Backend, image: Array, ddf: Array) -> Array:
    xp, shape = backend.xp, image.shape
    image, ddf = _as_volumes(xp, image, ddf)

    def body(cells: _Cells) -> Results:
        f1, f2, f3 = cells.fractions
        v = cells.corners(xp)
        a = {ij: v[*ij, 0] + f3 * (v[*ij, 1] - v[*ij, 0]) for ij in _PAIRS}
        b = [a[i, 0] + f2 * (a[i, 1] - a[i, 0]) for i in (0, 1)]
        return (), (xp.reshape(b[0] + f1 * (b[1] - b[0]), (*cells.grid, *image.shape[4:])),)

    warped = _over_slabs(backend, image, ddf, (), body)[1][0]
    return warped if warped.shape == shape else xp.reshape(warped, shape)


def warp_adjoint(image: Array, ddf: Array, cotangent: Array, wrt: tuple[int, ...] = (0, 1)) -> tuple[Array, ...]:
    """Return the gradients of ``sum(cotangent * warp(image, ddf))``.

    With respect to the image this is the transpose of the warp as a linear map: the cotangent scattered with the warp's
    weights. With respect to the field it is, at each voxel, the cotangent times the derivative of the interpolation. On
    a grid line the interpolation has a kink; there it is the derivative towards larger displacements.

    Parameters
    ----------
    image, ddf
        As `warp` takes them.
    cotangent
        The gradient of a number with respect to ``warp(image, ddf)``; the image's shape.
    wrt
        Which gradients to return: 0 is the image, 1 the field.

    Returns
    -------
    tuple of Array
        One gradient for each index in ``wrt``, of that input's shape and floating dtype (of the dtype that `warp`
        returns where the input has integers); detached from the framework's autodiff.

    Raises
    ------
    ValueError
        As `warp`; also if the cotangent's shape is not the image's, or ``wrt`` names something other than 0 and 1, or
        the batch size is unknown while a function is traced.
    NotImplementedError
        If the image's gradient is wanted and the backend has no ``scatter_add``.
    """
    backend, arrays = _checked(image, ddf, cotangent)
    if None in arrays[0].shape:
        raise ValueError(
            f"The gradients of a warp need a batch size that is known while the function is traced, got "
            f"{tuple(image.shape)}: state it, or differentiate `warp` by the framework's own autodiff."
        )
    with backend.execution.at(arrays[0]):
        image, ddf, cotangent = (backend.autodiff.detach(array) for array in arrays)
        return _gradients(backend, image, ddf, cotangent, wrt)


def _gradients(backend: Backend, image: Array, ddf: Array, cotangent: Array, wrt: tuple[int, ...]) -> tuple[Array, ...]:
    given = image, ddf
    image, ddf, cotangent = _as_volumes(backend.xp, image, ddf, cotangent)
    gradients = []
    for index in wrt:
        if index not in (0, 1):
            raise ValueError(f"wrt takes 0 (the image) and 1 (the displacement field), got {index!r}.")
        like, gradient = given[index], (_image_gradient, _ddf_gradient)[index](backend, image, ddf, cotangent)
        if gradient.shape != like.shape:
            own = gradient[..., 3 - like.shape[-1] :] if index == 1 else gradient
            gradient = backend.xp.reshape(own, like.shape)
        floating = backend.xp.isdtype(like.dtype, "real floating")
        gradients.append(backend.xp.astype(gradient, like.dtype, copy=False) if floating else gradient)
    return tuple(gradients)


def _ddf_gradient(backend: Backend, image: Array, ddf: Array, cotangent: Array) -> Array:
    xp = backend.xp

    def body(cells: _Cells, c: Array) -> Results:
        f1, f2, f3 = cells.fractions
        v = cells.corners(xp)
        # Interpolated along axis 3, then 2, then 1, as in warp; each derivative is a difference along its own axis.
        e = {ij: v[*ij, 1] - v[*ij, 0] for ij in _PAIRS}
        a = {ij: v[*ij, 0] + f3 * e[ij] for ij in _PAIRS}
        d = [a[i, 1] - a[i, 0] for i in (0, 1)]
        b = [a[i, 0] + f2 * d[i] for i in (0, 1)]
        g = [e[i, 0] + f2 * (e[i, 1] - e[i, 0]) for i in (0, 1)]
        derivatives = (b[1] - b[0], d[0] + f1 * (d[1] - d[0]), g[0] + f1 * (g[1] - g[0]))
        c = xp.reshape(c, derivatives[0].shape)
        components = [xp.sum(c * derivative, axis=1) for derivative in derivatives]
        return (), (xp.reshape(xp.stack(components, axis=-1), (*cells.grid, 3)),)

    return _over_slabs(backend, image, ddf, (cotangent,), body)[1][0]


def _image_gradient(backend: Backend, image: Array, ddf: Array, cotangent: Array) -> Array:
    xp = backend.xp

    def body(cells: _Cells, c: Array) -> Results:
        voxels, channels = cells.rows.shape
        c = xp.reshape(c, (-1, channels))
        channel = xp.arange(channels, dtype=backend.dtypes.index(), device=backend.device(ddf))
        index, weights = [], []
        for corner, offset in cells.offsets.items():
            weight = c
            for fraction, ahead in zip(cells.fractions, corner, strict=True):
                weight = weight * (fraction if ahead else 1.0 - fraction)
            weights.append(xp.reshape(weight, (-1,)))
            index.append(xp.reshape(xp.reshape(cells.index + offset, (-1, 1)) * channels + channel, (-1,)))
        return (backend.operations.scatter_add(xp.concat(index), xp.concat(weights), voxels * channels),), ()

    # Every slab's result is as large as the sample, so slabs are larger here: the indices of 8 corners fill one sample.
    batch, *sizes = image.shape[:4]
    elements = max(backend.execution.slab_elements(image, "voxels"), math.prod(sizes) // 8)
    gradient = _over_slabs(backend, image, ddf, (cotangent,), body, elements)[0][0]
    gradient = xp.reshape(gradient, (batch, *(size + 2 * _BORDER for size in sizes), *image.shape[4:]))
    inside = (slice(None), *(slice(_BORDER, _BORDER + size) for size in sizes), ...)
    return xp.astype(gradient[inside], backend.dtypes.compute(image, ddf), copy=False)


# --- the cells that the displacements point to ------------------------------------------------------------------------


class _Cells(NamedTuple):
    """Between which 8 voxels, and where between them, each voxel of a slab is sampled.

    Attributes
    ----------
    rows
        The image with its zero border: a row a voxel, a column a channel.
    grid
        Shape of the slab, ``(samples, planes, d2, d3)``, to reshape to: -1 where the number of samples is unknown.
    index
        Row of the lowest of the 8 voxels, 1-D.
    offsets
        From a corner (0 or 1 along each axis) to how many rows behind the lowest it is.
    fractions
        Where the point is between the two voxels along each axis: three in [0, 1), of shape ``(voxels, 1)``.
    """

    rows: Array
    grid: tuple[int, ...]
    index: Array
    offsets: dict[Corner, int]
    fractions: list[Array]

    def corners(self, xp: Any) -> dict[Corner, Array]:
        """Return the image at the 8 voxels, each of shape ``(voxels, channels)``."""
        return {corner: xp.take(self.rows[offset:, :], self.index, axis=0) for corner, offset in self.offsets.items()}


def _locate(backend: Backend, rows: Array, sizes: tuple[int, ...], u: Array, start: Any) -> _Cells:
    """Find the cells of a slab of displacements ``u`` whose first plane is the image's plane ``start``."""
    xp, dtype, device = backend.xp, u.dtype, backend.device(u)
    grid = _open(tuple(u.shape[:4]))
    bordered = [size + 2 * _BORDER for size in sizes]
    strides = [bordered[1] * bordered[2], bordered[2], 1]
    nan, zero = (xp.asarray(value, dtype=dtype, device=device) for value in (math.nan, 0.0))

    def positions(axis: int, dtype: Any) -> Array:
        if grid[axis] == -1:
            numbers = xp.cumulative_sum(xp.ones_like(u[:, 0, 0, 0, 0], dtype=dtype)) - 1
        else:
            numbers = xp.arange(grid[axis], dtype=dtype, device=device)
        return xp.reshape(numbers, (-1,) + (1,) * (3 - axis))

    # Infinity less its floor would warn, and so would NaN as an integer: a displacement with either becomes a NaN point
    # of the image's first cell.
    finite = xp.isfinite(u[..., 0]) & xp.isfinite(u[..., 1]) & xp.isfinite(u[..., 2])
    index = positions(0, backend.dtypes.index()) * (bordered[0] * strides[0])
    fractions = []
    for i in range(3):
        component = xp.where(finite, u[..., i], nan)
        whole = xp.floor(component)
        fractions.append(xp.reshape(component - whole, (-1, 1)))
        lowest = positions(i + 1, dtype) + whole
        if i == 0:
            lowest = lowest + xp.asarray(start, dtype=dtype, device=device)
        lowest = xp.where(finite, xp.clip(lowest, -_BORDER, sizes[i]), zero)
        index = index + (xp.astype(lowest, backend.dtypes.index()) + _BORDER) * strides[i]
    offsets: dict[Corner, int] = {
        (i, j, k): i * strides[0] + j * strides[1] + k for i, j, k in product((0, 1), repeat=3)
    }
    return _Cells(rows, grid, xp.reshape(index, (-1,)), offsets, fractions)


def _over_slabs(
    backend: Backend,
    image: Array,
    ddf: Array,
    others: tuple[Array, ...],
    body: Callable[..., Results],
    elements: int | None = None,
) -> Results:
    """Run ``body(cells, *others)`` over slabs of about ``elements`` voxels.

    It returns two tuples: arrays that add up over the planes of one sample, and pieces of the result.
    """
    xp, dtype = backend.xp, backend.dtypes.compute(image, ddf)
    sizes = tuple(image.shape[1:4])
    channels = image.shape[4] if len(image.shape) == 5 else 1
    results = []
    for block in plan(tuple(image.shape[:4]), 0, elements or backend.execution.slab_elements(image, "voxels")):
        samples = slice(block.first, block.last)
        rows = xp.astype(image[samples, ...], dtype, copy=False)
        for axis in (1, 2, 3):
            rows = pad(xp, rows, axis, _BORDER, _BORDER)
        rows = xp.reshape(rows, (-1, channels))

        def run(tile: PlaneRange, rows: Array = rows, samples: slice = samples) -> Results:
            u, *planes = (
                xp.astype(backend.execution.planes(array[samples, ...], tile.start, tile.count), dtype, copy=False)
                for array in (ddf, *others)
            )
            return body(_locate(backend, rows, sizes, u, tile.start), *planes)

        results.append(backend.execution.loop(block.tiles, run))
    if len(results) == 1:
        return results[0]
    totals, pieces = (
        tuple(xp.concat(list(column), axis=0) for column in zip(*parts, strict=True))
        for parts in zip(*results, strict=True)
    )
    return totals, pieces


def _open(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """Return a shape to reshape to: -1 for a batch size that is unknown while a function is traced."""
    return tuple(-1 if size is None else size for size in shape)


def _as_volumes(xp: Any, image: Array, ddf: Array, *cotangent: Array) -> tuple[Array, ...]:
    """Give images and a field of fewer axes single planes and lines, and the field components of 0 along them."""
    dims = len(ddf.shape) - 2
    if dims == 3:
        return image, ddf, *cotangent
    batch, *sizes = _open(tuple(ddf.shape[:-1]))
    grid = (batch, *(1,) * (3 - dims), *sizes)
    zeros = xp.zeros_like(ddf[..., :1])
    ddf = xp.concat([zeros] * (3 - dims) + [ddf], axis=-1)
    return tuple(xp.reshape(x, (*grid, *x.shape[dims + 1 :])) for x in (image, ddf, *cotangent))


def _checked(image: Array, ddf: Array, *cotangent: Array) -> tuple[Backend, tuple[Array, ...]]:
    """Find the arrays' backend, or raise what is wrong with their shapes."""
    backend = backend_of(image, ddf, *cotangent)
    arrays = tuple(backend.prepare(array) for array in (image, ddf, *cotangent))
    of_image, of_ddf, *of_cotangent = (backend.shape(array) for array in arrays)
    dims = len(of_ddf) - 2
    if dims not in (1, 2, 3):
        raise ValueError(f"The displacement field must have shape (B, d1, d2, d3, 3), got {of_ddf}.")
    axes = ", ".join(f"d{i + 1}" for i in range(dims))
    if len(of_image) not in (dims + 1, dims + 2):
        raise ValueError(f"The image must have shape (B, {axes}) or (B, {axes}, ch), got {of_image}.")
    if of_ddf[-1] != dims:
        hint = " A single field lacks the axis of the batch: ddf[None]." if of_ddf[-1] == dims + 1 else ""
        raise ValueError(
            f"The displacement field must have {dims} components on its last axis, got shape {of_ddf}.{hint}"
        )
    if of_image[: dims + 1] != of_ddf[: dims + 1]:
        raise ValueError(
            f"The image of shape {of_image} and the displacement field of shape {of_ddf} must agree in (B, {axes})."
        )
    for shape in of_cotangent:
        if shape != of_image:
            raise ValueError(f"The cotangent of shape {shape} must have the image's shape {of_image}.")
    if 0 in of_image:
        raise ValueError(f"The image must not be empty, got shape {of_image}.")
    return backend, arrays
