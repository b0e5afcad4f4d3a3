"""The class that an adapter subclasses, with a generic implementation of everything in Array API calls."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any, ClassVar

from agnoreg.backend.counting import Counting
from agnoreg.backend.gathered import Gathered
from agnoreg.backend.shifts import cut, pad
from agnoreg.backend.windows import window_sum
from agnoreg.messages import describe, warn_of_input

Array = Any

#: Elements of one slab for planes that pass by, work in windows, in bins (of all of them together) and voxel by voxel:
#: cache-sized on a CPU, card-filling on a GPU.
CPU_SLABS: dict[str, int] = {"passing": 1 << 16, "windows": 1 << 20, "bins": 3 << 18, "voxels": 1 << 17}


GPU_SLABS: dict[str, int] = {"passing": 1 << 24, "windows": 1 << 24, "bins": 3 << 24, "voxels": 1 << 24}


#: Less than any weight that counts.
TINY = 1e-30


class Backend(Counting):
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


def per_sample(xp: Any, values: Array, like: Array) -> Array:
    """Reshape ``(B,)`` values so that they broadcast over the samples of ``like``."""
    return xp.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))
