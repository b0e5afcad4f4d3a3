"""What PyTorch does in one pass over its tensors."""

from collections.abc import Sequence
from typing import Any

import torch

from agnoreg.backend import TINY, Operations
from agnoreg_torch._state import mapped, untouched

Array = torch.Tensor

#: Integers as wide as a number.
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def _plus(terms: Sequence[tuple[Array, ...]], pairs: Sequence[tuple[Array, Array]], factor: float = 1.0) -> Any:
    """Return the sums of the terms, each plus a product, in the sum's own memory where nobody else has it."""
    if not terms:
        return tuple(x * y for x, y in pairs)
    add = torch.Tensor.addcmul_ if len(terms) > 1 and not mapped() else torch.addcmul
    sums = terms[0] if len(terms) == 1 else map(torch.add, *terms)
    return tuple(add(total, x, y, value=factor) for total, (x, y) in zip(sums, pairs, strict=True))


class TorchOperations(Operations):
    """PyTorch's operations, in place where nobody else has the memory."""

    def sign(self, x: Array) -> Array:
        """Return the sign, and NaN for NaN: the compatible namespace's writes to a mask, which cannot be mapped."""
        return torch.where(torch.isnan(x), x, torch.sign(x))

    def scatter_add(self, index: Array, weights: Array, size: int) -> Array:
        """Return the weights added up by index."""
        return weights.new_zeros(size).index_add(0, index, weights)

    def keep(self, there: Array, arrays: Sequence[Array], fill: float) -> tuple[Array, ...]:
        """Return the tensors where ``there`` holds; for zeros elsewhere by their bits, which is faster on a CPU."""
        bits = BITS.get(arrays[0].dtype)
        if fill or bits is None or there.device.type != "cpu" or not all(map(untouched, (there, *arrays))):
            return super().keep(there, arrays, fill)
        mask = there.to(bits).neg_()
        return tuple((x.view(bits) & mask).view(x.dtype) for x in arrays)

    def share(self, part: Array, whole: Array) -> Array:
        """Return ``part / whole``, 0 where both are."""
        return part / whole.clamp_min(TINY)

    def plus_scaled(self, x: Array, y: Array, factor: float) -> Array:
        """Return ``x + factor * y``, in one pass."""
        return torch.add(x, y, alpha=factor)

    def plus_product(self, a: Array, x: Array, y: Array) -> Array:
        """Return ``a + x * y``, in one pass."""
        return torch.addcmul(a, x, y)

    def plus_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, factor: float
    ) -> tuple[Array, Array, Array]:
        """Return the terms plus the products, in one pass for each but the first term."""
        if not terms:
            return super().plus_products(terms, x, y, factor)
        return _plus(terms, ((x, x), (y, y), (x, y)), factor)

    def plus_weighted_products(
        self, terms: Sequence[tuple[Array, Array, Array]], x: Array, y: Array, share: Array, weight: Array
    ) -> tuple[Array, Array, Array]:
        """Return the terms plus the weighted products, in one pass for each but the first term."""
        alone = not mapped() and untouched(x) and untouched(y)
        weight = share.mul_(weight) if alone else share * weight
        wx = x * weight
        wy = weight.mul_(y) if alone else y * weight
        return _plus(terms, ((wx, x), (wy, y), (wx, y)))
