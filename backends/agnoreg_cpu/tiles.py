"""Operations of kernels on eight float32 numbers at once, and on tiles, squares of eight by eight numbers.

LLVM vectorises a loop only where it finds out by itself that this pays. Here it is told what to do.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from agnoreg_cpu.compiling import instructions

#: How many numbers a row has, and a tile.
LANES, TILE = 8, 64
#: Tiles are worked on by two rows at once, which the widest registers hold; LLVM divides them for narrower ones.
_HALVES = range(0, LANES, 2)
_ROW, _ROWS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.FloatType(), 2 * LANES)
_INDEX = ir.IntType(32)
#: A product and a sum may be one operation.
_FLAGS = ("contract", "nsz")


class Row(types.Type):
    """The type of eight numbers."""

    def __init__(self) -> None:
        super().__init__("Row")


ROW = Row()


@register_model(Row)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _ROW)


class _Maker:
    """Writes LLVM's instructions."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context, self.builder = context, builder

    def place(self, kind: Any, given: Any, offset: int, row: Any) -> Any:
        """Return the address of a row, or two, of a contiguous array ``(numbers,)`` from a start on, both ``given``."""
        array, start = given[:2]
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        at = self.builder.gep(self.builder.gep(data, [start]), [ir.Constant(start.type, offset)])
        return self.builder.bitcast(at, row.as_pointer())

    def read(self, address: Any) -> Any:
        """Return what is there."""
        return self.builder.load(address, align=4)

    def pick(self, row: Any, *lanes: int) -> Any:
        """Return some of a row's numbers."""
        mask = ir.Constant(ir.VectorType(_INDEX, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(row, row, mask)

    def fill(self, number: Any) -> Any:
        """Return a row of one number."""
        one = self.builder.insert_element(ir.Constant(_ROW, ir.Undefined), number, _INDEX(0))
        return self.pick(one, *[0] * LANES)

    def add(self, a: Any, b: Any) -> Any:
        """Return ``a + b``."""
        return self.builder.fadd(a, b, flags=_FLAGS)

    def multiply(self, a: Any, b: Any) -> Any:
        """Return ``a b``."""
        return self.builder.fmul(a, b, flags=_FLAGS)

    def spread(self, row: Any, k: int) -> Any:
        """Return a number of a row eight times, and then the next one."""
        return self.pick(row, *[k] * LANES, *[k + 1] * LANES)

    def twice(self, row: Any) -> Any:
        """Return a row, and the same again."""
        return self.pick(row, *range(LANES), *range(LANES))

    def folded(self, row: Any, size: int) -> Any:
        """Return the sums of a row's first and second half."""
        return self.add(self.pick(row, *range(size)), self.pick(row, *range(size, 2 * size)))


@instructions
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a b + c``, rounded once: also where a processor has no such instruction, though slowly there."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.fma(*given)

    return types.float32(types.float32, types.float32, types.float32), generate


@instructions
def cubic(_: Any, table: Any, start: Any, x: Any) -> Any:
    """Return a row of values of cubic polynomials at ``x``; four rows of an array ``(numbers,)`` are coefficients."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        make = _Maker(context, builder)
        x = make.fill(given[2])
        rows = [make.read(make.place(signature.args[0], given, i * LANES, _ROW)) for i in range(4)]
        value = rows[3]
        for row in rows[2::-1]:
            value = make.add(row, make.multiply(x, value))
        return value

    return ROW(table, types.uintp, types.float32), generate


@instructions
def times(_: Any, row: Any, factor: Any) -> Any:
    """Return a row times a number."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        make = _Maker(context, builder)
        return make.multiply(given[0], make.fill(given[1]))

    return ROW(ROW, types.float32), generate


@instructions
def add_products(_: Any, array: Any, start: Any, t: Any, p: Any) -> Any:
    """Add the products of each number of ``t`` and each of ``p`` to a tile, whose rows belong to ``t``."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        make = _Maker(context, builder)
        p = make.twice(given[3])
        for k in _HALVES:
            address = make.place(signature.args[0], given, k * LANES, _ROWS)
            found = make.add(make.read(address), make.multiply(make.spread(given[2], k), p))
            builder.store(found, address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.uintp, ROW, ROW), generate


@instructions
def sum_products(_: Any, array: Any, start: Any, t: Any, p: Any) -> Any:
    """Return the sum of a tile's numbers times those of ``t``, to which rows belong, and ``p``."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        make = _Maker(context, builder)
        parts = []
        for k in _HALVES:
            rows = make.read(make.place(signature.args[0], given, k * LANES, _ROWS))
            parts.append((make.spread(given[2], k), rows))
        a, b = (make.add(make.multiply(*parts[i]), make.multiply(*parts[i + 1])) for i in (0, 2))
        row = make.multiply(make.folded(make.add(a, b), 8), given[3])
        row = make.folded(make.folded(row, 4), 2)
        return make.add(builder.extract_element(row, _INDEX(0)), builder.extract_element(row, _INDEX(1)))

    return types.float32(array, types.uintp, ROW, ROW), generate
