"""How well labels separate voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["separation"]

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
