"""Iterated conditional modes in whole numbers, all voxels at a time.

Costs and weights are integers, so that no order of neighbors can change a sum, and a
tie is a tie. Volumes are flat and have a border around the mask: `labels` is 255
outside the mask, `where` holds the number of the voxel at each place, -1 outside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["icm_sweep"]

_I64 = npt.NDArray[np.int64]
_U8 = npt.NDArray[np.uint8]


@jit
def icm_sweep(
    costs: _I64,  # IN (n, k), k <= 255
    where: npt.NDArray[np.int32],  # IN (places,)
    place: _I64,  # IN (n,) of each voxel in the volumes
    steps: _I64,  # IN (neighbors,) from a place to that of each neighbor
    weights: _I64,  # IN (neighbors,) cost of a neighbor with another label
    labels: _U8,  # IN/OUT (places,)
    stale: _U8,  # IN/OUT (n,) 1 where `wish` and `gain` must be computed
    wish: _U8,  # IN/OUT (n,) label that is better by `gain` than the own one
    gain: _I64,  # IN/OUT (n,) 0 where no label is better
) -> int:
    """Give voxels the label they wish, except where neighbors' wishes conflict.

    The objective is the sum of the costs of the labels and of the weights of the pairs
    of neighbors with two labels. If two neighbors both get their wish, it falls by
    both gains or more, unless they have two labels and one wishes the other's: then
    the one that gains less waits, of equal gains the one with the lower label. So the
    objective falls with each sweep that switches a label, and when none does no single
    switch lowers it (Besag, J R Stat Soc B 1986;48:259). Returns how many switched.
    """
    n, k = costs.shape
    support = np.empty(256, np.int64)
    for i in range(n):
        if not stale[i]:
            continue
        stale[i] = 0
        for j in range(k):
            support[j] = -costs[i, j]
        for s in range(steps.size):
            support[labels[place[i] + steps[s]]] += weights[s]
        best = 0
        for j in range(1, k):
            if support[j] > support[best]:
                best = j
        wish[i] = best
        gain[i] = support[best] - support[labels[place[i]]]
    switched = 0
    movers = np.empty(n, np.int32)
    for i in range(n):
        if gain[i] > 0:
            own = labels[place[i]]
            free = True
            for s in range(steps.size):
                other = labels[place[i] + steps[s]]
                if other == own or other == 255:
                    continue
                j = where[place[i] + steps[s]]
                if (wish[i] == other or wish[j] == own) and (
                    gain[j] > gain[i] or (gain[j] == gain[i] and other > own)
                ):
                    free = False
                    break
            if free:
                movers[switched] = i
                switched += 1
    for m in range(switched):
        i = movers[m]
        labels[place[i]] = wish[i]
        stale[i] = 1
        for s in range(steps.size):
            j = where[place[i] + steps[s]]
            if j >= 0:
                stale[j] = 1
    return switched
