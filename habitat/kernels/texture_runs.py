"""Runs in the window around each voxel; the arguments are those of `texture_zones`."""

from __future__ import annotations

import itertools

import numpy as np

from habitat.kernels._jit import jit
from habitat.kernels.texture_zones import (
    _F64,
    _I64,
    _U64,
    _ZERO,
    _bits,
    _draw,
    _finish,
    _Int,
    _load,
    _look_ups,
    _popcount,
)

__all__ = ["GLRLM", "glrlm", "glrlm_tables"]

GLRLM = (
    "ShortRunEmphasis",
    "LongRunEmphasis",
    "GrayLevelNonUniformity",
    "GrayLevelNonUniformityNormalized",
    "RunLengthNonUniformity",
    "RunLengthNonUniformityNormalized",
    "RunPercentage",
    "GrayLevelVariance",
    "RunVariance",
    "RunEntropy",
    "LowGrayLevelRunEmphasis",
    "HighGrayLevelRunEmphasis",
    "ShortRunLowGrayLevelEmphasis",
    "ShortRunHighGrayLevelEmphasis",
    "LongRunLowGrayLevelEmphasis",
    "LongRunHighGrayLevelEmphasis",
)


def glrlm_tables(radius: int) -> tuple[_I64, _U64]:
    """Shifts of planes and bits to the next cell in 13 directions; cells that have one.

    A shift is (planes, bits to the right, bits to the left); planes are 0 or 1.
    """
    width = 2 * radius + 1
    y, x = np.indices((width, width))
    shift, valid = [], []
    for z, *step in itertools.product((-1, 0, 1), repeat=3):
        dy, dx = step
        if (z, dy, dx) > (0, 0, 0):
            right = dy * width + dx
            shift.append((z, max(right, 0), max(-right, 0)))
            inside = (y + dy >= 0) & (y + dy < width) & (x + dx >= 0) & (x + dx < width)
            valid.append(_bits(inside))
    return np.array(shift), np.array(valid, np.uint64)


@jit
def _next(
    cells: _U64,  # IN (width,) cells that may be first
    ends: _U64,  # IN (width,) cells that may be next
    valid: np.uint64,
    shift: _I64,  # IN (3,) of the direction
    starts: _U64,  # OUT (width,) cells of the first set that are followed by the other
) -> int:
    """Return the number of the cells found; `ends` and `starts` may be the same."""
    right = np.uint64(shift[1])
    left = np.uint64(shift[2])
    found = 0
    for z in range(cells.size):
        after = z + shift[0]
        if after < cells.size:
            starts[z] = cells[z] & valid & ((ends[after] >> right) << left)
            found += _popcount(starts[z])
        else:
            starts[z] = _ZERO
    return found


@jit
def _apart(
    inside: _U64,  # IN (width,) cells in the mask
    valid: np.uint64,
    shift: _I64,
    ahead: _U64,  # OUT (width,) scratch
) -> bool:
    """Tell whether no line of a direction holds two voxels, even with gaps."""
    right = np.uint64(shift[1])
    left = np.uint64(shift[2])
    ahead[:] = inside
    for _ in range(inside.size - 1):
        for z in range(inside.size):
            after = z + shift[0]
            if after < inside.size:
                ahead[z] = valid & ((ahead[after] >> right) << left)
            else:
                ahead[z] = _ZERO
            if inside[z] & ahead[z] != _ZERO:
                return False
    return True


@jit
def glrlm(
    levels: _Int,  # IN
    centers: _I64,  # IN
    offsets: _I64,  # IN
    shift: _I64,  # IN
    valid: _U64,  # IN
    n_levels: int,
    out: _F64,  # OUT
) -> None:
    """Means over the directions of the features `GLRLM` of the runs of equal level.

    Only directions count of which a line holds two voxels; without any, NaN.

    With chain[j] cells at which j cells of a level in a row start, there are
    chain[j] - 2 chain[j + 1] + chain[j + 2] runs of length j, and the sum of g(length)
    over the runs is the sum of chain[j] times the second difference of g at j.
    """
    cells = offsets.size
    width = round(cells ** (1 / 3))
    c_log_c, inverse = _look_ups(cells, n_levels)
    bend = np.ones(width + 2)  # second difference of 1 / j**2, and 0 at 0
    for j in range(2, width + 2):
        bend[j] = inverse[j] - 2.0 * inverse[j - 1] + inverse[j - 2]
    rank = np.full(n_levels + 1, -1)
    window, level, count = np.empty((3, cells), np.int64)
    planes = np.empty((cells, width), np.uint64)
    inside, starts = np.empty((2, width), np.uint64)
    chain = np.empty(width + 3, np.int64)  # over all levels
    for v in range(centers.size):
        voxels, ranks = _load(levels, centers[v], offsets, rank, window, level, count)
        _draw(window, ranks, planes)
        if voxels < cells:
            inside[:] = _ZERO
            for r in range(ranks):
                for z in range(width):
                    inside[z] |= planes[r, z]
        single = single_i1 = single_i2 = 0  # levels of one voxel
        single_low = 0.0
        for r in range(ranks):
            if count[r] == 1:
                single += 1
                single_i1 += level[r]
                single_i2 += level[r] * level[r]
                single_low += inverse[level[r]]
        f = out[v]
        f[:] = 0.0
        directions = 0
        for d in range(valid.size):
            if voxels < cells and _apart(inside, valid[d], shift[d], starts):
                continue
            directions += 1
            chain[:] = 0
            chain[1] = voxels
            i1, i2, i2j2, rows = single_i1, single_i2, single_i2, single
            low, small_low, large_low = single_low, single_low, single_low
            small_high = np.float64(single_i2)
            entropy = 0.0
            for r in range(ranks):
                now = count[r]
                if now == 1:
                    continue
                i = level[r]
                ii = i * i
                after = _next(planes[r], planes[r], valid[d], shift[d], starts)
                runs = now - after
                small = np.float64(now)
                jj = now
                j = 1
                while now > 0:
                    j += 1
                    beyond = 0
                    if after > 1:
                        beyond = _next(planes[r], starts, valid[d], shift[d], starts)
                    entropy += c_log_c[now - 2 * after + beyond]
                    chain[j] += after
                    small += after * bend[j]
                    jj += 2 * after
                    now = after
                    after = beyond
                i1 += runs * i
                i2 += runs * ii
                rows += runs * runs
                i2j2 += jj * ii
                low += runs * inverse[i]
                large_low += jj * inverse[i]
                small_low += small * inverse[i]
                small_high += small * ii
            j2 = columns = 0
            small = 0.0
            for j in range(1, width + 1):
                j2 += chain[j] * (1 if j == 1 else 2)
                small += chain[j] * bend[j]
                columns += (chain[j] - 2 * chain[j + 1] + chain[j + 2]) ** 2
            n = voxels - chain[2]
            _finish(
                n,
                voxels,
                i1,
                i2,
                voxels,
                j2,
                i2j2,
                rows,
                columns,
                entropy,
                c_log_c[n],
                small,
                low,
                small_low,
                small_high,
                large_low,
                f,
            )
        for j in range(f.size):
            f[j] = f[j] / directions if directions > 0 else np.nan
