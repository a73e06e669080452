"""K-means on blocks of neighboring voxels.

`X` is (d, n), C-contiguous, float32 or float64; `weight` has a positive value for each
column, or no value at all where all count alike. The voxels of a block of `BLOCK`
columns lie close together in feature space, so that most blocks belong to one cluster
as a whole and cost one test instead of `BLOCK` distances (the filtering algorithm of
Kanungo et al., IEEE TPAMI 2002;24:881, on a flat list of boxes). The test leaves room
for rounding, so labels are those of a search over all centers. Blocks of one label
enter the sums in one place and order, whether tested or searched: sums depend on the
labels alone, and unchanged labels give bitwise unchanged centers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["BLOCK", "arrange", "assign", "kmeans_plusplus", "lloyd_step"]

BLOCK = 64
_BINS = 1 << 14  # of the histogram that finds the slabs
_CELLS = 8  # of the grid a block
_Float = npt.NDArray[np.floating[Any]]
_F64 = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]


@jit
def arrange(
    rows: _Float,  # IN (n, d)
    weight: _Float,  # IN (n,) or (0,)
    X: _Float,  # OUT (d, n), the rows as columns in the new order
    share: _Float,  # OUT (n,) or (0,), their weights
    middle: _F64,  # OUT (d, blocks) of the bounding box of each block
    half: _F64,  # OUT (d, blocks) half its edges
    total: _F64,  # OUT (d + 1, blocks) weighted sums over each block, then its weight
) -> None:
    """Sort rows so that each block of them is compact, and describe the blocks.

    The order is a counting sort by the cell of a grid with about equal shares of the
    rows in each of its slabs, run through like an ox plows.
    """
    d, n = X.shape
    blocks = total.shape[1]
    key = np.zeros(n, np.uint16)
    cells = min(_CELLS * blocks, 1 << 16)
    left = cells
    for f in range(d):
        slabs = left
        if f < d - 1:
            slabs = max(1, min(left, round(blocks ** (1.0 / d))))
        left //= slabs
        _plow(rows, f, slabs, key)
    place = np.zeros(cells + 1, np.int64)
    for i in range(n):
        place[np.int64(key[i]) + 1] += 1
    for cell in range(cells):
        place[cell + 1] += place[cell]
    for i in range(n):
        p = place[key[i]]
        place[key[i]] = p + 1
        for f in range(d):
            X[f, p] = rows[i, f]
        if weight.size > 0:
            share[p] = weight[i]
    for b in range(blocks):
        start = b * BLOCK
        m = min(BLOCK, n - start)
        total[d, b] = m
        if weight.size > 0:
            total[d, b] = 0.0
            for i in range(m):
                total[d, b] += share[start + i]
        for f in range(d):
            x = X[f, start : start + m]
            low = x[0]
            high = x[0]
            s = X.dtype.type(0)
            for i in range(m):
                low = min(low, x[i])
                high = max(high, x[i])
                s += x[i]
            if weight.size > 0:
                s = X.dtype.type(0)
                for i in range(m):
                    s += x[i] * share[start + i]
            total[f, b] = s
            middle[f, b] = 0.5 * low + 0.5 * high
            half[f, b] = max(high - middle[f, b], middle[f, b] - low)


@jit
def _plow(
    rows: _Float,  # IN (n, d)
    f: int,
    slabs: int,
    key: npt.NDArray[np.uint16],  # IN/OUT (n,) position along the channels so far
) -> None:
    """Extend the keys by the slab of channel f, counted backwards in odd rows."""
    n = key.size
    low = np.inf
    high = -np.inf
    for i in range(n):
        low = min(low, rows[i, f])
        high = max(high, rows[i, f])
    if low == high:
        return
    scale = (_BINS - 1) / (high - low)
    if not 0.0 < scale < np.inf:  # too wide or too narrow for the arithmetic
        return
    slab = np.zeros(_BINS, np.int64)
    for i in range(n):
        slab[int((rows[i, f] - low) * scale)] += 1
    before = 0
    for b in range(_BINS):
        count = slab[b]
        slab[b] = before * slabs // n
        before += count
    for i in range(n):
        s = slab[int((rows[i, f] - low) * scale)]
        if key[i] % 2 == 1:
            s = slabs - 1 - s
        key[i] = np.int64(key[i]) * slabs + s


@jit
def _search(
    X: _Float,  # IN (d, n)
    start: int,
    m: int,
    centers: _Float,  # IN (k, d), dtype of X
    candidates: _Int,  # IN, ascending
    work: _Float,  # OUT (m,) scratch
    nearest: _Float,  # OUT (m,) squared distance to the nearest candidate
    label: _Float,  # OUT (m,) its number; a float, for selects without conversion
) -> None:
    """Nearest candidate of the columns start..start + m; the first of several."""
    d = X.shape[0]
    for a in range(candidates.size):
        j = candidates[a]
        number = X.dtype.type(j)
        x = X[0, start : start + m]
        c = centers[j, 0]
        for i in range(m):
            work[i] = (x[i] - c) * (x[i] - c)
        for f in range(1, d):
            x = X[f, start : start + m]
            c = centers[j, f]
            for i in range(m):
                work[i] += (x[i] - c) * (x[i] - c)
        if a == 0:
            for i in range(m):
                nearest[i] = work[i]
                label[i] = number
        else:
            for i in range(m):
                label[i] = number if work[i] < nearest[i] else label[i]
                nearest[i] = min(work[i], nearest[i])


@jit
def _tally(
    X: _Float,  # IN (d, n)
    weight: _Float,  # IN (n,) or (0,)
    start: int,
    m: int,
    label: _Float,  # IN (m,)
    candidates: _Int,  # IN
    work: _Float,  # OUT (m,) scratch
    share: _F64,  # OUT (candidates, d + 2)
) -> None:
    """Sum the columns start..start + m by label; then their weights; count them."""
    d = X.shape[0]
    zero = X.dtype.type(0)
    one = X.dtype.type(1)
    for a in range(candidates.size):
        number = X.dtype.type(candidates[a])
        s = zero
        for i in range(m):
            work[i] = one if label[i] == number else zero
            s += work[i]
        share[a, d + 1] = s
        if weight.size > 0:
            w = weight[start : start + m]
            s = zero
            for i in range(m):
                work[i] *= w[i]
                s += work[i]
        share[a, d] = s
        for f in range(d):
            x = X[f, start : start + m]
            s = zero
            for i in range(m):
                s += x[i] * work[i]
            share[a, f] = s


@jit
def _filter(
    middle: _F64,  # IN (d, blocks)
    half: _F64,  # IN (d, blocks)
    start: int,
    m: int,
    centers: _F64,  # IN (k, d)
    everyone: _Int,  # IN 0..k-1
    slack: float,  # IN room for rounding in the distances
    work: _F64,  # OUT (BLOCK,) scratch
    nearest: _F64,  # OUT (BLOCK,)
    label: _F64,  # OUT (BLOCK,)
    rivals: _F64,  # OUT (k, BLOCK) 1 where a center is nearest to some point of a box
    count: _F64,  # OUT (BLOCK,) how many are
) -> None:
    """Find the centers that can be nearest to a point of the boxes start..start + m.

    Center z loses to z* everywhere in the box m +- h when
    |m - z|^2 - |m - z*|^2 > 2 sum_f h_f |z_f - z*_f|, since the difference of the
    squared distances is linear in the point.
    """
    k, d = centers.shape
    _search(middle, start, m, centers, everyone, work, nearest, label)
    for i in range(m):
        count[i] = 0.0
    for j in range(k):
        rival = rivals[j]
        for i in range(m):
            rival[i] = nearest[i]
    for f in range(d):
        x = middle[f, start : start + m]
        h = half[f, start : start + m]
        for i in range(m):
            work[i] = centers[int(label[i]), f]
        for j in range(k):
            rival = rivals[j]
            c = centers[j, f]
            for i in range(m):
                rival[i] -= (1.0 - slack) * (x[i] - c) * (x[i] - c) - h[i] * (
                    2.0 * abs(work[i] - c) + slack * h[i]
                )
    for j in range(k):
        rival = rivals[j]
        for i in range(m):
            rival[i] = 0.0 if rival[i] < 0.0 else 1.0  # 1 for NaN of huge values too
            count[i] += rival[i]


@jit
def lloyd_step(
    X: _Float,  # IN (d, n)
    weight: _Float,  # IN (n,) or (0,)
    middle: _F64,  # IN (d, blocks) of the bounding box of each block
    half: _F64,  # IN (d, blocks) half its edges
    total: _F64,  # IN (d + 1, blocks) weighted sums over each block, then its weight
    centers: _F64,  # IN (k, d)
    sums: _F64,  # OUT (k, d + 1) weighted sums over each cluster, then its weight
) -> None:
    """Sum the columns that are nearest to each center."""
    d, n = X.shape
    k = centers.shape[0]
    blocks = total.shape[1]
    everyone, candidates = np.empty(k, np.int64), np.empty(k, np.int64)
    c, c64 = np.empty((k, d), X.dtype), np.empty((k, d))
    for j in range(k):
        everyone[j] = j
        sums[j, d] = 0.0
        for f in range(d):
            sums[j, f] = 0.0
            c[j, f] = centers[j, f]
            c64[j, f] = c[j, f]
    slack = 16.0 * (d + 4.0) * np.finfo(X.dtype).eps
    work = np.empty(BLOCK, X.dtype)
    nearest = np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, X.dtype)
    work64, nearest64, label64 = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    count = np.empty(BLOCK)
    rivals = np.empty((k, BLOCK))
    share = np.empty((k, d + 2))
    for first in range(0, blocks, BLOCK):
        size = min(BLOCK, blocks - first)
        _filter(
            middle,
            half,
            first,
            size,
            c64,
            everyone,
            slack,
            work64,
            nearest64,
            label64,
            rivals,
            count,
        )
        for g in range(size):
            if count[g] == 1.0:
                continue
            found = 0
            for j in range(k):
                if rivals[j, g] > 0.0:
                    candidates[found] = j
                    found += 1
            b = first + g
            start = b * BLOCK
            m = min(BLOCK, n - start)
            _search(X, start, m, c, candidates[:found], work, nearest, label)
            _tally(X, weight, start, m, label, candidates[:found], work, share)
            for a in range(found):
                j = candidates[a]
                if share[a, d + 1] == m:  # one label: as if the test had shown it
                    count[g] = 1.0
                    rivals[:, g] = 0.0
                    rivals[j, g] = 1.0
                    break
                for f in range(d + 1):
                    sums[j, f] += share[a, f]
        for j in range(k):
            rival = rivals[j]
            for f in range(d + 1):
                t = total[f, first : first + size]
                s = 0.0
                for i in range(size):
                    s += t[i] if rival[i] > 0.5 * count[i] else 0.0
                sums[j, f] += s


@jit
def assign(
    X: _Float,  # IN (d, n)
    centers: _F64,  # IN (k, d), k <= 256
    labels: npt.NDArray[np.uint8],  # OUT (n,)
    distances: _Float,  # OUT (n,) squared, to the nearest center
) -> None:
    """Find the nearest center of each column; the first of several."""
    n = X.shape[1]
    c = centers.astype(X.dtype)
    everyone = np.empty(centers.shape[0], np.int64)
    for j in range(everyone.size):
        everyone[j] = j
    work = np.empty(BLOCK, X.dtype)
    label = np.empty(BLOCK, X.dtype)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        nearest = distances[start : start + m]
        _search(X, start, m, c, everyone, work, nearest, label)
        for i in range(m):
            labels[start + i] = np.uint8(label[i])


@jit
def _closer(
    X: _Float,  # IN (d, n)
    weight: _Float,  # IN (n,) or (0,)
    column: int,
    closest: _Float,  # IN (n,) weighted squared distance to the nearest center so far
    closer: _Float,  # OUT (n,) the same once `column` is a center too
    share: _F64,  # OUT (blocks,) sum of `closer` over each block
) -> float:
    """Return the sum of `closer`."""
    d, n = X.shape
    loss = 0.0
    for b in range(share.size):
        start = b * BLOCK
        m = min(BLOCK, n - start)
        old = closest[start : start + m]
        new = closer[start : start + m]
        x = X[0, start : start + m]
        c = X[0, column]
        for i in range(m):
            new[i] = (x[i] - c) * (x[i] - c)
        for f in range(1, d):
            x = X[f, start : start + m]
            c = X[f, column]
            for i in range(m):
                new[i] += (x[i] - c) * (x[i] - c)
        if weight.size > 0:
            w = weight[start : start + m]
            for i in range(m):
                new[i] *= w[i]
        s = X.dtype.type(0)
        for i in range(m):
            new[i] = min(new[i], old[i])
            s += new[i]
        share[b] = s
        loss += s
    return loss


@jit
def _draw(
    value: _Float,  # IN (n,)
    share: _F64,  # IN (blocks,) sum of the values of each block
    target: float,  # IN
) -> int:
    """Return the index where the running sum of the values passes the target."""
    block = 0
    for b in range(share.size):
        if share[b] > 0.0:
            block = b
            if target < share[b]:
                break
            target -= share[b]
    last = 0
    for i in range(block * BLOCK, min((block + 1) * BLOCK, value.size)):
        if value[i] > 0:
            last = i
            target -= value[i]
            if target < 0.0:
                break
    return last


@jit
def kmeans_plusplus(
    X: _Float,  # IN (d, n)
    weight: _Float,  # IN (n,) or (0,)
    uniform: _F64,  # IN (k, trials) draws in [0, 1)
    centers: _F64,  # OUT (k, d)
) -> int:
    """Choose columns far apart as centers: greedy k-means++.

    The first is drawn by weight. Each next center is the best of `trials` columns drawn
    with a probability proportional to weight times squared distance from the centers so
    far (Arthur & Vassilvitskii, SODA 2007, section 3). Returns how many distinct
    columns were found, at most k.
    """
    d, n = X.shape
    k, trials = uniform.shape
    blocks = (n + BLOCK - 1) // BLOCK
    closest, best, trial = np.empty((3, n), X.dtype)
    share, best_share, trial_share = np.empty((3, blocks))
    for i in range(n):
        closest[i] = np.inf
    pick = int(uniform[0, 0] * n)
    if weight.size > 0:
        whole = 0.0
        share[:] = 0.0
        for i in range(n):
            share[i // BLOCK] += weight[i]
            whole += weight[i]
        pick = _draw(weight, share, uniform[0, 0] * whole)
    total = _closer(X, weight, pick, closest, best, best_share)
    for f in range(d):
        centers[0, f] = X[f, pick]
    for j in range(1, k):
        if total == 0.0:
            return j
        closest, best = best, closest
        share, best_share = best_share, share
        least = np.inf
        for t in range(trials):
            column = _draw(closest, share, uniform[j, t] * total)
            loss = _closer(X, weight, column, closest, trial, trial_share)
            if loss < least:
                least = loss
                pick = column
                best, trial = trial, best
                best_share, trial_share = trial_share, best_share
        total = least
        for f in range(d):
            centers[j, f] = X[f, pick]
    return int(k)
