"""Runs, zones, dependences and tone differences in the window around each voxel.

Definitions and values are those of pyradiomics' voxel mode (masked kernel; GLRLM per
direction without weights, GLDM with alpha 0, GLDM and NGTDM at distance 1): a window
ends at the mask and at the image, and nothing outside of it counts.

No matrix over all levels is made. The levels of a window are ranked, and each is a set
of bits: a plane of the window is one number, whose bit y * width + x is set where the
voxel has the level. Shifts by a direction then find runs, growth by the neighbors finds
zones, and counting bits counts both. Moments are sums of integers, entropies come from
a table of c log2(c).

The kernels share the arguments

levels : (n,) integers
    Levels 1..`n_levels` of a padded image, 0 outside the mask.
centers : (v,)
    Positions in `levels` of the centers of the windows, all in the mask.
offsets : (cells,)
    Distance in `levels` of each cell of a window from its center, in raster order.
tables
    Those that the function `<kernel>_tables` makes of the radius, at most 3.
n_levels : int
    Highest level.
out : (v, features)
    The features of each window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = [
    "GLDM",
    "GLSZM",
    "NGTDM",
    "gldm",
    "gldm_tables",
    "glszm",
    "glszm_tables",
    "ngtdm",
    "ngtdm_tables",
]

GLSZM = (
    "SmallAreaEmphasis",
    "LargeAreaEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "SizeZoneNonUniformity",
    "SizeZoneNonUniformityNormalized",
    "ZonePercentage",
    "GrayLevelVariance",
    "ZoneVariance",
    "ZoneEntropy",
    "LowGrayLevelZoneEmphasis",
    "HighGrayLevelZoneEmphasis",
    "SmallAreaLowGrayLevelEmphasis",
    "SmallAreaHighGrayLevelEmphasis",
    "LargeAreaLowGrayLevelEmphasis",
    "LargeAreaHighGrayLevelEmphasis",
)
GLDM = (
    "SmallDependenceEmphasis",
    "LargeDependenceEmphasis",
    "GrayLevelNonUniformity",
    "DependenceNonUniformity",
    "DependenceNonUniformityNormalized",
    "GrayLevelVariance",
    "DependenceVariance",
    "DependenceEntropy",
    "LowGrayLevelEmphasis",
    "HighGrayLevelEmphasis",
    "SmallDependenceLowGrayLevelEmphasis",
    "SmallDependenceHighGrayLevelEmphasis",
    "LargeDependenceLowGrayLevelEmphasis",
    "LargeDependenceHighGrayLevelEmphasis",
)
NGTDM = ("Coarseness", "Contrast", "Busyness", "Complexity", "Strength")

_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]
_U64 = npt.NDArray[np.uint64]
_Int = npt.NDArray[np.integer[Any]]

_COUNT = 1 << 32  # of neighbors, above the sum of their levels
_ZERO, _ONE, _TWO, _FOUR, _TOP = (np.uint64(n) for n in (0, 1, 2, 4, 56))
_PAIRS, _FOURS, _BYTES, _SUM = (
    np.uint64(0x0101010101010101 * n) for n in (0x55, 0x33, 0x0F, 0x01)
)


def _bits(cells: npt.NDArray[np.bool_]) -> int:
    """Write a plane as a number."""
    return sum(1 << int(k) for k in np.flatnonzero(cells))


def glszm_tables(radius: int) -> tuple[_U64]:
    """Cells of a plane beyond its first and before its last column."""
    width = 2 * radius + 1
    x = np.indices((width, width))[1]
    return (np.array([_bits(x > 0), _bits(x < width - 1)], np.uint64),)


def gldm_tables(radius: int) -> tuple[_U64]:
    """Cells of a plane within one step of each cell."""
    width = 2 * radius + 1
    y, x = np.indices((width, width))
    cells = np.ndindex(y.shape)
    near = [_bits((abs(y - i) <= 1) & (abs(x - j) <= 1)) for i, j in cells]
    return (np.array(near, np.uint64),)


def ngtdm_tables(radius: int) -> tuple[_I64]:
    """Position of each cell in a window with a margin of one."""
    width = 2 * radius + 1
    cube = np.arange((width + 2) ** 3).reshape(3 * (width + 2,))
    return (cube[1:-1, 1:-1, 1:-1].ravel(),)


@jit
def _popcount(x: np.uint64) -> int:
    """Number of bits set (the compiler knows this pattern as one instruction)."""
    x = x - ((x >> _ONE) & _PAIRS)
    x = (x & _FOURS) + ((x >> _TWO) & _FOURS)
    x = (x + (x >> _FOUR)) & _BYTES
    return int((x * _SUM) >> _TOP)


@jit
def _look_ups(cells: int, n_levels: int) -> tuple[_F64, _F64]:
    """Tables of c * log2(c) of a count, and of 1 / i**2 of a level, size or length."""
    c_log_c = np.zeros(cells + 1)
    for c in range(2, cells + 1):
        c_log_c[c] = c * np.log2(c)
    inverse = np.zeros(max(cells, n_levels) + 1)
    for i in range(1, inverse.size):
        inverse[i] = 1.0 / (np.float64(i) * i)
    return c_log_c, inverse


@jit
def _load(
    levels: _Int,
    center: int,
    offsets: _I64,
    rank: _I64,  # (n_levels + 1,) all -1, so left
    window: _I64,  # OUT (cells,) rank of the level, -1 outside the mask
    level: _I64,  # OUT (cells,) the ranked levels, in order of appearance
    count: _I64,  # OUT (cells,) voxels of each
) -> tuple[int, int]:
    """Return the numbers of voxels and of levels of a window."""
    voxels = 0
    ranks = 0
    for k in range(offsets.size):
        i = levels[center + offsets[k]]
        if i > 0:
            r = rank[i]
            if r < 0:
                r = ranks
                rank[i] = r
                level[r] = i
                count[r] = 0
                ranks += 1
            window[k] = r
            count[r] += 1
            voxels += 1
        else:
            window[k] = -1
    for r in range(ranks):
        rank[level[r]] = -1
    return voxels, ranks


@jit
def _draw(
    window: _I64,  # IN (cells,) ranks
    ranks: int,
    planes: _U64,  # OUT (ranks, width) the cells of each level
) -> None:
    width = planes.shape[1]
    planes[:ranks] = _ZERO
    k = 0
    for z in range(width):
        bit = _ONE
        for _ in range(width * width):
            r = window[k]
            if r >= 0:
                planes[r, z] |= bit
            bit <<= _ONE
            k += 1


@jit
def _finish(
    n: int,  # entries of the matrix
    voxels: int,  # that they stand for
    i1: int,  # sums over the entries: of their levels
    i2: int,  # levels squared
    j1: int,  # sizes
    j2: int,  # sizes squared
    i2j2: int,
    rows: int,  # sums over the rows of their squared totals
    columns: int,
    c_log_c: float,  # sum over the cells of the matrix, and of n
    n_log_n: float,
    small: float,  # sums over the entries: of 1 / size squared
    low: float,  # 1 / level squared
    small_low: float,
    small_high: float,
    large_low: float,
    f: _F64,  # IN/OUT (16,) to which the features of GLRLM or GLSZM are added
) -> None:
    each = 1.0 / n
    f[0] += small * each
    f[1] += j2 * each
    f[2] += rows * each
    f[3] += rows * each * each
    f[4] += columns * each
    f[5] += columns * each * each
    f[6] += n / voxels
    f[7] += (n * i2 - i1 * i1) * each * each
    f[8] += (n * j2 - j1 * j1) * each * each
    f[9] += (n_log_n - c_log_c) * each
    f[10] += low * each
    f[11] += i2 * each
    f[12] += small_low * each
    f[13] += small_high * each
    f[14] += large_low * each
    f[15] += i2j2 * each


@jit
def _matrix(
    n: int,
    rank: _I64,  # IN (n,) of the level of each entry
    size: _I64,  # IN (n,)
    voxels: int,
    level: _I64,  # IN of each rank
    c_log_c: _F64,
    inverse: _F64,
    row: _I64,  # (ranks,) zeros, so left
    column: _I64,  # (sizes,) zeros, so left
    both: _I64,  # (ranks, sizes) zeros, so left
    f: _F64,  # OUT (16,)
) -> None:
    """Features of the matrix of n entries."""
    i1 = i2 = j1 = j2 = i2j2 = rows = columns = 0
    cells = small = low = small_low = small_high = large_low = 0.0
    for k in range(n):
        r = rank[k]
        i = level[r]
        j = size[k]
        ii = i * i
        jj = j * j
        i1 += i
        i2 += ii
        j1 += j
        j2 += jj
        i2j2 += ii * jj
        c = row[r]
        row[r] = c + 1
        rows += 2 * c + 1
        c = column[j]
        column[j] = c + 1
        columns += 2 * c + 1
        c = both[r, j]
        both[r, j] = c + 1
        cells += c_log_c[c + 1] - c_log_c[c]
        small += inverse[j]
        low += inverse[i]
        small_low += inverse[i] * inverse[j]
        small_high += ii * inverse[j]
        large_low += jj * inverse[i]
    for k in range(n):
        row[rank[k]] = 0
        column[size[k]] = 0
        both[rank[k], size[k]] = 0
    f[:] = 0.0
    _finish(
        n,
        voxels,
        i1,
        i2,
        j1,
        j2,
        i2j2,
        rows,
        columns,
        cells,
        c_log_c[n],
        small,
        low,
        small_low,
        small_high,
        large_low,
        f,
    )


@jit
def _grow(
    rest: _U64,  # IN/OUT (width,) cells of a level, from which one zone is taken
    zone: _U64,  # OUT (width,) the zone
    sides: _U64,  # IN (2,)
) -> int:
    """Take the zone of the first cell of a set; return its size."""
    width = rest.size
    row = np.uint64(width)
    first = 0
    while rest[first] == _ZERO:
        first += 1
    for z in range(width):
        zone[z] = _ZERO
    zone[first] = rest[first] & (~rest[first] + _ONE)
    grown = True
    while grown:
        grown = False
        for z in range(width):
            around = zone[z]
            if z > 0:
                around |= zone[z - 1]
            if z < width - 1:
                around |= zone[z + 1]
            around |= ((around & sides[1]) << _ONE) | ((around & sides[0]) >> _ONE)
            around |= (around << row) | (around >> row)
            around &= rest[z]
            if around != zone[z]:
                zone[z] = around
                grown = True
    size = 0
    for z in range(width):
        rest[z] ^= zone[z]
        size += _popcount(zone[z])
    return size


@jit
def glszm(
    levels: _Int,  # IN
    centers: _I64,  # IN
    offsets: _I64,  # IN
    sides: _U64,  # IN
    n_levels: int,
    out: _F64,  # OUT
) -> None:
    """Features `GLSZM` of the zones of equal level."""
    cells = offsets.size
    width = round(cells ** (1 / 3))
    c_log_c, inverse = _look_ups(cells, n_levels)
    rank = np.full(n_levels + 1, -1)
    window, level, count, of, size = np.empty((5, cells), np.int64)
    planes = np.empty((cells, width), np.uint64)
    zone = np.empty(width, np.uint64)
    row, column = np.zeros((2, cells + 1), np.int64)
    both = np.zeros((cells, cells + 1), np.int64)
    for v in range(centers.size):
        voxels, ranks = _load(levels, centers[v], offsets, rank, window, level, count)
        _draw(window, ranks, planes)
        n = 0
        for r in range(ranks):
            left = count[r]
            while left > 0:
                of[n] = r
                size[n] = left if left == 1 else _grow(planes[r], zone, sides)
                left -= size[n]
                n += 1
        _matrix(n, of, size, voxels, level, c_log_c, inverse, row, column, both, out[v])


@jit
def gldm(
    levels: _Int,  # IN
    centers: _I64,  # IN
    offsets: _I64,  # IN
    near: _U64,  # IN
    n_levels: int,
    out: _F64,  # OUT
) -> None:
    """Features `GLDM` of the numbers of neighbors of equal level."""
    cells = offsets.size
    width = round(cells ** (1 / 3))
    c_log_c, inverse = _look_ups(max(cells, 27), n_levels)
    rank = np.full(n_levels + 1, -1)
    window, level, count, of, size = np.empty((5, cells), np.int64)
    planes = np.empty((cells, width), np.uint64)
    row = np.zeros(cells, np.int64)
    column = np.zeros(28, np.int64)
    both = np.zeros((cells, 28), np.int64)
    f = np.empty(16)
    for v in range(centers.size):
        _, ranks = _load(levels, centers[v], offsets, rank, window, level, count)
        _draw(window, ranks, planes)
        n = 0
        for k in range(cells):
            r = window[k]
            if r < 0:
                continue
            z = k // near.size
            around = near[k % near.size]
            like = _popcount(planes[r, z] & around)  # with the voxel itself
            if z > 0:
                like += _popcount(planes[r, z - 1] & around)
            if z < width - 1:
                like += _popcount(planes[r, z + 1] & around)
            of[n] = r
            size[n] = like
            n += 1
        _matrix(n, of, size, n, level, c_log_c, inverse, row, column, both, f)
        for j in range(14):  # all but the normalized levels and the percentage
            out[v, j] = f[j + (j > 2) + (j > 4)]


@jit
def _differences(
    window: _I64,  # IN (cells,) ranks
    level: _I64,  # IN of each rank
    place: _I64,
    tone: _I64,  # (3, cells with margin) zeros in the margin
    s: _F64,  # IN/OUT of each rank, to which |level - mean of the neighbors| is added
) -> None:
    width = round(tone.shape[1] ** (1 / 3))
    here, row, box = tone
    for k in range(window.size):
        here[place[k]] = 0
        if window[k] >= 0:
            here[place[k]] = _COUNT + level[window[k]]
    for k in range(1, here.size - 1):
        row[k] = here[k - 1] + here[k] + here[k + 1]
    for k in range(width, here.size - width):
        box[k] = row[k - width] + row[k] + row[k + width]
    plane = width * width
    for k in range(plane, here.size - plane):
        row[k] = box[k - plane] + box[k] + box[k + plane]
    for k in range(window.size):
        if window[k] >= 0:
            near = row[place[k]] - here[place[k]]
            i = level[window[k]]
            neighbors = near >> 32
            if neighbors > 0:
                total = near & (_COUNT - 1)
                s[window[k]] += abs(i * neighbors - total) / neighbors


@jit
def ngtdm(
    levels: _Int,  # IN
    centers: _I64,  # IN
    offsets: _I64,  # IN
    place: _I64,  # IN
    n_levels: int,
    out: _F64,  # OUT
) -> None:
    """Features `NGTDM` of the differences from the mean of the neighbors.

    Where all i * p_i are equal Busyness is 0; pyradiomics has 0, or more than 1e14
    where rounding makes them unequal.
    """
    cells = offsets.size
    rank = np.full(n_levels + 1, -1)
    window, level, count = np.empty((3, cells), np.int64)
    tone = np.zeros((3, place[-1] + place[0] + 1), np.int64)
    s = np.empty(cells)
    for v in range(centers.size):
        n, ranks = _load(levels, centers[v], offsets, rank, window, level, count)
        s[:ranks] = 0.0
        _differences(window, level, place, tone, s)
        i1 = i2 = all1 = all2 = spread = 0
        total = weighted = complexity = 0.0
        for r in range(ranks):
            i = level[r]
            c = count[r]
            all1 += i
            all2 += i * i
            i1 += c * i
            i2 += c * i * i
            total += s[r]
            weighted += c * s[r] / n
        for r in range(ranks):
            for q in range(r):
                spread += 2 * abs(count[r] * level[r] - count[q] * level[q])
                both = (count[r] * s[r] + count[q] * s[q]) / (count[r] + count[q])
                complexity += 2.0 * abs(level[r] - level[q]) * both
        f = out[v]
        f[0] = 1.0 / weighted if weighted > 0 else 1e6
        contrast = 2.0 * (n * i2 - i1 * i1) / (n * n) * total / n
        f[1] = contrast / (ranks * (ranks - 1)) if ranks > 1 else 0.0
        f[2] = n * weighted / spread if spread > 0 else 0.0
        f[3] = complexity / n
        strength = 2.0 * (ranks * i2 - 2 * i1 * all1 + n * all2) / n
        f[4] = strength / total if total > 0 else 0.0
