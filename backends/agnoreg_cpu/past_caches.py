"""Writing a large gradient past the caches.

A core that writes an array first reads it into its caches, and what else was there has to leave. A gradient larger than
the caches is gone from them anyway when it is read. So it is written straight to memory, whole cache lines at once.
That saves the reading, and the caches keep what is needed next: the interpreter, its objects and the framework.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types

from agnoreg.backend.accelerators import ALIGNED
from agnoreg_cpu.compiling import kernel

Array = Any

#: How many numbers are made in a core's cache before they are written.
BLOCK = np.uintp(1024)
#: Bytes from which on an array is larger than what of it the caches would keep.
LARGE = 1 << 24
#: Bytes of a cache line, or of several.
LINE = np.uintp(ALIGNED)

#: Kernels call such functions without the first argument.
_intrinsic: Any = extending.intrinsic


@_intrinsic
def _write_line(typing: Any, block: Any, first: Any, out: Any, place: Any) -> Any:
    """Write a line of numbers, ``block[first:]``, to ``out[place:]``, which begins a cache line."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size = out.dtype.bitwidth // 8
        line = ir.VectorType(context.get_data_type(out.dtype), ALIGNED // size).as_pointer()

        def pointer(kind: Any, array: Any, index: Any) -> Any:
            data = context.make_array(kind)(context, builder, array).data
            return builder.bitcast(builder.gep(data, [index]), line)

        numbers = builder.load(pointer(block, *arguments[:2]), align=size)
        store = builder.store(numbers, pointer(out, *arguments[2:]), align=ALIGNED)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(block, first, out, place), generate


@_intrinsic
def _wait(typing: Any) -> Any:
    """Wait until what was written past the caches is in memory."""

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


@kernel(apart=True, inner=True)
def write_block(block: Array, out: Array, start: Any) -> None:
    """Write a block to ``out[start:]`` past the caches; that place begins a cache line."""
    for i in range(np.uintp(0), BLOCK, LINE // np.uintp(block.itemsize)):
        _write_line(block, i, out, start + i)


@kernel(inner=True)
def end(whole: Any) -> None:
    """Let the other cores see so many numbers that were written past the caches."""
    if whole > 0:
        _wait()
