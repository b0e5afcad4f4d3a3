"""Python functions that XLA calls on the CPU, by its foreign function interface (FFI).

`jax.pure_callback` would hand a function JAX arrays. Reading those waits for XLA's threads, and the function itself
keeps one of them busy: on a machine of few cores both wait for ever. Here a function gets NumPy's views of XLA's own
memory, and nothing of JAX runs inside it. The layout of what XLA hands over is that of ``xla/ffi/api/c_api.h``, whose
versions of the same major number are compatible.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

try:
    from jax import ffi
except ImportError:  # JAX before 0.5
    ffi = None  # type: ignore[assignment]

Array = Any
#: What is called: it reads the first arrays and writes the second ones, and is told in words what to do.
Function = Callable[[Sequence[Array], Sequence[Array], str], None]

MAJOR = 0
METADATA, EXECUTE, INTERNAL = 1, 3, 13
#: NumPy's dtypes by XLA's numbers.
DTYPES = dict(enumerate(map(np.dtype, "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()), start=1))  # noqa: SIM905

_Pointer, _Size, _Int64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
#: Python's own view of memory at an address, of so many bytes; and what may be done with it.
_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_memory.argtypes, _memory.restype = (_Pointer, ctypes.c_ssize_t, ctypes.c_int), ctypes.py_object
READ, WRITE = 0x100, 0x200


class _Version(ctypes.Structure):
    _fields_ = (("size", _Size), ("extension", _Pointer), ("major", ctypes.c_int), ("minor", ctypes.c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("size", _Size), ("version", _Version), ("traits", ctypes.c_uint32))


class _Extension(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("type", ctypes.c_int),
        ("next", _Pointer),
        ("metadata", ctypes.POINTER(_Metadata)),
    )


class _ErrorDetails(ctypes.Structure):
    _fields_ = (("size", _Size), ("extension", _Pointer), ("message", ctypes.c_char_p), ("code", ctypes.c_int))


class _Api(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("extension", _Pointer),
        ("version", _Version),
        ("internal", _Pointer),
        ("create_error", ctypes.CFUNCTYPE(_Pointer, ctypes.POINTER(_ErrorDetails))),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("extension", _Pointer),
        ("dtype", ctypes.c_int),
        ("data", _Pointer),
        ("rank", _Int64),
        ("sizes", ctypes.POINTER(_Int64)),
    )


class _Buffers(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("extension", _Pointer),
        ("count", _Int64),
        ("types", _Pointer),
        ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    )


class _Text(ctypes.Structure):
    _fields_ = (("start", _Pointer), ("length", _Size))


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("extension", _Pointer),
        ("count", _Int64),
        ("types", _Pointer),
        ("names", _Pointer),
        ("values", ctypes.POINTER(ctypes.POINTER(_Text))),
    )


class _Call(ctypes.Structure):
    _fields_ = (
        ("size", _Size),
        ("extension", ctypes.POINTER(_Extension)),
        ("api", ctypes.POINTER(_Api)),
        ("context", _Pointer),
        ("stage", ctypes.c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
        ("attributes", _Attributes),
    )


_Handler = ctypes.CFUNCTYPE(_Pointer, ctypes.POINTER(_Call))
#: XLA keeps their addresses, so they must stay.
_handlers: list[Any] = []


@lru_cache(maxsize=8)
def registered(name: str, function: Function) -> bool:
    """Let XLA know a function by name; return False where this version of JAX has no such interface."""
    if ffi is None:
        return False

    def handle(call: Any) -> int | None:
        call = call.contents
        try:
            _handled(call, function)
        except BaseException as error:  # Nothing may be raised into XLA, which raises it where the result is used.
            return _error(call.api.contents, f"{type(error).__name__}: {error}")
        return None

    _handlers.append(_Handler(handle))
    ffi.register_ffi_target(name, ffi.pycapsule(ctypes.cast(_handlers[-1], _Pointer).value), platform="cpu")
    return True


def call(name: str, results: Sequence[Any], arrays: Sequence[Array], words: str) -> tuple[Array, ...]:
    """Return what a registered function makes of arrays, traced or not; under ``vmap`` all have more axes in front."""
    return tuple(ffi.ffi_call(name, tuple(results), vmap_method="broadcast_all")(*arrays, words=words))


def _handled(call: Any, function: Function) -> None:
    if call.extension and call.extension.contents.type == METADATA:
        # XLA asks which version this was made for.
        theirs, ours = call.api.contents.version, call.extension.contents.metadata.contents.version
        ours.major, ours.minor = MAJOR, theirs.minor if theirs.major == MAJOR else 0
    elif call.stage == EXECUTE:
        arguments = [_view(one.contents, READ) for one in _all(call.arguments)]
        results = [_view(one.contents, WRITE) for one in _all(call.results)]
        text = call.attributes.values[0].contents
        function(arguments, results, ctypes.string_at(text.start, text.length).decode())


def _all(buffers: Any) -> Sequence[Any]:
    return buffers.buffers[: buffers.count]


def _view(buffer: Any, access: int) -> Array:
    """Return XLA's memory as an array, to read or to write."""
    shape, dtype = tuple(buffer.sizes[: buffer.rank]), DTYPES[buffer.dtype]
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, _memory(buffer.data, size, access) if size else None)


def _error(api: Any, message: str) -> int | None:
    details = _ErrorDetails(ctypes.sizeof(_ErrorDetails), None, message.encode(), INTERNAL)
    return api.create_error(ctypes.byref(details))
