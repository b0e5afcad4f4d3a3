"""The PyTorch adapter: closed-form gradients behind one autograd.Function."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from agnoreg_cpu import fused as fused_on_host
from agnoreg_cuda import Queue, usable
from agnoreg_cuda import fused as fused_on_card
from array_api_compat import torch as xp
from torch.autograd.forward_ad import unpack_dual

from agnoreg.backend import CPU_SLABS, GPU_SLABS, TINY, Backend, per_sample
from agnoreg.messages import warn_of_input

Array = torch.Tensor

#: Tensors that have no functions of their own.
PLAIN = (torch.Tensor, torch.nn.Parameter)

#: Integers as wide as a number.
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}

SECOND_DERIVATIVE = (
    "The second derivative of an agnoreg loss is not defined through its closed-form gradient: compute the loss inside "
    "`with agnoreg.native_autodiff():` to have PyTorch differentiate it twice."
)


class _Value(torch.autograd.Function):
    """A function's value."""

    @staticmethod
    def forward(ctx: Any, function: Any, wrt: tuple[int, ...], *arrays: Array) -> Array:
        if function.one_pass and function.rereads:
            # A gradient that costs no pass of its own is made now, and given away at the first time it is asked for.
            value, gradients = function.value_and_gradients(backend, arrays, wrt)
            _Value.keep(ctx, function, wrt, arrays, ())
            ctx.gradients = gradients
        else:
            value, saved = function.forward(backend, arrays, wrt)
            _Value.keep(ctx, function, wrt, arrays, saved)
        return value

    @staticmethod
    def keep(ctx: Any, function: Any, wrt: tuple[int, ...], arrays: Sequence[Array], saved: Sequence[Array]) -> None:
        """Keep what the gradients need, or at least those arrays whose dtype they get."""
        ctx.function, ctx.wrt, ctx.count = function, wrt, len(arrays)
        ctx.kept = tuple(range(len(arrays))) if function.rereads else wrt
        ctx.save_for_backward(*(arrays[index] for index in ctx.kept), *saved)

    @staticmethod
    def backward(ctx: Any, cotangent: Array, *_: Any) -> tuple[Array | None, ...]:
        # Read once: a checkpoint computes them for that.
        tensors = ctx.saved_tensors
        kept, saved = tensors[: len(ctx.kept)], tensors[len(ctx.kept) :]
        # An array that is not kept is not read.
        arrays = tuple(kept[ctx.kept.index(i)] if i in ctx.kept else cotangent for i in range(ctx.count))
        with torch.no_grad(), _without_autocast(cotangent.device.type):
            if saved and _batched(cotangent):
                # Of many cotangents at once the gradient is made once, at unit cotangent: they are factors of samples.
                unit = torch.ones(cotangent.shape, dtype=cotangent.dtype, device=cotangent.device)
                made = ctx.function.backward(backend, arrays, ctx.wrt, ctx.wrt, saved, unit)
                gradients = _scaled(made, cotangent)
            elif saved:
                gradients = ctx.function.backward(backend, arrays, ctx.wrt, ctx.wrt, saved, cotangent)
            else:
                made, ctx.gradients = ctx.gradients, None
                if made is None:
                    _, made = ctx.function.value_and_gradients(backend, arrays, ctx.wrt)
                gradients = _scaled(made, cotangent)
        results: list[Array | None] = [None] * ctx.count
        for index, gradient in zip(ctx.wrt, gradients, strict=True):
            result = gradient.to(arrays[index].dtype)
            # Recorded only where somebody may differentiate once more.
            results[index] = (
                _Gradient.apply(result, cotangent, kept[0], kept[ctx.kept.index(ctx.wrt[-1])])
                if torch.is_grad_enabled()
                else result
            )
        return None, None, *results


class _MappedValue(torch.autograd.Function):
    """The same for torch.func and compilers, which take longer: what the gradients need is of its results."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Any, wrt: tuple[int, ...], *arrays: Array) -> tuple[Array, ...]:
        value, saved = function.forward(backend, arrays, wrt)
        return value, *saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Array, ...]) -> None:
        function, wrt, *arrays = inputs
        ctx.mark_non_differentiable(*output[1:])
        _Value.keep(ctx, function, wrt, arrays, output[1:])

    backward = _Value.backward


class _Gradient(torch.autograd.Function):
    """A gradient, as a function of the cotangent and the arrays.

    Its derivatives by them are unknown, so it refuses to be differentiated; if they were no inputs, a second derivative
    would silently be zero.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Array, cotangent: Array, first: Array, last: Array) -> Array:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Array) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(SECOND_DERIVATIVE)


def _without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which float32 means float32: autocast would halve the histogram's products."""
    try:
        active = torch.is_autocast_enabled(device_type)
    except RuntimeError:  # a device that knows no autocast
        active = False
    return torch.autocast(device_type, enabled=False) if active else nullcontext()


def _scaled(gradients: Sequence[Array], cotangent: Array) -> Sequence[Array]:
    """Return gradients times a cotangent ``(B,)``, in their own memory where that is known to be no batch of them."""
    unchanged = backend.known(lambda: cotangent == 1.0)
    if unchanged:
        return gradients
    multiply = torch.mul if unchanged is None else torch.Tensor.mul_
    return [multiply(gradient, per_sample(xp, cotangent, gradient)) for gradient in gradients]


def _layers(tensor: Array) -> Iterator[Array]:
    """Yield a tensor and what it stands for: each of torch.func's transforms wraps tensors in others."""
    yield tensor
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
        yield tensor


def _batched(tensor: Array) -> bool:
    """Say whether a tensor stands for a batch of them, which PyTorch maps over."""
    if _traced():
        return False
    kinds = torch._C._functorch
    return any(kinds.is_batchedtensor(one) or kinds.is_legacy_batchedtensor(one) for one in _layers(tensor))


def _recorded(tensor: Array) -> bool:
    """Say whether what is done with a tensor is recorded for a gradient, here or by a transform further out.

    A tensor that is mapped over does not say so itself.
    """
    if not torch.is_grad_enabled():
        return False
    if torch.compiler.is_compiling() or not _mapped():
        return tensor.requires_grad
    return any(one.requires_grad for one in _layers(tensor))


def _moves(tensor: Array) -> bool:
    """Say whether a tensor has a tangent, of forward mode."""
    return any(
        unpack_dual(one).tangent is not None for one in _layers(tensor) if not torch._C._functorch.is_batchedtensor(one)
    )


def _on_card(tensor: Array) -> bool:
    return tensor.is_cuda


def _plain(tensor: Array) -> bool:
    """Say whether this is memory that nothing traces, batches or differentiates as it is read."""
    if type(tensor) not in PLAIN or tensor.is_neg() or tensor.layout is not torch.strided or tensor._is_zerotensor():
        return False
    if _recorded(tensor) or _moves(tensor):
        return False
    return _has_memory(tensor)


def _has_memory(tensor: Array) -> bool:
    """Say whether a tensor is one itself, and does not stand for others."""
    try:
        tensor.data_ptr()
    except RuntimeError:  # a tensor of torch.func's, or of a batch of gradients
        return False
    return True


def _traced() -> bool:
    """Say whether operations are recorded now: a kernel would not be."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0


def _untouched(tensor: Array) -> bool:
    """Say whether nothing traces, batches or differentiates what is done with a tensor."""
    if _traced() or _recorded(tensor) or _moves(tensor):
        return False
    return _has_memory(tensor)


def _mapped() -> bool:
    """Say whether torch.func may map over some tensors and not over others, which cannot hold those then."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def _plus(terms: Sequence[tuple[Array, ...]], pairs: Sequence[tuple[Array, Array]], factor: float = 1.0) -> Any:
    """Return the sums of the terms, each plus a product, in the sum's own memory where nobody else has it."""
    if not terms:
        return tuple(x * y for x, y in pairs)
    add = torch.Tensor.addcmul_ if len(terms) > 1 and not _mapped() else torch.addcmul
    sums = terms[0] if len(terms) == 1 else map(torch.add, *terms)
    return tuple(add(total, x, y, value=factor) for total, (x, y) in zip(sums, pairs, strict=True))


@torch.compiler.assume_constant_result
def _warn(text: str) -> None:
    warn_of_input(text)


class TorchBackend(Backend):
    """PyTorch tensors, on any device."""

    types: ClassVar[tuple[type, ...]] = PLAIN
    #: A large image's slabs are worth a second thread.
    slab_sizes: ClassVar[Mapping[str, int]] = CPU_SLABS | {"passing": 1 << 17, "voxels": 1 << 18}

    def owns(self, array: Any) -> bool:
        """Say whether this is a tensor, subclasses included."""
        return isinstance(array, torch.Tensor)

    def prepare(self, array: Array) -> Array:
        """Return a plain tensor, which shares the memory and the gradient of the subclass that it came as.

        A subclass that carries something along sees every function, and may refuse a slice of what it knows as a batch.
        One that stands for its operations, such as a sharded tensor, stays as it is.
        """
        kind = type(array)
        if kind in PLAIN or kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
            return array
        with torch._C.DisableTorchFunctionSubclass():
            return array.as_subclass(torch.Tensor)

    def detach(self, array: Array) -> Array:
        """Return the tensor detached."""
        return array.detach()

    def device(self, array: Array) -> torch.device:
        """Return the tensor's device."""
        return array.device

    def from_numpy(self, array: Any, device: Any = None) -> Array:
        """Copy a NumPy array to a tensor on ``device``."""
        return torch.tensor(array, device=device)

    def to_numpy(self, array: Array) -> Any:
        """Copy the tensor to the host, detached."""
        return array.detach().cpu().numpy()

    def default_float(self) -> torch.dtype:
        """Return `torch.get_default_dtype`, float32 unless the user chose another."""
        return torch.get_default_dtype()

    def accumulator(self, array: Array) -> torch.dtype:
        """Return float64, or float32 on a device that has no float64."""
        return torch.float32 if array.device.type == "mps" else torch.float64

    def known(self, condition: Callable[[], Array]) -> bool | None:
        """Say whether all entries are true; None on a card, and while something traces or batches operations."""
        if _traced():
            return None
        result = condition()
        if result.device.type != "cpu":
            return None
        try:
            return bool(result.all())
        except RuntimeError:  # a tensor of torch.func's, which has no value of its own
            return None

    def visible(self, array: Array) -> bool:
        """Say whether the tensor is in the host's memory, and nothing traces or transforms operations."""
        return array.device.type == "cpu" and not _traced() and torch._C._functorch.peek_interpreter_stack() is None

    def warn(self, text: str) -> None:
        """Warn of inputs, also where a compiler traces the call, which it leaves out of the graph."""
        _warn(text)

    def slab_elements(self, array: Array, kind: str) -> int:
        """Return a cache-sized slab on a CPU, one that fills a card elsewhere, and while a compiler traces.

        PyTorch has no loop that a compiler differentiates: slabs are unrolled, so there must be few of them.
        """
        small = array.device.type == "cpu" and not torch.compiler.is_compiling()
        return (self.slab_sizes if small else GPU_SLABS)[kind]

    def room(self, piece: Array, planes: int) -> Array | None:
        """Return memory for so many planes; None where PyTorch records what is done with the pieces."""
        if not _untouched(piece):
            return None
        return piece.new_empty((piece.shape[0], planes, *piece.shape[2:]))

    def plus_scaled(self, x: Array, y: Array, factor: float) -> Array:
        """Return ``x + factor * y``, in one pass."""
        return torch.add(x, y, alpha=factor)

    def plus_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, factor: float
    ) -> tuple[Array, Array, Array]:
        """Return the terms plus the products, in one pass for each but the first term."""
        if not terms:
            return super().plus_products(terms, x, y, factor)
        return _plus(terms, ((x, x), (y, y), (x, y)), factor)

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return the tensors where ``there`` holds; for zeros elsewhere by their bits, which is faster on a CPU."""
        bits = BITS.get(arrays[0].dtype)
        if fill or bits is None or there.device.type != "cpu" or not all(map(_untouched, (there, *arrays))):
            return super().keep(there, arrays, fill)
        mask = there.to(bits).neg_()
        return tuple((x.view(bits) & mask).view(x.dtype) for x in arrays)

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``, 0 where both are."""
        return part / whole.clamp_min(TINY)

    def plus_weighted_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, share: Array, weight: Array
    ) -> tuple[Array, Array, Array]:
        """Return the terms plus the weighted products, in one pass for each but the first term."""
        alone = not _mapped() and _untouched(x) and _untouched(y)
        weight = share.mul_(weight) if alone else share * weight
        wx = x * weight
        wy = weight.mul_(y) if alone else y * weight
        return _plus(terms, ((wx, x), (wy, y), (wx, y)))

    def plus_product(self, a: Array, x: Array, y: Array) -> Array:
        """Return ``a + x * y``, in one pass."""
        return torch.addcmul(a, x, y)

    def sign(self, x: Array) -> Array:
        """Return the sign, and NaN for NaN: the compatible namespace's writes to a mask, which cannot be mapped."""
        return torch.where(torch.isnan(x), x, torch.sign(x))

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return weights.new_zeros(size).index_add(0, index, weights)

    def differentiable(self, function: Any, arrays: tuple[Array, ...]) -> Array:
        """Return the value; where a tensor requires a gradient, with that gradient hung on it."""
        wrt = tuple(i for i, array in enumerate(arrays) if _recorded(array))
        with _without_autocast(arrays[0].device.type):
            if not wrt:
                return function.value(self, arrays)
            if _mapped():
                return _MappedValue.apply(function, wrt, *arrays)[0]
            return _Value.apply(function, wrt, *arrays)

    # What metrics ask for.

    def recorded(self, array: Array) -> bool:
        """Say whether a gradient by this tensor would be recorded."""
        return _recorded(array) or _moves(array)

    def counted(self, arrays: tuple[Array, ...]) -> tuple[Backend, tuple[Array, ...]]:
        """Return views of tensors on the host as NumPy's arrays, of those on a card as CuPy's.

        Raises
        ------
        TypeError
            While a function is traced, and for tensors on a device that neither of them knows.
        """
        if _traced() or _mapped():
            raise TypeError("A metric needs the numbers: call it outside functions that PyTorch compiles or maps.")
        if all(array.device.type == "cpu" for array in arrays):
            return super().counted(arrays)
        if any(array.device.type != "cuda" for array in arrays):
            raise TypeError(f"A metric of tensors on {arrays[0].device} is computed on the host: pass .cpu() ones.")
        try:
            from agnoreg_cupy import adopted
        except ImportError as error:
            raise TypeError(
                f"A metric of tensors on {arrays[0].device} needs CuPy: pip install agnoreg[cupy12] (or cupy13), or "
                "pass .cpu() ones."
            ) from error
        return adopted(tuple(array.detach() for array in arrays))

    def value_and_grad(
        self, function: Callable[..., Array], arrays: tuple[Array, ...], wrt: tuple[int, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Differentiate the sum of a function on detached copies, so that no tensor's ``.grad`` is touched."""
        with torch.enable_grad():
            leaves = [array.detach().requires_grad_(i in wrt) for i, array in enumerate(arrays)]
            value = function(*leaves)
            if not value.requires_grad:
                return value.detach(), tuple(torch.zeros_like(leaves[i]) for i in wrt)
            gradients = torch.autograd.grad(value.sum(), [leaves[i] for i in wrt], materialize_grads=True)
        return value.detach(), gradients

    def override(self, measure: Any, arrays: tuple[Array, ...]) -> Any:
        """Return a measure of compiled kernels, where there is one for these tensors."""
        measure = super().override(measure, arrays)
        # While torch.func transforms, what is done to a plain tensor makes one that is none.
        if not self.kernels or _traced() or _mapped():
            return measure
        if not all(map(_on_card, arrays)):
            return fused_on_host(measure, self, arrays, measure)
        return fused_on_card(measure, self, arrays) if all(map(_plain, arrays)) and usable() else measure

    # What the kernels ask for: those on the host first.

    def on_host(self, array: Array) -> Any:
        """Return the tensor's memory as a NumPy array; None where it has none on the host that is no one else's."""
        known = array.device.type == "cpu" and (array.dtype in BITS or array.dtype == torch.bool)
        return array.detach().numpy() if known and _plain(array) else None

    def from_host(self, array: Any) -> Array:
        """Return a NumPy array's memory as a tensor."""
        return torch.from_numpy(array)

    def kernel_threads(self) -> int:
        """Return how many threads kernels may share their work among."""
        return torch.get_num_threads()

    def contiguous(self, array: Array) -> Array:
        """Return the tensor, or a copy whose last axis is contiguous."""
        return array.contiguous()

    def address(self, array: Array) -> int:
        """Return where the tensor's first element is."""
        return array.data_ptr()

    def queue(self, array: Array) -> Queue:
        """Return the tensor's card with PyTorch's current stream."""
        stream = torch.cuda.current_stream(array.device)
        return Queue(stream.device_index, stream.cuda_stream)


backend = TorchBackend("torch", xp)
