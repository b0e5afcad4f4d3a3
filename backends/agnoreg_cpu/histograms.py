"""The joint histogram of two images by Gaussian windows, and the gradients of what is made of it; in float32.

A voxel has weights in the six or eight bins around it, which come from a table (`parzen.py`). Its products of weights
are added to the histogram, and its gradient reads as many numbers.

A histogram is kept in tiles of eight by eight bins, which overlap so that a voxel's bins are all in one tile. Rows are
read as they are written, whole: a processor waits where what it reads lies across writes that are still under way.
Images are worked on in blocks of voxels that stay in cache.
"""

from typing import Any

import numpy as np

from agnoreg.backend.accelerators import ALIGNED
from agnoreg_cpu.compiling import ROUNDING, kernel
from agnoreg_cpu.tiles import LANES, TILE, add_products, cubic, fma, sum_products, times

Array = Any

#: With more bins it takes longer to add up the histograms of blocks than to make them.
MOST_BINS = 64
#: How many voxels a block has. Their products are added up in float32, in some histograms by turns, so that a product
#: need not wait for the one before it.
BLOCK, TURNS = np.uintp(512), np.uintp(4)
#: Where a block's tiles and its places in the tables begin, for both images.
TILES, PLACES, OTHER_TILES, OTHER_PLACES = (np.uintp(i) * BLOCK for i in range(4))
SIZE, ONE_MORE = np.uintp(TILE), np.uintp(1)
ZERO, ONE = np.float32(0), np.float32(1)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _place(
    image: Array, weights: Array, bins: Any, cells: Any, taps: Any, tiles: Array, places: Array, fractions: Array
) -> None:
    """Write each voxel's row of tiles, where its polynomials are in a table, and where in their cell it lies."""
    step, edge = LANES + 1 - taps, taps // 2 - 1
    last, most, parts, top = np.float32(bins - 1), np.int32(bins - 2), np.float32(cells), np.int32(cells - 1)
    # To Numba, products and sums of int32 are int64, of which half as many are computed at once.
    kind_size, shift_size = np.int32(4 * LANES * cells * step), np.int32(4 * LANES * cells)
    beyond, inverse = np.int32(max(bins - 2 - edge, edge)), np.int32(65536 // step + 1)
    step, edge, none = np.int32(step), np.int32(edge), np.int32(0)
    for i in range(image.shape[0]):
        x = image[i]
        if weights.shape[0] > 0:
            # Nothing is computed with what does not count.
            x = x if weights[i] > ZERO else ZERO
        # NaN passes no comparison.
        y = x if x > ZERO else ZERO
        y = y if y < ONE else ONE
        bin = min(np.int32(y * last), most)
        # Rounded once, as windows are steep.
        place = fma(y, last, -np.float32(bin)) * parts
        cell = max(min(np.int32(place), top), none)
        tile = np.int32(np.int32(bin * inverse) >> np.int32(16))
        shift = np.int32(bin - np.int32(tile * step))
        kind = np.int32(min(bin, edge) + max(np.int32(bin - beyond), none))
        row = np.int32(np.int32(kind * kind_size) + np.int32(shift * shift_size))
        tiles[i], places[i] = tile, np.int32(row + np.int32(cell * np.int32(4 * LANES)))
        fractions[i] = place - np.float32(cell) if x == x else x


@kernel(inner=True)
def _place_both(
    one: Array, other: Array, weights: Array, bins: Any, cells: Any, taps: Any, places: Array, fractions: Array
) -> None:
    """Write for both images what `_place` writes."""
    _place(one, weights, bins, cells, taps, places[TILES:], places[PLACES:], fractions)
    _place(other, weights, bins, cells, taps, places[OTHER_TILES:], places[OTHER_PLACES:], fractions[BLOCK:])


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _count(
    table: Array, places: Array, fractions: Array, weights: Array, count: Any, across: Any, reached: Array, parts: Array
) -> None:
    """Add each voxel's products of weights to one of the histograms, and mark the tile."""
    turn, across = np.uintp(parts.shape[0]) // TURNS, np.uintp(across)
    for i in range(np.uintp(count)):
        t = cubic(table, np.uintp(places[PLACES + i]), fractions[i])
        p = cubic(table, np.uintp(places[OTHER_PLACES + i]), fractions[BLOCK + i])
        if weights.shape[0] > 0:
            t = times(t, weights[i])
        tile = np.uintp(places[TILES + i]) * across + np.uintp(places[OTHER_TILES + i])
        reached[tile] = True
        add_products(parts, i % TURNS * turn + tile * SIZE, t, p)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _move(reached: Array, parts: Array, total: Array) -> None:
    """Add the histograms of some voxels to the whole one where they reached it, and leave zeros."""
    size = np.uintp(total.shape[0])
    for tile in range(np.uintp(reached.shape[0])):
        if reached[tile]:
            reached[tile] = False
            for i in range(tile * SIZE, (tile + ONE_MORE) * SIZE):
                part = ZERO
                for turn in range(TURNS):
                    part += parts[turn * size + i]
                    parts[turn * size + i] = ZERO
                total[i] += part


@kernel(inner=True)
def _zeros(count: Any) -> Array:
    """Return zeros in float32, from the beginning of a line of cache on."""
    numbers = np.zeros(count + ALIGNED // 4, np.float32)
    start = -numbers.ctypes.data % ALIGNED // 4
    return numbers[start : start + count]


@kernel()
def histogram(t: Array, p: Array, weights: Array, bins: Any, taps: Any, cells: Any, table: Array) -> Array:
    """Return the joint histogram ``(bins, bins)``; each voxel's entries add up to 1, or to its weight if there are any.

    The table of weights, for ``taps`` bins and with ``cells`` from one bin to the next, is from `parzen_tables`.
    """
    step, edge = LANES + 1 - taps, taps // 2 - 1
    across, count = (bins - 2) // step + 1, np.uintp(t.shape[0])
    total = np.zeros(across * across * TILE, np.float64)
    parts, reached = _zeros(np.intp(TURNS) * total.shape[0]), np.zeros(across * across, np.bool_)
    places, fractions = np.empty(4 * BLOCK, np.int32), np.empty(2 * BLOCK, np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _place_both(t[block], p[block], counts, bins, cells, taps, places, fractions)
        _count(table, places, fractions, counts, n, across, reached, parts)
        _move(reached, parts, total)
    joint = np.zeros((step * across + LANES, step * across + LANES))
    for tile in range(across * across):
        i, k = tile // across * step, tile % across * step
        for j in range(TILE):
            joint[i + j // LANES, k + j % LANES] += total[tile * TILE + j]
    return joint[edge : edge + bins, edge : edge + bins]


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _gather(
    slopes: Array, table: Array, places: Array, fractions: Array, across: Any, tiles: Array, out: Array
) -> None:
    """Write each voxel's sum of the products of a derivative, the other image's weight and the matrix's entry."""
    across = np.uintp(across)
    for i in range(np.uintp(out.shape[0])):
        t = cubic(slopes, np.uintp(places[PLACES + i]), fractions[i])
        p = cubic(table, np.uintp(places[OTHER_PLACES + i]), fractions[BLOCK + i])
        tile = np.uintp(places[TILES + i]) * across + np.uintp(places[OTHER_TILES + i])
        out[i] = sum_products(tiles, tile * SIZE, t, p)


@kernel(fastmath=ROUNDING, apart=True, inner=True)
def _weigh(image: Array, weights: Array, out: Array) -> None:
    """Multiply the derivatives by the voxels' weights, if there are any; beyond [0, 1] they are 0."""
    for i in range(image.shape[0]):
        x, slope = image[i], out[i]
        if weights.shape[0] > 0:
            slope = slope * weights[i] if weights[i] > ZERO else ZERO
        # Clipping passes the gradient at exactly 0 and 1, and NaN is neither inside nor beyond.
        out[i] = ZERO if (x < ZERO) | (x > ONE) else slope


@kernel()
def slope(
    own: Array, other: Array, weights: Array, matrix: Array, taps: Any, cells: Any, table: Array, slopes: Array,
    out: Array,
) -> None:  # fmt: skip
    """Write the derivative by an image's voxels, of whose bins the matrix's rows are.

    The tables of weights and of their derivatives are from `parzen_tables`.
    """
    step, edge, bins = LANES + 1 - taps, taps // 2 - 1, matrix.shape[0]
    across, count = (bins - 2) // step + 1, np.uintp(out.shape[0])
    tiles = _zeros(across * across * TILE)
    for tile in range(across * across):
        i, k = tile // across * step - edge, tile % across * step - edge
        for j in range(TILE):
            row, column = i + j // LANES, k + j % LANES
            if 0 <= row < bins and 0 <= column < bins:
                tiles[tile * TILE + j] = matrix[row, column]
    places, fractions = np.empty(4 * BLOCK, np.int32), np.empty(2 * BLOCK, np.float32)
    for start in range(np.uintp(0), count, BLOCK):
        n = min(BLOCK, count - start)
        block = slice(start, start + n)
        counts = weights[block]
        _place_both(own[block], other[block], counts, bins, cells, taps, places, fractions)
        _gather(slopes, table, places, fractions, across, tiles, out[block])
        _weigh(own[block], counts, out[block])
