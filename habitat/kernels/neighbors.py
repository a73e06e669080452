"""Neighbors, connected parts and Euler numbers of all labels of a volume at once.

Volumes are flat and have a border of zeros wide enough for every step, so that a step
from a labeled voxel is one addition and never leaves the array.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["component_sizes", "euler_octants", "pair_counts"]

_I64 = npt.NDArray[np.int64]
_U8 = npt.NDArray[np.uint8]


@jit
def pair_counts(
    labels: _U8,  # IN (places,) 0 outside, else a label
    steps: _I64,  # IN (steps,) > 0, from a place to that of a neighbor
    counts: _I64,  # OUT (steps, k + 1, k + 1) zeros on entry
) -> None:
    """Count the labels of the two voxels of each pair, in each direction.

    ``counts[s, i, j]`` are the voxels of label i > 0 whose neighbor has label j.
    """
    n = steps.size
    for p in range(labels.size):
        own = labels[p]
        if own:
            for s in range(n):
                counts[s, own, labels[p + steps[s]]] += 1


@jit
def component_sizes(
    labels: _U8,  # IN (places,) 0 outside, else a label
    steps: _I64,  # IN (steps,) > 0, from the place of a neighbor to a place; the
    # neighbor of the first step must be a neighbor of all the others
    size: npt.NDArray[np.int32],  # OUT (places,) zeros on entry
) -> None:
    """Size of each connected part, at the first place of the part (union-find)."""
    root = np.empty(labels.size, np.int32)
    for p in range(labels.size):
        own = labels[p]
        if own == 0:
            continue
        if labels[p - steps[0]] == own:  # all others like it are joined to it already
            root[p] = root[p - steps[0]]
            continue
        low = p
        for s in range(1, steps.size):
            a = p - steps[s]
            if labels[a] == own and root[a] != low:
                while root[a] != a:
                    root[a] = root[root[a]]
                    a = root[a]
                if a < low:
                    root[low] = a
                    low = a
                else:
                    root[a] = low
        root[p] = low
    for p in range(labels.size):
        if labels[p]:
            root[p] = root[root[p]]  # roots come first
            size[root[p]] += 1


@jit
def euler_octants(
    labels: _U8,  # IN (places,) 0 outside, else a label
    row: int,  # from a place to that in the next row
    layer: int,  # from a place to that in the next slice
    table: _I64,  # IN (256,) value of each set of corners, 0 of none
    total: _I64,  # OUT (k + 1,) zeros on entry
) -> None:
    """Sum the value of each label's corners over all windows of 2 x 2 x 2 places.

    Bit ``4 dz + 2 dy + dx`` of a set is the corner at (dz, dy, dx). Windows with one
    label add nothing: ``table[255]`` must be 0.
    """
    corners = np.zeros(256, np.uint8)  # of each label in the window
    b0 = b1 = b2 = b3 = np.int64(0)
    one = True  # the four places before have one label
    for p in range(labels.size - row - layer):
        a0 = np.int64(labels[p])
        a1 = np.int64(labels[p + row])
        a2 = np.int64(labels[p + layer])
        a3 = np.int64(labels[p + layer + row])
        now = (a0 == a1) & (a0 == a2) & (a0 == a3)
        if not (now and one and a0 == b0):
            corners[b0] |= 1
            corners[a0] |= 2
            corners[b1] |= 4
            corners[a1] |= 8
            corners[b2] |= 16
            corners[a2] |= 32
            corners[b3] |= 64
            corners[a3] |= 128
            for own in (b0, a0, b1, a1, b2, a2, b3, a3):
                total[own] += table[corners[own]]
                corners[own] = 0
        b0, b1, b2, b3, one = a0, a1, a2, a3, now
