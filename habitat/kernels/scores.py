"""How well labels separate voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["distance_sums", "separation", "split_path"]

_F64 = npt.NDArray[np.float64]


@jit
def separation(
    X: _F64,  # IN (d, n)
    labels: npt.NDArray[np.uint8],  # IN (n,), below k
    counts: npt.NDArray[np.int64],  # OUT (k,) columns with each label
    means: _F64,  # OUT (k, d), 0 for unused labels
    squares: _F64,  # OUT (k,) sum of squared distances from the own mean
    lengths: _F64,  # OUT (k,) sum of distances from the own mean
) -> float:
    """Return the sum over columns of the silhouette for squared Euclidean distances.

    The mean squared distance of x to the members of cluster c is |x - mean_c|^2 + V_c
    with V_c = squares_c / counts_c; x itself is taken out of its own cluster by the
    factor counts / (counts - 1). The only column of its cluster counts 0 (Rousseeuw
    1987), and so do all columns if there is one cluster.
    """
    d, n = X.shape
    k = counts.size
    counts[:] = 0
    means[:] = 0.0
    squares[:] = 0.0
    lengths[:] = 0.0
    for i in range(n):
        j = labels[i]
        counts[j] += 1
        for f in range(d):
            means[j, f] += X[f, i]
    for j in range(k):
        for f in range(d):
            means[j, f] /= max(counts[j], 1)
    for i in range(n):
        j = labels[i]
        own = 0.0
        for f in range(d):
            own += (X[f, i] - means[j, f]) ** 2
        squares[j] += own
        lengths[j] += np.sqrt(own)
    variance = np.full(k, np.inf)  # nothing is near an unused label
    for j in range(k):
        if counts[j] > 0:
            variance[j] = squares[j] / counts[j]
    apart = np.empty(k)
    silhouette = 0.0
    for i in range(n):
        for j in range(k):
            apart[j] = variance[j]
            for f in range(d):
                apart[j] += (X[f, i] - means[j, f]) ** 2
        own = labels[i]
        a = apart[own] * counts[own] / max(counts[own] - 1, 1)
        apart[own] = np.inf
        b = np.inf
        for j in range(k):
            b = min(b, apart[j])
        if counts[own] > 1 and 0.0 < max(a, b) < np.inf:
            silhouette += (b - a) / max(a, b)
    return silhouette


_TILE = 256  # columns whose distances are computed together
_FLOOR = 1e-36  # added to squared distances of data within [-1, 1]: rsqrt stays finite


@jit
def _two_roots(q: float) -> float:
    """Twice the square root: a Newton step from a single-precision inverse root.

    With v = (1 + e) / sqrt(q), q v (3 - q v^2) = 2 sqrt(q) (1 - 3 e^2 / 2 - ...), and e
    is below 1.5e-7.
    """
    inverse = np.float64(np.float32(1.0) / np.sqrt(np.float32(q)))
    root = q * inverse
    return float(root * (3.0 - root * inverse))


@jit
def _four(
    X: _F64,  # IN (d, n), d >= 2
    i: int,
    weight: _F64,  # IN (4,) 1 for columns i..i + 3, 0 for those beyond the end
    start: int,
    m: int,
    rest: _F64,  # OUT (4, _TILE) scratch, holds _FLOOR where d == 2
    far: _F64,  # IN/OUT (m,) gets the sum over the four columns
    own: _F64,  # IN/OUT (4,) get the sums over start..start + m
) -> None:
    """Add twice the distances of four columns from the columns start..start + m."""
    d, n = X.shape
    a = i
    b, c, e = min(i + 1, n - 1), min(i + 2, n - 1), min(i + 3, n - 1)
    q0, q1, q2, q3 = rest[0], rest[1], rest[2], rest[3]
    for f in range(2, d):
        x = X[f, start : start + m]
        xa, xb, xc, xe = X[f, a], X[f, b], X[f, c], X[f, e]
        if f == 2:
            for j in range(m):
                q0[j] = _FLOOR
                q1[j] = _FLOOR
                q2[j] = _FLOOR
                q3[j] = _FLOOR
        for j in range(m):
            q0[j] += (x[j] - xa) * (x[j] - xa)
            q1[j] += (x[j] - xb) * (x[j] - xb)
            q2[j] += (x[j] - xc) * (x[j] - xc)
            q3[j] += (x[j] - xe) * (x[j] - xe)
    x, y = X[0, start : start + m], X[1, start : start + m]
    xa, xb, xc, xe = X[0, a], X[0, b], X[0, c], X[0, e]
    ya, yb, yc, ye = X[1, a], X[1, b], X[1, c], X[1, e]
    w1, w2, w3 = weight[1], weight[2], weight[3]
    s0 = s1 = s2 = s3 = 0.0
    for j in range(m):
        u = x[j]
        v = y[j]
        r0 = _two_roots((u - xa) * (u - xa) + (v - ya) * (v - ya) + q0[j])
        r1 = _two_roots((u - xb) * (u - xb) + (v - yb) * (v - yb) + q1[j])
        r2 = _two_roots((u - xc) * (u - xc) + (v - yc) * (v - yc) + q2[j])
        r3 = _two_roots((u - xe) * (u - xe) + (v - ye) * (v - ye) + q3[j])
        s0 += r0
        s1 += r1
        s2 += r2
        s3 += r3
        far[j] += (r0 + w1 * r1) + (w2 * r2 + w3 * r3)
    own[0] += s0
    own[1] += s1
    own[2] += s2
    own[3] += s3


@jit
def distance_sums(
    X: _F64,  # IN (d, n), d >= 2, within [-1, 1], columns of a cluster together
    starts: npt.NDArray[np.int64],  # IN (k + 1,) first column of each cluster, then n
    sums: _F64,  # OUT (k, n) sum of distances of each column from each cluster
) -> None:
    """Sum the Euclidean distances of every column from the columns of every cluster.

    Each pair is computed once, in tiles, to a relative 2e-14.
    """
    k = starts.size - 1
    far, own, weight = np.empty(_TILE), np.empty(4), np.empty(4)
    rest = np.full((4, _TILE), _FLOOR)
    sums[:] = 0.0
    for a in range(k):
        for first in range(starts[a], starts[a + 1], _TILE):
            stop = min(first + _TILE, starts[a + 1])
            for b in range(a, k):
                begin = first if a == b else starts[b]
                for start in range(begin, starts[b + 1], _TILE):
                    m = min(_TILE, starts[b + 1] - start)
                    far[:] = 0.0
                    for i in range(first, stop, 4):
                        size = min(4, stop - i)
                        for t in range(4):
                            own[t] = 0.0
                            weight[t] = 1.0 if t < size else 0.0
                        _four(X, i, weight, start, m, rest, far, own)
                        for t in range(size):
                            sums[b, i + t] += own[t]
                    if start != first:  # a tile with itself has both of each pair
                        for j in range(m):
                            sums[a, start + j] += far[j]
    sums *= 0.5


@jit
def split_path(
    X: _F64,  # IN (d, n)
    tries: int,  # places tried for a new center
    max_iter: int,
    tol: float,  # an iteration that gains less than this share is the last
    within: _F64,  # OUT (kmax,) least sum of squares found for k = 1, 2, ..., kmax
) -> None:
    """Within-cluster sums of squares as K-means gets one center more at a time.

    The new center is the one of `tries` columns, at equal steps of the cumulative
    squared distance, that lowers the sum most; Lloyd's iterations follow (fast global
    k-means, Likas et al., Pattern Recognit 2003;36:451). No draws: the same columns
    give the same sums.
    """
    d, n = X.shape
    centers, sums = np.zeros((within.size, d)), np.empty((within.size, d + 1))
    near, label, work = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        near[i] = 0.0
        label[i] = 0.0
    for f in range(d):
        centers[0, f] = X[f].sum() / n
        for i in range(n):
            near[i] += (X[f, i] - centers[0, f]) ** 2
    within[:] = 0.0
    within[0] = near.sum()
    for k in range(1, within.size):
        total = near.sum()
        if total == 0.0:
            return
        _new_center(X, near, total, tries, work, centers[k])
        last = np.inf
        for _ in range(max_iter):
            _assign_all(X, centers[: k + 1], near, label, work)
            within[k] = near.sum()
            if last - within[k] <= tol * within[k]:
                break
            last = within[k]
            _sum_all(X, label, work, sums[: k + 1])
            for j in range(k + 1):
                if sums[j, d] > 0.0:
                    for f in range(d):
                        centers[j, f] = sums[j, f] / sums[j, d]


@jit
def _new_center(
    X: _F64,  # IN (d, n)
    near: _F64,  # IN (n,) squared distance to the nearest center so far
    total: float,
    tries: int,
    work: _F64,  # OUT (n,) scratch
    center: _F64,  # OUT (d,)
) -> None:
    """Choose the column that lowers the sum of squared distances most."""
    d, n = X.shape
    most = -1.0
    column = 0
    reached = near[0]
    for t in range(tries):
        while reached < (t + 0.5) / tries * total and column < n - 1:
            column += 1
            reached += near[column]
        for i in range(n):
            work[i] = (X[0, i] - X[0, column]) ** 2
        for f in range(1, d):
            for i in range(n):
                work[i] += (X[f, i] - X[f, column]) ** 2
        gain = 0.0
        for i in range(n):
            gain += max(near[i] - work[i], 0.0)
        if gain > most:
            most = gain
            center[:] = X[:, column]


@jit
def _assign_all(
    X: _F64,  # IN (d, n)
    centers: _F64,  # IN (k, d)
    near: _F64,  # OUT (n,) squared distance to the nearest center
    label: _F64,  # OUT (n,) its number; a float, for selects without conversion
    work: _F64,  # OUT (n,) scratch
) -> None:
    d = X.shape[0]
    for start in range(0, X.shape[1], _TILE):
        q, least = work[start : start + _TILE], near[start : start + _TILE]
        number = label[start : start + _TILE]
        for i in range(q.size):
            least[i] = np.inf
        for j in range(centers.shape[0]):
            name = float(j)
            x, c = X[0, start : start + _TILE], centers[j, 0]
            for i in range(q.size):
                q[i] = (x[i] - c) * (x[i] - c)
            for f in range(1, d):
                x, c = X[f, start : start + _TILE], centers[j, f]
                for i in range(q.size):
                    q[i] += (x[i] - c) * (x[i] - c)
            for i in range(q.size):
                number[i] = name if q[i] < least[i] else number[i]
                least[i] = min(q[i], least[i])


@jit
def _sum_all(
    X: _F64,  # IN (d, n)
    label: _F64,  # IN (n,)
    work: _F64,  # OUT (n,) scratch
    sums: _F64,  # OUT (k, d + 1) sums over each cluster, then its size
) -> None:
    d, n = X.shape
    for j in range(sums.shape[0]):
        name = float(j)
        count = 0.0
        for i in range(n):
            work[i] = 1.0 if label[i] == name else 0.0
            count += work[i]
        sums[j, d] = count
        for f in range(d):
            x, s = X[f], 0.0
            for i in range(n):
                s += x[i] * work[i]
            sums[j, f] = s
