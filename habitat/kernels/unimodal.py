"""How far sorted values are from having one mode."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["dip"]

_F64 = npt.NDArray[np.float64]


@jit
def _bend(
    x: _F64,  # IN (n,) strictly ascending
    y: _F64,  # IN (n,)
    first: int,
    last: int,
    sign: float,  # 1: convex minorant, -1: concave majorant
    hull: npt.NDArray[np.int64],  # OUT (n,) scratch
) -> float:
    """Largest distance of the points first..last from their minorant or majorant."""
    size = 0
    for i in range(first, last + 1):
        while size > 1:
            a = hull[size - 2]
            b = hull[size - 1]
            turn = (x[b] - x[a]) * (y[i] - y[a]) - (x[i] - x[a]) * (y[b] - y[a])
            if sign * turn > 0.0:
                break
            size -= 1
        hull[size] = i
        size += 1
    most = 0.0
    for h in range(size - 1):
        a = hull[h]
        b = hull[h + 1]
        slope = (y[b] - y[a]) / (x[b] - x[a])
        for i in range(a + 1, b):
            off = sign * (y[i] - y[a] - slope * (x[i] - x[a]))
            most = max(most, off)
    return most


@jit
def dip(
    x: _F64,  # IN (n,) strictly ascending
    y: _F64,  # IN (n,) distribution function at x
) -> float:
    """Distance of a distribution function from the nearest with one mode.

    A function with one mode is convex below it and concave above. For each place of the
    mode, the largest distance of the points from their convex minorant below and their
    concave majorant above; the dip is the least of it over all places (Hartigan &
    Hartigan, Ann Stat 1985;13:70, whose dip is about half as large). The distance
    below grows and that above falls with the mode: bisection.
    """
    n = x.size
    hull = np.empty(n, np.int64)
    low = 0
    high = n - 1
    while high - low > 1:
        mode = (low + high) // 2
        if _bend(x, y, 0, mode, 1.0, hull) < _bend(x, y, mode, n - 1, -1.0, hull):
            low = mode
        else:
            high = mode
    least = np.inf
    for mode in (low, high):
        below = _bend(x, y, 0, mode, 1.0, hull)
        above = _bend(x, y, mode, n - 1, -1.0, hull)
        least = min(least, max(below, above))
    return least
