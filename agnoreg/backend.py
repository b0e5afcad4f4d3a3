"""What an adapter gives the core, and how the adapter of an array is found.

No framework is named or imported here. An adapter is an entry point of the group ``agnoreg.backends`` whose name is the
import name of its framework, so an array can only belong to it once that framework is in ``sys.modules``.
"""

import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from agnoreg.messages import warn_of_input
from agnoreg.stencil import cut, pad, window_sum

Array = Any

#: Elements of one slab for planes that pass by, work in windows, in bins (of all of them together) and voxel by voxel:
#: cache-sized on a CPU, card-filling on a GPU.
CPU_SLABS: dict[str, int] = {"passing": 1 << 16, "windows": 1 << 20, "bins": 3 << 18, "voxels": 1 << 17}
GPU_SLABS: dict[str, int] = {"passing": 1 << 24, "windows": 1 << 24, "bins": 3 << 24, "voxels": 1 << 24}

#: Less than any weight that counts.
TINY = 1e-30

GROUP = "agnoreg.backends"


class BackendNotAvailableError(ImportError):
    """A backend was asked for by name and cannot be used; the message says what to install or what is broken."""


class Backend:
    """One framework's adapter: its Array API namespace and the few things that the standard lacks.

    An adapter subclasses this and overrides what its framework does better; every method here is written in Array API
    calls alone and serves any array with ``__array_namespace__``.
    """

    #: The import name of the framework.
    name: str
    #: The Array API namespace that the core computes with.
    xp: Any
    #: Types whose objects are arrays of this framework, known before the first one turns up; it may have more.
    types: ClassVar[tuple[type, ...]] = ()
    #: Elements of one slab for each kind of work.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS
    #: From a measure's class to a subclass of it, with the same parameters, whose functions are this framework's own.
    overrides: ClassVar[dict[type, type]] = {}
    #: Whether `override` may choose compiled kernels, where there are any; False makes it the core's own path.
    kernels: bool = True
    #: Whether a measure may have arrays without axes among its parameters, such as a spacing that is traced.
    takes_parameters: ClassVar[bool] = False

    def __init__(self, name: str, xp: Any) -> None:
        self.name = name
        self.xp = xp
        # The usual ones are there from the start: a compiler that traces the first call would compile the second one
        # again, if the first had written them.
        floats = (getattr(xp, name) for name in ("float32", "float64") if hasattr(xp, name))
        self._compute_dtypes: dict[Any, Any] = {dtype: dtype for dtype in floats}

    def __repr__(self) -> str:
        return f"<agnoreg backend {self.name}>"

    # --- arrays -----------------------------------------------------------------------------------------------------

    def owns(self, array: Array) -> bool:
        """Say whether ``array`` is an array of this framework."""
        return hasattr(array, "__array_namespace__") and array.__array_namespace__() is self.xp

    def prepare(self, array: Array) -> Array:
        """Turn what the framework takes for an array (a variable, say) into one that the namespace computes with."""
        return array

    def detach(self, array: Array) -> Array:
        """Return the array cut off from the framework's autodiff, sharing its memory."""
        return array

    def device(self, array: Array) -> Any:
        """Return the device that ``array`` lives on, None where it has none yet; two arrays of one call must agree."""
        return getattr(array, "device", None)

    def at(self, array: Array) -> AbstractContextManager[Any]:
        """Return a context in which the framework works where ``array`` is, if that is not of itself so.

        Nobody need enter it who is called by a loss: whatever a user calls enters it.
        """
        return nullcontext()

    def shape(self, array: Array) -> tuple[int | None, ...]:
        """Return the shape as integers, ``None`` for a size that is unknown while a function is traced."""
        return tuple(array.shape)

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Return a NumPy array as an array of this framework, on ``device``."""
        return self.xp.asarray(array, device=device)

    def to_numpy(self, array: Array) -> Any:
        """Return an array of this framework as a NumPy array, from whatever device."""
        import numpy

        return numpy.asarray(array)

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Say whether all entries of what ``condition`` returns are true; None where nobody knows without waiting.

        That is so on a device that works on its own, and while a function is traced.
        """
        return None

    def visible(self, array: Array) -> bool:
        """Say whether the numbers of an array may be looked at now, without waiting and with no one recording it."""
        return False

    def warn(self, text: str) -> None:
        """Warn of inputs, while a function is traced too."""
        warn_of_input(text)

    def unusable(self) -> str:
        """Return why nothing can be computed on this machine, or an empty string: the framework may lack its device."""
        return ""

    # --- dtypes -----------------------------------------------------------------------------------------------------

    def compute_dtype(self, *arrays: Array) -> Any:
        """Return the dtype that a loss of these arrays is computed in and returned as.

        float64 stays; float32, half, bool and integers of up to 16 bit are float32; wider integers are the framework's
        default float; of several arrays the widest counts.
        """
        wide = self.xp.float64
        dtypes = [self._compute_dtype_of(array.dtype) for array in arrays]
        return wide if wide in dtypes else self.xp.float32

    def _compute_dtype_of(self, dtype: Any) -> Any:
        if dtype not in self._compute_dtypes:
            self._compute_dtypes[dtype] = self._choose_dtype(dtype)
        return self._compute_dtypes[dtype]

    def _choose_dtype(self, dtype: Any) -> Any:
        xp = self.xp
        if not xp.isdtype(dtype, ("bool", "integral", "real floating")):
            raise TypeError(
                f"A loss takes real numbers, got an array of dtype {dtype}; of a complex image pass the modulus, say."
            )
        if xp.isdtype(dtype, "real floating"):
            return xp.float64 if xp.finfo(dtype).bits > 32 else xp.float32
        if xp.isdtype(dtype, "integral") and xp.iinfo(dtype).bits > 16:
            return self.default_float()
        return xp.float32

    def default_float(self) -> Any:
        """Return the dtype that this framework gives a Python float."""
        return self.xp.asarray(1.0).dtype

    def accumulator(self, array: Array) -> Any:
        """Return the dtype in which sums over slabs of ``array`` are added up."""
        return self.xp.float64

    def index_dtype(self) -> Any:
        """Return the dtype of the places of an image's voxels."""
        return self.xp.int64

    # --- work -------------------------------------------------------------------------------------------------------

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return a measure that computes the same of these arrays by functions of the framework's own, or the same."""
        kind = self.overrides.get(type(measure))
        return kind(**{item.name: getattr(measure, item.name) for item in fields(measure)}) if kind else measure

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return how many elements one slab of ``array`` may hold for one of the kinds of work in `CPU_SLABS`."""
        return self.slab_sizes[kind]

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return ``count`` planes of ``array`` along axis 1, from ``start`` on; zeros ``beyond`` the last one."""
        if not beyond:
            return array[:, start : start + count, ...]
        there = max(0, min(array.shape[1] - start, count))
        planes = cut(array, 1, start, start + there) if there else self.xp.zeros_like(cut(array, 1, 0, 1))
        return pad(self.xp, planes, 1, 0, count - max(there, 1))

    def scan(
        self,
        tiles: Sequence[Any],
        body: Callable[[Any, Any], tuple[Any, tuple[Array, ...], tuple[Array, ...]]],
        state: Any,
        kept: slice = slice(None),
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Run ``body(tile, state)`` over ``tiles``, one after the other.

        It returns the state for the next tile, arrays that are added up, and pieces that are concatenated along axis 1,
        of which those planes are ``kept``.
        """
        planes = sum(tile.count for tile in tiles)
        kept = slice(kept.start or 0, planes if kept.stop is None else kept.stop)
        gathered = Gathered(self, kept, len(tiles) == 1)
        for tile in tiles:
            state, sums, piece = body(tile, state)
            gathered.add(sums, piece)
        return gathered.result()

    def loop(
        self,
        tiles: Sequence[Any],
        body: Callable[[Any], tuple[tuple[Array, ...], tuple[Array, ...]]],
        parallel: bool = False,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Run ``body`` over ``tiles``: add up its first results, concatenate its second ones along axis 1.

        ``parallel`` says that a tile is much work for little memory, worth a thread where there are any.
        """
        return self.scan(tiles, lambda tile, state: (state, *body(tile)), ())

    def room(self, piece: Array, planes: int) -> Array | None:
        """Return memory for so many planes like ``piece``; None where arrays cannot be written."""
        return None

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Correlate ``x`` with one kernel an axis, along axes 1, 2 and 3: zero padded, the size kept.

        ``None`` leaves an axis alone. ``transpose`` is the adjoint, for which an even kernel swaps its two paddings.
        """
        for axis, taps in enumerate(kernels, start=1):
            if taps is not None:
                x = window_sum(self.xp, x, taps, axis, transpose)
        return x

    def dot(self, x: Array, y: Array) -> Array:
        """Return the sums of the products along the last axis."""
        return self.xp.sum(x * y, axis=-1)

    def plus_scaled(self, x: Array, y: Array, factor: float) -> Array:
        """Return ``x + factor * y``."""
        result = y * factor
        result += x
        return result

    def plus_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, factor: float
    ) -> tuple[Array, Array, Array]:
        """Return ``factor`` times ``x x``, ``y y`` and ``x y``, each plus its own of ``terms``.

        ``x`` and ``y`` may be overwritten.
        """
        root = math.sqrt(factor)
        x *= root
        y *= root
        products = [x * x, y * y, x * y]
        for term in terms:
            for place, part in enumerate(term):
                products[place] += part
        return products[0], products[1], products[2]

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return arrays of one dtype as they are where ``there`` holds, elsewhere a number, whatever they are."""
        number = self.xp.full((1,), fill, dtype=arrays[0].dtype, device=self.device(arrays[0]))
        return tuple(self.xp.where(there, x, number) for x in arrays)

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``, 0 where both are."""
        return part / self.xp.maximum(whole, self.xp.full((1,), TINY, dtype=whole.dtype, device=self.device(whole)))

    def plus_weighted_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, share: Array, weight: Array
    ) -> tuple[Array, Array, Array]:
        """Return ``share weight`` times ``x x``, ``y y`` and ``x y``, each plus its own of ``terms``.

        ``x``, ``y`` and ``share`` may be overwritten.
        """
        weight = share * weight
        weighted_y = y * weight
        y *= weighted_y
        weighted_y *= x
        x *= x
        x *= weight
        products = [x, y, weighted_y]
        for term in terms:
            for place, part in enumerate(term):
                products[place] += part
        return products[0], products[1], products[2]

    def plus_product(self, a: Array, x: Array, y: Array) -> Array:
        """Return ``a + x * y``."""
        result = x * y
        result += a
        return result

    def exp_minus(self, x: Array) -> Array:
        """Return ``exp(-x)``; ``x`` may be overwritten."""
        x *= -1.0
        return self.xp.exp(x)

    def sign(self, x: Array) -> Array:
        """Return 1, 0 or -1 with the sign of ``x``; NaN stays."""
        return self.xp.sign(x)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return an array of ``size`` zeros to which each of ``weights`` was added at its ``index`` (both 1-D)."""
        raise NotImplementedError(
            f"The backend {self.name} has no scatter_add, which this operation needs: convert the arrays to NumPy, or "
            "give the adapter that method."
        )

    # --- gradients --------------------------------------------------------------------------------------------------

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return ``function``'s value, with its gradient hung on the framework's autodiff where it has one."""
        return function.value(self, arrays)

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of an arbitrary ``function`` of ``arrays`` by the framework's own autodiff."""
        raise NotImplementedError(
            f"{describe(function)} has no gradient of its own and {self.name} has no automatic differentiation: give "
            "its class a method gradient(self, *arrays, wrt) that returns one array for each index in wrt, or let its "
            "measure() return a combination of agnoreg's own, or pass arrays of a framework that differentiates."
        )


class Gathered:
    """What tiles yield, one after the other: sums are added up, pieces are put side by side along axis 1.

    Where arrays can be written, a piece goes to its place at once: its memory is used again, while it is in cache.
    """

    def __init__(self, backend: Backend, kept: slice, single: bool) -> None:
        self.backend, self.kept, self.single = backend, kept, single
        self.totals: tuple[Array, ...] = ()
        self.pieces: list[tuple[Array, ...]] = []
        self.rooms: tuple[Array, ...] = ()
        self.first = 0

    def add(self, sums: tuple[Array, ...], piece: tuple[Array, ...], placed: int = 0) -> None:
        """Take the results of the next tile; of a piece that was `put` already, how many planes it has."""
        self.totals = tuple(a + b for a, b in zip(self.totals, sums, strict=True)) if self.totals else sums
        if not piece:
            self.first += placed
            return
        first, last = self.first, self.first + piece[0].shape[1]
        self.first = last
        start, stop = max(self.kept.start, first), min(self.kept.stop, last)
        if start >= stop:
            return
        if (start, stop) != (first, last):
            piece = tuple(cut(x, 1, start - first, stop - first) for x in piece)
        if not (self.pieces or self.rooms or self.single):
            rooms = tuple(self.backend.room(x, self.kept.stop - self.kept.start) for x in piece)
            self.rooms = () if any(room is None for room in rooms) else rooms
        if self.rooms:
            self.put(start - self.kept.start, piece)
        else:
            self.pieces.append(piece)

    def put(self, start: int, piece: tuple[Array, ...]) -> None:
        """Write a piece to its place, which no other piece shares."""
        for room, x in zip(self.rooms, piece, strict=True):
            room[:, start : start + x.shape[1], ...] = x

    def result(self) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the sums, and the pieces as one."""
        if self.rooms:
            if self.first < self.kept.stop:
                raise ValueError(f"The pieces have {self.first} planes together, where {self.kept.stop} are wanted.")
            return self.totals, self.rooms
        if len(self.pieces) < 2:
            return self.totals, self.pieces[0] if self.pieces else ()
        return self.totals, tuple(
            self.backend.xp.concat(list(column), axis=1) for column in zip(*self.pieces, strict=True)
        )


def describe(function: Any) -> str:
    """Name a function or an object for an error message."""
    return getattr(function, "__name__", None) or type(function).__name__


# --- finding the adapter ----------------------------------------------------------------------------------------------

_loaded: dict[str, Backend] = {}
_by_type: dict[type, Backend] = {}
_generic: dict[str, Backend] = {}


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def get_backend(name: str) -> Backend:
    """Return the adapter called ``name``, importing its framework.

    Parameters
    ----------
    name
        The framework's import name, which is its adapter's: ``"numpy"`` and what `available_backends` lists; or that of
        any importable module that is itself an Array API namespace.

    Raises
    ------
    BackendNotAvailableError
        If the framework is not installed (the message says which extra installs it) or does not import (why).
    ValueError
        If no adapter has that name.
    """
    if name in _loaded:
        return _loaded[name]
    points = _entry_points()
    if name not in points:
        return _generic_by_name(name, known=sorted(points))
    point = points[name]
    try:
        _loaded[name] = point.load()
        _by_type.update(dict.fromkeys(_loaded[name].types, _loaded[name]))
    except ImportError as error:
        raise BackendNotAvailableError(_why_not(name, error)) from error
    except Exception as error:
        raise BackendNotAvailableError(f"The backend {name} is installed but broken: {_one_line(error)}") from error
    return _loaded[name]


def _why_not(name: str, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == name:
        choices = " or ".join(f"agnoreg[{extra}]" for extra in _entry_points()[name].extras or [name])
        return f"The backend {name} is not installed: pip install {choices}."
    return f"The backend {name} is installed but broken: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _generic_by_name(name: str, known: list[str]) -> Backend:
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError, TypeError, AttributeError):
        module = None
    if module is None or not hasattr(module, "__array_api_version__"):
        raise ValueError(f"Unknown backend {name!r}: the installed adapters are {', '.join(known)}.")
    return _generic.setdefault(name, Backend(name, module))


def available_backends() -> dict[str, str]:
    """Return every known backend's state: ``"ok"``, ``"absent: ..."`` or ``"broken: ..."`` with the reason.

    This imports each framework; nothing else does before an array of it turns up.
    """
    states = {}
    for name in sorted(_entry_points()):
        try:
            reason = get_backend(name).unusable()
            states[name] = f"broken: {reason}" if reason else "ok"
        except BackendNotAvailableError as error:
            reason = str(error)
            states[name] = ("absent: " if "is not installed" in reason else "broken: ") + reason
    return states


def load_imported() -> None:
    """Load the adapters of the frameworks that are imported already: a function that is traced cannot."""
    for name in _entry_points():
        if name in sys.modules and name not in _loaded:
            with suppress(BackendNotAvailableError):
                get_backend(name)


def _adapter(array: Any) -> Backend | None:
    kind = type(array)
    if kind in _by_type:
        return _by_type[kind]
    found = next((backend for backend in _loaded.values() if backend.owns(array)), None)
    if found is None:
        load_imported()
        found = next((backend for backend in _loaded.values() if backend.owns(array)), None)
    if found is None and hasattr(array, "__array_namespace__"):
        xp = array.__array_namespace__()
        found = _generic.setdefault(xp.__name__, Backend(xp.__name__, xp))
    if found is not None:
        _by_type[kind] = found
    return found


def backend_of(*arrays: Any) -> Backend:
    """Return the adapter of the framework that all of ``arrays`` belong to.

    Raises
    ------
    TypeError
        If one of them is not an array, if they belong to two frameworks (both are named, and how to convert), or if
        they live on two devices.
    """
    if not arrays:
        raise TypeError("backend_of needs at least one array.")
    first = _adapter_or_raise(arrays[0])
    device = first.device(arrays[0])
    for array in arrays[1:]:
        backend = _adapter_or_raise(array)
        if backend is not first:
            raise TypeError(
                f"The arrays belong to two frameworks: {_kind(arrays[0])} and {_kind(array)}. Convert one of them, "
                f"for example agnoreg.get_backend({first.name!r}).from_numpy(agnoreg.get_backend({backend.name!r})"
                ".to_numpy(array)); agnoreg never copies between frameworks unasked."
            )
        other = backend.device(array)
        device = other if device is None else device
        if other is not None and other != device:
            raise TypeError(
                f"The arrays live on two devices: {device} and {other}. Move one of them to the "
                "other's device first; agnoreg never copies between devices unasked."
            )
    return first


def _adapter_or_raise(array: Any) -> Backend:
    backend = _adapter(array)
    if backend is None:
        raise TypeError(
            f"Expected an array, got {_kind(array)}: pass an array of one of {', '.join(sorted(_entry_points()))}, "
            "or any array with __array_namespace__ (a list becomes one by numpy.asarray)."
        )
    return backend


def _kind(array: Any) -> str:
    kind = type(array)
    return f"{kind.__module__}.{kind.__qualname__}"


def per_sample(xp: Any, values: Array, like: Array) -> Array:
    """Reshape ``(B,)`` values so that they broadcast over the samples of ``like``."""
    return xp.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
