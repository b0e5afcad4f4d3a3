"""A stand-in for CuPy where there is no card: its arrays, in the memory of the host, computed by NumPy.

It is put first on the path of a process of its own, and has no more names than agnoreg, array_api_compat and Dask use,
each with CuPy's own arguments. What it takes more strictly than NumPy is what CuPy does: no array of NumPy's is taken
for one of a card, nor the other way round; no reduction gives a number; a result lies on the current card. What would
wait for a card, or copy, is written down (`cupy._card.watched`). Memory that nobody has written to holds NaN.

`RawModule` runs agnoreg's kernels by their emulator, where the environment has CUPY_STAND_IN_KERNELS=1.
"""

import numpy as _np

from cupy import _card
from cupy import cuda as cuda
from cupy import fft as fft
from cupy import linalg as linalg
from cupy._ndarray import host_of as _host_of
from cupy._ndarray import launch as _launch
from cupy._ndarray import made as _made
from cupy._ndarray import moved as _moved
from cupy._ndarray import ndarray
from cupy._ndarray import placed as _placed
from cupy._ndarray import ufunc as _ufunc
from cupy._raw import RawModule as RawModule

__version__ = "14.2"
#: What makes a report say that no card was there.
__stand_in__ = f"NumPy {_np.__version__}"

#: What CuPy has of NumPy's own: dtypes and what is known of them, and a few constants.
SHARED = """
    bool_ int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128
    number integer signedinteger unsignedinteger floating complexfloating dtype finfo iinfo
    isdtype issubdtype can_cast promote_types result_type broadcast_shapes e inf nan newaxis pi
"""
ENTRY_BY_ENTRY = """
    add subtract multiply divide true_divide floor_divide remainder power pow negative positive absolute abs sqrt square
    exp expm1 log log1p log2 log10 floor ceil trunc sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh arccosh
    arctanh arctan2 hypot copysign minimum maximum isnan isinf isfinite equal not_equal less less_equal greater
    greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert left_shift
    right_shift matmul
"""
for _name in SHARED.split():
    globals()[_name] = getattr(_np, _name)
for _name in ENTRY_BY_ENTRY.split():
    globals()[_name] = _ufunc(getattr(_np, _name), _name)
del SHARED, ENTRY_BY_ENTRY

# --- entry by entry ---------------------------------------------------------------------------------------------------

#: CuPy's, unlike NumPy's, makes 0 of NaN.
sign = _ufunc(lambda x, **options: _np.nan_to_num(_np.sign(x, **options), nan=0.0), "sign")


def clip(a, a_min, a_max, out=None):
    def clipped(x, low, high):
        # A NaN among the entries stays, one among the bounds has no effect.
        return _np.where(x < low, low, _np.where(x > high, high, x))

    return _launch(clipped, a, -_np.inf if a_min is None else a_min, _np.inf if a_max is None else a_max)


def where(condition, x=None, y=None):
    if x is None or y is None:
        raise NotImplementedError("where of a condition alone waits for the card")
    return _launch(_np.where, condition, x, y)


def round(a, decimals=0, out=None):
    return _launch(_np.round, a, decimals=decimals)


# --- made anew --------------------------------------------------------------------------------------------------------


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    made = _moved(obj, dtype, copy)
    return made.reshape((1,) * (ndmin - made.ndim) + made.shape) if made.ndim < ndmin else made


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return _moved(a, dtype, copy)


def ascontiguousarray(a, dtype=None):
    a = _moved(a, dtype)
    return a if a.flags.c_contiguous else _made(_np.ascontiguousarray(_host_of(a)))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream=stream, order=order, out=out) if isinstance(a, ndarray) else _np.asarray(a, order=order)


def astype(x, dtype, /, *, copy=True):
    return x.astype(dtype, copy=copy)


def empty(shape, dtype=float):
    return ndarray(shape, dtype)


def full(shape, fill_value, dtype=None):
    if isinstance(fill_value, ndarray):
        fill_value = _host_of(fill_value)
    return _made(_np.full(shape, fill_value, dtype=dtype))


def zeros(shape, dtype=float):
    return _made(_np.zeros(shape, dtype=dtype))


def ones(shape, dtype=float):
    return _made(_np.ones(shape, dtype=dtype))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return empty(*_like(prototype, dtype, shape))


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    shape, dtype = _like(a, dtype, shape)
    return full(shape, fill_value, dtype)


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return zeros(*_like(a, dtype, shape))


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return ones(*_like(a, dtype, shape))


def _like(a, dtype, shape):
    return a.shape if shape is None else shape, a.dtype if dtype is None else dtype


def arange(start, stop=None, step=1, dtype=None):
    return _made(_np.arange(start, dtype=dtype) if stop is None else _np.arange(start, stop, step, dtype=dtype))


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    return _made(_np.linspace(start, stop, num, endpoint=endpoint, dtype=dtype))


def eye(N, M=None, k=0, dtype=float):
    return _made(_np.eye(N, M, k, dtype=dtype))


# --- arranged anew ----------------------------------------------------------------------------------------------------


def reshape(a, newshape, order="C", *, copy=None):
    return a.reshape(newshape)


def transpose(a, axes=None):
    return a.transpose(axes)


permute_dims = transpose


def swapaxes(a, axis1, axis2):
    return a.swapaxes(axis1, axis2)


def matrix_transpose(x, /):
    return x.mT


def moveaxis(a, source, destination):
    return _placed(_np.moveaxis(a._host, source, destination), a._device)


def expand_dims(a, axis):
    return _placed(_np.expand_dims(a._host, axis), a._device)


def squeeze(a, axis=None):
    return a.squeeze(axis)


def broadcast_to(array, shape):
    return _placed(_np.broadcast_to(array._host, shape), array._device)


def broadcast_arrays(*args):
    shape = _np.broadcast_shapes(*(x.shape for x in args))
    return [broadcast_to(x, shape) for x in args]


def flip(a, axis=None):
    return _placed(_np.flip(a._host, axis), a._device)


def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _launch(_np.concatenate, list(tup), axis=axis, dtype=dtype)


concat = concatenate


def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return _launch(_np.stack, list(tup), axis=axis, dtype=dtype)


def take(a, indices, axis=None, out=None):
    return ndarray.take(a, indices, axis)


def tensordot(a, b, axes=2):
    return _launch(_np.tensordot, a, b, axes=axes)


def einsum(*operands):
    return _launch(lambda *arrays: _np.einsum(operands[0], *arrays), *operands[1:])


# --- summed up --------------------------------------------------------------------------------------------------------


def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    return ndarray.sum(a, axis, dtype, out, keepdims)


def prod(a, axis=None, dtype=None, out=None, keepdims=False):
    return ndarray.prod(a, axis, dtype, out, keepdims)


def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    return ndarray.mean(a, axis, dtype, out, keepdims)


def min(a, axis=None, out=None, keepdims=False):
    return ndarray.min(a, axis, out, keepdims)


def max(a, axis=None, out=None, keepdims=False):
    return ndarray.max(a, axis, out, keepdims)


def any(a, axis=None, out=None, keepdims=False):
    return ndarray.any(a, axis, out, keepdims)


def all(a, axis=None, out=None, keepdims=False):
    return ndarray.all(a, axis, out, keepdims)


def bincount(x, weights=None, minlength=None):
    # It looks whether an index is negative, and for the greatest one.
    _card.note(_card.WAIT, "bincount")
    _card.note(_card.WAIT, "bincount")
    return _launch(_np.bincount, x, *(() if weights is None else (weights,)), minlength=minlength or 0)


def count_nonzero(a, axis=None):
    return _launch(_np.count_nonzero, a, axis=axis)


def sort(a, axis=-1, kind=None):
    return _launch(_np.sort, a, axis=axis)


def nonzero(a):
    _card.note(_card.WAIT, "nonzero")
    return _launch(_np.nonzero, a)


def unique(ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *, equal_nan=True):
    _card.note(_card.WAIT, "unique")
    return _launch(
        _np.unique,
        ar,
        return_index=return_index,
        return_inverse=return_inverse,
        return_counts=return_counts,
        equal_nan=equal_nan,
    )
