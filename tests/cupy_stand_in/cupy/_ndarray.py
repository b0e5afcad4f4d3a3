"""Arrays that lie on a card, as far as anybody can tell."""

import numbers

import numpy as np

from cupy import _card
from cupy.cuda.device import Device

IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)
KINDS = "?biufc"
SCALARS = (numbers.Number, np.generic)


class MemoryPointer:
    """Where an array's first element is."""

    def __init__(self, ptr, device_id):
        self.ptr, self.device_id = ptr, device_id


class ndarray:  # noqa: N801
    """A NumPy array in disguise: what is its memory must not be seen by who computes on a card."""

    __slots__ = ("__weakref__", "_device", "_host")
    __hash__ = None

    def __init__(self, shape, dtype=float):
        # What was in memory before: nobody shall read it unwritten.
        self._host = np.empty(shape, dtype=dtype)
        self._host.fill(np.nan if self._host.dtype.kind in "fc" else 99)
        self._device = _card.thread.device

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def shape(self):
        return self._host.shape

    @property
    def dtype(self):
        return self._host.dtype

    @property
    def ndim(self):
        return self._host.ndim

    @property
    def size(self):
        return self._host.size

    @property
    def nbytes(self):
        return self._host.nbytes

    @property
    def itemsize(self):
        return self._host.itemsize

    @property
    def strides(self):
        return self._host.strides

    @property
    def flags(self):
        return self._host.flags

    @property
    def device(self):
        return Device(self._device)

    @property
    def data(self):
        return MemoryPointer(self._host.ctypes.data, self._device)

    def __len__(self):
        return len(self._host)

    # --- what waits for the card, and what never goes unasked ---------------------------------------------------------

    def _fetched(self, what):
        _card.note(_card.WAIT, what)
        _card.note(_card.TO_HOST, what, self._host.nbytes)
        return self._host

    def __bool__(self):
        return bool(self._fetched("__bool__"))

    def __int__(self):
        return int(self._fetched("__int__").item())

    def __float__(self):
        return float(self._fetched("__float__").item())

    def __complex__(self):
        return complex(self._fetched("__complex__").item())

    def item(self):
        return self._fetched("item").item()

    def tolist(self):
        return self._fetched("tolist").tolist()

    def tobytes(self):
        return self._fetched("tobytes").tobytes()

    def get(self, stream=None, order="C", out=None, blocking=True):
        host = self._fetched("get")
        if out is None:
            return np.array(host, order=order)
        out[...] = host
        return out

    def __repr__(self):
        return repr(self._fetched("__repr__"))

    def __str__(self):
        return str(self._fetched("__str__"))

    def __format__(self, spec):
        return format(self._fetched("__format__"), spec)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        # NumPy's scalars come here when they stand first.
        import cupy

        own = getattr(cupy, ufunc.__name__, None)
        if method != "__call__" or own is None:
            return NotImplemented
        return own(*inputs, **keywords)

    def __array_function__(self, function, types, arguments, keywords):
        import cupy

        own = getattr(cupy, function.__name__, None)
        return NotImplemented if own is None else own(*arguments, **keywords)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _indices(self, key):
        """Return an index for NumPy, and whether what it takes is a view."""
        parts, view = [], True
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, ndarray):
                view = False
                if part.dtype.kind == "b":
                    _card.note(_card.WAIT, "a boolean index")
                part = host_of(part)
            elif isinstance(part, list | np.ndarray):
                view = False
                part = host_of(moved(part))
            parts.append(part)
        return tuple(parts), view

    def __getitem__(self, key):
        key, view = self._indices(key)
        if view:
            # With an ellipsis NumPy gives no scalar.
            return placed(self._host[key] if ... in key else self._host[(*key, ...)], self._device)
        return made(host_of(self)[key])

    def __setitem__(self, key, value):
        key, _ = self._indices(key)
        if isinstance(value, np.ndarray) and value.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if not isinstance(value, (ndarray, np.ndarray, *SCALARS)):
            raise TypeError(f"Unsupported type {type(value)}")
        with np.errstate(all="ignore"):
            host_of(self)[key] = host_of(value) if isinstance(value, ndarray) else value

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    @property
    def T(self):  # noqa: N802
        return placed(self._host.T, self._device)

    @property
    def mT(self):  # noqa: N802
        return placed(self._host.mT, self._device)

    def view(self, dtype=None):
        return placed(self._host.view() if dtype is None else self._host.view(dtype), self._device)

    def transpose(self, *axes):
        return placed(self._host.transpose(*axes), self._device)

    def swapaxes(self, axis1, axis2):
        return placed(self._host.swapaxes(axis1, axis2), self._device)

    def squeeze(self, axis=None):
        return placed(self._host.squeeze(axis), self._device)

    def reshape(self, *shape):
        result = self._host.reshape(*shape)
        return placed(result, self._device) if np.may_share_memory(result, self._host) else made(result, self)

    def ravel(self):
        return self.reshape(-1)

    def flatten(self):
        return made(host_of(self).flatten())

    def copy(self):
        return made(host_of(self).copy())

    def fill(self, value):
        host_of(self).fill(value)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == dtype:
            return self
        with np.errstate(all="ignore"):
            return made(host_of(self).astype(dtype))

    # --- reductions, which give arrays without axes rather than numbers -----------------------------------------------

    def _reduced(self, name, **keywords):
        return launch(getattr(np, name), self, **keywords)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduced("sum", axis=axis, dtype=dtype, keepdims=keepdims)

    def prod(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduced("prod", axis=axis, dtype=dtype, keepdims=keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._reduced("mean", axis=axis, dtype=dtype, keepdims=keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return self._reduced("min", axis=axis, keepdims=keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return self._reduced("max", axis=axis, keepdims=keepdims)

    def any(self, axis=None, out=None, keepdims=False):
        return self._reduced("any", axis=axis, keepdims=keepdims)

    def all(self, axis=None, out=None, keepdims=False):
        return self._reduced("all", axis=axis, keepdims=keepdims)

    def take(self, indices, axis=None, out=None):
        indices = moved(indices) if isinstance(indices, list | np.ndarray) else indices
        return launch(np.take, self, indices, axis=axis)

    def scatter_add(self, slices, value):
        with np.errstate(all="ignore"):
            np.add.at(host_of(self), self._indices(slices)[0], host_of(value))


def placed(host, device):
    """Return memory of that card as an array."""
    if host.dtype.char not in "?bhilqBHILQefdFD":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    array = object.__new__(ndarray)
    array._host, array._device = host, device
    return array


def made(result, *read):
    """Return what a kernel made on the current card; ``read`` are arrays that it read."""
    for array in read:
        host_of(array)
    return placed(np.asarray(result), _card.thread.device)


def host_of(argument):
    """Return an argument of a kernel as NumPy takes it: arrays of the card and numbers, nothing else."""
    if isinstance(argument, ndarray):
        _card.check_card(argument._device)
        return argument._host
    if isinstance(argument, SCALARS):
        return argument
    raise TypeError(f"Unsupported type {type(argument)}")


def launch(function, *arguments, **options):
    """Call a function of NumPy's in the place of a kernel, which warns of no number."""
    values = [
        [host_of(item) for item in argument] if isinstance(argument, list | tuple) else host_of(argument)
        for argument in arguments
    ]
    with np.errstate(all="ignore"):
        result = function(*values, **options)
    return tuple(map(made, result)) if isinstance(result, tuple | list) else made(result)


def moved(given, dtype=None, copy=None):
    """Return anything that NumPy takes for an array as one of the current card."""
    if isinstance(given, ndarray):
        if given._device != _card.thread.device:
            _card.note(_card.BETWEEN, "a copy", given.nbytes)
            return placed(given._host.astype(dtype or given.dtype), _card.thread.device)
        if copy is not True and (dtype is None or given.dtype == dtype):
            return given
        return given.astype(dtype or given.dtype)
    host = np.array(given, dtype=dtype)
    if host.ndim:
        # A number is an argument of the kernel that fills an array with it.
        _card.note(_card.TO_CARD, "array", host.nbytes)
    return placed(host, _card.thread.device)


class ufunc:  # noqa: N801
    """A function of arrays, entry by entry."""

    def __init__(self, function, name=None):
        self.function, self.__name__ = function, name or function.__name__

    def __call__(self, *arguments, out=None, dtype=None, casting="same_kind"):
        options = {} if dtype is None else {"dtype": dtype}
        if out is None:
            return launch(self.function, *arguments, **options)
        with np.errstate(all="ignore"):
            values = [host_of(argument) for argument in arguments]
            self.function(*values, out=host_of(out), casting=casting, **options)
        return out

    def at(self, a, indices, b=None):
        if self.function is not np.add:
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        a.scatter_add(indices, b)


_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "matmul": "matmul",
}
_COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _give_operators():
    def forward(own):
        return lambda self, other: own(self, other)

    def backward(own):
        return lambda self, other: own(other, self)

    def alone(own):
        return lambda self: own(self)

    def in_place(own):
        return lambda self, other: own(self, other, out=self)

    for name, function in _OPERATORS.items():
        own = ufunc(getattr(np, function))
        setattr(ndarray, f"__{name}__", forward(own))
        setattr(ndarray, f"__r{name}__", backward(own))
        if name != "matmul":
            setattr(ndarray, f"__i{name}__", in_place(own))
    for name, function in _COMPARISONS.items():
        setattr(ndarray, f"__{name}__", forward(ufunc(getattr(np, function))))
    for name, function in _UNARY.items():
        setattr(ndarray, f"__{name}__", alone(ufunc(getattr(np, function))))


_give_operators()
