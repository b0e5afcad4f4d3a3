"""Writing a large gradient past the caches.

A core that writes an array first reads it into its caches, and what else was there has to leave. A gradient larger than
the caches is gone from them anyway when it is read. So it is written straight to memory, whole cache lines at once.
That saves the reading, and the caches keep what is needed next: the interpreter, its objects and the framework.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from agnoreg.backend.accelerators import ALIGNED
from agnoreg_cpu.compiling import instructions, kernel

Array = Any

#: How many numbers are made in a core's cache before they are written. Sums in `pointwise` are of as many, and threads
#: take whole blocks.
BLOCK = np.uintp(1024)
#: Bytes from which on a gradient is written past the caches: it paid from here on the processor of docs/kernels.md.
LARGE = 1 << 24
#: Bytes at whose multiples such a write begins.
LINE = np.uintp(ALIGNED)


@instructions
def write_block(typing: Any, block: Any, out: Any, start: Any) -> Any:
    """Write a block to ``out[start:]`` past the caches; that place begins a cache line."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, number = out.dtype.bitwidth // 8, ir.IntType(64)
        line = ir.VectorType(context.get_data_type(out.dtype), ALIGNED // size).as_pointer()
        source, target = (
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip((block, out), arguments[:2], strict=True)
        )
        target = builder.gep(target, [arguments[2]])
        for first in range(0, int(BLOCK), ALIGNED // size):
            here, there = (builder.bitcast(builder.gep(x, [number(first)]), line) for x in (source, target))
            store = builder.store(builder.load(here, align=size), there, align=ALIGNED)
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(block, out, start), generate


@instructions
def wait(typing: Any) -> Any:
    """Wait until what was written past the caches is in memory, where the other cores see it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@kernel(inner=True)
def in_blocks(out: Array, large: bool) -> Any:
    """Return how many numbers of a gradient are written past the caches: whole blocks, if it is ``large``."""
    # Memory that does not begin a cache line, such as that of a second sample, cannot be written so.
    count = np.uintp(out.shape[0])
    return count - count % BLOCK if large and out.ctypes.data % LINE == 0 else np.uintp(0)
