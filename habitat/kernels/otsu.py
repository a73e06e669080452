"""Exact cuts of sorted values by Otsu's criterion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["otsu_cuts"]

_TIE = 1e-12  # of the variance: what differs by less is equal
_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]


@jit
def otsu_cuts(
    x: _F64,  # IN (m,) ascending, distinct, mean about 0
    weight: _F64,  # IN (m,) > 0
    cuts: _I64,  # OUT (levels - 1,) how many values lie below each cut; levels <= m
) -> float:
    """Find the cuts with the largest variance between levels; return it.

    The variance between levels is, but for a constant, the sum of S^2 / W over levels,
    S their sum and W their weight (Otsu, IEEE Trans SMC 1979;9:62). The best last cut
    of the first j values moves up with j, so that one level more costs O(m log m)
    instead of O(m^2); the last level costs O(m). Of equal optima the one with the
    lowest last cut is taken, and so on.
    """
    m = x.size
    levels = cuts.size + 1
    total, moment = np.zeros(m + 1), np.zeros(m + 1)
    square = 0.0
    for i in range(m):
        total[i + 1] = total[i] + weight[i]
        moment[i + 1] = moment[i] + weight[i] * x[i]
        square += weight[i] * x[i] * x[i]
    tie = _TIE * square
    score = np.full(m + 1, -np.inf)  # of the first j values in `level` levels
    for j in range(1, m + 1):
        score[j] = moment[j] * moment[j] / total[j]
    last = np.zeros((levels + 1, m + 1), np.int64)
    for level in range(2, levels + 1):
        below = last[level]
        new = np.full(m + 1, -np.inf)
        if level == levels:
            new[m] = _last_cut(total, moment, score, m, level - 1, m - 1, tie, below)
        else:
            step = 1
            while 2 * step <= m:
                step *= 2
            while step > 0:
                for j in range(step, m + 1, 2 * step):
                    if j >= level:
                        low = max(level - 1, below[j - step])
                        high = j - 1
                        if j + step <= m:
                            high = min(high, below[j + step])
                        new[j] = _last_cut(
                            total, moment, score, j, low, high, tie, below
                        )
                step //= 2
        score = new
    end = m
    for level in range(levels, 1, -1):
        end = last[level, end]
        cuts[level - 2] = end
    return float(score[m] / total[m])


@jit
def _last_cut(
    total: _F64,  # IN (m + 1,) weight of the first values
    moment: _F64,  # IN (m + 1,) their sum
    score: _F64,  # IN (m + 1,) of the first values in one level less
    j: int,
    low: int,
    high: int,
    tie: float,
    below: _I64,  # OUT at j: how many of the first j values lie below their last cut
) -> float:
    best = -np.inf
    for i in range(low, high + 1):
        s = moment[j] - moment[i]
        found = score[i] + s * s / (total[j] - total[i])
        if i == low or found > best + tie:
            best = found
            below[j] = i
    return best
