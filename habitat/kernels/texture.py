"""First-order statistics in the window around each voxel.

Definitions and values are those of pyradiomics' voxel mode (masked kernel): a window
ends at the mask and at the image, and nothing outside of it counts.

All kernels take

levels : (n,) int32
    Gray levels 1..`n_levels` of a padded image, 0 outside the mask.
centers : (v,) int64
    Positions in `levels` of the centers of the windows, all in the mask.
offsets : (cells,) int64
    Distance in `levels` of each cell of a window from its center, in raster order.
out : (v, features) float64
    The features of each window, written.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["FIRSTORDER", "firstorder", "firstorder_tables"]

FIRSTORDER = (
    "Energy",
    "TotalEnergy",
    "Entropy",
    "Minimum",
    "10Percentile",
    "90Percentile",
    "Maximum",
    "Mean",
    "Median",
    "InterquartileRange",
    "Range",
    "MeanAbsoluteDeviation",
    "RobustMeanAbsoluteDeviation",
    "RootMeanSquared",
    "Skewness",
    "Kurtosis",
    "Variance",
    "Uniformity",
)
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_F64 = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_Levels = npt.NDArray[np.integer[Any]]


def firstorder_tables(radius: int) -> tuple[_Int, _F64, _F64]:
    """For n = 0..cells values: where quantiles lie, (n, 5), and log2 n, 0 for 0.

    A quantile lies above the value of the first array's number, by the second's share
    of the way to the next.
    """
    n = np.arange((2 * radius + 1) ** 3 + 1)
    where = np.maximum(n - 1, 0)[:, None] * np.array(_QUANTILES)
    below = np.floor(where)
    return below.astype(np.int64), where - below, np.log2(np.maximum(n, 1))


@jit
def firstorder(
    values: _F64,  # IN (n,) image, in the same order as `levels`
    levels: _Levels,  # IN
    centers: _Int,  # IN
    offsets: _Int,  # IN
    below: _Int,  # IN of `firstorder_tables`
    weight: _F64,  # IN of `firstorder_tables`
    log: _F64,  # IN of `firstorder_tables`
    volume: float,  # IN of a voxel, mm3
    n_levels: int,
    out: _F64,  # OUT (v, 18)
) -> None:
    """Statistics of the values in each window, and of the histogram of its levels."""
    cells = offsets.size
    count = np.zeros(n_levels + 1, np.int64)
    found = np.empty(cells, np.int64)  # levels of the cells in the mask
    x = np.empty(cells)
    for v in range(centers.size):
        n = 0
        for k in range(cells):
            p = centers[v] + offsets[k]
            if levels[p] > 0:
                x[n] = values[p]
                found[n] = levels[p]
                count[found[n]] += 1
                n += 1
        entropy = 0.0
        squares = 0
        for k in range(n):
            c = count[found[k]]
            count[found[k]] = 0
            entropy += c * log[c]
            squares += c * c
        _sort(x, n)
        row = out[v]
        _spread(x, n, below[n], weight[n], row)
        row[1] = row[0] * volume
        row[2] = log[n] - entropy / n if squares < n * n else 0.0  # no rounding
        row[17] = squares / (n * n)


@jit
def _sort(x: _F64, n: int) -> None:
    """Sort the first n values."""
    if n > 64:
        x[:n].sort()
        return
    for i in range(1, n):
        value = x[i]
        j = i - 1
        while j >= 0 and x[j] > value:
            x[j + 1] = x[j]
            j -= 1
        x[j + 1] = value


@jit
def _quantile(x: _F64, n: int, below: int, weight: float) -> float:
    """Return the linear interpolation of sorted values, exact between equal ones."""
    step = x[min(below + 1, n - 1)] - x[below]
    return float(x[below] + weight * step)


@jit
def _spread(
    x: _F64,  # IN, n sorted values
    n: int,
    below: _Int,  # IN (5,) where the quantiles lie
    weight: _F64,  # IN (5,)
    row: _F64,  # OUT all but the features of the histogram
) -> None:
    energy = 0.0
    mean = 0.0
    for k in range(n):
        energy += x[k] * x[k]
        mean += x[k]
    mean /= n
    absolute, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        d = x[k] - mean
        absolute += abs(d)
        m2 += d * d
        m3 += d * d * d
        m4 += d * d * d * d
    m2 /= n
    m3 /= n
    m4 /= n
    p10 = _quantile(x, n, below[0], weight[0])
    p25 = _quantile(x, n, below[1], weight[1])
    p75 = _quantile(x, n, below[3], weight[3])
    p90 = _quantile(x, n, below[4], weight[4])
    flat = x[0] == x[n - 1]  # the mean of equal values may be off by a rounding
    row[0] = energy
    row[3] = x[0]
    row[4] = p10
    row[5] = p90
    row[6] = x[n - 1]
    row[7] = mean
    row[8] = _quantile(x, n, below[2], weight[2])
    row[9] = p75 - p25
    row[10] = x[n - 1] - x[0]
    row[11] = 0.0 if flat else absolute / n
    row[12] = 0.0 if flat else _robust(x, n, p10, p90)
    row[13] = math.sqrt(energy / n)
    row[14] = 0.0 if flat else m3 / (m2 * math.sqrt(m2))
    row[15] = 0.0 if flat else m4 / (m2 * m2)
    row[16] = 0.0 if flat else m2


@jit
def _robust(x: _F64, n: int, low: float, high: float) -> float:
    """Return the mean absolute deviation of the sorted values within [low, high]."""
    first = 0
    while first < n and x[first] < low:
        first += 1
    last = n
    while last > first and x[last - 1] > high:
        last -= 1
    if first == last:
        return np.nan
    mean = 0.0
    for k in range(first, last):
        mean += x[k]
    mean /= last - first
    total = 0.0
    for k in range(first, last):
        total += abs(x[k] - mean)
    total /= last - first
    return total
