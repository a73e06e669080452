"""Texture matrices of all regions of a label map, in one pass over its voxels.

Each voxel meets its neighbors ahead (13, or 4 in a plane). A pair of one region is
counted for the co-occurrence matrix (GLCM); a run of equal levels is handed to the next
voxel and counted where it ends (GLRLM); equal neighbors are counted (GLDM) and joined
to zones (GLSZM), and the levels of all neighbors are added (NGTDM). All that is counted
is whole, so that no result depends on the order of the voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["count"]

_I64 = npt.NDArray[np.int64]
_Int = npt.NDArray[np.integer[Any]]

# Levels, neighbors and equal neighbors are added up in one number.
_NEIGHBOR, _EQUAL, _FIELD = 1 << 32, 1 << 40, 1 << 8


@jit
def count(
    rows: _Int,  # IN number of each voxel's (region, rank) in a padded volume, or -1
    position: _I64,  # IN (v,) of the voxels in it, ascending
    level: _Int,  # IN (rows,) gray level, less than 65,536
    steps: _I64,  # IN (a,) to the positions of the neighbors ahead, all positive
    pairs: _Int,  # OUT (regions, ranks, a, ranks) voxel and neighbor ahead; IN all 0
    runs: _Int,  # OUT (regions, ranks, a, longest) runs, by length - 1; IN all 0
    alike: _Int,  # OUT (regions, ranks, 2a + 1) voxels, by equal neighbors; IN all 0
    near: _Int,  # OUT (regions, ranks, 2a + 1) voxels, by neighbors; IN all 0
    apart: _I64,  # OUT (regions, ranks, 2a + 1) |level * neighbors - their sum|; IN 0
    zone: _Int,  # OUT as `rows`, size of the zone at its first voxel; IN all 0
) -> None:
    """Count what the texture matrices hold; a region's neighbors are its own."""
    angles, ranks, longest = steps.size, pairs.shape[1], runs.shape[3]
    pair, run = pairs.reshape(-1), runs.reshape(-1)
    ring = 1  # what is handed on is kept as long as the farthest neighbor is ahead
    while ring <= steps.max():
        ring *= 2
    behind = np.zeros(ring, np.int64)  # sums over those that have met the voxel
    length = np.zeros((ring, angles), np.int32)  # of the run up to the voxel
    root = np.arange(rows.size).astype(np.int32)
    equals = np.empty(angles, np.int64)
    for p in range(position.size):
        at = position[p]
        slot = at & (ring - 1)
        row = np.int64(rows[at])
        here = row // ranks
        first = here * ranks
        r, i = row - first, np.int64(level[row])
        met = behind[slot]
        behind[slot] = 0
        found = 0
        for a in range(angles):
            other = rows[at + steps[a]] - first
            before = length[slot, a]
            length[slot, a] = 0
            end = (row * angles + a) * longest + before
            if 0 <= other < ranks:
                equal = np.int64(other == r)  # no branch: it is as good as random
                pair[(row * angles + a) * ranks + other] += 1
                met += _NEIGHBOR + equal * _EQUAL + level[first + other]
                ahead = (at + steps[a]) & (ring - 1)
                behind[ahead] += _NEIGHBOR + equal * _EQUAL + i
                length[ahead, a] = equal * (before + 1)
                run[end] += 1 - equal
                equals[found] = at + steps[a]
                found += equal
            else:
                run[end] += 1
        top = _find(root, at)
        for k in range(found):
            top = _join(root, top, equals[k])
        neighbors = (met // _NEIGHBOR) % _FIELD
        alike[here, r, met // _EQUAL] += 1
        near[here, r, neighbors] += 1
        apart[here, r, neighbors] += abs(i * neighbors - met % _NEIGHBOR)
    for p in range(position.size):
        zone[_find(root, position[p])] += 1


@jit
def _find(root: _Int, p: int) -> int:
    while root[p] != p:
        root[p] = root[root[p]]
        p = root[p]
    return p


@jit
def _join(root: _Int, top: int, q: int) -> int:
    """Join the zone of a root to that of a voxel; return their root."""
    if root[q] == top:
        return top
    q = _find(root, q)
    if q < top:
        root[top] = q
        return q
    root[q] = top
    return top
