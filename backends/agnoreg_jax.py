"""The JAX adapter: closed-form gradients behind ``jax.custom_jvp``, slabs by ``lax.scan`` in a compiled function."""

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
from jax import lax
from jax import numpy as xp
from jax.custom_derivatives import SymbolicZero

from agnoreg.backend import CPU_SLABS, GPU_SLABS, Backend
from agnoreg.backend.shifts import pad
from agnoreg.engine.slabs import alike

Array = Any
Results = tuple[tuple[Array, ...], tuple[Array, ...]]
Step = tuple[Any, tuple[Array, ...], tuple[Array, ...]]
#: A state, sums so far, and the images that pieces are written to.
_Carry = tuple[Any, tuple[Array, ...], tuple[Array, ...]]

#: While a function is traced, from so many tiles on that are alike they become a loop: unrolled, they cost memory, and
#: time to compile.
LEAST_LOOPED = 3

#: What XLA is told where the adapter itself compiles, as ``jax.jit`` takes it; None for JAX's own choice.
COMPILER_OPTIONS: dict[str, Any] | None = None


class JaxBackend(Backend):
    """JAX arrays, eager or traced by any of JAX's transformations, on any device."""

    takes_parameters: ClassVar[bool] = True
    #: XLA fuses what is done voxel by voxel: in a whole image it stores nothing.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"voxels": 1 << 23}

    def __init__(self) -> None:
        super().__init__("jax", xp)

    def owns(self, array: Any) -> bool:
        """Say whether this is an array, or a tracer, which stands for one."""
        return isinstance(array, jax.Array)

    def detach(self, array: Array) -> Array:
        """Return the array as a constant."""
        return lax.stop_gradient(array)

    def device(self, array: Array) -> Any:
        """Return the one device that the array was put on; None where JAX may choose, and while a function is traced.

        An array that was not put anywhere goes where the others are. One that is spread over several devices is left to
        JAX, too.
        """
        if isinstance(array, jax.core.Tracer) or not array.committed or len(array.sharding.device_set) > 1:
            return None
        return array.device

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to ``device``: one of JAX's, or a name such as ``"cpu"``, ``"gpu"`` or ``"gpu:1"``.

        float64 and int64 become float32 and int32 where ``jax_enable_x64`` is off, as JAX has it.
        """
        if isinstance(device, str):
            platform, _, index = device.partition(":")
            device = jax.devices(platform)[int(index or 0)]
        return jax.device_put(np.array(array), device)

    def default_float(self) -> Any:
        """Return the dtype that JAX gives a Python float: float64 where ``jax_enable_x64`` is on."""
        return xp.result_type(float)

    def accumulator(self, array: Array) -> Any:
        """Return float64 where ``jax_enable_x64`` is on; nothing else may be asked for where it is off."""
        return jax.dtypes.canonicalize_dtype(np.float64)

    def index_dtype(self) -> Any:
        """Return int64 where ``jax_enable_x64`` is on."""
        return jax.dtypes.canonicalize_dtype(np.int64)

    def _compute_dtype_of(self, dtype: Any) -> Any:
        # Not kept: ``jax.enable_x64`` may change it.
        return self._choose_dtype(dtype)

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Say whether all entries are true; None on a card and while anything traces."""
        result = condition()
        if isinstance(result, jax.core.Tracer) or any(one.platform != "cpu" for one in result.devices()):
            return None
        return bool(result.all())

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return a cache-sized slab on a CPU, one that fills the card elsewhere; a tracer's device is the default."""
        concrete = not isinstance(array, jax.core.Tracer)
        platform = next(iter(array.devices())).platform if concrete else jax.default_backend()
        return (self.slab_sizes if platform == "cpu" else GPU_SLABS)[kind]

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return the measure, compiled as a whole; its own arrays in the compute dtype.

        One by one, JAX would compile each of its operations for each shape, which takes longer.
        """
        kept, parameters = _split(measure)
        dtype = self.compute_dtype(*arrays[: measure.inputs])
        parameters = tuple(xp.astype(x, dtype) for x in parameters)
        if not _hashable(kept):
            return _joined(kept, parameters)
        return _Compiled(kept, parameters, self.slab_elements(arrays[0], measure.kind))

    # --- work -------------------------------------------------------------------------------------------------------

    def planes(self, array: Array, start: Any, count: int, beyond: bool = False) -> Array:
        """Return ``count`` planes along axis 1 from ``start``, which a loop only knows as a tracer."""
        if isinstance(start, int):
            return super().planes(array, start, count, beyond)
        if not beyond:
            return lax.dynamic_slice_in_dim(array, start, count, axis=1)
        array = _with_zeros(array, count - array.shape[1])
        # The last planes that there are, and zeros after them, of which the later ones are taken.
        first = xp.minimum(start, array.shape[1] - count)
        there = _with_zeros(lax.dynamic_slice_in_dim(array, first, count, axis=1), count)
        return lax.dynamic_slice_in_dim(there, start - first, count, axis=1)

    def scan(
        self, tiles: Sequence[Any], body: Callable[[Any, Any], Step], state: Any, kept: slice = slice(None)
    ) -> Results:
        """Run ``body`` over ``tiles``; while a function is traced, over many that are alike by one loop."""
        same = alike(tiles)
        if same.stop - same.start < LEAST_LOOPED or not _traced():
            return super().scan(tiles, body, state, kept)
        planes = sum(tile.count for tile in tiles)

        def take(tile: Any, state: Any, totals: tuple[Array, ...], rooms: tuple[Array, ...]) -> _Carry:
            state, sums, pieces = body(tile, state)
            totals = tuple(a + b for a, b in zip(totals, sums, strict=True)) if totals else sums
            rooms = rooms or tuple(xp.zeros((x.shape[0], planes, *x.shape[2:]), x.dtype) for x in pieces)
            places = zip(rooms, pieces, strict=True)
            # One after the other they are written to the same memory.
            rooms = tuple(lax.dynamic_update_slice_in_dim(room, x, tile.start, axis=1) for room, x in places)
            return state, totals, rooms

        carry: _Carry = (state, (), ())
        # What the body returns is learnt from the first tile, outside the loop.
        for tile in tiles[: same.start + 1]:
            carry = take(tile, *carry)
        first, second = tiles[same][:2]

        def once(carry: _Carry, step: Array) -> tuple[_Carry, None]:
            return take(replace(first, start=first.start + step * (second.start - first.start)), *carry), None

        carry, _ = lax.scan(once, carry, xp.arange(1, same.stop - same.start, dtype=xp.int32))
        for tile in tiles[same.stop :]:
            carry = take(tile, *carry)
        _, totals, rooms = carry
        return totals, rooms if kept == slice(None) else tuple(room[:, kept] for room in rooms)

    def conv3d(self, x: Array, kernels: Sequence[Sequence[float] | None], transpose: bool = False) -> Array:
        """Correlate with one kernel an axis, compiled as a whole where the kernels are numbers."""
        fixed = tuple(None if taps is None else tuple(taps) for taps in kernels)
        if not all(isinstance(tap, float) for taps in fixed for tap in taps or ()):
            return super().conv3d(x, kernels, transpose)
        return _filter(fixed, transpose, _options(x))(x)

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return xp.zeros((size,), dtype=weights.dtype).at[index].add(weights)

    # What metrics ask for.

    def recorded(self, array: Array) -> bool:
        """Say whether JAX traces the array, be it for a gradient or for its compiler."""
        return isinstance(array, jax.core.Tracer)

    def counted(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return arrays on the host as NumPy's, those on a card as CuPy's.

        Raises
        ------
        TypeError
            For arrays on a device that neither of them knows.
        """
        platforms = {one.platform for array in arrays for one in array.devices()}
        if platforms == {"cpu"}:
            return super().counted(arrays)
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                f"A metric of arrays on {', '.join(sorted(platforms))} needs CuPy, or arrays on the host: "
                "jax.device_put(array, jax.devices('cpu')[0])."
            ) from error
        return adopted(arrays)

    # --- gradients --------------------------------------------------------------------------------------------------

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value, whose tangent is the sum of the gradients times the inputs' tangents.

        From that one rule JAX makes reverse mode too, for it is linear in the tangents. Differentiated once more it is
        JAX that differentiates the gradient's own operations. An array among the function's parameters, such as a
        spacing, has no closed form: by that JAX differentiates the value itself.
        """
        kept, parameters = _split(function)

        @jax.custom_jvp
        def value(parameters: tuple[Array, ...], arrays: tuple[Array, ...]) -> Array:
            return _joined(kept, parameters).value(self, arrays)

        @partial(value.defjvp, symbolic_zeros=True)
        def tangent(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
            # Forward mode hands on what it was given: NumPy's arrays, too.
            parameters, arrays = jax.tree.map(xp.asarray, primals)
            # A mask, which may follow the inputs, is a constant.
            moves = {i: move for i, move in enumerate(tangents[1][: function.inputs]) if _moves(move)}
            if moves:
                result, gradients = _joined(kept, parameters).value_and_gradients(self, arrays, tuple(moves))
            else:
                result, gradients = _joined(kept, parameters).value(self, arrays), ()
            total = xp.zeros_like(result)
            for gradient, move in zip(gradients, moves.values(), strict=True):
                total += self._products(gradient, move)
            if any(map(_moves, tangents[0])):

                def by_parameters(*parameters: Array) -> Array:
                    return _joined(kept, parameters).value(self, arrays)

                steps = (x if _moves(x) else xp.zeros(x.shape, x.dtype) for x in tangents[0])
                total += jax.jvp(by_parameters, parameters, tuple(steps))[1]
            return result, total

        return value(parameters, arrays)

    def _products(self, gradient: Array, move: Array) -> Array:
        """Return the sums of the products of each sample; a cotangent, too, meets the gradient before it is rounded."""
        products = gradient * xp.astype(move, gradient.dtype)
        sums = xp.sum(products, axis=tuple(range(1, products.ndim)), dtype=self.accumulator(products))
        return xp.astype(sums, gradient.dtype)

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of a function in reverse mode.

        Raises
        ------
        TypeError
            If an input to differentiate by is not floating-point.
        """
        for i in wrt:
            if not xp.isdtype(arrays[i].dtype, "real floating"):
                raise TypeError(f"JAX differentiates by floating-point arrays, input {i} is {arrays[i].dtype}.")

        def of(*moved: Array) -> Array:
            inputs = list(arrays)
            for i, x in zip(wrt, moved, strict=True):
                inputs[i] = x
            return function(*inputs)

        value, back = jax.vjp(of, *(arrays[i] for i in wrt))
        return value, back(xp.ones_like(value))


def _traced() -> bool:
    """Say whether operations are recorded now: then even a constant is."""
    return isinstance(xp.zeros(()), jax.core.Tracer)


def _hashable(measure: Any) -> bool:
    """Say whether a measure, which may be a user's, can be remembered."""
    try:
        hash(measure)
    except TypeError:
        return False
    return True


def _moves(tangent: Any) -> bool:
    """Say whether a tangent may be anything but 0; that of an integer has a dtype of its own."""
    return not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0


def _with_zeros(array: Array, planes: int) -> Array:
    """Put so many planes of zeros after an array's along axis 1, none where the number is negative."""
    return pad(xp, array, 1, 0, max(0, planes))


class _Compiled:
    """A measure that is compiled once for every shape; of its numbers only arrays may change."""

    def __init__(self, kept: Any, parameters: tuple[Array, ...], elements: int) -> None:
        self.kept, self.parameters, self.elements = kept, parameters, elements

    def _run(self, what: str, arrays: tuple[Array, ...], wrt: tuple[int, ...] | None = None, **numbers: Any) -> Any:
        function = _graph_of(self.kept, what, wrt, self.elements, _options(*self.parameters, *arrays))
        return function(self.parameters, arrays, **numbers)

    def compute(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value."""
        return self._run("compute", arrays)

    def compute_image(self, backend: Backend, arrays: tuple[Array, ...]) -> Array:
        """Return the value at every voxel."""
        return self._run("compute_image", arrays)

    def compute_with_gradients(
        self, backend: Backend, arrays: tuple[Array, ...], wrt: tuple[int, ...], scale: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the value and the gradients."""
        return self._run("compute_with_gradients", arrays, wrt, scale=scale)


Options = tuple[tuple[str, Any], ...]


def _options(*arrays: Array) -> Options:
    """Return the options, none where this becomes a part of what somebody else compiles."""
    nested = any(isinstance(x, jax.core.Tracer) for x in arrays)
    return () if not COMPILER_OPTIONS or nested or _traced() else tuple(COMPILER_OPTIONS.items())


@lru_cache(maxsize=1024)
def _graph_of(kept: Any, what: str, wrt: tuple[int, ...] | None, elements: int, options: Options) -> Callable[..., Any]:
    """Return a measure's method, to be compiled for every shape; slabs of another size are another program."""
    more = {} if wrt is None else {"wrt": wrt}

    def function(parameters: tuple[Array, ...], arrays: tuple[Array, ...], **numbers: Any) -> Any:
        return getattr(_joined(kept, parameters), what)(backend, arrays, **more, **numbers)

    return jax.jit(function, compiler_options=dict(options))


@lru_cache(maxsize=128)
def _filter(kernels: tuple[Any, ...], transpose: bool, options: Options) -> Callable[[Array], Array]:
    return jax.jit(lambda x: Backend.conv3d(backend, x, kernels, transpose), compiler_options=dict(options))


# --- arrays among a function's parameters -----------------------------------------------------------------------------

# JAX must see them: a function that it transforms or keeps may have no others than it is given.


class _Place(NamedTuple):
    """Where one of the arrays stood."""

    number: int


def _split(function: Any) -> tuple[Any, tuple[Array, ...]]:
    """Return the function with places for the floating-point arrays among its parameters, and these."""
    found: list[Array] = []

    def take(x: Array) -> _Place:
        found.append(x)
        return _Place(len(found) - 1)

    return _mapped(function, _is_parameter, take), tuple(found)


def _is_parameter(x: Any) -> bool:
    return isinstance(x, jax.Array) and bool(xp.isdtype(x.dtype, "real floating"))


def _joined(function: Any, parameters: Sequence[Array]) -> Any:
    """Return the function with arrays in their places."""
    return (
        _mapped(function, lambda x: isinstance(x, _Place), lambda x: parameters[x.number]) if parameters else function
    )


def _mapped(item: Any, among: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Return a dataclass or a tuple, and those in it, with some of what they hold changed; itself if nothing is."""
    if among(item):
        return change(item)
    if type(item) is tuple:
        mapped = tuple(_mapped(x, among, change) for x in item)
        return item if all(map(operator.is_, mapped, item)) else mapped
    if not is_dataclass(item) or isinstance(item, type):
        return item
    old = {one.name: getattr(item, one.name) for one in fields(item)}
    new = {name: _mapped(x, among, change) for name, x in old.items()}
    if all(new[name] is old[name] for name in old):
        return item
    # Its parameters were checked when it was made.
    item = copy.copy(item)
    for name, x in new.items():
        object.__setattr__(item, name, x)
    return item


backend = JaxBackend()
